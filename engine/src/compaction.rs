/*!
Memtables into runs, and runs into fewer: the only place where rows disappear.

```text
    policy   which runs to merge
    survey   what the policy asks about the inside of runs
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
pub(crate) mod survey;

use crate::error::Result;
use crate::key::KeyRange;
use crate::run::{Layout, RunBatch, RunSchema};
use crate::scan::merge::RowStream;
use crate::scan::plan::{Edge, Span};
use crate::scan::source::{Columns, MemStream};
use crate::scan::tree::{LAST_LEVEL, Mem, RunRef, Tree};
use crate::scan::{Layer, LayerScan};
use crate::types::Seq;
use output::{Output, Shape};
use policy::Step;
use std::collections::VecDeque;
use std::sync::Arc;

/// The memtable's rows as runs of the first level. `oldest`: there is nothing that a tombstone could hide.
pub(crate) fn flush(output: &Output, schema: &RunSchema, mem: &Mem, oldest: bool) -> Result<Vec<Arc<RunRef>>> {
    let columns = Columns::all(schema);
    let oldest = oldest || mutant!(TombstoneDroppedEarly);
    let mut rows = MemStream::new(mem, &KeyRange::all(), Seq::MAX, &columns, oldest);
    let shape = Shape { layout: Layout::Row, level: 0, fixed_seq: None, threads: 0 };
    output.write(schema, &mut rows, shape)
}

/// A step's rows as runs of its level, without those that deleted ranges of their tree hide.
pub(crate) fn merge(output: &Output, tree: &Tree, step: &Step) -> Result<Vec<Arc<RunRef>>> {
    let columns = Columns::all(&tree.schema);
    let scan =
        |layers: Vec<Layer>, span: &Span| LayerScan::new(layers, &[span.range()], columns.clone(), Vec::new(), true);
    let runs: Vec<Arc<RunRef>> = step.upper.iter().chain(&step.last).cloned().collect();
    let merged = scan(erased::layers(tree, &runs, &step.merged()), &step.span);
    let mut rows = if step.level == LAST_LEVEL {
        let before = Span { from: Edge::Start, to: step.span.from.clone() };
        let behind = Span { from: step.span.to.clone(), to: Edge::End };
        let as_it_is = |span: &Span| scan(erased::layers(tree, &step.last, &[]), span);
        Chain(VecDeque::from([as_it_is(&before), merged, as_it_is(&behind)]))
    } else {
        Chain(VecDeque::from([merged.keeping_tombstones()]))
    };
    let shape = Shape { layout: Layout::Column, level: step.level, fixed_seq: None, threads: 0 };
    output.write(&tree.schema, &mut rows, shape)
}

/// One scan after the other.
#[derive(Debug)]
struct Chain(VecDeque<LayerScan>);

impl RowStream for Chain {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        while let Some(scan) = self.0.front_mut() {
            if let Some(batch) = scan.next()? {
                return Ok(Some(batch));
            }
            self.0.pop_front();
        }
        Ok(None)
    }
}
