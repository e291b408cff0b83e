/*!
Groups under construction: what their rows come to, added up stretch by stretch.

Rows come in key order, so that a group's rows come one after another: there is one group under way, and it ends where the next one begins.
What is fed is either rows, or slices as their statistics have them (a row for each slice, with its counts): both are columns of values to
take the least, the greatest or the sum of, and only the counts differ.

Loops over values go in lanes, so that the compiler makes vector instructions of them.
*/

use crate::column::{ColumnSink, value_at};
use crate::error::{Error, Result};
use crate::run::predicate::compare;
use crate::run::summary::ColumnSummary;
use crate::run::{Needs, sum_type};
use crate::scan::aggregate::Aggregate;
use crate::types::{ColumnId, ColumnType, Value};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, RecordBatchOptions};
use arrow::compute::partition;
use arrow::datatypes::*;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Values that a loop works on side by side.
const LANES: usize = 8;

/// Rows, or slices as their statistics have them, in key order.
#[derive(Debug)]
pub(super) struct Feed<'a> {
    /// The columns that make the group.
    pub(super) group: &'a [ArrayRef],
    /// Rows of the columns.
    pub(super) len: usize,
    /// How many of the table's rows each stands for; `None` for one.
    pub(super) rows: Option<&'a [i64]>,
    /// What is measured.
    pub(super) columns: Vec<Fed<'a>>,
}

/// A measured column of a feed.
#[derive(Debug)]
pub(super) struct Fed<'a> {
    /// NULLs of each row of the feed; `None` where the column's own say it.
    nulls: Option<&'a [i64]>,
    min: Option<&'a ArrayRef>,
    max: Option<&'a ArrayRef>,
    sum: Option<&'a ArrayRef>,
}

impl<'a> Fed<'a> {
    /// A column of rows.
    pub(super) fn values(array: &'a ArrayRef) -> Fed<'a> {
        Fed { nulls: None, min: Some(array), max: Some(array), sum: Some(array) }
    }

    /// A column of slices.
    pub(super) fn summary(summary: &'a ColumnSummary) -> Fed<'a> {
        let ColumnSummary { nulls, min, max, sum } = summary;
        Fed { nulls: Some(nulls), min: min.as_ref(), max: max.as_ref(), sum: sum.as_ref() }
    }
}

/// Groups: one under way, and those that have ended as columns.
#[derive(Debug)]
pub(super) struct Groups {
    group: Vec<ColumnType>,
    measured: Vec<(ColumnType, Needs)>,
    /// For each column of the answer behind the group's: what it is.
    answers: Vec<(Answer, ColumnType)>,
    schema: SchemaRef,
    current: Option<Group>,
    sinks: Vec<ColumnSink>,
    finished: usize,
}

/// A column of the answer, of a measured column by its place.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Rows,
    Count(usize),
    Min(usize),
    Max(usize),
    Sum(usize),
}

/// The group under way.
#[derive(Debug)]
struct Group {
    key: Vec<Value>,
    rows: i64,
    measures: Vec<Measure>,
}

/// What a column comes to.
#[derive(Debug, Clone, Default)]
struct Measure {
    values: i64,
    min: Option<Value>,
    max: Option<Value>,
    sum: Sum,
}

/// A sum so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Sum {
    #[default]
    Nothing,
    Exact(i128),
    /// More than 128 bits hold, once and for ever.
    TooLarge,
    Float(f64),
}

impl Sum {
    fn plus(self, other: Sum) -> Sum {
        match (self, other) {
            (Sum::Nothing, sum) | (sum, Sum::Nothing) => sum,
            (Sum::Exact(a), Sum::Exact(b)) => a.checked_add(b).map_or(Sum::TooLarge, Sum::Exact),
            (Sum::Float(a), Sum::Float(b)) => Sum::Float(a + b),
            _ => Sum::TooLarge,
        }
    }

    fn value(self) -> Value {
        match self {
            Sum::Nothing => Value::Null,
            Sum::Exact(sum) => Value::Decimal(sum),
            Sum::TooLarge => Value::Decimal(i128::MAX),
            Sum::Float(sum) => Value::Float64(sum),
        }
    }
}

impl Groups {
    pub(super) fn new(
        group: &[(ColumnId, ColumnType)],
        measured: &[(ColumnId, ColumnType, Needs)],
        aggregates: &[Aggregate],
    ) -> Result<Groups> {
        let place = |id: ColumnId| {
            let found = measured.iter().position(|(other, _, _)| *other == id);
            let place = found.ok_or_else(|| Error::internal("a column that is not measured"))?;
            let ty = measured.get(place).map_or(ColumnType::Int64, |(_, ty, _)| *ty);
            Ok::<_, Error>((place, ty))
        };
        let mut answers = Vec::with_capacity(aggregates.len());
        for aggregate in aggregates {
            answers.push(match aggregate {
                Aggregate::Rows => (Answer::Rows, ColumnType::Int64),
                Aggregate::Count(id) => (Answer::Count(place(*id)?.0), ColumnType::Int64),
                Aggregate::Min(id) => place(*id).map(|(place, ty)| (Answer::Min(place), ty))?,
                Aggregate::Max(id) => place(*id).map(|(place, ty)| (Answer::Max(place), ty))?,
                Aggregate::Sum(id) => {
                    let (place, ty) = place(*id)?;
                    (Answer::Sum(place), sum_type(ty).unwrap_or(ty))
                }
            });
        }
        let types = group.iter().map(|(_, ty)| *ty).chain(answers.iter().map(|(_, ty)| *ty));
        let fields: Vec<Field> =
            types.enumerate().map(|(at, ty)| Field::new(format!("_{at}"), ty.arrow(), true)).collect();
        Ok(Groups {
            group: group.iter().map(|(_, ty)| *ty).collect(),
            measured: measured.iter().map(|(_, ty, needs)| (*ty, *needs)).collect(),
            answers,
            schema: Arc::new(Schema::new(fields)),
            current: None,
            sinks: Vec::new(),
            finished: 0,
        })
    }

    /// Groups that have ended and were not handed out.
    pub(super) fn finished(&self) -> usize {
        self.finished
    }

    /// Adds some rows of a feed.
    pub(super) fn add(&mut self, feed: &Feed<'_>, rows: Range<usize>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if rows.end > feed.len {
            return Err(Error::internal("more rows than were fed"));
        }
        if self.goes_on(feed, rows.start)? && self.goes_on(feed, rows.end - 1)? {
            return self.add_to_current(feed, rows);
        }
        let key = self.key_at(feed, rows.start)?;
        if feed.group.is_empty() || key == self.key_at(feed, rows.end - 1)? {
            return self.add_to(key, feed, rows);
        }
        let columns: Vec<ArrayRef> = feed.group.iter().map(|column| column.slice(rows.start, rows.len())).collect();
        for part in partition(&columns)?.ranges() {
            let part = rows.start + part.start..rows.start + part.end;
            self.add_to(self.key_at(feed, part.start)?, feed, part)?;
        }
        Ok(())
    }

    fn key_at(&self, feed: &Feed<'_>, row: usize) -> Result<Vec<Value>> {
        feed.group.iter().zip(&self.group).map(|(column, ty)| value_at(column, row, *ty)).collect()
    }

    /// Whether a row is of the group under way.
    fn goes_on(&self, feed: &Feed<'_>, row: usize) -> Result<bool> {
        let Some(group) = &self.current else { return Ok(false) };
        for ((column, ty), value) in feed.group.iter().zip(&self.group).zip(&group.key) {
            if value_at(column, row, *ty)? != *value {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds rows of one group, which is the one under way or comes behind it.
    fn add_to(&mut self, key: Vec<Value>, feed: &Feed<'_>, rows: Range<usize>) -> Result<()> {
        if self.current.as_ref().is_some_and(|group| group.key != key) {
            self.end()?;
        }
        let measured = self.measured.len();
        self.current.get_or_insert_with(|| Group { key, rows: 0, measures: vec![Measure::default(); measured] });
        self.add_to_current(feed, rows)
    }

    /// Adds rows of the group under way.
    fn add_to_current(&mut self, feed: &Feed<'_>, rows: Range<usize>) -> Result<()> {
        let group = self.current.as_mut().ok_or_else(|| Error::internal("rows of no group"))?;
        let all = match feed.rows {
            None => count(rows.len()),
            Some(weights) => weights.get(rows.clone()).unwrap_or_default().iter().sum(),
        };
        group.rows += all;
        for ((measure, fed), (ty, needs)) in group.measures.iter_mut().zip(&feed.columns).zip(&self.measured) {
            measure.add(fed, all, rows.clone(), *ty, *needs)?;
        }
        Ok(())
    }

    /// Ends the group under way.
    pub(super) fn end(&mut self) -> Result<()> {
        let Some(group) = self.current.take() else { return Ok(()) };
        if self.sinks.is_empty() {
            let types = self.group.iter().copied().chain(self.answers.iter().map(|(_, ty)| *ty));
            self.sinks = types.map(|ty| ColumnSink::new(ty, 0)).collect();
        }
        let measure = |place: usize| group.measures.get(place).cloned().unwrap_or_default();
        let of = |answer: &Answer| match answer {
            Answer::Rows => Value::Int(group.rows),
            Answer::Count(place) => Value::Int(measure(*place).values),
            Answer::Min(place) => measure(*place).min.unwrap_or(Value::Null),
            Answer::Max(place) => measure(*place).max.unwrap_or(Value::Null),
            Answer::Sum(place) => measure(*place).sum.value(),
        };
        let values = group.key.iter().cloned().chain(self.answers.iter().map(|(answer, _)| of(answer)));
        for (sink, value) in self.sinks.iter_mut().zip(values) {
            sink.append(&value)?;
        }
        self.finished += 1;
        Ok(())
    }

    /// The groups that have ended, as a batch; `None` where there are none.
    pub(super) fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if self.finished == 0 {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = std::mem::take(&mut self.sinks).into_iter().map(ColumnSink::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.finished)));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }

    /// Drops everything: after an error nothing is handed out.
    pub(super) fn forget(&mut self) {
        (self.current, self.finished) = (None, 0);
        self.sinks.clear();
    }
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

impl Measure {
    /// Adds rows of a column, which stand for `all` rows.
    fn add(&mut self, fed: &Fed<'_>, all: i64, rows: Range<usize>, ty: ColumnType, needs: Needs) -> Result<()> {
        let missing = || Error::internal("what is measured was not fed");
        let nulls: i64 = match (fed.nulls, fed.min.or(fed.max).or(fed.sum)) {
            (Some(nulls), _) => nulls.get(rows.clone()).unwrap_or_default().iter().sum(),
            (None, Some(array)) => count(nulls_in(array, &rows)),
            (None, None) => return Err(missing()),
        };
        self.values += all - nulls;
        if needs.min {
            let least = extreme(fed.min.ok_or_else(missing)?, &rows, ty, Ordering::Less)?;
            replace(&mut self.min, least, Ordering::Less);
        }
        if needs.max {
            let greatest = extreme(fed.max.ok_or_else(missing)?, &rows, ty, Ordering::Greater)?;
            replace(&mut self.max, greatest, Ordering::Greater);
        }
        if needs.sum {
            self.sum = self.sum.plus(sum(fed.sum.ok_or_else(missing)?, &rows)?);
        }
        Ok(())
    }
}

fn replace(old: &mut Option<Value>, new: Option<Value>, wanted: Ordering) {
    let Some(new) = new else { return };
    if old.as_ref().is_none_or(|old| compare(&new, old) == Some(wanted)) {
        *old = Some(new);
    }
}

fn nulls_in(array: &ArrayRef, rows: &Range<usize>) -> usize {
    match array.nulls() {
        Some(nulls) if nulls.null_count() > 0 => nulls.slice(rows.start, rows.len()).null_count(),
        _ => 0,
    }
}

/// The least (`Less`) or greatest (`Greater`) value of some rows.
fn extreme(array: &ArrayRef, rows: &Range<usize>, ty: ColumnType, wanted: Ordering) -> Result<Option<Value>> {
    let int = |value: Option<i64>| value.map(Value::Int);
    Ok(match array.data_type() {
        DataType::Int16 => int(ordered::<Int16Type>(array, rows, wanted).map(i64::from)),
        DataType::Int32 => int(ordered::<Int32Type>(array, rows, wanted).map(i64::from)),
        DataType::Int64 => int(ordered::<Int64Type>(array, rows, wanted)),
        DataType::Date32 => int(ordered::<Date32Type>(array, rows, wanted).map(i64::from)),
        DataType::Time64(_) => int(ordered::<Time64MicrosecondType>(array, rows, wanted)),
        DataType::Timestamp(_, _) => int(ordered::<TimestampMicrosecondType>(array, rows, wanted)),
        DataType::Decimal128(_, _) => ordered::<Decimal128Type>(array, rows, wanted).map(Value::Decimal),
        DataType::Float32 => float_extreme::<Float32Type>(array, rows, wanted).map(Value::Float32),
        DataType::Float64 => float_extreme::<Float64Type>(array, rows, wanted).map(Value::Float64),
        _ => {
            let mut found = None;
            for row in rows.clone() {
                let value = value_at(array, row, ty)?;
                replace(&mut found, Some(value).filter(|value| *value != Value::Null), wanted);
            }
            found
        }
    })
}

/// The values of some rows, where none is NULL.
fn plain<'a, T: ArrowPrimitiveType>(array: &'a PrimitiveArray<T>, rows: &Range<usize>) -> Option<&'a [T::Native]> {
    let whole = match array.nulls() {
        Some(nulls) if nulls.null_count() > 0 => nulls.slice(rows.start, rows.len()).null_count() == 0,
        _ => true,
    };
    array.values().get(rows.clone()).filter(|_| whole)
}

/// The values of some rows that are not NULL.
fn valid<'a, T: ArrowPrimitiveType>(
    array: &'a PrimitiveArray<T>,
    rows: &Range<usize>,
) -> impl Iterator<Item = T::Native> + 'a {
    rows.clone().filter(move |row| array.is_valid(*row)).map(move |row| array.value(row))
}

fn ordered<T: ArrowPrimitiveType>(array: &ArrayRef, rows: &Range<usize>, wanted: Ordering) -> Option<T::Native>
where
    T::Native: Ord,
{
    let array = array.as_primitive_opt::<T>()?;
    match (plain(array, rows), wanted) {
        (Some(values), Ordering::Less) => values.iter().copied().min(),
        (Some(values), _) => values.iter().copied().max(),
        (None, Ordering::Less) => valid(array, rows).min(),
        (None, _) => valid(array, rows).max(),
    }
}

/// The least or greatest float: NaN is after all else.
fn float_extreme<T: ArrowPrimitiveType>(array: &ArrayRef, rows: &Range<usize>, wanted: Ordering) -> Option<T::Native>
where
    T::Native: lanes::Float,
{
    let array = array.as_primitive_opt::<T>()?;
    let held: Vec<T::Native>;
    let values = match plain(array, rows) {
        Some(values) => values,
        None => {
            held = valid(array, rows).collect();
            held.as_slice()
        }
    };
    lanes::extreme(values, wanted)
}

/// Loops over floats of both widths.
mod lanes {
    use super::{LANES, Ordering};

    /// A float.
    pub(super) trait Float: Copy + PartialOrd {
        const NAN: Self;
        const LEAST: Self;
        const GREATEST: Self;
        fn is_nan(self) -> bool;
    }

    impl Float for f32 {
        const NAN: f32 = f32::NAN;
        const LEAST: f32 = f32::NEG_INFINITY;
        const GREATEST: f32 = f32::INFINITY;
        fn is_nan(self) -> bool {
            self.is_nan()
        }
    }

    impl Float for f64 {
        const NAN: f64 = f64::NAN;
        const LEAST: f64 = f64::NEG_INFINITY;
        const GREATEST: f64 = f64::INFINITY;
        fn is_nan(self) -> bool {
            self.is_nan()
        }
    }

    /// The least or greatest; nothing of nothing.
    pub(super) fn extreme<F: Float>(values: &[F], wanted: Ordering) -> Option<F> {
        if values.is_empty() {
            return None;
        }
        Some(match wanted {
            // A NaN is never less: if nothing was, all are infinite or NaN.
            Ordering::Less => {
                let least = fold(values, F::GREATEST, |new, old| new < old);
                let numbers = || values.iter().any(|value| !value.is_nan());
                if least < F::GREATEST || numbers() { least } else { F::NAN }
            }
            _ => match fold(values, F::LEAST, |new, old| new > old) {
                _ if values.iter().fold(false, |any, value| any | value.is_nan()) => F::NAN,
                greatest => greatest,
            },
        })
    }

    fn fold<F: Float>(values: &[F], start: F, better: impl Fn(F, F) -> bool) -> F {
        let mut lanes = [start; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = if better(*value, *lane) { *value } else { *lane };
            }
        }
        rest.iter().chain(&lanes).fold(start, |best, value| if better(*value, best) { *value } else { best })
    }
}

/// The sum of some rows.
fn sum(array: &ArrayRef, rows: &Range<usize>) -> Result<Sum> {
    let wrong = || Error::internal("a sum of a type that has none");
    Ok(match array.data_type() {
        DataType::Int16 => exact::<Int16Type>(array, rows).ok_or_else(wrong)?,
        DataType::Int32 => exact::<Int32Type>(array, rows).ok_or_else(wrong)?,
        DataType::Int64 => exact::<Int64Type>(array, rows).ok_or_else(wrong)?,
        DataType::Date32 => exact::<Date32Type>(array, rows).ok_or_else(wrong)?,
        DataType::Time64(_) => exact::<Time64MicrosecondType>(array, rows).ok_or_else(wrong)?,
        DataType::Timestamp(_, _) => exact::<TimestampMicrosecondType>(array, rows).ok_or_else(wrong)?,
        DataType::Decimal128(_, _) => {
            let array = array.as_primitive_opt::<Decimal128Type>().ok_or_else(wrong)?;
            valid(array, rows).fold(Sum::Nothing, |sum, value| sum.plus(Sum::Exact(value)))
        }
        DataType::Float32 => floats::<Float32Type>(array, rows).ok_or_else(wrong)?,
        DataType::Float64 => floats::<Float64Type>(array, rows).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    })
}

/// Integers: high and low halves apart, in blocks so short that neither sum leaves 64 bits.
fn exact<T: ArrowPrimitiveType>(array: &ArrayRef, rows: &Range<usize>) -> Option<Sum>
where
    T::Native: Into<i64>,
{
    const BLOCK: usize = 1 << 16;
    let array = array.as_primitive_opt::<T>()?;
    let Some(values) = plain(array, rows) else {
        let plus = |sum: Sum, value: T::Native| sum.plus(Sum::Exact(i128::from(value.into())));
        return Some(valid(array, rows).fold(Sum::Nothing, plus));
    };
    if values.is_empty() {
        return Some(Sum::Nothing);
    }
    let mut total = 0i128;
    for block in values.chunks(BLOCK) {
        let (mut high, mut low) = (0i64, 0i64);
        for value in block {
            let value: i64 = (*value).into();
            high += value >> 32;
            low += value & 0xffff_ffff;
        }
        total += (i128::from(high) << 32) + i128::from(low);
    }
    Some(Sum::Exact(total))
}

/// Floats, as doubles.
fn floats<T: ArrowPrimitiveType>(array: &ArrayRef, rows: &Range<usize>) -> Option<Sum>
where
    T::Native: Into<f64>,
{
    let array = array.as_primitive_opt::<T>()?;
    let Some(values) = plain(array, rows) else {
        let plus = |sum: Sum, value: T::Native| sum.plus(Sum::Float(value.into()));
        return Some(valid(array, rows).fold(Sum::Nothing, plus));
    };
    if values.is_empty() {
        return Some(Sum::Nothing);
    }
    let mut lanes = [0.0f64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            let value: f64 = (*value).into();
            *lane += value;
        }
    }
    let rest: f64 = rest.iter().map(|value| -> f64 { (*value).into() }).sum();
    Some(Sum::Float(lanes.iter().sum::<f64>() + rest))
}
