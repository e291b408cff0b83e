/*!
Memtables into runs, and runs into fewer: the only place where rows disappear.

```text
    policy   which runs to merge
    erased   what deleted ranges mean to merges, and when they have done their work
    output   streams of rows into run files
```

This room makes runs and says which they replace; publishing them is its caller's. It knows no log and no manifest.

Of each key the newest version stays: readers with older snapshots hold the memtables and runs they began with. A
tombstone stays while there is something older that it may hide, and goes with the merge into the last level.
*/

pub(crate) mod erased;
pub(crate) mod output;
pub(crate) mod policy;

use crate::error::Result;
use crate::key::KeyRange;
use crate::run::{Layout, RunSchema};
use crate::scan::LayerScan;
use crate::scan::source::{Columns, MemStream};
use crate::scan::tree::{LAST_LEVEL, Mem, RunRef, Tree};
use crate::types::Seq;
use output::{Output, Shape};
use std::sync::Arc;

/// The memtable's rows as runs of the first level. `oldest`: there is nothing that a tombstone could hide.
pub(crate) fn flush(output: &Output, schema: &RunSchema, mem: &Mem, oldest: bool) -> Result<Vec<Arc<RunRef>>> {
    let columns = Columns { projection: schema.columns.clone(), reverse: false };
    let oldest = oldest || mutant!(TombstoneDroppedEarly);
    let mut rows = MemStream::new(mem, &KeyRange::all(), Seq::MAX, &columns, oldest);
    let shape = Shape { layout: Layout::Row, level: 0, fixed_seq: None, threads: 0 };
    output.write(schema, &mut rows, shape)
}

/// The rows of `inputs` as runs of `level`, without those that deleted ranges of their tree hide.
pub(crate) fn merge(output: &Output, tree: &Tree, inputs: &[Arc<RunRef>], level: u8) -> Result<Vec<Arc<RunRef>>> {
    let columns = Columns { projection: tree.schema.columns.clone(), reverse: false };
    let mut rows = LayerScan::new(erased::layers(tree, inputs), &[], columns, Vec::new(), true);
    if level != LAST_LEVEL {
        rows = rows.keeping_tombstones();
    }
    output.write(&tree.schema, &mut rows, Shape { layout: Layout::Column, level, fixed_seq: None, threads: 0 })
}
