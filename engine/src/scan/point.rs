/*!
Rows by key: the sources are asked newest first, and the first that knows the key answers.
*/

use crate::column::ColumnSink;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::memtable::Entry;
use crate::row::RowReader;
use crate::run::{Found, RunSchema};
use crate::scan::expiry::Expiry;
use crate::scan::tree::{Mem, RunRef, Source, Tree, is_erased};
use crate::scan::{Layer, Projection, Row};
use crate::types::{ColumnId, ColumnType, Seq, Value};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
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
            Place::Run(run, found) => run.fixed_seq.unwrap_or(found.seq),
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

    /// The values of the stored columns of `projection`, in their order; false for a row that has expired.
    fn read(&self, schema: &RunSchema, projection: &Projection, out: &mut Vec<Value>) -> Result<bool> {
        self.values(schema, &projection.stored, out)?;
        let expired = |(expiry, place): &(Expiry, usize)| out.get(*place).is_some_and(|v| expiry.has_expired(v));
        Ok(!projection.expiry.as_ref().is_some_and(expired))
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
        Source::Erased(erased) => {
            Ok((erased.seq <= at && erased.span.contains(key)).then_some(Place::Erased(erased.seq)))
        }
        Source::Run(run) => find_in_run(run, key),
    }
}

/// The newest version of `key` at or below `at`: `overlay` first, then the tree.
pub(crate) fn find(overlay: &[Layer], tree: &Tree, key: &[u8], at: Seq) -> Result<Option<Place>> {
    for layer in overlay {
        if let Some(place) = find_in(&layer.source, key, layer.at)? {
            return Ok(Some(place));
        }
    }
    if let Some(place) = find_in_mem(&tree.active, key, at) {
        return Ok(Some(place));
    }
    for source in &tree.upper {
        if let Some(place) = find_in(source, key, at)? {
            return Ok(Some(place));
        }
    }
    match tree.last_run_of(key) {
        Some(run) => find_in_run(run, key),
        None => Ok(None),
    }
}

/// Reads a place's values in the order of the projection into `row`; false for a row that has expired. The schema is the tree's.
pub(crate) fn read(place: &Place, schema: &RunSchema, projection: &Projection, row: &mut Row) -> Result<bool> {
    row.seq = place.seq();
    row.values.clear();
    let plain = projection.places.iter().enumerate().all(|(at, place)| *place == Some(at));
    if plain {
        let live = place.read(schema, projection, &mut row.values)?;
        row.values.truncate(projection.places.len());
        return Ok(live);
    }
    let mut stored = Vec::with_capacity(projection.stored.len());
    if !place.read(schema, projection, &mut stored)? {
        return Ok(false);
    }
    for wanted in &projection.places {
        row.values.push(match wanted {
            None => Value::Int(row.seq.cast_signed()),
            Some(at) => stored.get(*at).cloned().ok_or_else(|| Error::internal("a source left out a column"))?,
        });
    }
    Ok(true)
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
    // In key order, so that keys that lie together are read together.
    let mut order: Vec<u32> =
        (0..u32::try_from(keys.len()).map_err(|_| Error::invalid("more than 2^32 keys"))?).collect();
    let key_of = |place: &u32| usize::try_from(*place).ok().and_then(|place| keys.get(place));
    order.sort_by(|a, b| key_of(a).cmp(&key_of(b)));
    let mut found: Vec<(u32, Place)> = Vec::with_capacity(keys.len());
    for which in order {
        let Some(key) = key_of(&which) else { continue };
        if let Some(place) = find(overlay, tree, key.as_ref(), at)?.filter(|place| !place.is_tombstone()) {
            found.push((which, place));
        }
    }
    found.sort_by_key(|(which, _)| *which);
    let mut sinks: Vec<ColumnSink> =
        projection.stored.iter().map(|(_, ty)| ColumnSink::new(*ty, found.len())).collect();
    let mut values = Vec::with_capacity(sinks.len());
    let mut seqs = Vec::with_capacity(found.len());
    let mut answers = Vec::with_capacity(found.len());
    for (which, place) in found {
        values.clear();
        if !place.read(&tree.schema, projection, &mut values)? {
            continue;
        }
        answers.push(which);
        for (sink, value) in sinks.iter_mut().zip(&values) {
            sink.append(value)?;
        }
        seqs.push(place.seq());
    }
    let columns: Vec<ArrayRef> = sinks.into_iter().map(ColumnSink::finish).collect();
    Ok((projection.batch(schema, &columns, &seqs)?, answers))
}
