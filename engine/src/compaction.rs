/*!
Memtables into runs, and runs into fewer: the only place where rows disappear.

```text
    policy   which runs to merge
    survey   what the policy asks about the inside of runs
    erased   what deleted ranges mean to merges, and when they have done their work
    expired  when merges remove rows that have outlived their table's time to live
    output   streams of rows into run files
```

This room makes runs and says which they replace; publishing them is its caller's. It knows no log and no manifest.

Of each key the newest version stays: readers with older snapshots hold the memtables and runs they began with. A
tombstone stays while there is something older that it may hide, and goes with the merge into the last level. So does a row
that has expired.
*/

pub(crate) mod erased;
pub(crate) mod expired;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod survey;

use crate::error::Result;
use crate::key::KeyRange;
use crate::run::{RunBatch, RunSchema};
use crate::scan::expiry::Expiry;
use crate::scan::merge::RowStream;
use crate::scan::plan::{Edge, Span};
use crate::scan::source::{Columns, MemStream};
use crate::scan::tree::{LAST_LEVEL, Mem, RunRef, Source, Tree};
use crate::scan::{Layer, LayerScan, ScanMetrics};
use crate::types::Seq;
use output::{Manner, Output, Shape};
use policy::Step;
use std::collections::VecDeque;
use std::sync::Arc;

/// The memtable's rows as runs of the first level. `oldest`: there is nothing that a tombstone could hide.
pub(crate) fn flush(
    output: &Output,
    schema: &RunSchema,
    mem: &Mem,
    oldest: bool,
    manner: Manner,
) -> Result<Vec<Arc<RunRef>>> {
    let columns = Columns::all(schema);
    let oldest = oldest || mutant!(TombstoneDroppedEarly);
    let mut rows = MemStream::new(mem, &KeyRange::all(), Seq::MAX, &columns, oldest);
    output.write(schema, &mut rows, Shape::of_flush(manner))
}

/// What a merge made.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) runs: Vec<Arc<RunRef>>,
    /// Rows, tombstones and old versions included, that were left out because they had expired.
    pub(crate) expired: u64,
}

/// A step's rows as runs of its level, without those that deleted ranges of their tree hide; in the last level, where nothing
/// older stays behind, without those that have expired.
pub(crate) fn merge(
    output: &Output,
    tree: &Tree,
    step: &Step,
    expiry: Option<Expiry>,
    manner: Manner,
) -> Result<Merged> {
    let columns = Columns::all(&tree.schema);
    let expiry = expiry.filter(|_| step.level == LAST_LEVEL);
    let scan = |layers: Vec<Layer>, span: &Span| {
        LayerScan::new(layers, &[span.range()], columns.clone(), Vec::new(), true).expiring(expiry)
    };
    let runs: Vec<Arc<RunRef>> = step.upper.iter().chain(&step.last).cloned().collect();
    let merged = scan(erased::layers(tree, &runs, &step.merged()), &step.span);
    let mut rows = if step.level == LAST_LEVEL {
        let before = Span { from: Edge::Start, to: step.span.from.clone() };
        let behind = Span { from: step.span.to.clone(), to: Edge::End };
        let as_it_is = |span: &Span| scan(erased::layers(tree, &step.last, &[]), span);
        Chain::of([as_it_is(&before), merged, as_it_is(&behind)])
    } else {
        Chain::of([merged.keeping_tombstones()])
    };
    let runs = output.write(&tree.schema, &mut rows, Shape::of_level(step.level, manner))?;
    Ok(Merged { runs, expired: rows.expired() })
}

/// A run of the last level, written again without rows that have expired. What else its tree has makes no difference: nothing lies
/// behind the last level.
pub(crate) fn renew(output: &Output, tree: &Tree, run: &Arc<RunRef>, expiry: Expiry, manner: Manner) -> Result<Merged> {
    let columns = Columns::all(&tree.schema);
    let layer = Layer { source: Source::Run(Arc::clone(run)), at: Seq::MAX };
    let scan = LayerScan::new(vec![layer], &[], columns, Vec::new(), true).expiring(Some(expiry));
    let mut rows = Chain::of([scan]);
    let runs = output.write(&tree.schema, &mut rows, Shape::of_level(LAST_LEVEL, manner))?;
    Ok(Merged { runs, expired: rows.expired() })
}

/// One scan after the other.
#[derive(Debug)]
struct Chain {
    scans: VecDeque<LayerScan>,
    done: ScanMetrics,
}

impl Chain {
    fn of<const N: usize>(scans: [LayerScan; N]) -> Chain {
        Chain { scans: scans.into(), done: ScanMetrics::default() }
    }

    /// Rows that were left out because they had expired. Merges look at statistics for no other reason.
    fn expired(&self) -> u64 {
        self.done.rows_expired + self.done.rows_pruned
    }
}

impl RowStream for Chain {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        while let Some(scan) = self.scans.front_mut() {
            if let Some(batch) = scan.next()? {
                return Ok(Some(batch));
            }
            self.done = self.done + scan.metrics();
            self.scans.pop_front();
        }
        Ok(None)
    }
}
