/*!
Rows by key: the sources are asked newest first, and the first that knows the key answers. Many keys are looked for together: a source is
asked for all that are still open, in their order.
*/

use crate::column::{ColumnSink, value_at};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::memtable::Entry;
use crate::row::RowReader;
use crate::run::{Found, Misses, RunSchema, Wanted};
use crate::scan::expiry::Expiry;
use crate::scan::probes::{Part, Tally};
use crate::scan::tree::{Erased, Mem, RunRef, Source, Tree, is_erased};
use crate::scan::{Layer, Projection, Row};
use crate::types::{ColumnId, ColumnType, Seq, Value};
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use std::ops::Range;
use std::sync::Arc;

/// Where a key's newest version lies.
#[derive(Debug)]
pub(crate) enum Place {
    Mem(Entry),
    Run(Arc<RunRef>, Found),
    /// The key's rows were deleted with a range by the commit of this number.
    Erased(Seq),
}

impl Place {
    pub(crate) fn is_tombstone(&self) -> bool {
        match self {
            Place::Mem(entry) => entry.is_tombstone(),
            Place::Run(_, found) => found.tombstone,
            Place::Erased(_) => true,
        }
    }

    pub(crate) fn seq(&self) -> Seq {
        match self {
            Place::Mem(entry) => entry.seq(),
            Place::Run(run, found) => run.seq_of(found).unwrap_or_default(),
            Place::Erased(seq) => *seq,
        }
    }

    /// The values of columns, in their order. The schema is the tree's.
    fn values(&self, schema: &RunSchema, columns: &[(ColumnId, ColumnType)], out: &mut Vec<Value>) -> Result<()> {
        match self {
            Place::Mem(entry) => {
                let reader = RowReader::open(entry.row())?;
                let mut key = Vec::new();
                for (id, ty) in columns {
                    out.push(match schema.exact_key_place(*id) {
                        None => reader.value(*id, *ty)?,
                        Some(place) => {
                            if key.is_empty() {
                                schema.key.decode_to(entry.key(), &mut key)?;
                            }
                            key.get(place).cloned().unwrap_or(Value::Null)
                        }
                    });
                }
                Ok(())
            }
            Place::Run(run, found) => run.run.read_row(found, columns, out),
            Place::Erased(_) => Err(Error::internal("a deleted range has no rows to read")),
        }
    }

    /// Whether there is a row: none was deleted, and none has expired.
    pub(crate) fn is_live(&self, schema: &RunSchema, expiry: Option<&Expiry>) -> Result<bool> {
        if self.is_tombstone() {
            return Ok(false);
        }
        let Some(expiry) = expiry else { return Ok(true) };
        let mut moment = Vec::with_capacity(1);
        self.values(schema, &[(expiry.column(), expiry.ty)], &mut moment)?;
        Ok(!moment.iter().any(|value| expiry.has_expired(value)))
    }
}

fn find_in_mem(mem: &Mem, key: &[u8], at: Seq) -> Option<Place> {
    let entry = mem.table.get(key, at);
    match mem.erased_at(key, at) {
        Some(seq) if entry.as_ref().is_none_or(|entry| is_erased(entry.seq(), seq)) => Some(Place::Erased(seq)),
        _ => entry.map(Place::Mem),
    }
}

fn find_in_range(erased: &Erased, key: &[u8], at: Seq) -> Option<Place> {
    (erased.seq <= at && erased.span.contains(key)).then_some(Place::Erased(erased.seq))
}

fn find_in_run(run: &Arc<RunRef>, key: &[u8]) -> Result<Option<Place>> {
    if key < run.first_key() || key > run.last_key() {
        return Ok(None);
    }
    Ok(run.run.find(key)?.map(|found| Place::Run(Arc::clone(run), found)))
}

/// The newest version of `key` in one source, tombstones too.
pub(crate) fn find_in(source: &Source, key: &[u8], at: Seq) -> Result<Option<Place>> {
    match source {
        Source::Mem(mem) => Ok(find_in_mem(mem, key, at)),
        Source::Erased(erased) => Ok(find_in_range(erased, key, at)),
        Source::Run(run) => find_in_run(run, key),
    }
}

/// Asks the sources that may have a version of `key` at or below `at`, newest first: `overlay`, then the tree. `of_run` asks a run whose
/// bounds hold the key; the first answer counts.
fn ask<'t, T>(
    overlay: &'t [Layer],
    tree: &'t Tree,
    key: &[u8],
    at: Seq,
    of_place: impl Fn(Place) -> T,
    mut of_run: impl FnMut(&'t Arc<RunRef>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let tally = tree.probes.tally();
    let mut probe = |run, part| {
        let answer = of_run(run)?;
        tally.probe(part, answer.is_some());
        Ok(answer)
    };
    let mut of = |source: &'t Source, at| match source {
        Source::Run(run) if key < run.first_key() || key > run.last_key() => Ok(None),
        Source::Run(run) => probe(run, Part::Upper),
        Source::Mem(mem) => Ok(find_in_mem(mem, key, at).map(&of_place)),
        Source::Erased(erased) => Ok(find_in_range(erased, key, at).map(&of_place)),
    };
    for layer in overlay {
        if let Some(answer) = of(&layer.source, layer.at)? {
            return Ok(Some(answer));
        }
    }
    if let Some(place) = find_in_mem(&tree.active, key, at) {
        return Ok(Some(of_place(place)));
    }
    for source in &tree.upper {
        if let Some(answer) = of(source, at)? {
            return Ok(Some(answer));
        }
    }
    match tree.last_run_of(key) {
        Some(run) => probe(run, Part::Last),
        None => Ok(None),
    }
}

/// The newest version of `key` at or below `at`: `overlay` first, then the tree.
pub(crate) fn find(overlay: &[Layer], tree: &Tree, key: &[u8], at: Seq) -> Result<Option<Place>> {
    ask(overlay, tree, key, at, |place| place, |run| find_in_run(run, key))
}

/// Reads what a lookup of `key` needs and the cache does not have, of `run` and all runs that are asked after it: in one go, since
/// what they will be asked is known before any has answered.
#[cold]
fn bring_from(run: &Arc<RunRef>, overlay: &[Layer], tree: &Tree, key: &[u8], wanted: Wanted<'_>) {
    let sources = overlay.iter().map(|layer| &layer.source).chain(&tree.upper);
    let upper = sources.filter_map(|source| match source {
        Source::Run(run) => Some(run),
        Source::Mem(_) | Source::Erased(_) => None,
    });
    let runs = upper.chain(tree.last_run_of(key));
    let mut misses = Misses::default();
    for run in runs.skip_while(|other| !Arc::ptr_eq(other, run)) {
        // A run that can't be asked says so when it is.
        let _ = run.run.add_misses(key, wanted, &mut misses);
    }
    misses.read();
}

/// What a lookup has found.
enum Answer {
    Place(Place),
    /// The values of the projection's stored columns are read, and the row's number if it is wanted.
    Read(Option<Seq>),
    Deleted,
}

/// Reads the newest version of `key` at or below `at` in the order of the projection into `row`, with its number where the row or the
/// projection asks for one; false where there is none, it is deleted or has expired.
pub(crate) fn get(
    overlay: &[Layer],
    tree: &Tree,
    key: &[u8],
    at: Seq,
    projection: &Projection,
    row: &mut Row,
) -> Result<bool> {
    let plain = projection.places.iter().enumerate().all(|(at, place)| *place == Some(at));
    let mut apart = Vec::new();
    let stored = if plain { &mut row.values } else { &mut apart };
    let wanted = Wanted { columns: &projection.stored, seq: row.seq.is_some() || projection.has_seq() };
    let in_run = |run: &Arc<RunRef>| {
        let found = run.run.get_bringing(key, wanted, stored, || bring_from(run, overlay, tree, key, wanted))?;
        Ok(found.map(|found| match found.tombstone {
            true => Answer::Deleted,
            false => Answer::Read(run.seq_of(&found)),
        }))
    };
    let seq = match ask(overlay, tree, key, at, Answer::Place, in_run)? {
        None | Some(Answer::Deleted) => return Ok(false),
        Some(Answer::Read(seq)) => seq,
        Some(Answer::Place(place)) if place.is_tombstone() => return Ok(false),
        Some(Answer::Place(place)) => {
            stored.clear();
            place.values(&tree.schema, &projection.stored, stored)?;
            Some(place.seq())
        }
    };
    let seq = seq.unwrap_or_default();
    row.seq = row.seq.map(|_| seq);
    let expired = |(expiry, place): &(Expiry, usize)| stored.get(*place).is_some_and(|v| expiry.has_expired(v));
    if projection.expiry.as_ref().is_some_and(expired) {
        return Ok(false);
    }
    if plain {
        stored.truncate(projection.places.len());
        return Ok(true);
    }
    row.values.clear();
    for wanted in &projection.places {
        row.values.push(match wanted {
            None => Value::Int(seq.cast_signed()),
            Some(at) => apart.get(*at).cloned().ok_or_else(|| Error::internal("a source left out a column"))?,
        });
    }
    Ok(true)
}

/// Keys of many that are looked for together: what they need is read from the device side by side.
const KEYS_AT_ONCE: usize = 256;

/// A row that is there: which of the keys asked for it has, and its number, 0 where that was not asked for.
type Live = (u32, Seq);

/// The rows of many keys, in the order in which they were found.
struct Rows {
    live: Vec<Live>,
    /// The stored columns of the projection.
    sinks: Vec<ColumnSink>,
}

/// A key that was asked for: its first bytes as a number, by which most are told apart at once, its bytes, and its place among those
/// asked for.
type Asked<'k> = (u64, &'k [u8], u32);

fn asked(key: &Key, which: u32) -> Asked<'_> {
    let key: &[u8] = key.as_ref();
    let mut first = [0; 8];
    first.iter_mut().zip(key).for_each(|(byte, of_key)| *byte = *of_key);
    (u64::from_be_bytes(first), key, which)
}

/// Some of many keys, in their order, so that what lies together is read together. Each source is asked for those that no newer one
/// knows.
struct Batch<'k, 't> {
    keys: &'k [Asked<'k>],
    /// Those that no source has said anything about yet.
    open: Vec<bool>,
    left: usize,
    tree: &'t Tree,
    wanted: Wanted<'k>,
    tally: Tally<'t>,
}

impl<'k, 't> Batch<'k, 't> {
    fn new(keys: &'k [Asked<'k>], tree: &'t Tree, wanted: Wanted<'k>) -> Self {
        let (open, left) = (vec![true; keys.len()], keys.len());
        Batch { keys, open, left, tree, wanted, tally: tree.probes.tally() }
    }

    fn ask(&mut self, source: &'t Source, at: Seq, rows: &mut Rows) -> Result<()> {
        match source {
            Source::Run(run) => self.ask_runs([(run, 0..self.keys.len())], Part::Upper, rows),
            Source::Mem(mem) => self.ask_each(|key| find_in_mem(mem, key, at), rows),
            Source::Erased(erased) => self.ask_each(|key| find_in_range(erased, key, at), rows),
        }
    }

    fn ask_each(&mut self, find: impl Fn(&[u8]) -> Option<Place>, rows: &mut Rows) -> Result<()> {
        let mut values = Vec::new();
        for ((_, key, which), open) in self.keys.iter().zip(&mut self.open) {
            let Some(place) = (if *open { find(key) } else { None }) else { continue };
            *open = false;
            self.left -= 1;
            if !place.is_tombstone() {
                values.clear();
                place.values(&self.tree.schema, self.wanted.columns, &mut values)?;
                rows.sinks.iter_mut().zip(&values).try_for_each(|(sink, value)| sink.append(value))?;
                rows.live.push((*which, place.seq()));
            }
        }
        Ok(())
    }

    /// Asks runs of a part of the tree that share no key, each for the keys at some places.
    fn ask_runs(
        &mut self,
        runs: impl IntoIterator<Item = (&'t Arc<RunRef>, Range<usize>)>,
        part: Part,
        rows: &mut Rows,
    ) -> Result<()> {
        let mut misses = Misses::default();
        let mut searches = Vec::new();
        for (run, places) in runs {
            let (first, last) = (run.first_key(), run.last_key());
            let keys = self.keys.iter().zip(&self.open).enumerate().skip(places.start).take(places.len());
            let keys = keys.filter(|(_, ((_, key, _), open))| **open && *key >= first && *key <= last);
            let keys: Vec<(usize, &[u8])> = keys.map(|(place, ((_, key, _), _))| (place, *key)).collect();
            if !keys.is_empty() {
                searches.push((run, keys.len(), run.run.search_for(&keys, self.wanted, &mut misses)?));
            }
        }
        let mut reading = misses.start();
        for (run, asked, search) in searches {
            let mut found = 0;
            search.go_on(&mut reading, &mut rows.sinks, |(place, row)| {
                found += 1;
                self.open.get_mut(place).into_iter().for_each(|open| *open = false);
                if let Some((_, _, which)) = self.keys.get(place).filter(|_| !row.tombstone) {
                    rows.live.push((*which, run.seq_of(&row).unwrap_or_default()));
                }
            })?;
            self.left -= found;
            let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            self.tally.probes(part, count(found), count(asked - found));
        }
        reading.finish();
        Ok(())
    }

    fn ask_all(&mut self, overlay: &'t [Layer], at: Seq, rows: &mut Rows) -> Result<()> {
        for layer in overlay {
            self.ask(&layer.source, layer.at, rows)?;
        }
        if !self.tree.active.is_empty() {
            self.ask_each(|key| find_in_mem(&self.tree.active, key, at), rows)?;
        }
        for source in &self.tree.upper {
            if self.left == 0 {
                return Ok(());
            }
            self.ask(source, at, rows)?;
        }
        if self.left == 0 {
            return Ok(());
        }
        let mut start = 0;
        let keys = self.keys;
        let last = self.tree.last.iter().map(|run| {
            let rest = keys.get(start..).unwrap_or_default();
            let places = start..start + rest.partition_point(|(_, key, _)| *key <= run.last_key());
            start = places.end;
            (run, places)
        });
        self.ask_runs(last.filter(|(_, places)| !places.is_empty()), Part::Last, rows)
    }
}

/// The rows of `keys`, and for each row which key it answers, in the order of the keys asked for.
pub(crate) fn read_many(
    overlay: &[Layer],
    tree: &Tree,
    keys: &[Key],
    at: Seq,
    projection: &Projection,
    schema: &SchemaRef,
) -> Result<(RecordBatch, Vec<u32>)> {
    let count = u32::try_from(keys.len()).map_err(|_| Error::invalid("more than 2^32 keys"))?;
    let mut sorted: Vec<Asked<'_>> = keys.iter().zip(0..count).map(|(key, which)| asked(key, which)).collect();
    sorted.sort_unstable();
    let wanted = Wanted { columns: &projection.stored, seq: projection.has_seq() };
    let sinks = projection.stored.iter().map(|(_, ty)| ColumnSink::new(*ty, keys.len()));
    let mut found = Rows { live: Vec::with_capacity(keys.len()), sinks: sinks.collect() };
    for keys in sorted.chunks(KEYS_AT_ONCE) {
        Batch::new(keys, tree, wanted).ask_all(overlay, at, &mut found)?;
    }
    let columns: Vec<ArrayRef> = found.sinks.into_iter().map(ColumnSink::finish).collect();

    // Rows that have expired go, and the others get into the order of the keys asked for.
    let mut rows: Vec<(u32, u32, Seq)> = Vec::with_capacity(found.live.len());
    for ((which, seq), row) in found.live.into_iter().zip(0..count) {
        if !has_expired(projection, &columns, row)? {
            rows.push((which, row, seq));
        }
    }
    rows.sort_unstable();
    let answers: Vec<u32> = rows.iter().map(|(which, _, _)| *which).collect();
    let seqs: Vec<Seq> = rows.iter().map(|(_, _, seq)| *seq).collect();
    let order: Vec<u32> = rows.iter().map(|(_, row, _)| *row).collect();
    let all = columns.first().is_none_or(|column| column.len() == order.len());
    if all && order.is_sorted() {
        return Ok((projection.batch(schema, &columns, &seqs)?, answers));
    }
    let order = UInt32Array::from(order);
    let columns = columns.iter().map(|column| take(column.as_ref(), &order, None)).collect::<Result<Vec<_>, _>>()?;
    Ok((projection.batch(schema, &columns, &seqs)?, answers))
}

/// Whether a row that was read has expired.
fn has_expired(projection: &Projection, columns: &[ArrayRef], row: u32) -> Result<bool> {
    let Some((expiry, place)) = &projection.expiry else { return Ok(false) };
    let column = columns.get(*place).ok_or_else(|| Error::internal("a source left out a column"))?;
    let row = usize::try_from(row).map_err(|_| Error::internal("a row's number is none"))?;
    Ok(expiry.has_expired(&value_at(column.as_ref(), row, expiry.ty)?))
}
