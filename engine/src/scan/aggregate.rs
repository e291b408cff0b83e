/*!
Counts, least and greatest values, and sums of a table's rows, by groups that are prefixes of the key.

Every slice of a run keeps what its rows come to (*small materialized aggregates*). Where that says exactly what is asked, no row of the
slice is read: no other source has a row among its keys, it has no tombstone, none of its rows has expired, all of them pass the filter, and all
are of one group. Elsewhere rows are read, as few columns of them as it takes, and added up here.

```text
    stretch of keys ─ cut ─→ parts that one run has alone ─→ slices answered by statistics ─┐
                      │                                 └──→ slices whose rows are read ────┼─→ groups, in key order
                      └────→ parts where sources mix, merged as for a scan ─────────────────┘
```

Work goes in windows: the rows to read of some parts are asked for at once, and those of the next window before this one is added up.

**Promises.** A group is one row of the answer, in the key's order. Counts, least and greatest values are exact, and so are sums of
integers and decimals, which are kept in 128 bits (past them a sum stays at `i128::MAX`, whatever comes after). The order in which
doubles are added is not specified: sums of the same rows may differ in their last digits as rows move between sources. NaN is
greater than all other values and equal to itself; −0 and 0 are equal, and either may be the least or greatest value where both are.
*/

mod cut;
mod groups;

use super::expiry::Expiry;
use super::merge::RowStream;
use super::plan::Stretch;
use super::source::Columns;
use super::tree::Source;
use super::{Layer, LayerScan, ScanMetrics, check_ranges, may_have_expired, projected_type, typed, visible_stretches};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRange;
use crate::run::pieces::{Admission, Batch, Piece, PieceReader, RowPlace};
use crate::run::summary::{Summarizer, Summary, SummaryRequest, Verdict};
use crate::run::{ColumnPredicate, Needs, RunScanMetrics, RunSchema, sum_type};
use crate::types::{ColumnId, ColumnType, TableDef};
use arrow::array::{ArrayRef, RecordBatch};
use cut::{Cutter, Part};
use groups::{Fed, Feed, Groups};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Rows to be read of one window.
const WINDOW_ROWS: usize = 32 * 1024;
/// Tasks of one window.
const WINDOW_TASKS: usize = 4096;
/// What a part that is merged counts for in a window: it is not read ahead.
const MERGED_ROWS: usize = 4 * 1024;
/// Groups of one batch.
const BATCH_GROUPS: usize = 8192;

/// What is wanted of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Its rows, as `Int64`.
    Rows,
    /// The values of a column that are not NULL, as `Int64`.
    Count(ColumnId),
    /// A column's least value, in its type; NULL where there is none.
    Min(ColumnId),
    /// A column's greatest value, in its type; NULL where there is none.
    Max(ColumnId),
    /// The sum of a column: `Decimal128(38, 0)`, unscaled, of integers, times and decimals, `Float64` of floats; NULL where there is no value.
    Sum(ColumnId),
}

/// What to add up: the rows of `ranges` (sorted, disjoint; empty means everything) that pass `filter`.
#[derive(Debug, Clone)]
pub struct AggregateRequest {
    /// The ranges, ascending and disjoint; none means every key.
    pub ranges: Vec<KeyRange>,
    /// Rows that agree in so many of the key's first columns are a group; 0 makes all rows one. These columns must be of types that
    /// keys say exactly ([`ColumnType::is_exact_in_keys`]).
    pub group_columns: usize,
    /// What is wanted of each group.
    pub aggregates: Vec<Aggregate>,
    /// All must hold for a row to count: exactly, by [`crate::run::decides`].
    pub filter: Vec<ColumnPredicate>,
    /// Whether statistics may answer; else every row is read. For comparisons of the two.
    pub statistics: bool,
}

/// What an aggregation has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AggregateMetrics {
    /// Slices that statistics answered.
    pub slices_answered: u64,
    /// Rows of them.
    pub rows_answered: u64,
    /// Rows that were looked at one by one, old versions and tombstones included.
    pub rows_read: u64,
    /// What was read.
    pub read: ScanMetrics,
}

/// Groups in key order, batch by batch: the group's columns, then what was wanted. Groups without rows are not there, so that an answer
/// may have no batch. Fused on error.
#[derive(Debug)]
pub struct Aggregation {
    plan: Plan,
    layers: Vec<Layer>,
    stretches: VecDeque<Stretch>,
    /// The stretch being cut.
    current: Option<Current>,
    /// By their places among the layers, those of the stretch.
    runs: BTreeMap<usize, RunSide>,
    /// A window whose reads are on their way.
    ahead: Option<Window>,
    groups: Groups,
    done: bool,
    metrics: AggregateMetrics,
}

/// What an aggregation is about.
#[derive(Debug)]
struct Plan {
    group: Vec<(ColumnId, ColumnType)>,
    measured: Vec<(ColumnId, ColumnType, Needs)>,
    /// What is read of rows: the group's columns, and behind them those that are measured.
    columns: Vec<(ColumnId, ColumnType)>,
    filter: Vec<(ColumnPredicate, ColumnType)>,
    expiry: Option<Expiry>,
    statistics: bool,
    schema: RunSchema,
}

/// A stretch under way.
#[derive(Debug)]
struct Current {
    cutter: Cutter,
    /// What is left of a part that one run has alone: its place among the layers, from here to there.
    alone: Option<(usize, RowPlace, RowPlace)>,
}

/// What is needed of a run to add up its rows.
#[derive(Debug)]
struct RunSide {
    reader: Arc<PieceReader>,
    summarizer: Summarizer,
}

/// Some work, in key order.
#[derive(Debug, Default)]
struct Window {
    tasks: Vec<Task>,
    /// Pieces to be read of each run.
    pieces: BTreeMap<usize, (Arc<PieceReader>, Vec<Piece>)>,
    /// Rows of them, about.
    rows: usize,
    /// The same, on their way.
    batches: BTreeMap<usize, (Arc<PieceReader>, Batch)>,
}

#[derive(Debug)]
enum Task {
    /// Slices that statistics answer: places in a summary.
    Answered(Arc<Summary>, Range<usize>),
    /// Pieces of a run, by their places among those of the window.
    Pieces(usize, Range<usize>),
    /// Keys whose rows several sources may have, or a memtable.
    Merged(KeyRange, Vec<usize>),
}

impl Plan {
    fn of(table: &TableDef, request: &AggregateRequest, expiry: Option<Expiry>) -> Result<Plan> {
        let group: Vec<_> = table.key_columns()?.into_iter().take(request.group_columns).collect();
        if group.len() < request.group_columns {
            return Err(Error::invalid(format!(
                "{} columns to group by, of a key that has {}",
                request.group_columns,
                group.len()
            )));
        }
        if let Some((id, ty)) = group.iter().find(|(_, ty)| !ty.is_exact_in_keys()) {
            let message = format!("column {} of type {ty:?} has values that are one in the key's order", id.0);
            return Err(Error::invalid(message));
        }
        let mut measured: Vec<(ColumnId, ColumnType, Needs)> = Vec::new();
        for aggregate in &request.aggregates {
            let Some(id) = aggregate.column() else { continue };
            let ty = projected_type(table, id)?;
            aggregate.check(ty)?;
            let place = measured.iter().position(|(other, _, _)| *other == id).unwrap_or(measured.len());
            if place == measured.len() {
                measured.push((id, ty, Needs::default()));
            }
            if let Some((_, _, needs)) = measured.get_mut(place) {
                needs.min |= matches!(aggregate, Aggregate::Min(_));
                needs.max |= matches!(aggregate, Aggregate::Max(_));
                needs.sum |= matches!(aggregate, Aggregate::Sum(_));
            }
        }
        let columns = group.iter().copied().chain(measured.iter().map(|(id, ty, _)| (*id, *ty))).collect();
        Ok(Plan {
            group,
            measured,
            columns,
            filter: typed(table, request.filter.clone())?,
            expiry,
            statistics: request.statistics,
            schema: RunSchema::of(table)?,
        })
    }

    /// What rows of a run must pass where it has them alone: the filter, and that they have not expired, unless none has.
    fn tests_of(&self, layer: &Layer) -> Result<Vec<ColumnPredicate>> {
        let mut tests: Vec<ColumnPredicate> = self.filter.iter().map(|(test, _)| test.clone()).collect();
        if let Some(expiry) = &self.expiry
            && may_have_expired(&[layer], expiry)?
        {
            tests.push(expiry.predicate());
        }
        Ok(tests)
    }

    /// How columns of rows are fed to groups, when the first are the group's.
    fn feed<'a>(&self, columns: &'a [ArrayRef], len: usize) -> Feed<'a> {
        let (group, measured) = columns.split_at(self.group.len().min(columns.len()));
        Feed { group, len, rows: None, columns: measured.iter().map(Fed::values).collect() }
    }
}

impl Aggregate {
    fn column(&self) -> Option<ColumnId> {
        match self {
            Aggregate::Rows => None,
            Aggregate::Count(id) | Aggregate::Min(id) | Aggregate::Max(id) | Aggregate::Sum(id) => Some(*id),
        }
    }

    fn check(&self, ty: ColumnType) -> Result<()> {
        let possible = match self {
            Aggregate::Rows | Aggregate::Count(_) => true,
            Aggregate::Min(_) | Aggregate::Max(_) => ty.is_orderable(),
            Aggregate::Sum(_) => sum_type(ty).is_some(),
        };
        match possible {
            true => Ok(()),
            false => Err(Error::invalid(format!("{self:?} of a column of type {ty:?}"))),
        }
    }
}

impl Aggregation {
    /// The groups of a table's layers.
    pub(crate) fn new(
        layers: Vec<Layer>,
        table: &TableDef,
        request: &AggregateRequest,
        expiry: Option<Expiry>,
    ) -> Result<Aggregation> {
        check_ranges(&request.ranges)?;
        let plan = Plan::of(table, request, expiry)?;
        let (mut kept, mut spans) = (Vec::with_capacity(layers.len()), Vec::with_capacity(layers.len()));
        for layer in layers {
            if let Some(span) = layer.span(&request.ranges) {
                spans.push(span);
                kept.push(layer);
            }
        }
        let stretches = VecDeque::from(visible_stretches(&kept, &spans, &request.ranges, 0));
        let groups = Groups::new(&plan.group, &plan.measured, &request.aggregates)?;
        Ok(Aggregation {
            plan,
            layers: kept,
            stretches,
            current: None,
            runs: BTreeMap::new(),
            ahead: None,
            groups,
            done: false,
            metrics: AggregateMetrics::default(),
        })
    }

    /// What it has done so far.
    pub fn metrics(&self) -> AggregateMetrics {
        self.metrics
    }

    /// The next batch. `stop` is asked now and then; once it says so, the answer is `Cancelled`.
    pub fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Option<Result<RecordBatch>> {
        let step = self.step(stop);
        if step.is_err() {
            self.done = true;
            self.groups.forget();
        }
        step.transpose()
    }

    fn step(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<RecordBatch>> {
        while !self.done && self.groups.finished() < BATCH_GROUPS {
            if stop() {
                return Err(Error::new(ErrorKind::Cancelled, "an aggregation was stopped"));
            }
            let window = match self.ahead.take() {
                Some(window) => Some(window),
                None => self.window()?,
            };
            match window {
                None => {
                    self.groups.end()?;
                    self.done = true;
                }
                Some(window) => {
                    self.ahead = self.window()?;
                    self.work(window)?;
                }
            }
        }
        self.groups.batch()
    }

    /// The next work, with its reads on their way; `None` at the end.
    fn window(&mut self) -> Result<Option<Window>> {
        let mut window = Window::default();
        while window.rows < WINDOW_ROWS && window.tasks.len() < WINDOW_TASKS {
            let Some(mut current) = self.current.take() else {
                let Some(stretch) = self.stretches.pop_front() else { break };
                self.runs.retain(|place, _| stretch.sources.contains(place));
                self.current = Some(Current { cutter: Cutter::new(&stretch, &self.layers)?, alone: None });
                continue;
            };
            if let Some((place, from, to)) = current.alone.take() {
                let rest = self.add_alone(&mut window, place, from, to)?;
                current.alone = rest.map(|from| (place, from, to));
            } else {
                match current.cutter.next()? {
                    None => continue,
                    Some(Part::Run(place, from, to)) => current.alone = Some((place, from, to)),
                    Some(Part::Merged(range, sources)) => {
                        window.rows += MERGED_ROWS;
                        window.tasks.push(Task::Merged(range, sources));
                    }
                }
            }
            self.current = Some(current);
        }
        if window.tasks.is_empty() {
            return Ok(None);
        }
        let mut metrics = RunScanMetrics::default();
        for (place, (reader, pieces)) in std::mem::take(&mut window.pieces) {
            let batch = reader.submit(pieces, &mut metrics)?;
            window.batches.insert(place, (reader, batch));
        }
        self.metrics.read = self.metrics.read + metrics.into();
        Ok(Some(window))
    }

    /// Puts the slices from one place of a run to another into a window, until that is full; gives where to go on.
    fn add_alone(
        &mut self,
        window: &mut Window,
        place: usize,
        from: RowPlace,
        to: RowPlace,
    ) -> Result<Option<RowPlace>> {
        let layer = self.layers.get(place).ok_or_else(|| Error::internal("a part of a layer that is not there"))?;
        let Source::Run(run) = &layer.source else {
            return Err(Error::internal("a part of a run is of another source"));
        };
        let side = match self.runs.entry(place) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.plan.side_of(layer)?),
        };
        for piece in run.run.pieces_between(from, to)? {
            if window.rows >= WINDOW_ROWS || window.tasks.len() >= WINDOW_TASKS {
                return Ok(Some(RowPlace {
                    slice: piece.slice,
                    row: u32::try_from(piece.rows.start).unwrap_or(u32::MAX),
                }));
            }
            let (slice, rows) = (piece.slice, piece.rows.len());
            match side.summarizer.verdict(slice, piece.whole && self.plan.statistics)? {
                Verdict::Nothing => {
                    self.metrics.read.slices_pruned += 1;
                    self.metrics.read.rows_pruned += u64::try_from(rows).unwrap_or(u64::MAX);
                }
                Verdict::Whole => {
                    self.metrics.slices_answered += 1;
                    self.metrics.rows_answered += u64::try_from(rows).unwrap_or(u64::MAX);
                    let summary = side.summarizer.block(slice)?;
                    let places = summary.places(slice..slice + 1);
                    match window.tasks.last_mut() {
                        Some(Task::Answered(last, slices))
                            if Arc::ptr_eq(last, &summary) && slices.end == places.start =>
                        {
                            slices.end = places.end;
                        }
                        _ => window.tasks.push(Task::Answered(summary, places)),
                    }
                }
                Verdict::Rows => {
                    window.rows += rows;
                    self.metrics.rows_read += u64::try_from(rows).unwrap_or(u64::MAX);
                    let fresh = || (Arc::clone(&side.reader), Vec::new());
                    let (_, pieces) = window.pieces.entry(place).or_insert_with(fresh);
                    let at = pieces.len();
                    pieces.push(piece);
                    match window.tasks.last_mut() {
                        Some(Task::Pieces(last, range)) if *last == place => range.end = at + 1,
                        _ => window.tasks.push(Task::Pieces(place, at..at + 1)),
                    }
                }
            }
        }
        Ok(None)
    }

    /// Adds a window up.
    fn work(&mut self, mut window: Window) -> Result<()> {
        let mut read: BTreeMap<usize, (Vec<ArrayRef>, Vec<usize>)> = BTreeMap::new();
        let mut metrics = RunScanMetrics::default();
        for (place, (reader, batch)) in std::mem::take(&mut window.batches) {
            let decoded = reader.finish(batch, &mut metrics)?;
            let columns = reader.columns(&decoded, &self.plan.columns)?;
            // Where each piece's rows begin, and the last one's end.
            let mut starts = vec![0];
            let mut end = 0;
            for rows in &decoded.kept {
                end += rows;
                starts.push(end);
            }
            read.insert(place, (columns, starts));
        }
        let feeds: BTreeMap<usize, (Feed<'_>, &[usize])> = read
            .iter()
            .map(|(place, (columns, starts))| {
                let len = starts.last().copied().unwrap_or(0);
                (*place, (self.plan.feed(columns, len), starts.as_slice()))
            })
            .collect();
        for task in window.tasks {
            match task {
                Task::Answered(summary, slices) => {
                    let columns = summary.columns.iter().map(Fed::summary).collect();
                    let (group, rows) = (summary.same.as_slice(), Some(summary.rows.as_slice()));
                    let feed = Feed { group, len: summary.rows.len(), rows, columns };
                    self.groups.add(&feed, slices)?;
                }
                Task::Pieces(place, pieces) => {
                    let lost = || Error::internal("a window has not read a run");
                    let (feed, starts) = feeds.get(&place).ok_or_else(lost)?;
                    let start = starts.get(pieces.start).copied().ok_or_else(lost)?;
                    let end = starts.get(pieces.end).copied().ok_or_else(lost)?;
                    self.groups.add(feed, start..end)?;
                }
                Task::Merged(range, sources) => self.merge(range, &sources)?,
            }
        }
        self.metrics.read = self.metrics.read + metrics.into();
        Ok(())
    }

    /// Adds up rows that a scan gives.
    fn merge(&mut self, range: KeyRange, sources: &[usize]) -> Result<()> {
        let layers: Vec<Layer> = sources.iter().filter_map(|place| self.layers.get(*place)).cloned().collect();
        let columns = Columns::new(&self.plan.schema, self.plan.columns.clone(), false);
        let mut rows = LayerScan::new(layers, &[range], columns, Vec::new(), false)
            .expiring(self.plan.expiry)
            .passing(self.plan.filter.clone());
        while let Some(batch) = rows.next()? {
            self.groups.add(&self.plan.feed(&batch.columns, batch.len()), 0..batch.len())?;
        }
        self.metrics.rows_read += rows.metrics().rows;
        self.metrics.read = self.metrics.read + rows.metrics();
        Ok(())
    }
}

impl Plan {
    fn side_of(&self, layer: &Layer) -> Result<RunSide> {
        let Source::Run(run) = &layer.source else {
            return Err(Error::internal("a part of a run is of another source"));
        };
        let tests = self.tests_of(layer)?;
        let reader = Arc::new(PieceReader::of_columns(&run.run, &self.columns, &tests, Admission::WhileRoom)?);
        let request = SummaryRequest { same: self.group.clone(), columns: self.measured.clone(), predicates: tests };
        Ok(RunSide { reader, summarizer: Summarizer::new(Arc::clone(&run.run), request)? })
    }
}

impl Iterator for Aggregation {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_unless(&|| false)
    }
}
