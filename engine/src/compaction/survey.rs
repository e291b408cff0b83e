/*!
What the policy asks about the inside of runs, answered from their fences; where few rows are meant, from the rows.
*/

use crate::compaction::policy::Survey;
use crate::error::Result;
use crate::key::Key;
use crate::run::RunScanOptions;
use crate::scan::plan::Span;
use crate::scan::tree::{RunRef, Source};
use crate::scan::{Layer, split};
use crate::types::Seq;
use std::ops::Bound;
use std::sync::Arc;

/// A guess of at most so many slices is checked.
const SLICES_UNSURE: u64 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Fences;

fn layer(run: &Arc<RunRef>) -> Layer {
    Layer { source: Source::Run(Arc::clone(run)), at: Seq::MAX }
}

impl Survey for Fences {
    fn bytes_in(&self, run: &Arc<RunRef>, span: &Span) -> Result<u64> {
        let own = run.span();
        if !own.overlaps(span) {
            return Ok(0);
        }
        if span.from <= own.from && own.to <= span.to {
            return Ok(run.bytes().max(1));
        }
        let range = span.range();
        let rows = split::estimate(&[layer(run)], &range)?;
        let slice_rows = run.rows() / u64::try_from(run.run.slices()?).unwrap_or(u64::MAX).max(1) + 1;
        if rows <= slice_rows.saturating_mul(SLICES_UNSURE) {
            let all = RunScanOptions::all(range, Vec::new());
            let options = RunScanOptions { with_keys: false, first_rows: 1, ..all };
            if run.run.scan(options).next()?.is_none() {
                return Ok(0);
            }
        }
        let bytes = u128::from(run.bytes()) * u128::from(rows) / u128::from(run.rows().max(1));
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX).max(1))
    }

    fn cut(&self, runs: &[Arc<RunRef>], span: &Span, parts: usize) -> Result<Option<Key>> {
        let layers: Vec<Layer> = runs.iter().map(layer).collect();
        let parts = split::split(&layers, &span.range(), parts)?;
        Ok(parts.into_iter().nth(1).and_then(|part| match part.start {
            Bound::Included(key) | Bound::Excluded(key) => Some(key),
            Bound::Unbounded => None,
        }))
    }
}
