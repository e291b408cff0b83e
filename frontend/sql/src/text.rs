/*! Placeholder of the text room. */
use arrow::array::Array;
use arrow::datatypes::Field;

/// Arrow's text form.
pub fn format(array: &dyn Array, row: usize, _field: &Field, out: &mut String) {
    out.push_str(&arrow::util::display::array_value_to_string(array, row).unwrap_or_default());
}
/// PostgreSQL's name.
pub fn type_name(field: &Field) -> String {
    crate::types::SqlType::of_field(field).map_or_else(|_| field.data_type().to_string(), |t| t.name())
}
