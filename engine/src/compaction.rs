/*!
Memtables into runs, and runs into fewer: the only place where rows disappear.

```text
    policy   which runs to merge
    output   streams of rows into run files
```

This room makes runs and says which they replace; publishing them is its caller's. It knows no log and no manifest.

Of each key the newest version stays: readers with older snapshots hold the memtables and runs they began with. A
tombstone stays while there is something older that it may hide, and goes with the merge into the last level.
*/

pub(crate) mod output;
pub(crate) mod policy;

use crate::error::Result;
use crate::key::KeyRange;
use crate::run::{Layout, RunSchema};
use crate::scan::merge::{Merge, RowStream, Ties};
use crate::scan::source::{Columns, MemStream, RunReading, RunStream};
use crate::scan::tree::{LAST_LEVEL, Mem, RunRef, Source};
use crate::scan::{Layer, LayerScan};
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

/// The rows of `inputs` (newest first) as runs of `level`.
pub(crate) fn merge(
    output: &Output,
    schema: &RunSchema,
    inputs: &[Arc<RunRef>],
    level: u8,
) -> Result<Vec<Arc<RunRef>>> {
    let columns = Columns { projection: schema.columns.clone(), reverse: false };
    let mut rows: Box<dyn RowStream> = if level == LAST_LEVEL {
        let layer = |run: &Arc<RunRef>| Layer { source: Source::Run(Arc::clone(run)), at: Seq::MAX };
        Box::new(LayerScan::new(inputs.iter().map(layer).collect(), &[], columns, Vec::new(), true))
    } else {
        let reading = RunReading { with_keys: true, drop_tombstones: false, predicates: &[] };
        let stream = |run: &Arc<RunRef>| -> Box<dyn RowStream> {
            Box::new(RunStream::new(run, KeyRange::all(), &columns, reading))
        };
        Box::new(Merge::new(inputs.iter().map(stream).collect(), false, Ties::Newest, false))
    };
    output.write(schema, rows.as_mut(), Shape { layout: Layout::Column, level, fixed_seq: None, threads: 0 })
}
