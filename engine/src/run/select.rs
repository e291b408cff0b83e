/*!
Which rows pass tests, told row by row.

Zone maps only leave slices out; here a test decides. Comparisons are Arrow's own kernels, the ones that the layer above compares
with, so that a row passes here if and only if it passes there: NULL passes no comparison, NaN is equal to itself and after all
else, zeros of different signs are different.

[`decides`] says for which tests this holds. Intervals and JSON are not among them, nor are long lists.
*/

use super::predicate::{ColumnPredicate, CompareOp, Test};
use crate::column::ColumnSink;
use crate::error::{Error, Result};
use crate::types::{ColumnType, Value};
use arrow::array::{Array, ArrayRef, BooleanArray, Scalar};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp;

/// Constants of a list up to which rows are told here: each is compared with every row.
const LIST_MAX: usize = 16;

/// Whether a test of a column of this type can be told row by row, exactly.
pub fn decides(test: &Test, ty: ColumnType) -> bool {
    let compares = |constant: &Value| {
        !matches!(ty, ColumnType::Interval | ColumnType::Json) && *constant != Value::Null && one(constant, ty).is_ok()
    };
    match test {
        Test::IsNull | Test::IsNotNull => true,
        Test::Compare(_, constant) | Test::NullOrAtLeast(constant) => compares(constant),
        Test::In(constants) => constants.len() <= LIST_MAX && constants.iter().all(compares),
    }
}

/// An array of one value.
fn one(value: &Value, ty: ColumnType) -> Result<ArrayRef> {
    let mut sink = ColumnSink::new(ty, 1);
    sink.append(value)?;
    Ok(sink.finish())
}

/// A test made ready for a column of one type.
#[derive(Debug, Clone)]
pub(crate) struct RowTest {
    kind: Kind,
    /// What values are compared with, one each.
    constants: Vec<ArrayRef>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Compare(CompareOp),
    In,
    Null(bool),
    NullOrAtLeast,
}

impl RowTest {
    /// Makes a test ready.
    ///
    /// # Errors
    /// `InvalidArgument` for one that [`decides`] refuses.
    pub(crate) fn new(predicate: &ColumnPredicate, ty: ColumnType) -> Result<RowTest> {
        if !decides(&predicate.test, ty) {
            let message = format!("rows cannot be told by {:?} of a column of type {ty:?}", predicate.test);
            return Err(Error::invalid(message));
        }
        let (kind, constants) = match &predicate.test {
            Test::Compare(op, constant) => (Kind::Compare(*op), std::slice::from_ref(constant)),
            Test::NullOrAtLeast(constant) => (Kind::NullOrAtLeast, std::slice::from_ref(constant)),
            Test::In(constants) => (Kind::In, constants.as_slice()),
            Test::IsNull => (Kind::Null(true), [].as_slice()),
            Test::IsNotNull => (Kind::Null(false), [].as_slice()),
        };
        let constants = constants.iter().map(|constant| one(constant, ty)).collect::<Result<_>>()?;
        Ok(RowTest { kind, constants })
    }

    /// Which rows pass.
    pub(crate) fn passing(&self, array: &ArrayRef) -> Result<BooleanBuffer> {
        let is_null = || match array.nulls() {
            Some(nulls) => !nulls.inner(),
            None => BooleanBuffer::new_unset(array.len()),
        };
        let first = || self.constants.first().ok_or_else(|| Error::internal("a test without a constant"));
        Ok(match self.kind {
            Kind::Null(true) => is_null(),
            Kind::Null(false) => !&is_null(),
            Kind::Compare(op) => compare(array, op, first()?)?,
            Kind::NullOrAtLeast => &is_null() | &compare(array, CompareOp::GtEq, first()?)?,
            Kind::In => {
                let mut any = BooleanBuffer::new_unset(array.len());
                for constant in &self.constants {
                    any = &any | &compare(array, CompareOp::Eq, constant)?;
                }
                any
            }
        })
    }
}

fn compare(array: &ArrayRef, op: CompareOp, constant: &ArrayRef) -> Result<BooleanBuffer> {
    let constant = Scalar::new(constant);
    let compared: BooleanArray = match op {
        CompareOp::Eq => cmp::eq(array, &constant),
        CompareOp::Lt => cmp::lt(array, &constant),
        CompareOp::LtEq => cmp::lt_eq(array, &constant),
        CompareOp::Gt => cmp::gt(array, &constant),
        CompareOp::GtEq => cmp::gt_eq(array, &constant),
    }?;
    Ok(match compared.nulls() {
        Some(nulls) => compared.values() & nulls.inner(),
        None => compared.values().clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ColumnId;
    use arrow::array::{Float64Array, StringViewArray};
    use std::sync::Arc;

    fn passing(array: &ArrayRef, ty: ColumnType, test: Test) -> Vec<usize> {
        let test = RowTest::new(&ColumnPredicate { column: ColumnId(1), test }, ty).unwrap();
        test.passing(array).unwrap().set_indices().collect()
    }

    #[test]
    fn null_passes_no_comparison_and_nan_is_greatest() {
        let values = vec![Some(1.0), None, Some(f64::NAN), Some(-0.0), Some(f64::NEG_INFINITY), Some(0.0)];
        let array: ArrayRef = Arc::new(Float64Array::from(values));
        let of = |test| passing(&array, ColumnType::Float64, test);
        let compare = |op, value| of(Test::Compare(op, Value::Float64(value)));
        assert_eq!(compare(CompareOp::Gt, 0.5), [0, 2]);
        assert_eq!(compare(CompareOp::LtEq, 0.0), [3, 4, 5]);
        assert_eq!(compare(CompareOp::Eq, f64::NAN), [2]);
        assert_eq!(of(Test::IsNull), [1]);
        assert_eq!(of(Test::IsNotNull), [0, 2, 3, 4, 5]);
        assert_eq!(of(Test::NullOrAtLeast(Value::Float64(1.0))), [0, 1, 2]);
        assert_eq!(of(Test::In(vec![Value::Float64(1.0), Value::Float64(f64::NEG_INFINITY)])), [0, 4]);
    }

    #[test]
    fn text_compares_by_bytes() {
        let array: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), Some("ä"), Some("z"), None, Some("")]));
        let test = Test::Compare(CompareOp::Gt, Value::Text("z".into()));
        assert_eq!(passing(&array, ColumnType::Text, test), [1]);
    }

    #[test]
    fn what_is_not_told_here_is_refused() {
        let list = Test::In(vec![Value::Int(1); LIST_MAX + 1]);
        let other_type = Test::Compare(CompareOp::Eq, Value::Text("x".into()));
        let null = Test::Compare(CompareOp::Eq, Value::Null);
        for test in [list, other_type, null] {
            assert!(!decides(&test, ColumnType::Int64), "{test:?}");
            assert!(RowTest::new(&ColumnPredicate { column: ColumnId(1), test }, ColumnType::Int64).is_err());
        }
        assert!(!decides(&Test::Compare(CompareOp::Eq, Value::Text("{}".into())), ColumnType::Json));
    }
}
