/*!
A tile on its way into the file: pieces of columns gathered, then encoded slice by slice and measured.

Encoding is the dear part of writing a run and needs nothing but the rows, so it can run on any thread. What ties a vector
to its place (checksums, neighbours' keys) the writer adds afterwards, in the order of tiles.
*/

use super::statistics::{self, SliceStats};
use super::{KIND_TYPE, SEQ_TYPE, seq_to_int};
use crate::encoding::{self, Encoder};
use crate::error::{Error, Result};
use crate::io::thread;
use crate::types::{ColumnType, Seq, Value};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::concat;
use arrow::datatypes::Int64Type;
use std::ops::Range;
use std::sync::Arc;

/// What all tiles of a run have in common.
#[derive(Debug)]
pub(super) struct TilePlan {
    /// Rows of a slice.
    pub(super) slice_rows: usize,
    /// Slices of a tile.
    pub(super) tile_slices: usize,
    /// Types of the users' columns, in file order, and which belong to the key.
    pub(super) columns: Vec<(ColumnType, bool)>,
    /// What a left-out SEQ stands for.
    pub(super) default_seq: Seq,
    /// The rows will be merged before long: time is worth more than bytes.
    pub(super) short_lived: bool,
}

impl TilePlan {
    pub(super) fn tile_rows(&self) -> usize {
        self.slice_rows * self.tile_slices
    }
}

/// Consecutive rows, as columns. A system column that says nothing but its default is not there.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) rows: usize,
    pub(super) columns: Vec<ArrayRef>,
    pub(super) seqs: Option<ArrayRef>,
    pub(super) kinds: Option<ArrayRef>,
}

impl Piece {
    /// Some of the rows.
    pub(super) fn slice(&self, rows: Range<usize>) -> Piece {
        let cut = |array: &ArrayRef| array.slice(rows.start, rows.len());
        Piece {
            rows: rows.len(),
            columns: self.columns.iter().map(cut).collect(),
            seqs: self.seqs.as_ref().map(cut),
            kinds: self.kinds.as_ref().map(cut),
        }
    }

    /// Bytes of some of the rows as they are in memory.
    pub(super) fn raw_bytes(&self, rows: Range<usize>) -> usize {
        self.columns.iter().map(|column| raw_bytes(column, rows.clone())).sum()
    }
}

fn raw_bytes(array: &ArrayRef, rows: Range<usize>) -> usize {
    let fixed = array.data_type().primitive_width().unwrap_or(16) * rows.len();
    if let Some(texts) = array.as_string_view_opt() {
        // The low half of a view is its text's length.
        let views = texts.views().get(rows).unwrap_or_default();
        return fixed + views.iter().map(|view| usize::try_from(view & 0xffff_ffff).unwrap_or(0)).sum::<usize>();
    }
    if let Some(bytes) = array.as_binary_opt::<i32>() {
        let offset = |row: usize| bytes.value_offsets().get(row).copied().unwrap_or(0);
        return fixed + usize::try_from(offset(rows.end) - offset(rows.start)).unwrap_or(0);
    }
    fixed
}

/// A tile's rows, gathered.
#[derive(Debug, Default)]
pub(super) struct TileRows {
    /// Place among the run's tiles.
    pub(super) number: u32,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) pieces: Vec<Piece>,
    /// First and last key of each slice.
    pub(super) firsts: Vec<Vec<u8>>,
    pub(super) lasts: Vec<Vec<u8>>,
}

/// A tile's columns as vectors.
#[derive(Debug)]
pub(super) struct EncodedTile {
    pub(super) number: u32,
    pub(super) rows: usize,
    pub(super) firsts: Vec<Vec<u8>>,
    pub(super) lasts: Vec<Vec<u8>>,
    /// The users' columns, SEQ, KIND.
    pub(super) columns: Vec<EncodedColumn>,
}

/// One column of a tile.
#[derive(Debug, Default)]
pub(super) struct EncodedColumn {
    /// All vectors, one after another.
    pub(super) vectors: Vec<u8>,
    /// The length of each slice's vector; `None` if it is left out.
    pub(super) lengths: Vec<Option<usize>>,
    pub(super) stats: Vec<SliceStats>,
}

impl TileRows {
    /// Encodes all columns.
    pub(super) fn encode(self, plan: &TilePlan) -> Result<EncodedTile> {
        let starts = (0..self.rows).step_by(plan.slice_rows);
        let slices: Vec<_> = starts.map(|start| start..self.rows.min(start + plan.slice_rows)).collect();
        let mut columns = Vec::with_capacity(plan.columns.len() + 2);
        for (place, (ty, in_key)) in plan.columns.iter().enumerate() {
            let array = joined(self.pieces.iter().map(|piece| piece.columns.get(place)))?;
            let leave_out = |part: &ArrayRef| !in_key && part.null_count() == part.len();
            let encoder = match plan.short_lived {
                true => Encoder::for_short_lived(*ty),
                false => Encoder::new(*ty),
            };
            columns.push(encode_column(&array, encoder, *ty, &slices, leave_out)?);
        }
        columns.push(self.encode_seqs(plan, &slices)?);
        columns.push(self.encode_kinds(&slices)?);
        Ok(EncodedTile { number: self.number, rows: self.rows, firsts: self.firsts, lasts: self.lasts, columns })
    }

    fn encode_seqs(&self, plan: &TilePlan, slices: &[Range<usize>]) -> Result<EncodedColumn> {
        let default = seq_to_int(plan.default_seq);
        if self.pieces.iter().all(|piece| piece.seqs.is_none()) {
            return Ok(left_out(slices, &Value::Int(default)));
        }
        let fill = |piece: &Piece| -> ArrayRef { Arc::new(Int64Array::from_value(default, piece.rows)) };
        let arrays: Vec<_> = self.pieces.iter().map(|p| p.seqs.clone().unwrap_or_else(|| fill(p))).collect();
        let leave_out = |part: &ArrayRef| {
            part.as_primitive_opt::<Int64Type>().is_some_and(|seqs| seqs.values().iter().all(|seq| *seq == default))
        };
        encode_column(&joined(arrays.iter().map(Some))?, Encoder::new(SEQ_TYPE), SEQ_TYPE, slices, leave_out)
    }

    fn encode_kinds(&self, slices: &[Range<usize>]) -> Result<EncodedColumn> {
        if self.pieces.iter().all(|piece| piece.kinds.is_none()) {
            return Ok(left_out(slices, &Value::Boolean(false)));
        }
        let fill = |piece: &Piece| -> ArrayRef { Arc::new(BooleanArray::from(vec![false; piece.rows])) };
        let arrays: Vec<_> = self.pieces.iter().map(|p| p.kinds.clone().unwrap_or_else(|| fill(p))).collect();
        let leave_out = |part: &ArrayRef| part.as_boolean_opt().is_some_and(|kinds| kinds.true_count() == 0);
        encode_column(&joined(arrays.iter().map(Some))?, Encoder::new(KIND_TYPE), KIND_TYPE, slices, leave_out)
    }
}

/// The pieces of a column as one array.
fn joined<'a>(pieces: impl Iterator<Item = Option<&'a ArrayRef>>) -> Result<ArrayRef> {
    let pieces: Option<Vec<&ArrayRef>> = pieces.collect();
    let pieces = pieces.ok_or_else(|| Error::internal("a piece of a tile lacks a column"))?;
    if let [only] = pieces.as_slice() {
        return Ok(Arc::clone(only));
    }
    let pieces: Vec<&dyn Array> = pieces.into_iter().map(AsRef::as_ref).collect();
    Ok(concat(&pieces)?)
}

fn encode_column(
    array: &ArrayRef,
    mut encoder: Encoder,
    ty: ColumnType,
    slices: &[Range<usize>],
    leave_out: impl Fn(&ArrayRef) -> bool,
) -> Result<EncodedColumn> {
    let mut column = EncodedColumn::default();
    for rows in slices {
        thread::give_way();
        let part = array.slice(rows.start, rows.len());
        column.stats.push(statistics::measure(&part, 0..part.len(), ty)?);
        if leave_out(&part) {
            column.lengths.push(None);
            continue;
        }
        let before = column.vectors.len();
        encoder.encode(&part, 0..part.len(), &mut column.vectors)?;
        column.lengths.push(Some(column.vectors.len() - before));
    }
    Ok(column)
}

/// A column that has one value in all slices and is not stored.
fn left_out(slices: &[Range<usize>], value: &Value) -> EncodedColumn {
    let stats = |rows: &Range<usize>| SliceStats {
        rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        min: Some(value.clone()),
        max: Some(value.clone()),
        min_exact: true,
        max_exact: true,
        ..SliceStats::default()
    };
    EncodedColumn { vectors: Vec::new(), lengths: vec![None; slices.len()], stats: slices.iter().map(stats).collect() }
}

/// How many bytes a row takes, encoded and as it is in memory, by the first rows of the run: both at least 1.
pub(super) fn sample(piece: &Piece, columns: &[(ColumnType, bool)]) -> Result<(f64, f64)> {
    let rows = piece.rows.min(crate::limits::SLICE_ROWS_MAX);
    let mut encoded = Vec::new();
    for (array, (ty, _)) in piece.columns.iter().zip(columns) {
        encoding::encode(array, 0..rows, *ty, &mut encoded)?;
    }
    let each = |bytes: usize| (approximate(bytes) / approximate(rows.max(1))).max(1.0);
    Ok((each(encoded.len()), each(piece.raw_bytes(0..rows))))
}

/// A count as a float, to within its 53 bits.
#[expect(clippy::cast_precision_loss, reason = "a measure that only steers")]
fn approximate(count: usize) -> f64 {
    count as f64
}
