/*!
Reading: the rows of a table under a snapshot, by key, by many keys, or by ranges in order.

```text
    tree     a table's memtables and runs at one moment
    plan     which sources hold which keys
    source   the rows of one source as a stream
    merge    several streams into one
    point    rows by key
    probes   how many lookups look in vain, and so which runs get filters
    firsts   the first row of each group of keys
    split    ranges of about equal size, for threads
    expiry   rows that have outlived their table's time to live
    passing  rows that pass a filter, above the merge
    aggregate  counts, least and greatest values and sums of groups, from statistics where they say them
```

A scan cuts the keys into stretches that the same sources cover ([`plan`]). Where one source covers a stretch, its rows
are handed on as they come, without keys and without a merge; elsewhere the sources are merged, and of each key the
newest row counts. Where sources have few rows, neighbouring stretches are merged as one: a source is begun with once. Zone maps leave out slices of a stretch's oldest source only: a newer source's slice may hold the
version that hides an older one, or the tombstone.

Sources behind a deleted range are no sources of its keys: a scan over such keys opens none of them.

Where rows expire, they are left out above the merge ([`expiry`]), and only of stretches of which some source may have one that has.

An iterator that has failed stays failed; an error is never the end of the data.
*/

pub(crate) mod aggregate;
pub(crate) mod expiry;
pub(crate) mod firsts;
pub(crate) mod merge;
pub(crate) mod passing;
pub(crate) mod plan;
pub(crate) mod point;
pub(crate) mod probes;
pub(crate) mod rows;
pub(crate) mod source;
pub(crate) mod split;
pub(crate) mod tree;

pub use aggregate::{Aggregate, AggregateMetrics, AggregateRequest, Aggregation};
pub use firsts::Firsts;
pub use tree::LAST_LEVEL;

use crate::error::{Error, Result};
use crate::key::KeyRange;
use crate::run::select::RowTest;
use crate::run::{ColumnPredicate, RunBatch, RunScanMetrics, RunSchema, SCAN_ROWS_MAX};
use crate::types::{ColumnId, ColumnType, Seq, TableDef, Value};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use expiry::{Expiry, Unexpired};
use merge::{Merge, RowStream, Ties};
use passing::Passing;
use plan::{Span, Stretch, stretches};
use smallvec::SmallVec;
use source::{Columns, MemStream, RunReading, RunStream};
use std::collections::VecDeque;
use std::sync::Arc;
use tree::{Mem, Source};

/// What to read: the union of `ranges` (sorted, disjoint; empty means everything) in key order, or in reverse.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// The ranges, ascending and disjoint also where `reverse` is asked for; none means every key.
    pub ranges: Vec<KeyRange>,
    /// Columns of the batches, in this order; `ColumnId::ROW_ID` and `ColumnId::SEQ` may be asked for. May be empty (row
    /// counts only).
    pub projection: Vec<ColumnId>,
    /// All must hold for a row to matter: used to leave out slices by their zone maps; rows that fail may still come.
    pub predicates: Vec<ColumnPredicate>,
    /// All must hold for a row to come: exactly, by [`crate::run::decides`]. They leave out slices too, and columns beside theirs are read
    /// only for rows that pass, where one run alone has the keys.
    pub filter: Vec<ColumnPredicate>,
    /// From the last key to the first.
    pub reverse: bool,
    /// At most so many rows, of those that pass the filter.
    pub limit: Option<usize>,
}

/// A row the caller owns and reuses.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The commit that wrote it. A lookup tells it where there is a number already ([`Row::numbered`]): it costs reading one more column.
    pub seq: Option<Seq>,
    /// The values of the projection, in its order.
    pub values: Vec<Value>,
}

impl Row {
    /// One of which lookups tell the number, too.
    pub fn numbered() -> Row {
        Row { seq: Some(0), values: Vec::new() }
    }
}

/// What a scan has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanMetrics {
    /// Slices of runs that were read.
    pub slices_read: u64,
    /// Slices of runs that zone maps left out.
    pub slices_pruned: u64,
    /// Rows of them, old versions and tombstones included.
    pub rows_pruned: u64,
    /// Rows that sources gave, before newer versions hid older ones.
    pub rows: u64,
    /// Rows left out because they have expired.
    pub rows_expired: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Reads that the cache answered.
    pub cache_hits: u64,
}

impl std::ops::Add for ScanMetrics {
    type Output = ScanMetrics;

    fn add(self, other: ScanMetrics) -> ScanMetrics {
        ScanMetrics {
            slices_read: self.slices_read + other.slices_read,
            slices_pruned: self.slices_pruned + other.slices_pruned,
            rows_pruned: self.rows_pruned + other.rows_pruned,
            rows_expired: self.rows_expired + other.rows_expired,
            rows: self.rows + other.rows,
            bytes_read: self.bytes_read + other.bytes_read,
            cache_hits: self.cache_hits + other.cache_hits,
        }
    }
}

impl From<RunScanMetrics> for ScanMetrics {
    fn from(metrics: RunScanMetrics) -> Self {
        ScanMetrics {
            slices_read: metrics.slices_read,
            slices_pruned: metrics.slices_pruned,
            rows_pruned: metrics.rows_pruned,
            rows_expired: 0,
            rows: metrics.rows,
            bytes_read: metrics.bytes_read,
            cache_hits: metrics.cache_hits,
        }
    }
}

/// The type of a column in a projection; the engine's own columns are integers.
///
/// # Errors
/// `NoSuchColumn`.
pub(crate) fn projected_type(table: &TableDef, id: ColumnId) -> Result<ColumnType> {
    if id == ColumnId::SEQ || (id == ColumnId::ROW_ID && table.has_hidden_key()) {
        return Ok(ColumnType::Int64);
    }
    table.column_by_id(id).map(|column| column.ty).ok_or_else(|| {
        let message = format!("table {} has no column with id {}", table.name, id.0);
        Error::new(crate::error::ErrorKind::NoSuchColumn, message)
    })
}

/// Columns of a projection that takes no allocation: a lookup makes one.
const FEW_COLUMNS: usize = 8;

/// A projection as sources know it: stored columns only, beside each wanted column's place among them.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    pub(crate) stored: SmallVec<[(ColumnId, ColumnType); FEW_COLUMNS]>,
    /// For each wanted column its place in `stored`; `None` for the sequence number.
    pub(crate) places: SmallVec<[Option<usize>; FEW_COLUMNS]>,
    /// Which rows have expired, for lookups, and the place of the column that says so.
    pub(crate) expiry: Option<(Expiry, usize)>,
}

impl Projection {
    pub(crate) fn of(table: &TableDef, wanted: &[ColumnId]) -> Result<Projection> {
        let mut stored: SmallVec<[(ColumnId, ColumnType); FEW_COLUMNS]> = SmallVec::with_capacity(wanted.len());
        let mut places = SmallVec::with_capacity(wanted.len());
        for id in wanted {
            let ty = projected_type(table, *id)?;
            if *id == ColumnId::SEQ {
                places.push(None);
                continue;
            }
            let place = stored.iter().position(|(other, _)| other == id).unwrap_or(stored.len());
            if place == stored.len() {
                stored.push((*id, ty));
            }
            places.push(Some(place));
        }
        Ok(Projection { stored, places, expiry: None })
    }

    /// Whether the sequence number is among what is wanted.
    pub(crate) fn has_seq(&self) -> bool {
        self.places.iter().any(Option::is_none)
    }

    /// The same for lookups that find no row that has expired.
    pub(crate) fn expiring(mut self, expiry: Option<Expiry>) -> Projection {
        if let Some(expiry) = expiry {
            let of = |(id, _): &(ColumnId, ColumnType)| *id == expiry.column();
            let place = self.stored.iter().position(of).unwrap_or(self.stored.len());
            if place == self.stored.len() {
                self.stored.push((expiry.column(), expiry.ty));
            }
            self.expiry = Some((expiry, place));
        }
        self
    }

    /// The record batch of stored columns and sequence numbers.
    pub(crate) fn batch(&self, schema: &SchemaRef, columns: &[ArrayRef], seqs: &[Seq]) -> Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            arrays.push(match place {
                None => Arc::new(Int64Array::from_iter_values(seqs.iter().map(|seq| seq.cast_signed()))),
                Some(place) => {
                    Arc::clone(columns.get(*place).ok_or_else(|| Error::internal("a source left out a column"))?)
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(seqs.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
    }
}

/// The place of the column by which rows expire among columns to be read; put behind them where it is not there.
fn place_of(columns: &mut Vec<(ColumnId, ColumnType)>, expiry: &Expiry) -> usize {
    place_in(columns, expiry.column(), expiry.ty)
}

/// The place of a column among columns to be read; put behind them where it is not there.
fn place_in(columns: &mut Vec<(ColumnId, ColumnType)>, id: ColumnId, ty: ColumnType) -> usize {
    let place = columns.iter().position(|(other, _)| *other == id).unwrap_or(columns.len());
    if place == columns.len() {
        columns.push((id, ty));
    }
    place
}

/// A source as a scan sees it: what it holds, at which number it is read, and the keys between its first and last.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) source: Source,
    /// The newest version that counts; runs hold only what counts.
    pub(crate) at: Seq,
}

impl Layer {
    /// The keys it may hold within `ranges`, as one span; `None` for none.
    fn span(&self, ranges: &[KeyRange]) -> Option<Span> {
        match &self.source {
            Source::Run(run) => Some(run.span()),
            Source::Mem(mem) => mem_span(mem, ranges, self.at),
            Source::Erased(erased) => (erased.seq <= self.at).then(|| erased.span.clone()),
        }
    }

    fn is_range(&self) -> bool {
        matches!(self.source, Source::Erased(_))
    }

    /// Rows, of whatever age.
    fn rows(&self) -> u64 {
        match &self.source {
            Source::Run(run) => run.rows(),
            Source::Mem(mem) => u64::try_from(mem.table.rows()).unwrap_or(u64::MAX),
            Source::Erased(_) => 0,
        }
    }
}

/// Rows that the sources of neighbouring stretches may have together, for a reader to read these as one: to begin with a source costs
/// about as much as some hundred rows of it.
const JOINED_ROWS_MAX: u64 = 1024;

/// Keys that a scan reads from the same layers.
#[derive(Debug)]
struct Part {
    stretch: Stretch,
    /// Layers that hold keys of the stretch, but lie behind a range that was deleted.
    hidden: Vec<usize>,
}

impl Part {
    /// A stretch without what a deleted range hides.
    fn visible(mut stretch: Stretch, layers: &[Layer]) -> Part {
        let is_range = |place: &usize| layers.get(*place).is_some_and(Layer::is_range);
        let end = stretch.sources.iter().position(is_range).unwrap_or(stretch.sources.len());
        let mut hidden = stretch.sources.split_off(end);
        hidden.retain(|place| !is_range(place));
        Part { stretch, hidden }
    }

    /// Takes the part behind this one in, where nothing changes but that sources are begun with once less.
    fn join(&mut self, next: &Part, layers: &[Layer], rows_max: u64) -> bool {
        let (own, other) = (&self.stretch.sources, &next.stretch.sources);
        if self.stretch.span.to != next.stretch.span.from || !own.iter().any(|place| other.contains(place)) {
            return false;
        }
        if own != other {
            let rows = |place: &usize| layers.get(*place).map_or(u64::MAX, Layer::rows);
            if own.iter().chain(other).any(|place| rows(place) > rows_max) {
                return false;
            }
            let mut all: Vec<usize> = own.iter().chain(other).copied().collect();
            all.sort_unstable();
            all.dedup();
            let hides = self.hidden.iter().chain(&next.hidden).any(|place| all.contains(place));
            if hides || all.iter().map(rows).fold(0, u64::saturating_add) > rows_max {
                return false;
            }
            self.stretch.sources = all;
        }
        self.stretch.span.to = next.stretch.span.to.clone();
        self.hidden.extend(&next.hidden);
        true
    }
}

/// The stretches of layers with these spans, each without what a deleted range hides. Neighbours are one where they have the same
/// sources, or sources that have no more than `joined_rows` together.
fn visible_stretches(layers: &[Layer], spans: &[Span], ranges: &[KeyRange], joined_rows: u64) -> Vec<Stretch> {
    let mut parts: Vec<Part> = Vec::new();
    for stretch in stretches(spans, ranges) {
        let part = Part::visible(stretch, layers);
        let joined = parts.last_mut().is_some_and(|last| last.join(&part, layers, joined_rows));
        if !joined && !part.stretch.sources.is_empty() {
            parts.push(part);
        }
    }
    parts.into_iter().map(|part| part.stretch).collect()
}

fn mem_span(mem: &Mem, ranges: &[KeyRange], at: Seq) -> Option<Span> {
    let hull = match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) => KeyRange { start: first.start.clone(), end: last.end.clone() },
        _ => KeyRange::all(),
    };
    let first = mem.table.range(&hull, at, false).next()?;
    let last = mem.table.range(&hull, at, true).next()?;
    Some(Span::closed(first.key(), last.key()))
}

/// Whether one of the layers may have a row that has expired.
fn may_have_expired(layers: &[&Layer], expiry: &Expiry) -> Result<bool> {
    for layer in layers {
        let may = match &layer.source {
            Source::Mem(_) => true,
            Source::Run(run) => run.run.spread(expiry.column())?.may_be_below(expiry.cutoff),
            Source::Erased(_) => false,
        };
        if may {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The streams of one stretch.
fn open(stretch: &Stretch, layers: &[Layer], columns: &Columns, reading: &Reading) -> Result<Box<dyn RowStream>> {
    let alone = matches!(stretch.sources.as_slice(), [only] if matches!(layers.get(*only), Some(Layer { source: Source::Run(_), .. })));
    if reading.filter.is_empty() || (alone && !reading.keep_tombstones) {
        return open_unfiltered(stretch, layers, columns, reading);
    }
    let mut with_tested = columns.clone();
    let tested: Vec<usize> =
        reading.filter.iter().map(|(test, ty)| place_in(&mut with_tested.projection, test.column, *ty)).collect();
    let rows = open_unfiltered(stretch, layers, &with_tested, reading)?;
    Ok(Box::new(Passing::new(rows, &reading.filter, tested, columns.projection.len())?))
}

/// The same without the filter, but where one run has all the rows.
fn open_unfiltered(
    stretch: &Stretch,
    layers: &[Layer],
    columns: &Columns,
    reading: &Reading,
) -> Result<Box<dyn RowStream>> {
    let chosen: Vec<&Layer> = stretch.sources.iter().filter_map(|place| layers.get(*place)).collect();
    let Some(expiry) = reading.expiry else { return Ok(open_all(stretch, chosen, columns, reading, None)) };
    if !may_have_expired(&chosen, &expiry)? {
        return Ok(open_all(stretch, chosen, columns, reading, None));
    }
    let mut with_moment = columns.clone();
    let place = place_of(&mut with_moment.projection, &expiry);
    let filter = Filter { expiry, place, extra: place == columns.projection.len() };
    let rows = open_all(stretch, chosen, &with_moment, reading, Some(filter));
    Ok(if mutant!(ExpiredBelowMerge) { rows } else { filter.over(rows) })
}

/// How rows that have expired are left out of streams.
#[derive(Debug, Clone, Copy)]
struct Filter {
    expiry: Expiry,
    place: usize,
    extra: bool,
}

impl Filter {
    fn over(self, rows: Box<dyn RowStream>) -> Box<dyn RowStream> {
        Box::new(Unexpired::new(rows, self.expiry, self.place, self.extra))
    }
}

/// The rows of the layers of a stretch, newest versions only. `filter` will leave out those that have expired.
fn open_all(
    stretch: &Stretch,
    chosen: Vec<&Layer>,
    columns: &Columns,
    reading: &Reading,
    filter: Option<Filter>,
) -> Box<dyn RowStream> {
    let range = stretch.span.range();
    let mut predicates = reading.predicates.clone();
    predicates.extend(filter.map(|filter| filter.expiry.predicate()));
    let alone = chosen.len() == 1;
    let oldest = chosen.len().saturating_sub(1);
    let mut streams: Vec<Box<dyn RowStream>> = Vec::with_capacity(chosen.len());
    let drop_tombstones = !reading.keep_tombstones;
    let tests: Vec<ColumnPredicate> = match alone && drop_tombstones {
        true => reading.filter.iter().map(|(test, _)| test.clone()).collect(),
        false => Vec::new(),
    };
    for (place, layer) in chosen.into_iter().enumerate() {
        let drop_tombstones = alone && drop_tombstones;
        let rows: Box<dyn RowStream> = match &layer.source {
            // No stretch has one.
            Source::Erased(_) => continue,
            Source::Mem(mem) => Box::new(MemStream::new(mem, &range, layer.at, columns, drop_tombstones)),
            Source::Run(run) => {
                let predicates = if place == oldest { predicates.as_slice() } else { &[] };
                let with_keys = reading.with_keys || !alone;
                let reading = RunReading { with_keys, drop_tombstones, predicates, filter: &tests };
                Box::new(RunStream::new(run, range.clone(), columns, reading))
            }
        };
        streams.push(match filter {
            Some(filter) if mutant!(ExpiredBelowMerge) => filter.over(rows),
            _ => rows,
        });
    }
    match streams.pop() {
        Some(only) if streams.is_empty() => only,
        last => {
            streams.extend(last);
            let merge = Merge::new(streams, columns.reverse, Ties::Newest, drop_tombstones);
            Box::new(merge.at_first(columns.first_rows))
        }
    }
}

#[derive(Debug)]
struct Reading {
    with_keys: bool,
    /// There is something older that tombstones hide, elsewhere.
    keep_tombstones: bool,
    predicates: Vec<ColumnPredicate>,
    /// What rows must pass, with the types of the columns.
    filter: Vec<(ColumnPredicate, ColumnType)>,
    /// Rows that have expired are left out; never where something older stays elsewhere, which they hide.
    expiry: Option<Expiry>,
}

/// The live rows of layers (newest first) within ranges, in order.
#[derive(Debug)]
pub(crate) struct LayerScan {
    layers: Vec<Layer>,
    columns: Columns,
    reading: Reading,
    stretches: VecDeque<Stretch>,
    current: Option<Box<dyn RowStream>>,
    done: ScanMetrics,
}

impl LayerScan {
    pub(crate) fn new(
        layers: Vec<Layer>,
        ranges: &[KeyRange],
        columns: Columns,
        predicates: Vec<ColumnPredicate>,
        with_keys: bool,
    ) -> Self {
        let mut spans = Vec::with_capacity(layers.len());
        let mut kept = Vec::with_capacity(layers.len());
        for layer in layers {
            if let Some(span) = layer.span(ranges) {
                spans.push(span);
                kept.push(layer);
            }
        }
        // What merges write ends where stretches do: these stay short.
        let joined_rows = if with_keys { 0 } else { JOINED_ROWS_MAX };
        let mut stretches = VecDeque::from(visible_stretches(&kept, &spans, ranges, joined_rows));
        if columns.reverse {
            stretches.make_contiguous().reverse();
        }
        let reading = Reading { with_keys, keep_tombstones: false, predicates, filter: Vec::new(), expiry: None };
        LayerScan { layers: kept, columns, reading, stretches, current: None, done: ScanMetrics::default() }
    }

    /// Without rows that have expired.
    pub(crate) fn expiring(mut self, expiry: Option<Expiry>) -> Self {
        self.reading.expiry = expiry;
        self
    }

    /// Only rows that pass all of `filter`, whose columns have these types.
    pub(crate) fn passing(mut self, filter: Vec<(ColumnPredicate, ColumnType)>) -> Self {
        self.reading.predicates.extend(filter.iter().map(|(test, _)| test.clone()));
        self.reading.filter = filter;
        self
    }

    /// With tombstones: for merges that something older stays behind.
    pub(crate) fn keeping_tombstones(mut self) -> Self {
        self.reading.keep_tombstones = true;
        self
    }
}

impl RowStream for LayerScan {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        loop {
            if let Some(stream) = &mut self.current {
                if let Some(batch) = stream.next()? {
                    return Ok(Some(batch));
                }
                self.done = self.done + stream.metrics();
                self.current = None;
            }
            let Some(stretch) = self.stretches.pop_front() else { return Ok(None) };
            self.current = Some(open(&stretch, &self.layers, &self.columns, &self.reading)?);
        }
    }

    fn metrics(&self) -> ScanMetrics {
        self.current.as_ref().map_or(self.done, |stream| self.done + stream.metrics())
    }
}

/// # Errors
/// `InvalidArgument` for ranges that overlap or do not ascend.
fn check_ranges(ranges: &[KeyRange]) -> Result<()> {
    if ranges.windows(2).any(|pair| matches!(pair, [a, b] if Span::of(a).to > Span::of(b).from)) {
        return Err(Error::invalid("the ranges of a scan must ascend and not overlap"));
    }
    Ok(())
}

/// Predicates with the types of their columns.
///
/// # Errors
/// `NoSuchColumn`; `InvalidArgument` for those by which rows cannot be told.
fn typed(table: &TableDef, predicates: Vec<ColumnPredicate>) -> Result<Vec<(ColumnPredicate, ColumnType)>> {
    let with_type = |predicate: ColumnPredicate| {
        let ty = projected_type(table, predicate.column)?;
        RowTest::new(&predicate, ty)?;
        Ok((predicate, ty))
    };
    predicates.into_iter().map(with_type).collect()
}

/// Batches of a scan, at most 8,192 rows each. Fused on error.
#[derive(Debug)]
pub struct Scan {
    stream: Option<Box<dyn RowStream>>,
    projection: Projection,
    schema: SchemaRef,
    remaining: usize,
    metrics: ScanMetrics,
}

impl Scan {
    /// The rows of a table's layers; those that have expired too where `expiry` says nothing of them.
    pub(crate) fn new(
        layers: Vec<Layer>,
        table: &TableDef,
        request: ScanRequest,
        expiry: Option<Expiry>,
    ) -> Result<Scan> {
        let projection = Projection::of(table, &request.projection)?;
        let schema = table.projected_schema(&request.projection)?;
        check_ranges(&request.ranges)?;
        let filter = typed(table, request.filter)?;
        let columns = Columns::new(&RunSchema::of(table)?, projection.stored.to_vec(), request.reverse)
            .at_first(request.limit.unwrap_or(SCAN_ROWS_MAX));
        let stream = LayerScan::new(layers, &request.ranges, columns, request.predicates, false)
            .expiring(expiry)
            .passing(filter);
        Ok(Scan {
            stream: Some(Box::new(stream)),
            projection,
            schema,
            remaining: request.limit.unwrap_or(usize::MAX),
            metrics: ScanMetrics::default(),
        })
    }

    /// What the scan has done so far.
    pub fn metrics(&self) -> ScanMetrics {
        self.stream.as_ref().map_or(self.metrics, |stream| stream.metrics())
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.remaining > 0) else { return Ok(None) };
        let Some(batch) = stream.next()? else { return Ok(None) };
        let batch = if batch.len() > self.remaining { rows::slice(&batch, 0..self.remaining) } else { batch };
        self.remaining -= batch.len();
        self.projection.batch(&self.schema, &batch.columns, &batch.seqs).map(Some)
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.metrics = self.metrics();
            self.stream = None;
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::random::Random;
    use crate::memtable::Kind;
    use crate::scan::tree::Erased;

    /// A memtable with rows from key `first` to key `last`, or a deleted range.
    fn layer(random: &mut Random, place: u64) -> (Layer, Span) {
        let first = random.below(200) as u8;
        let last = first + random.below(56) as u8;
        let span = Span::closed(&[first], &[last]);
        let source = if random.chance(1, 4) {
            Source::Erased(Arc::new(Erased { span: span.clone(), seq: 1 }))
        } else {
            let mem = Mem::new(place);
            let versions = if random.chance(1, 5) { JOINED_ROWS_MAX / 2 } else { 1 };
            for key in [first, last] {
                (0..versions).for_each(|seq| mem.table.insert(&[key], seq, Kind::Put, &[]));
            }
            Source::Mem(mem)
        };
        (Layer { source, at: Seq::MAX }, span)
    }

    #[test]
    fn every_key_is_read_from_the_layers_before_the_first_range_that_has_it() {
        let (mut short, mut all) = (0, 0);
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let count = random.below(12);
            let (layers, spans): (Vec<Layer>, Vec<Span>) = (0..count).map(|place| layer(&mut random, place)).unzip();
            for (joined_rows, stretches_all) in [(0, &mut all), (JOINED_ROWS_MAX, &mut short)] {
                let stretches = visible_stretches(&layers, &spans, &[], joined_rows);
                *stretches_all += stretches.len();
                assert!(stretches.windows(2).all(|pair| pair[0].span.to <= pair[1].span.from), "seed {seed}");
                for key in 0..=255 {
                    let has = |place: &usize| spans[*place].contains(&[key]);
                    let in_front = (0..layers.len()).filter(has).take_while(|place| !layers[*place].is_range());
                    let of_key = stretches.iter().filter(|stretch| stretch.span.contains(&[key]));
                    let read: Vec<usize> = of_key.flat_map(|stretch| stretch.sources.clone()).filter(has).collect();
                    assert_eq!(read, in_front.collect::<Vec<_>>(), "seed {seed}, key {key}, {layers:?}");
                }
            }
        }
        assert!(short * 4 < all * 3, "{short} stretches instead of {all}");
    }

    #[test]
    fn stretches_of_many_rows_stay_apart() {
        let mem = |first: u8, last: u8, versions: u64| {
            let mem = Mem::new(0);
            for key in [first, last] {
                (0..versions).for_each(|seq| mem.table.insert(&[key], seq, Kind::Put, &[]));
            }
            (Layer { source: Source::Mem(mem), at: Seq::MAX }, Span::closed(&[first], &[last]))
        };
        for (versions, expected) in [(1, 1), (JOINED_ROWS_MAX / 2, 3)] {
            let (layers, spans): (Vec<Layer>, Vec<Span>) = [mem(10, 30, 1), mem(20, 40, versions)].into_iter().unzip();
            assert_eq!(visible_stretches(&layers, &spans, &[], JOINED_ROWS_MAX).len(), expected);
        }
    }
}
