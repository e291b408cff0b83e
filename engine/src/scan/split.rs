/*!
Ranges of about equal numbers of rows, so that threads share a scan evenly, and estimates of how many rows a range has.
Both look at the fences of runs only; a table that is all in memory is counted there.
*/

use crate::error::Result;
use crate::key::{Key, KeyRange};
use crate::scan::Layer;
use crate::scan::plan::{Span, outside};
use crate::scan::tree::{RunRef, Source};
use std::ops::{Bound, Range};

/// Fences looked at for each part and run: parts come out within about a sixteenth of each other.
const FENCES_PER_PART: usize = 16;

/// Rows of a memtable that are counted exactly, or sampled for a split.
const COUNTED_MAX: usize = 100_000;

/// The slices of `run` that may hold keys of `range`.
fn slices_in(run: &RunRef, range: &KeyRange) -> Result<Range<usize>> {
    if !run.overlaps(&Span::of(range)) {
        return Ok(0..0);
    }
    let slice_of = |bound: &Bound<Key>, unbounded: usize| match bound {
        Bound::Included(key) | Bound::Excluded(key) => run.run.slice_of(key.as_ref()),
        Bound::Unbounded => Ok(unbounded),
    };
    let slices = run.run.slices()?;
    let first = slice_of(&range.start, 0)?;
    let last = slice_of(&range.end, slices.saturating_sub(1))?;
    Ok(first..(last + 1).min(slices).max(first))
}

fn share(rows: u64, slices: usize, all: usize) -> u64 {
    let wide = |n: usize| u128::try_from(n).unwrap_or(u128::MAX);
    let rows = u128::from(rows) * wide(slices) / wide(all.max(1));
    u64::try_from(rows).unwrap_or(u64::MAX)
}

/// Layers with what each counts for of a range: all of it, but for keys that a newer layer has deleted.
fn counted<'a>(layers: &'a [Layer], range: &KeyRange) -> impl Iterator<Item = (&'a Layer, KeyRange)> {
    let mut left = vec![Span::of(range)];
    layers.iter().flat_map(move |layer| {
        if let Source::Erased(erased) = &layer.source {
            if erased.seq <= layer.at {
                left = outside(std::mem::take(&mut left), [&erased.span]);
            }
            return Vec::new();
        }
        left.iter().map(|span| (layer, span.range())).collect()
    })
}

/// About how many rows `range` has in all layers together.
pub(crate) fn estimate(layers: &[Layer], range: &KeyRange) -> Result<u64> {
    let mut rows = 0;
    for (layer, range) in counted(layers, range) {
        let range = &range;
        rows += match &layer.source {
            Source::Erased(_) => 0,
            Source::Run(run) => {
                if range.contains(run.first_key()) && range.contains(run.last_key()) {
                    run.rows()
                } else {
                    share(run.rows(), slices_in(run, range)?.len(), run.run.slices()?)
                }
            }
            Source::Mem(mem) => {
                let unbounded = range.start == Bound::Unbounded && range.end == Bound::Unbounded;
                let all = mem.table.rows();
                let counted = match unbounded {
                    true => all,
                    false => mem.table.range(range, layer.at, false).take(COUNTED_MAX).count(),
                };
                u64::try_from(counted).unwrap_or(u64::MAX)
            }
        };
    }
    Ok(rows)
}

/// Cuts `range` into at most `parts` ranges of about as many rows each, in order.
pub(crate) fn split(layers: &[Layer], range: &KeyRange, parts: usize) -> Result<Vec<KeyRange>> {
    if parts <= 1 || range.is_empty() {
        return Ok(vec![range.clone()]);
    }
    // Each fence stands for the rows up to the next one of its source.
    let mut fences: Vec<(Key, u64)> = Vec::new();
    for (layer, inside) in counted(layers, range) {
        match &layer.source {
            Source::Erased(_) => {}
            Source::Run(run) => run_fences(run, &inside, parts * FENCES_PER_PART, &mut fences)?,
            Source::Mem(mem) => {
                let step = (mem.table.rows() / (parts * FENCES_PER_PART)).max(1);
                let weight = u64::try_from(step).unwrap_or(u64::MAX);
                let rows = mem.table.range(&inside, layer.at, false).take(COUNTED_MAX);
                fences.extend(rows.step_by(step).map(|entry| (Key::from(entry.key()), weight)));
            }
        }
    }
    fences.sort();
    Ok(cut(range, &fences, parts))
}

fn run_fences(run: &RunRef, range: &KeyRange, most: usize, fences: &mut Vec<(Key, u64)>) -> Result<()> {
    let slices = slices_in(run, range)?;
    let all = run.run.slices()?;
    let step = slices.len().div_ceil(most.max(1)).max(1);
    for slice in slices.clone().step_by(step) {
        let stands_for = step.min(slices.end - slice);
        fences.push((run.run.first_key_of(slice)?, share(run.rows(), stands_for, all)));
    }
    Ok(())
}

fn cut(range: &KeyRange, fences: &[(Key, u64)], parts: usize) -> Vec<KeyRange> {
    let total: u64 = fences.iter().map(|(_, rows)| rows).sum();
    let parts = u64::try_from(parts).unwrap_or(u64::MAX);
    let mut out = Vec::new();
    let mut start = range.start.clone();
    let mut rows = 0;
    for (key, weight) in fences {
        let made = u64::try_from(out.len()).unwrap_or(u64::MAX);
        let due = total / parts * (made + 1);
        if rows >= due.max(1) && made + 1 < parts {
            let part = KeyRange { start: start.clone(), end: Bound::Excluded(key.clone()) };
            if range.contains(key.as_ref()) && !part.is_empty() && Bound::Included(key.clone()) != start {
                out.push(part);
                start = Bound::Included(key.clone());
            }
        }
        rows += weight;
    }
    out.push(KeyRange { start, end: range.end.clone() });
    out
}
