/*!
`min` and `max` of floats, with PostgreSQL's order: NaN is greater than all other values and equal to itself, −0 is 0.

DataFusion's grouped ones forget what they had when a NaN comes, and the NaN when the next value comes, so that the order of rows decides; its
ungrouped ones tell NaNs by their sign. Of all other types they are DataFusion's own, and so are those over window frames.
*/

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// `min` or `max`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Extreme {
    native: Arc<AggregateUDF>,
    which: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    Least,
    Greatest,
}

impl Extreme {
    pub(crate) fn min() -> Self {
        Extreme { native: min_udaf(), which: Which::Least }
    }

    pub(crate) fn max() -> Self {
        Extreme { native: max_udaf(), which: Which::Greatest }
    }
}

impl Which {
    /// Whether a value takes another's place.
    fn prefers<T: PartialOrd>(self, new: T, old: T) -> bool {
        let is_nan = |value: &T| value.partial_cmp(value).is_none();
        let order = new.partial_cmp(&old).unwrap_or_else(|| is_nan(&new).cmp(&is_nan(&old)));
        match self {
            Which::Least => order == Ordering::Less,
            Which::Greatest => order == Ordering::Greater,
        }
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.native.name()
    }

    fn signature(&self) -> &Signature {
        self.native.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.native.inner().return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            DataType::Float32 => Ok(Box::new(Plain::<Float32Type> { value: None, which: self.which })),
            DataType::Float64 => Ok(Box::new(Plain::<Float64Type> { value: None, which: self.which })),
            _ => self.native.inner().accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.native.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let which = self.which;
        match args.return_field.data_type() {
            DataType::Float32 => Ok(Box::new(Grouped::<Float32Type> { values: Vec::new(), seen: Vec::new(), which })),
            DataType::Float64 => Ok(Box::new(Grouped::<Float64Type> { values: Vec::new(), seen: Vec::new(), which })),
            _ => self.native.inner().create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.native.inner().create_sliding_accumulator(args)
    }

    fn is_descending(&self) -> Option<bool> {
        self.native.inner().is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.native.inner().value_from_stats(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.native.inner().coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.native.inner().documentation()
    }

    fn set_monotonicity(&self, ty: &DataType) -> SetMonotonicity {
        self.native.inner().set_monotonicity(ty)
    }
}

fn floats<T: ArrowPrimitiveType>(columns: &[ArrayRef]) -> Result<&PrimitiveArray<T>> {
    match columns.first().and_then(|column| column.as_primitive_opt::<T>()) {
        Some(array) => Ok(array),
        None => internal_err!("min or max of a float over another type"),
    }
}

/// Of all rows.
#[derive(Debug)]
struct Plain<T: ArrowPrimitiveType> {
    value: Option<T::Native>,
    which: Which,
}

impl<T: ArrowPrimitiveType + std::fmt::Debug> Accumulator for Plain<T>
where
    T::Native: PartialOrd,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in floats::<T>(values)?.iter().flatten() {
            if self.value.is_none_or(|old| self.which.prefers(value, old)) {
                self.value = Some(value);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<T>(self.value, &T::DATA_TYPE)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Of each group.
struct Grouped<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    seen: Vec<bool>,
    which: Which,
}

impl<T: ArrowPrimitiveType> Grouped<T>
where
    T::Native: PartialOrd,
{
    fn take(&mut self, emit_to: EmitTo) -> ArrayRef {
        let values = emit_to.take_needed(&mut self.values);
        let nulls = NullBuffer::from(emit_to.take_needed(&mut self.seen));
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        Arc::new(PrimitiveArray::<T>::new(values.into(), nulls))
    }
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for Grouped<T>
where
    T::Native: PartialOrd,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.values.resize(total, T::Native::default());
        self.seen.resize(total, false);
        let array = floats::<T>(values)?;
        for (row, (group, value)) in groups.iter().zip(array.values()).enumerate() {
            let kept = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if !kept || array.is_null(row) {
                continue;
            }
            if let (Some(old), Some(seen)) = (self.values.get_mut(*group), self.seen.get_mut(*group))
                && (!*seen || self.which.prefers(*value, *old))
            {
                (*old, *seen) = (*value, true);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.take(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.take(emit_to)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let array = floats::<T>(values)?;
        let kept = filter.map(|filter| match filter.nulls() {
            Some(nulls) => NullBuffer::new(filter.values() & nulls.inner()),
            None => NullBuffer::new(filter.values().clone()),
        });
        let nulls = NullBuffer::union(array.nulls(), kept.as_ref());
        Ok(vec![Arc::new(PrimitiveArray::<T>::new(array.values().clone(), nulls))])
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}
