/*!
Small operations on batches of rows, shared by scans, merges and loads.
*/

use crate::error::Result;
use crate::key::EncodedKeys;
use crate::run::RunBatch;
use crate::types::Seq;
use arrow::array::{Array, BooleanArray};
use std::ops::Range;

/// The sequence number of a row; 0 for a row that is not there.
pub(crate) fn seq_of(batch: &RunBatch, row: usize) -> Seq {
    batch.seqs.get(row).copied().unwrap_or(0)
}

/// Whether one of `rows` is a tombstone.
pub(crate) fn has_tombstones(batch: &RunBatch, mut rows: Range<usize>) -> bool {
    batch.tombstones.is_some() && rows.any(|row| batch.is_tombstone(row))
}

/// Some of the rows; columns are not copied.
pub(crate) fn slice(batch: &RunBatch, rows: Range<usize>) -> RunBatch {
    let (start, len) = (rows.start, rows.len());
    if start == 0 && len == batch.len() {
        return batch.clone();
    }
    RunBatch {
        keys: if batch.keys.is_empty() { batch.keys.clone() } else { batch.keys.slice(rows.clone()) },
        seqs: batch.seqs.get(rows).unwrap_or_default().to_vec(),
        tombstones: batch.tombstones.as_ref().map(|kinds| kinds.slice(start, len)),
        columns: batch.columns.iter().map(|column| column.slice(start, len)).collect(),
    }
}

/// The rows for which `keep` holds.
pub(crate) fn filter(batch: &RunBatch, keep: &BooleanArray) -> Result<RunBatch> {
    let mut keys = if batch.keys.is_empty() { batch.keys.clone() } else { batch.keys.slice(0..0) };
    let mut seqs = Vec::with_capacity(batch.len());
    for row in keep.values().set_indices() {
        if !batch.keys.is_empty() {
            keys.push(batch.keys.get(row));
        }
        seqs.push(seq_of(batch, row));
    }
    let tombstones = match &batch.tombstones {
        Some(kinds) => {
            let kept = arrow::compute::filter(kinds, keep)?;
            kept.as_any().downcast_ref::<BooleanArray>().cloned()
        }
        None => None,
    };
    let columns = batch.columns.iter().map(|column| arrow::compute::filter(column, keep)).collect::<Result<_, _>>()?;
    Ok(RunBatch { keys, seqs, tombstones, columns })
}

/// The batch without its tombstones.
pub(crate) fn without_tombstones(batch: RunBatch) -> Result<RunBatch> {
    if !has_tombstones(&batch, 0..batch.len()) {
        return Ok(RunBatch { tombstones: None, ..batch });
    }
    let keep: BooleanArray = (0..batch.len()).map(|row| Some(!batch.is_tombstone(row))).collect();
    Ok(RunBatch { tombstones: None, ..filter(&batch, &keep)? })
}

/// No keys of the same kind as these.
pub(crate) fn empty_keys(like: &EncodedKeys) -> EncodedKeys {
    if like.is_empty() { like.clone() } else { like.slice(0..0) }
}
