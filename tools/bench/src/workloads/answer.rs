/*!
Answers of queries, held against what they must be.

Values are compared as values, not as types: a count may be a BIGINT here and a NUMERIC there. Exact numbers are equal, but where one
side has fewer digits after the point: then they may differ by one in the last of these, since one side may have cut where the
other has rounded. Floats may differ by [`RELATIVE`] of the greater one: a sum depends on the order of its terms.

Rows come in the order that the query asks for. Those that are equal in what it orders by may come in any order, and where a LIMIT
cuts such a group any of its rows may be there: so what is expected is kept without the limit.
*/

use crate::failure::Failure;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// How far two floats may be apart.
const RELATIVE: f64 = 1e-9;

/// Digits after the point that numbers are compared with at most.
const SCALE_MAX: u32 = 38;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    /// `units` divided by ten to the power of `scale`.
    Number {
        units: i128,
        scale: u32,
    },
    Float(f64),
    /// Text, and whatever is neither of these, as text.
    Text(String),
}

impl Cell {
    /// A whole number.
    pub(super) fn int(n: i64) -> Cell {
        Cell::Number { units: n.into(), scale: 0 }
    }

    /// `-12.30`; nothing else.
    pub(super) fn number(text: &str) -> Option<Cell> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let scale = u32::try_from(fraction.len()).ok().filter(|scale| *scale <= SCALE_MAX)?;
        let units = format!("{whole}{fraction}").parse().ok()?;
        Some(Cell::Number { units, scale })
    }

    /// Whether both are the same value, see the module; `units` of the last digit that both have may lie between numbers of which one
    /// has more digits.
    fn agrees(&self, other: &Cell, units: u32) -> bool {
        match (self, other) {
            (Cell::Number { units: a, scale: s }, Cell::Number { units: b, scale: t }) => {
                let (coarse, c, fine, f) = if s <= t { (a, s, b, t) } else { (b, t, a, s) };
                let step = 10i128.checked_pow(f - c);
                let apart =
                    step.and_then(|step| Some((coarse.checked_mul(step)?.abs_diff(*fine), step.unsigned_abs())));
                // What has no digits after the point was counted.
                apart.is_some_and(|(apart, step)| {
                    apart == 0 || (*c > 0 && step > 1 && apart / u128::from(units.max(1)) <= step)
                })
            }
            (Cell::Number { units, scale }, Cell::Float(b)) | (Cell::Float(b), Cell::Number { units, scale }) => {
                let step = 10f64.powi(i32::try_from(*scale).unwrap_or(i32::MAX));
                // Good for 2^53 units.
                let a = *units as f64 / step;
                let cut = if *scale > 0 { 1.0 / step } else { 0.0 };
                (a - b).abs() <= cut + RELATIVE * a.abs().max(b.abs())
            }
            (Cell::Float(a), Cell::Float(b)) => a == b || (a - b).abs() <= RELATIVE * a.abs().max(b.abs()),
            (a, b) => a == b,
        }
    }
}

/// The rows of an answer.
pub(super) fn rows(batches: &[RecordBatch]) -> Result<Vec<Vec<Cell>>, Failure> {
    let mut rows = Vec::new();
    for batch in batches {
        let options = FormatOptions::default();
        let formatter = |column| ArrayFormatter::try_new(column, &options);
        let columns: Vec<_> = batch.columns().iter().map(|column| (column, formatter(column.as_ref()))).collect();
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(columns.len());
            for (column, formatter) in &columns {
                let formatter =
                    formatter.as_ref().map_err(|e| Failure::Wrong(format!("a column can't be read: {e}")))?;
                cells.push(match column.is_null(row) {
                    true => Cell::Null,
                    false => cell(column.data_type(), formatter.value(row).to_string()),
                });
            }
            rows.push(cells);
        }
    }
    Ok(rows)
}

fn cell(ty: &DataType, text: String) -> Cell {
    let read = match ty {
        DataType::Float32 | DataType::Float64 => text.parse().ok().map(Cell::Float),
        ty if ty.is_numeric() => Cell::number(&text),
        _ => None,
    };
    read.unwrap_or(Cell::Text(text))
}

/// What a query must answer.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// All rows, in order, without the limit.
    pub(super) rows: Vec<Vec<Cell>>,
    /// The columns that the query orders by, by their places.
    pub(super) order: Vec<usize>,
    pub(super) limit: Option<usize>,
    /// Units of the last digit of what is cut here: 1 unless whoever said what to expect has computed otherwise.
    pub(super) units: u32,
}

impl Expected {
    /// Says what is wrong with an answer, if anything is.
    ///
    /// # Errors
    /// What is wrong, as a sentence's end: "has given 3 rows, not 4".
    pub(super) fn check(&self, answer: &[Vec<Cell>]) -> Result<(), String> {
        let right = self.rows.len().min(self.limit.unwrap_or(usize::MAX));
        if answer.len() != right {
            return Err(format!("has given {} rows, not {right}", answer.len()));
        }
        let mut from = 0;
        while let Some(first) = self.rows.get(from) {
            let of_group = |row: &&Vec<Cell>| self.order.iter().all(|place| row.get(*place) == first.get(*place));
            let group: Vec<&Vec<Cell>> = self.rows.iter().skip(from).take_while(of_group).collect();
            let mut left = group.clone();
            for (row, number) in answer.iter().skip(from).zip(from + 1..).take(group.len()) {
                let agrees = |other: &&Vec<Cell>| {
                    row.len() == other.len() && row.iter().zip(*other).all(|(a, b)| a.agrees(b, self.units))
                };
                match left.iter().position(agrees) {
                    Some(place) => drop(left.swap_remove(place)),
                    None => return Err(format!("has row {number}: {row:?}, where {:?} should be", left.first())),
                }
            }
            from += group.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Cell {
        Cell::number(text).unwrap()
    }

    #[test]
    fn numbers_are_equal_to_the_last_digit_that_both_have() {
        for (a, b) in
            [("5", "5"), ("5", "5.00"), ("1.23", "1.230"), ("1.23", "1.2345"), ("1.24", "1.2345"), ("-0.05", "-0.0456")]
        {
            assert!(number(a).agrees(&number(b), 1) && number(b).agrees(&number(a), 1), "{a} {b}");
        }
        for (a, b) in [("5", "6"), ("5", "5.9"), ("1.23", "1.24"), ("1.22", "1.2345"), ("0.1", "-0.1")] {
            assert!(!number(a).agrees(&number(b), 1) && !number(b).agrees(&number(a), 1), "{a} {b}");
        }
        assert!(number("0.33").agrees(&Cell::Float(1.0 / 3.0), 1) && !number("0.33").agrees(&Cell::Float(0.35), 1));
        assert!(
            Cell::Float(0.1 + 0.2).agrees(&Cell::Float(0.3), 1) && !Cell::Float(0.3).agrees(&Cell::Float(0.300_001), 1)
        );
        assert!(Cell::Null.agrees(&Cell::Null, 1) && !Cell::Null.agrees(&Cell::int(0), 1));
        assert!(!Cell::Text("a".into()).agrees(&Cell::Text("b".into()), 1));
        assert!(number("1.22").agrees(&number("1.2345"), 2) && !number("1.22").agrees(&number("1.23"), 2));
        assert_eq!((Cell::number("x"), Cell::number("1.x"), Cell::number("")), (None, None, None));
    }

    fn row(key: i64, text: &str) -> Vec<Cell> {
        vec![Cell::int(key), Cell::Text(text.into())]
    }

    #[test]
    fn rows_that_are_equal_in_the_order_may_change_places_and_others_may_not() {
        let rows = vec![row(1, "a"), row(1, "b"), row(2, "c"), row(2, "d"), row(2, "e")];
        let of = |limit| Expected { rows: rows.clone(), order: vec![0], limit, units: 1 };
        let all = of(None);
        assert_eq!(all.check(&rows), Ok(()));
        assert_eq!(all.check(&[row(1, "b"), row(1, "a"), row(2, "e"), row(2, "d"), row(2, "c")]), Ok(()));
        assert!(all.check(&[row(1, "a"), row(2, "c"), row(1, "b"), row(2, "d"), row(2, "e")]).is_err());
        assert!(all.check(&[row(1, "a"), row(1, "a"), row(2, "c"), row(2, "d"), row(2, "e")]).is_err());
        assert!(all.check(&rows[..4]).unwrap_err().contains("4 rows, not 5"));
        // The limit cuts the second group: any of it will do, but not one twice.
        let four = of(Some(4));
        assert_eq!(four.check(&[row(1, "b"), row(1, "a"), row(2, "e"), row(2, "c")]), Ok(()));
        assert!(four.check(&[row(1, "b"), row(1, "a"), row(2, "e"), row(2, "e")]).is_err());
        assert!(four.check(&[row(1, "b"), row(1, "a"), row(2, "e"), row(3, "c")]).unwrap_err().contains("row 4"));
        let unordered = Expected { rows: vec![row(1, "a"), row(2, "b")], order: Vec::new(), limit: None, units: 1 };
        assert_eq!(unordered.check(&[row(2, "b"), row(1, "a")]), Ok(()));
    }
}
