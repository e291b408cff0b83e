/*!
`sum` that does not wrap.

```text
    smallint, integer → bigint         22003 "bigint out of range" past 64 bits
    bigint            → numeric(38,0)  exact: 128 bits hold the sum of 2^63 rows of any bigint
    numeric(p,s)      → numeric(38,s)  22003 past 38 digits
    real, double      → double precision, DataFusion's own; so are intervals and durations
```

Integers and decimals are summed in 128 bits, and only what leaves the aggregate is checked: the order of rows does not
decide whether a sum overflows on its way. A batch of bigints is first summed in two 64-bit halves, which the compiler
turns into vector instructions.

One accumulator each for plain, distinct, sliding (window frames) and grouped sums; all share [`Addends`], a column
read as 128-bit integers.
*/

use super::arithmetic::{TEN_TO_38, overflow_message};
use super::raise;
use crate::error::state;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, ListArray, PrimitiveArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sum {
    native: datafusion::functions_aggregate::sum::Sum,
    signature: Signature,
}

impl Sum {
    pub(crate) fn new() -> Self {
        Sum {
            native: datafusion::functions_aggregate::sum::Sum::new(),
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

/// The type of a column's sum, and none where DataFusion's own is right.
fn exact_result(addend: &DataType) -> Option<DataType> {
    match addend {
        DataType::Int32 => Some(DataType::Int64),
        DataType::Int64 => Some(DataType::Decimal128(38, 0)),
        DataType::Decimal128(_, scale) => Some(DataType::Decimal128(38, *scale)),
        _ => None,
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [ty] = types else {
            return Err(raise(state::UNDEFINED_FUNCTION, format!("sum takes one argument, not {}", types.len())));
        };
        Ok(vec![coerced(ty)?])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [ty] => exact_result(ty).map_or_else(|| self.native.return_type(types), Ok),
            _ => exec_err!("sum takes one argument"),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !is_exact(&args) {
            return self.native.accumulator(args);
        }
        let result = args.return_type().clone();
        if args.is_distinct {
            return Ok(Box::new(DistinctSum { counts: HashMap::default(), result }));
        }
        Ok(Box::new(PlainSum { sum: 0, rows: 0, result }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let exact = args.input_fields.first().is_some_and(|field| exact_result(field.data_type()).is_some());
        if !exact {
            return self.native.state_fields(args);
        }
        let partial = partial_type(args.return_type());
        if args.is_distinct {
            let item = Field::new_list_field(partial, true);
            return Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "sum distinct"), item, false))]);
        }
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), partial, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if !is_exact(&args) {
            return self.native.create_groups_accumulator(args);
        }
        Ok(Box::new(GroupedSum { sums: Vec::new(), seen: Vec::new(), result: args.return_type().clone() }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !is_exact(&args) {
            return self.native.create_sliding_accumulator(args);
        }
        self.accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn is_exact(args: &AccumulatorArgs) -> bool {
    args.expr_fields.first().is_some_and(|field| exact_result(field.data_type()).is_some())
}

/// The type that is summed for a column of type `ty`.
fn coerced(ty: &DataType) -> Result<DataType> {
    Ok(match ty {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::Int64 | DataType::UInt32 | DataType::Null => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) | DataType::Interval(_) | DataType::Duration(_) => {
            ty.clone()
        }
        DataType::Dictionary(_, value) => return coerced(value),
        DataType::RunEndEncoded(_, values) => return coerced(values.data_type()),
        other => {
            let name = crate::text::type_name(&Field::new("", other.clone(), true));
            return Err(raise(state::UNDEFINED_FUNCTION, format!("function sum({name}) does not exist")));
        }
    })
}

/// What partial sums travel as: 128 bits, whatever the result is.
fn partial_type(result: &DataType) -> DataType {
    match result {
        DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
        _ => DataType::Decimal128(38, 0),
    }
}

/// A column of addends, or of partial sums.
enum Addends<'a> {
    Int(&'a PrimitiveArray<Int32Type>),
    Long(&'a PrimitiveArray<Int64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>),
}

impl<'a> Addends<'a> {
    fn of(columns: &'a [ArrayRef]) -> Result<Self> {
        let Some(column) = columns.first() else { return internal_err!("sum without a column") };
        Ok(match column.data_type() {
            DataType::Int32 => Addends::Int(column.as_primitive()),
            DataType::Int64 => Addends::Long(column.as_primitive()),
            DataType::Decimal128(_, _) => Addends::Decimal(column.as_primitive()),
            other => return internal_err!("sum over {other}"),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Addends::Int(array) => *array,
            Addends::Long(array) => *array,
            Addends::Decimal(array) => *array,
        }
    }

    /// Rows that are not NULL.
    fn rows(&self) -> u64 {
        let array = self.array();
        u64::try_from(array.len() - array.null_count()).unwrap_or(0)
    }

    fn total(&self) -> Result<i128> {
        Ok(match self {
            Addends::Int(array) => i128::from(total_of_ints(array)),
            Addends::Long(array) => total_of_longs(array),
            Addends::Decimal(array) => {
                let mut total: i128 = 0;
                for value in array.iter().flatten() {
                    total = total.checked_add(value).ok_or_else(too_large)?;
                }
                total
            }
        })
    }

    fn for_each(&self, f: impl FnMut(i128)) {
        match self {
            Addends::Int(array) => array.iter().flatten().map(i128::from).for_each(f),
            Addends::Long(array) => array.iter().flatten().map(i128::from).for_each(f),
            Addends::Decimal(array) => array.iter().flatten().for_each(f),
        }
    }
}

/// A batch has fewer than 2^32 rows: 64 bits are enough.
fn total_of_ints(array: &PrimitiveArray<Int32Type>) -> i64 {
    match array.nulls() {
        None => array.values().iter().map(|value| i64::from(*value)).sum(),
        Some(_) => array.iter().flatten().map(i64::from).sum(),
    }
}

/// High and low halves apart, in blocks short enough that neither sum leaves 64 bits.
fn total_of_longs(array: &PrimitiveArray<Int64Type>) -> i128 {
    const BLOCK: usize = 1 << 16;
    if array.null_count() > 0 {
        return array.iter().flatten().map(i128::from).sum();
    }
    let mut total = 0;
    for block in array.values().chunks(BLOCK) {
        let (mut high, mut low) = (0i64, 0i64);
        for value in block {
            high += value >> 32;
            low += value & 0xffff_ffff;
        }
        total += (i128::from(high) << 32) + i128::from(low);
    }
    total
}

fn too_large() -> DataFusionError {
    raise(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow_message(&DataType::Decimal128(38, 0)))
}

/// A sum as a value of the result's type, if it fits there.
fn checked(sum: i128, result: &DataType) -> Result<i128> {
    let fits = match result {
        DataType::Int64 => i64::try_from(sum).is_ok(),
        _ => sum.unsigned_abs() < TEN_TO_38,
    };
    if fits { Ok(sum) } else { Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow_message(result))) }
}

/// Exact sums that the engine has added up, as the state in which partial sums travel.
///
/// # Errors
/// 22003 for one that the type does not hold.
pub(crate) fn partial(sums: &Decimal128Array, ty: &DataType) -> Result<ArrayRef> {
    for sum in sums.iter().flatten() {
        checked(sum, ty)?;
    }
    Ok(Arc::new(sums.clone().with_data_type(ty.clone())))
}

fn scalar(sum: Option<i128>, result: &DataType) -> Result<ScalarValue> {
    let sum = sum.map(|sum| checked(sum, result)).transpose()?;
    Ok(match result {
        DataType::Decimal128(precision, scale) => ScalarValue::Decimal128(sum, *precision, *scale),
        _ => ScalarValue::Int64(sum.and_then(|sum| i64::try_from(sum).ok())),
    })
}

fn column(sums: Vec<i128>, nulls: Option<NullBuffer>, result: &DataType) -> Result<ArrayRef> {
    let valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    for (row, sum) in sums.iter().enumerate() {
        if valid(row) {
            checked(*sum, result)?;
        }
    }
    Ok(match result {
        DataType::Decimal128(_, _) => Arc::new(Decimal128Array::new(sums.into(), nulls).with_data_type(result.clone())),
        _ => {
            let longs: Vec<i64> = sums.into_iter().map(|sum| i64::try_from(sum).unwrap_or(0)).collect();
            Arc::new(PrimitiveArray::<Int64Type>::new(longs.into(), nulls))
        }
    })
}

/// The sum of all rows, and of the rows in a moving frame.
#[derive(Debug)]
struct PlainSum {
    sum: i128,
    rows: u64,
    result: DataType,
}

impl PlainSum {
    fn value(&self) -> Option<i128> {
        (self.rows > 0).then_some(self.sum)
    }
}

impl Accumulator for PlainSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let addends = Addends::of(values)?;
        self.sum = self.sum.checked_add(addends.total()?).ok_or_else(too_large)?;
        self.rows += addends.rows();
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let addends = Addends::of(values)?;
        self.sum = self.sum.checked_sub(addends.total()?).ok_or_else(too_large)?;
        self.rows -= addends.rows();
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        scalar(self.value(), &self.result)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![scalar(self.value(), &partial_type(&self.result))?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The sum of the different values, each with how often it is in the frame.
#[derive(Debug)]
struct DistinctSum {
    counts: HashMap<i128, u64, BuildHasherDefault<DefaultHasher>>,
    result: DataType,
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Addends::of(values)?.for_each(|value| *self.counts.entry(value).or_default() += 1);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states.first().and_then(|states| states.as_list_opt::<i32>()) else {
            return internal_err!("the state of sum(DISTINCT) is a list");
        };
        for list in lists.iter().flatten() {
            self.update_batch(&[list])?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Addends::of(values)?.for_each(|value| {
            if let Some(count) = self.counts.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&value);
                }
            }
        });
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum: i128 = 0;
        for value in self.counts.keys() {
            sum = sum.checked_add(*value).ok_or_else(too_large)?;
        }
        scalar((!self.counts.is_empty()).then_some(sum), &self.result)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let partial = partial_type(&self.result);
        let values: Vec<i128> = self.counts.keys().copied().collect();
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        let values = Arc::new(Decimal128Array::from(values).with_data_type(partial.clone()));
        let list = ListArray::try_new(Arc::new(Field::new_list_field(partial, true)), offsets, values, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn size(&self) -> usize {
        // An entry, and as much again for what the table keeps free.
        size_of_val(self) + self.counts.capacity() * 2 * size_of::<(i128, u64)>()
    }
}

/// A sum for each group.
struct GroupedSum {
    sums: Vec<i128>,
    seen: Vec<bool>,
    result: DataType,
}

impl GroupedSum {
    fn add<T>(&mut self, array: &PrimitiveArray<T>, groups: &[usize], filter: Option<&BooleanArray>) -> Result<()>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i128>,
    {
        let mut overflow = false;
        let (sums, seen) = (&mut self.sums, &mut self.seen);
        let mut add = |group: usize, value: i128| {
            if let (Some(sum), Some(seen)) = (sums.get_mut(group), seen.get_mut(group)) {
                let (total, wrapped) = sum.overflowing_add(value);
                overflow |= wrapped;
                *sum = total;
                *seen = true;
            }
        };
        let rows = groups.iter().zip(array.values());
        match (array.nulls(), filter) {
            (None, None) => rows.for_each(|(group, value)| add(*group, (*value).into())),
            (nulls, filter) => {
                for (row, (group, value)) in rows.enumerate() {
                    let kept = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
                    if kept && nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                        add(*group, (*value).into());
                    }
                }
            }
        }
        if overflow { Err(too_large()) } else { Ok(()) }
    }

    fn take(&mut self, emit_to: EmitTo) -> (Vec<i128>, Option<NullBuffer>) {
        let sums = emit_to.take_needed(&mut self.sums);
        let seen = emit_to.take_needed(&mut self.seen);
        let nulls = NullBuffer::from(seen);
        (sums, (nulls.null_count() > 0).then_some(nulls))
    }
}

impl GroupsAccumulator for GroupedSum {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.sums.resize(total_num_groups, 0);
        self.seen.resize(total_num_groups, false);
        match Addends::of(values)? {
            Addends::Int(array) => self.add(array, group_indices, opt_filter),
            Addends::Long(array) => self.add(array, group_indices, opt_filter),
            Addends::Decimal(array) => self.add(array, group_indices, opt_filter),
        }
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, nulls) = self.take(emit_to);
        column(sums, nulls, &self.result)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, nulls) = self.take(emit_to);
        Ok(vec![column(sums, nulls, &partial_type(&self.result))?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(array) = values.first() else { return internal_err!("sum without a column") };
        let filtered = opt_filter.map(|filter| {
            let keep = match filter.nulls() {
                Some(nulls) => filter.values() & nulls.inner(),
                None => filter.values().clone(),
            };
            NullBuffer::new(keep)
        });
        let nulls = NullBuffer::union(array.nulls(), filtered.as_ref());
        let sums: Vec<i128> = match Addends::of(values)? {
            Addends::Int(array) => array.values().iter().map(|value| i128::from(*value)).collect(),
            Addends::Long(array) => array.values().iter().map(|value| i128::from(*value)).collect(),
            Addends::Decimal(array) => array.values().to_vec(),
        };
        Ok(vec![column(sums, nulls, &partial_type(&self.result))?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.seen.capacity()
    }
}
