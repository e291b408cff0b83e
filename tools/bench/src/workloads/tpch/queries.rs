/*!
TPC-H's 22 queries, with the parameters that the specification validates with (2.4.x.4 of revision 3), and the answers that it gives
for scale 1.

The texts and answers come with the generator. Two things are written otherwise here: Q1's interval without a precision, which PostgreSQL
does not take either, and Q15 as its approved variant with a common table expression in place of a view.
*/

use crate::workloads::answer::{Cell, Expected};
use tpchgen::q_and_a::{answers_sf1, queries};

/// A query.
#[derive(Debug)]
pub(super) struct Query {
    /// From 1.
    number: i32,
    parameters: &'static [&'static str],
    /// The columns of the answer that it orders by, the first one's place being 0.
    pub(super) order: &'static [usize],
    pub(super) limit: Option<usize>,
}

const fn query(number: i32, parameters: &'static [&'static str], order: &'static [usize]) -> Query {
    Query { number, parameters, order, limit: None }
}

/// All of them.
pub(super) const QUERIES: [Query; 22] = [
    query(1, &["90"], &[0, 1]),
    Query { limit: Some(100), ..query(2, &["15", "BRASS", "EUROPE"], &[0, 2, 1, 3]) },
    Query { limit: Some(10), ..query(3, &["BUILDING", "1995-03-15"], &[1, 2]) },
    query(4, &["1993-07-01"], &[0]),
    query(5, &["ASIA", "1994-01-01"], &[1]),
    query(6, &["1994-01-01", "0.06", "24"], &[]),
    query(7, &["FRANCE", "GERMANY"], &[0, 1, 2]),
    query(8, &["BRAZIL", "AMERICA", "ECONOMY ANODIZED STEEL"], &[0]),
    query(9, &["green"], &[0, 1]),
    Query { limit: Some(20), ..query(10, &["1993-10-01"], &[2]) },
    // The second is 0.0001 divided by the scale.
    query(11, &["GERMANY"], &[1]),
    query(12, &["MAIL", "SHIP", "1994-01-01"], &[0]),
    query(13, &["special", "requests"], &[1, 0]),
    query(14, &["1995-09-01"], &[]),
    query(15, &["1996-01-01"], &[0]),
    query(16, &["Brand#45", "MEDIUM POLISHED", "49", "14", "23", "45", "19", "3", "36", "9"], &[3, 0, 1, 2]),
    query(17, &["Brand#23", "MED BOX"], &[]),
    Query { limit: Some(100), ..query(18, &["300"], &[4, 3]) },
    query(19, &["Brand#12", "Brand#23", "Brand#34", "1", "10", "20"], &[]),
    query(20, &["forest", "1994-01-01", "CANADA"], &[0]),
    Query { limit: Some(100), ..query(21, &["SAUDI ARABIA"], &[1, 0]) },
    query(22, &["13", "31", "23", "29", "30", "18", "17"], &[0]),
];

/// Units of the second digit that a published number may be off by.
const PUBLISHED_UNITS: u32 = 5;

/// Q15 as variant A of the specification's appendix B.
const Q15: &str = "
with revenue (supplier_no, total_revenue) as (
	select
		l_suppkey,
		sum(l_extendedprice * (1 - l_discount))
	from
		lineitem
	where
		l_shipdate >= date ':1'
		and l_shipdate < date ':1' + interval '3' month
	group by
		l_suppkey
)
select
	s_suppkey,
	s_name,
	s_address,
	s_phone,
	total_revenue
from
	supplier,
	revenue
where
	s_suppkey = supplier_no
	and total_revenue = (
		select
			max(total_revenue)
		from
			revenue
	)
order by
	s_suppkey";

impl Query {
    /// `q01`
    pub(super) fn name(&self) -> String {
        format!("q{:02}", self.number)
    }

    /// As it is run at a scale.
    pub(super) fn text(&self, scale: f64) -> String {
        let text = self.text_without_limit(scale);
        match self.limit {
            Some(limit) => format!("{text}\nlimit {limit}"),
            None => text,
        }
    }

    /// All rows of it.
    pub(super) fn text_without_limit(&self, scale: f64) -> String {
        let text = match self.number {
            15 => Q15,
            number => queries::query(number).unwrap_or_default(),
        };
        let mut text = text.trim().trim_end_matches(';').replace("day (3)", "day");
        if self.number == 11 {
            text = text.replace(":2", &format!("{:.10}", 0.0001 / scale));
        }
        // The last first, so that :1 is not taken for the beginning of :10.
        for (parameter, number) in self.parameters.iter().zip(1..).collect::<Vec<_>>().into_iter().rev() {
            text = text.replace(&format!(":{number}"), parameter);
        }
        text
    }

    /// The answer that the specification has for scale 1. Its numbers have two digits after the point, and may be off by a few units of
    /// the second one: 348406.02 for Q17 where exact arithmetic gives 348406.05. The specification itself allows a hundred dollars.
    pub(super) fn published(&self) -> Expected {
        let lines = answers_sf1::answer(self.number).unwrap_or_default().lines().filter(|line| !line.trim().is_empty());
        let cells = |line: &'static str| line.split('|').map(str::trim).collect();
        let rows: Vec<Vec<&str>> = lines.skip(1).map(cells).collect();
        let rows = rows.into_iter().map(|row| row.into_iter().skip(self.cut_columns()).map(published_cell).collect());
        let order = self.order.iter().filter_map(|place| place.checked_sub(self.cut_columns())).collect();
        Expected { rows: rows.collect(), order, limit: None, units: PUBLISHED_UNITS }
    }

    /// An answer as the specification's files would have it: no blanks around texts, and whatever is a number as one.
    pub(super) fn as_published(&self, rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
        let cell = |cell: Cell| match cell {
            Cell::Text(text) => published_cell(text.trim()),
            other => other,
        };
        rows.into_iter().map(|row| row.into_iter().skip(self.cut_columns()).map(cell).collect()).collect()
    }

    /// The first columns of the published answer that say nothing: of Q11's keys only four digits are there.
    fn cut_columns(&self) -> usize {
        usize::from(self.number == 11)
    }
}

fn published_cell(text: &str) -> Cell {
    Cell::number(text).unwrap_or_else(|| Cell::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_put_in_and_none_is_left() {
        for query in &QUERIES {
            let text = query.text(0.1);
            for parameter in query.parameters {
                assert!(text.contains(parameter), "{} has no {parameter}: {text}", query.name());
            }
            assert!(!text.contains(" :") && !text.contains("':") && !text.contains("%:"), "{text}");
            assert_eq!(text.contains("\nlimit "), query.limit.is_some());
        }
        assert!(QUERIES[10].text(0.1).contains("* 0.0010000000"));
        let text = QUERIES[15].text(1.0);
        assert!(text.contains("(49, 14, 23, 45, 19, 3, 36, 9)") && text.contains("'MEDIUM POLISHED%'"), "{text}");
    }

    #[test]
    fn published_answers_have_their_rows() {
        let of = |number: usize| QUERIES[number - 1].published();
        assert_eq!((of(1).rows.len(), of(2).rows.len(), of(3).rows.len(), of(10).rows.len()), (4, 100, 10, 20));
        assert_eq!((of(11).rows.len(), of(11).rows[0].len(), of(11).order), (1048, 1, vec![0]));
        let row = vec![Cell::Text("13".into()), Cell::int(888), Cell::number("6737713.99").unwrap()];
        assert_eq!(of(22).rows[..1], QUERIES[21].as_published(vec![row]));
    }
}
