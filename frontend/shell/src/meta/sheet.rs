/*!
Small results made by the shell itself, shown in the format that results are shown in.
*/

use crate::render::Options;
use crate::shell::{Place, Shell, Step};
use crate::ticker::Ticker;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

/// Columns, one after the other; all as long as the first.
#[derive(Default)]
pub(super) struct Sheet {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Sheet {
    /// A column of text.
    pub(super) fn text(self, name: &str, values: impl IntoIterator<Item = Option<String>>) -> Sheet {
        let values: StringViewArray = values.into_iter().collect();
        self.column(name, DataType::Utf8View, Arc::new(values))
    }

    /// A column of counts.
    pub(super) fn count(self, name: &str, values: impl IntoIterator<Item = u64>) -> Sheet {
        let values = values.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        self.column(name, DataType::Int64, Arc::new(Int64Array::from_iter_values(values)))
    }

    /// A column of counts that not every row has.
    pub(super) fn maybe_count(self, name: &str, values: impl IntoIterator<Item = Option<u64>>) -> Sheet {
        let values = values.into_iter().map(|n| n.map(|n| i64::try_from(n).unwrap_or(i64::MAX)));
        let values: Int64Array = values.collect();
        self.column(name, DataType::Int64, Arc::new(values))
    }

    /// A column of quotients to three digits; NULL where there is nothing to divide by.
    pub(super) fn ratio(self, name: &str, values: impl IntoIterator<Item = (u64, u64)>) -> Sheet {
        let ratio = |(of, by): (u64, u64)| {
            let thousandths = u128::from(of) * 1000 / u128::from(by.max(1));
            let thousandths = u32::try_from(thousandths).unwrap_or(u32::MAX);
            (by > 0).then(|| f64::from(thousandths) / 1000.0)
        };
        let values: Float64Array = values.into_iter().map(ratio).collect();
        self.column(name, DataType::Float64, Arc::new(values))
    }

    fn column(mut self, name: &str, ty: DataType, values: ArrayRef) -> Sheet {
        self.fields.push(Field::new(name, ty, true));
        self.columns.push(values);
        self
    }

    /// Shows it.
    pub(super) fn show(self, shell: &mut Shell, place: Place<'_>) -> Step {
        let schema = Arc::new(Schema::new(self.fields));
        let batch = RecordBatch::try_new(schema.clone(), self.columns);
        let batch = batch.map_err(|e| shell.fail(place, &e.to_string(), None))?;
        // All of it, and only it: these tables explain themselves.
        let options = Options { types: false, footer: false, null: String::new(), rows_max: None, ..shell.options() };
        let shown = shell.show_batches(&schema, &mut std::iter::once(Ok(batch)), &options, &Ticker::start(false));
        shown.map(|_| ()).map_err(|e| shell.stop(e, None, place))
    }
}
