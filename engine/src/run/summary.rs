/*!
What slices come to without their rows: counts, least and greatest values and sums, where statistics say them exactly.

A [`Summarizer`] decodes the statistics of up to 1,024 slices at a time into a [`Summary`], columns with a row for each slice, so that a
reader adds up a stretch of slices as it adds up rows. It also says, per slice, whether no row passes the reader's predicates,
whether the statistics answer for all its rows, or whether its rows must be read ([`Verdict`]). Statistics answer where

- no row of the slice is a tombstone,
- every row passes the predicates, by their proof ([`Test::must_match`](super::predicate::Test::must_match)),
- all rows agree in the key columns that are asked to be one: their least value is their greatest,
- what is asked of each column is known exactly: bounds that were not cut and no NaN beside them, a sum that did not overflow.

What it does not know: whether newer or older sources have rows among a slice's keys.
*/

use super::loaded::{ColumnStatistics, Loaded};
use super::predicate::ColumnPredicate;
use super::reader::Run;
use super::statistics::{BLOCK_SLICES, Needs, StatsBlock};
use super::{small, wide};
use crate::error::{Error, Result};
use crate::types::{ColumnId, ColumnType};
use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::kernels::cmp;
use std::ops::Range;
use std::sync::Arc;

/// What is wanted of slices.
#[derive(Debug, Clone, Default)]
pub(crate) struct SummaryRequest {
    /// Key columns in which a slice's rows must agree.
    pub(crate) same: Vec<(ColumnId, ColumnType)>,
    /// What is wanted of which column.
    pub(crate) columns: Vec<(ColumnId, ColumnType, Needs)>,
    /// What rows must pass to count.
    pub(crate) predicates: Vec<ColumnPredicate>,
}

/// What statistics say of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No row passes.
    Nothing,
    /// All rows count, and the summary has what is wanted of them.
    Whole,
    /// Its rows must be looked at.
    Rows,
}

/// Slices one after another, summarised: a row each.
#[derive(Debug)]
pub(crate) struct Summary {
    /// The first slice.
    pub(crate) first: u32,
    /// Rows of each slice.
    pub(crate) rows: Vec<i64>,
    /// The columns in which rows agree, where they do.
    pub(crate) same: Vec<ArrayRef>,
    /// The columns wanted.
    pub(crate) columns: Vec<ColumnSummary>,
    answers: Vec<bool>,
}

/// One column of a summary.
#[derive(Debug)]
pub(crate) struct ColumnSummary {
    /// NULLs of each slice.
    pub(crate) nulls: Vec<i64>,
    /// The least value of each slice; NULL where there is none. Only as far as it was wanted, like the others.
    pub(crate) min: Option<ArrayRef>,
    pub(crate) max: Option<ArrayRef>,
    /// Decimals without a scale, or doubles.
    pub(crate) sum: Option<ArrayRef>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Summarizer {
    run: Arc<Run>,
    request: SummaryRequest,
    same: Vec<ColumnStatistics>,
    /// `None` for a column that the run does not have.
    columns: Vec<Option<ColumnStatistics>>,
    /// `None` where the run has no tombstones.
    kinds: Option<ColumnStatistics>,
    tests: Vec<(ColumnPredicate, ColumnStatistics)>,
    /// What the predicates say of columns that the run does not have: not one row passes, or not by proof.
    absent: Verdict,
    /// Whether all of the run's statistics that are needed are there.
    complete: bool,
    block: Option<Arc<Summary>>,
}

impl Summarizer {
    pub(crate) fn new(run: Arc<Run>, request: SummaryRequest) -> Result<Summarizer> {
        let loaded = run.loaded()?;
        let mut complete = true;
        let mut same = Vec::new();
        for (id, _) in &request.same {
            match loaded.column_statistics(*id)? {
                Some(statistics) => same.push(statistics),
                None => complete = false,
            }
        }
        let mut columns = Vec::new();
        for (id, _, _) in &request.columns {
            let statistics = loaded.column_statistics(*id)?;
            complete &= statistics.is_some() || loaded.place_of_id(*id).is_none();
            columns.push(statistics);
        }
        let mut tests = Vec::new();
        let mut absent = Verdict::Whole;
        for predicate in &request.predicates {
            match loaded.column_statistics(predicate.column)? {
                Some(statistics) => tests.push((predicate.clone(), statistics)),
                None if loaded.place_of_id(predicate.column).is_some() => complete = false,
                // All NULL: of these tests one that may pass does.
                None if predicate.test.may_match_absent() => {}
                None => absent = Verdict::Nothing,
            }
        }
        let kinds = match loaded.footer.tombstones {
            0 => None,
            _ => {
                let kinds = loaded.column_statistics(ColumnId::KIND)?;
                complete &= kinds.is_some();
                kinds
            }
        };
        Ok(Summarizer { run, request, same, columns, kinds, tests, absent, complete, block: None })
    }

    /// What statistics say of a slice. `whole` is whether all of its rows are wanted.
    pub(crate) fn verdict(&mut self, slice: u32, whole: bool) -> Result<Verdict> {
        if self.absent == Verdict::Nothing {
            return Ok(Verdict::Nothing);
        }
        let run = Arc::clone(&self.run);
        let loaded = run.loaded()?;
        let mut verdict = Verdict::Whole;
        for (predicate, statistics) in &self.tests {
            let stats = statistics.get(loaded, slice)?;
            if !predicate.test.may_match(&stats) {
                return Ok(Verdict::Nothing);
            }
            if !predicate.test.must_match(&stats) {
                verdict = Verdict::Rows;
            }
        }
        if verdict == Verdict::Rows || !whole || !self.complete {
            return Ok(Verdict::Rows);
        }
        let block = self.block(slice)?;
        let at = wide(slice - block.first);
        Ok(if block.answers.get(at) == Some(&true) { Verdict::Whole } else { Verdict::Rows })
    }

    /// The summary of the block of slices that has this one.
    pub(crate) fn block(&mut self, slice: u32) -> Result<Arc<Summary>> {
        let first = slice - slice % small(BLOCK_SLICES)?;
        if let Some(block) = self.block.as_ref().filter(|block| block.first == first) {
            return Ok(Arc::clone(block));
        }
        let run = Arc::clone(&self.run);
        let block = Arc::new(self.summarize(run.loaded()?, first)?);
        self.block = Some(Arc::clone(&block));
        Ok(block)
    }

    fn summarize(&self, loaded: &Loaded, first: u32) -> Result<Summary> {
        let slices = wide(loaded.locators.slices() - first).min(BLOCK_SLICES);
        let rows: Vec<i64> = (first..).take(slices).map(|slice| loaded.locators.rows_of(slice).into()).collect();
        let mut answers = vec![self.complete; slices];
        if let Some(kinds) = &self.kinds {
            let block = kinds.block(loaded, first, slices, Needs { max: true, ..Needs::default() })?;
            let max = block.max.as_ref().and_then(|max| max.as_boolean_opt());
            let no_tombstone = |slice: usize| max.is_some_and(|max| max.is_valid(slice) && !max.value(slice));
            and(&mut answers, no_tombstone);
        }
        let mut same = Vec::with_capacity(self.same.len());
        for statistics in &self.same {
            let block = statistics.block(loaded, first, slices, Needs { min: true, max: true, sum: false })?;
            let (Some(min), Some(max)) = (&block.min, &block.max) else {
                return Err(Error::corruption("a key's column has no bounds").at(loaded.path(), None));
            };
            let equal = cmp::eq(min, max)?;
            let agrees = |slice: usize| {
                let known = block.nulls_of(slice) == 0 && block.has_min(slice) && block.has_max(slice);
                known && equal.is_valid(slice) && equal.value(slice)
            };
            and(&mut answers, agrees);
            same.push(Arc::clone(min));
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for (statistics, (_, ty, needs)) in self.columns.iter().zip(&self.request.columns) {
            columns.push(match statistics {
                Some(statistics) => {
                    let block = statistics.block(loaded, first, slices, *needs)?;
                    and(&mut answers, known(&block, &rows, *needs));
                    ColumnSummary {
                        nulls: (0..slices).map(|slice| block.nulls_of(slice)).collect(),
                        min: block.min,
                        max: block.max,
                        sum: block.sum,
                    }
                }
                None => all_null(&rows, *ty, *needs),
            });
        }
        Ok(Summary { first, rows, same, columns, answers })
    }
}

impl Summary {
    /// The places of slices in it.
    pub(crate) fn places(&self, slices: Range<u32>) -> Range<usize> {
        wide(slices.start.saturating_sub(self.first))..wide(slices.end.saturating_sub(self.first)).min(self.rows.len())
    }
}

fn and(answers: &mut [bool], holds: impl Fn(usize) -> bool) {
    for (slice, answer) in answers.iter_mut().enumerate() {
        *answer = *answer && holds(slice);
    }
}

/// Whether what is needed of a slice's column is known.
fn known<'a>(block: &'a StatsBlock, rows: &'a [i64], needs: Needs) -> impl Fn(usize) -> bool + 'a {
    move |slice| {
        let has_nulls = block.nulls.is_some();
        let all_null = rows.get(slice) == Some(&block.nulls_of(slice));
        let has = |needed: bool, known: bool| !needed || known;
        let values = has(needs.min, block.has_min(slice))
            && has(needs.max, block.has_max(slice))
            && has(needs.sum, block.has_sum(slice));
        has_nulls && (all_null || values)
    }
}

/// A column that the run does not have.
fn all_null(rows: &[i64], ty: ColumnType, needs: Needs) -> ColumnSummary {
    let nothing = |needed: bool, ty: ColumnType| needed.then(|| new_null_array(&ty.arrow(), rows.len()));
    let sum = super::statistics::sum_type(ty).unwrap_or(ty);
    ColumnSummary {
        nulls: rows.to_vec(),
        min: nothing(needs.min, ty),
        max: nothing(needs.max, ty),
        sum: nothing(needs.sum, sum),
    }
}
