/*!
Key lookups and key ranges without DataFusion, whose planning costs more than they do.

A statement is recognised once, from its tree, and kept: by a prepared statement, or under its text. What is recognised
is a SELECT of plain columns of one stored table, whose WHERE says what the first columns of the key equal, each one value or one of a list,
and perhaps bounds the next one; ORDER BY along the key in either direction, LIMIT. It runs on the engine and on the reader's own thread.

The fast path never decides what a statement means: constants are read by the rules of [`crate::statement::literal`], which
takes only what both ways read alike, and whatever is in doubt goes the long way. A test holds both ways together.
*/

mod recognise;

use crate::error::Result;
use crate::provider::filter::is_empty;
use crate::provider::{key_range, seen_by_datafusion};
use crate::session::{Inner, Outcome, Rows, Source};
use crate::statement::literal;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use omendb_engine::column::ColumnSink;
use omendb_engine::db::{Row, ScanRequest, Snapshot};
use omendb_engine::key::{Key, KeyRange, KeySchema};
use omendb_engine::types::{ColumnId, ColumnType, TableDef, Value};
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use recognise::recognise;

/// Statements that a session keeps under their text; when there are more, it begins anew.
const STATEMENTS_MAX: usize = 1024;

/// Bytes of a statement that is worth keeping under its text.
const TEXT_BYTES_MAX: usize = 4096;

/// Keys, or first columns of keys, that a statement may ask for; with more, planning is what costs least.
const PREFIXES_MAX: usize = 1024;

/// Statements recognised so far, under their text.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<String, Arc<Plan>>>);

impl Cache {
    /// Runs the statement if it is known and still means the same.
    pub(crate) fn run_text(&self, session: &Arc<Inner>, sql: &str) -> Result<Option<Outcome>> {
        if sql.len() > TEXT_BYTES_MAX {
            return Ok(None);
        }
        let plan = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        match plan {
            Some(plan) => plan.run(session, &[]),
            None => Ok(None),
        }
    }

    pub(crate) fn remember(&self, sql: &str, plan: &Arc<Plan>) {
        if sql.len() > TEXT_BYTES_MAX {
            return;
        }
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= STATEMENTS_MAX {
            plans.clear();
        }
        plans.insert(sql.to_owned(), plan.clone());
    }
}

/// A constant, or the value of a parameter.
#[derive(Debug, Clone)]
enum Term {
    Value(Value),
    /// From 0.
    Parameter(usize),
}

impl Term {
    /// The value for a column; `None` when it takes the long way: no value, NULL, or another type.
    fn value(&self, column: ColumnType, params: &[ScalarValue]) -> Option<Value> {
        match self {
            Term::Value(value) => Some(value.clone()),
            Term::Parameter(at) => literal::parameter(params.get(*at)?, column).filter(|v| *v != Value::Null),
        }
    }
}

/// What the first columns of the key equal, each one of some terms, and the bounds of the next one.
#[derive(Debug)]
struct Condition {
    prefix: Vec<(ColumnType, Vec<Term>)>,
    bounds: Option<(ColumnType, Bound<Term>, Bound<Term>)>,
}

impl Condition {
    /// All first columns of keys that it asks for, some of them twice perhaps; `None` when it takes the long way.
    fn prefixes(&self, params: &[ScalarValue]) -> Option<Vec<Vec<Value>>> {
        let mut prefixes = vec![Vec::with_capacity(self.prefix.len())];
        for (ty, terms) in &self.prefix {
            let values = terms.iter().map(|term| term.value(*ty, params)).collect::<Option<Vec<_>>>()?;
            let longer = |prefix: Vec<Value>| {
                values.iter().map(move |value| prefix.iter().chain([value]).cloned().collect::<Vec<_>>())
            };
            prefixes = match values.as_slice() {
                [only] => {
                    prefixes.iter_mut().for_each(|prefix| prefix.push(only.clone()));
                    prefixes
                }
                _ => prefixes.into_iter().flat_map(longer).collect(),
            };
        }
        Some(prefixes)
    }
}

/// How many rows are wanted.
#[derive(Debug, Clone, Copy)]
enum Limit {
    None,
    Rows(usize),
    /// From 0.
    Parameter(usize),
}

/// A statement that was recognised.
#[derive(Debug)]
pub(crate) struct Plan {
    table: Arc<TableDef>,
    keys: KeySchema,
    /// The columns of the result.
    columns: Vec<ColumnId>,
    types: Vec<ColumnType>,
    schema: SchemaRef,
    condition: Condition,
    reverse: bool,
    limit: Limit,
}

impl Plan {
    /// Runs it; `None` when it takes the long way, since the table has changed or a parameter is not plain.
    pub(crate) fn run(&self, session: &Arc<Inner>, params: &[ScalarValue]) -> Result<Option<Outcome>> {
        let Some(prefixes) = self.condition.prefixes(params) else { return Ok(None) };
        let limit = match self.limit {
            Limit::None => None,
            Limit::Rows(rows) => Some(rows),
            Limit::Parameter(at) => match params.get(at) {
                Some(ScalarValue::Int64(Some(rows))) if *rows >= 0 => usize::try_from(*rows).ok(),
                _ => return Ok(None),
            },
        };
        let snapshot = session.database.engine.snapshot()?;
        if !self.is_current(&snapshot)? {
            return Ok(None);
        }
        let is_whole_key = self.condition.prefix.len() == self.keys.columns().len();
        match prefixes.as_slice() {
            [key] if is_whole_key && limit != Some(0) => self.get(&snapshot, key).map(|rows| Some(Outcome::Rows(rows))),
            keys if is_whole_key => self.get_many(&snapshot, keys, limit).map(|rows| Some(Outcome::Rows(rows))),
            prefixes => self.scan(session, snapshot, prefixes, limit, params),
        }
    }

    /// Whether the table is still what it was.
    fn is_current(&self, snapshot: &Snapshot) -> Result<bool> {
        let now = snapshot.table_by_id(self.table.id)?;
        Ok(now.is_some_and(|now| Arc::ptr_eq(&now, &self.table) || now == self.table))
    }

    fn get(&self, snapshot: &Snapshot, key: &[Value]) -> Result<Rows> {
        let mut row = Row::default();
        if !snapshot.get(&self.table, &self.keys.encode(key)?, &self.columns, &mut row)? {
            return Ok(Rows::ready(self.schema.clone(), Vec::new()));
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (value, ty) in row.values.iter().zip(&self.types) {
            let mut sink = ColumnSink::new(*ty, 1);
            sink.append(value)?;
            arrays.push(crate::types::from_engine(&sink.finish(), *ty)?);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)?;
        Ok(Rows::ready(self.schema.clone(), vec![batch]))
    }

    fn get_many(&self, snapshot: &Snapshot, keys: &[Vec<Value>], limit: Option<usize>) -> Result<Rows> {
        let mut keys = keys.iter().map(|key| self.keys.encode(key)).collect::<Result<Vec<_>, _>>()?;
        keys.sort_unstable();
        keys.dedup();
        if self.reverse {
            keys.reverse();
        }
        let (batch, _) = snapshot.multi_get(&self.table, &keys, &self.columns)?;
        let batch = batch.slice(0, limit.unwrap_or(usize::MAX).min(batch.num_rows()));
        Ok(Rows::ready(self.schema.clone(), vec![seen_by_datafusion(&batch, &self.schema, &self.types)?]))
    }

    fn scan(
        &self,
        session: &Arc<Inner>,
        snapshot: Snapshot,
        prefixes: &[Vec<Value>],
        limit: Option<usize>,
        params: &[ScalarValue],
    ) -> Result<Option<Outcome>> {
        let bound = |ty: ColumnType, bound: &Bound<Term>| {
            Some(match bound {
                Bound::Unbounded => Bound::Unbounded,
                Bound::Included(term) => Bound::Included(term.value(ty, params)?),
                Bound::Excluded(term) => Bound::Excluded(term.value(ty, params)?),
            })
        };
        let (lower, upper) = match &self.condition.bounds {
            None => (Bound::Unbounded, Bound::Unbounded),
            Some((ty, lower, upper)) => match (bound(*ty, lower), bound(*ty, upper)) {
                (Some(lower), Some(upper)) => (lower, upper),
                _ => return Ok(None),
            },
        };
        let range = |prefix: &Vec<Value>| key_range(&self.keys, prefix, lower.as_ref(), upper.as_ref());
        let mut ranges = prefixes.iter().map(range).collect::<Result<Vec<_>>>()?;
        ranges.retain(|range| !is_empty(range));
        ranges.sort_unstable_by(|a, b| begin(a).cmp(&begin(b)));
        ranges.dedup();
        if limit == Some(0) || ranges.is_empty() {
            return Ok(Some(Outcome::Rows(Rows::ready(self.schema.clone(), Vec::new()))));
        }
        let running = session.begin_statement()?;
        let mut scan = snapshot.scan(
            &self.table,
            ScanRequest {
                ranges,
                projection: self.columns.clone(),
                predicates: Vec::new(),
                filter: Vec::new(),
                reverse: self.reverse,
                limit,
            },
        )?;
        let (schema, types) = (self.schema.clone(), self.types.clone());
        let batches = std::iter::from_fn(move || {
            Some(match scan.next()? {
                Ok(batch) => seen_by_datafusion(&batch, &schema, &types),
                Err(e) => Err(e.into()),
            })
        });
        Ok(Some(Outcome::Rows(Rows::new(self.schema.clone(), Source::Scan(Box::new(batches)), Some(running)))))
    }
}

/// Where a range of keys begins: those of different first columns share no key.
fn begin(range: &KeyRange) -> Option<&Key> {
    match &range.start {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;
    use crate::{Database, OpenOptions, Session, text};

    fn filled() -> Session {
        let session = Database::open(OpenOptions { threads: Some(2), ..OpenOptions::memory() }).unwrap().session();
        for sql in [
            "CREATE TABLE t (a INT, b BIGINT, c TEXT, d UUID, n NUMERIC(9,2), PRIMARY KEY (a, b))",
            "INSERT INTO t SELECT x, y, 'c' || y, NULL, y / 4.0 \
             FROM generate_series(-3, 3) AS x CROSS JOIN generate_series(1, 30) AS y",
            "CREATE TABLE s (k TEXT, at TIMESTAMP, v DOUBLE PRECISION, PRIMARY KEY (k, at))",
            "INSERT INTO s VALUES ('x', '2024-01-01 00:00:00', 1.5), ('x', '2024-01-01 00:00:01', 2.5), ('y\u{e9}', '2024-01-01 00:00:00', 3)",
        ] {
            session.execute(sql).map(drop).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
        session
    }

    fn recognised(session: &Session, sql: &str) -> Option<Arc<Plan>> {
        let (statement, _) = parse::statement_with_parameters(sql).unwrap();
        recognise(session.inner(), &statement).unwrap()
    }

    fn shown(outcome: Result<Outcome>) -> String {
        let Outcome::Rows(rows) = outcome.unwrap() else { panic!("no rows") };
        let mut out: String =
            rows.schema().fields().iter().map(|f| format!("{}:{},", f.name(), text::type_name(f))).collect();
        for batch in rows {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                out.push('\n');
                for (column, field) in batch.columns().iter().zip(batch.schema().fields()) {
                    match arrow::array::Array::is_null(column, row) {
                        true => out.push_str("NULL"),
                        false => text::format(column, row, field, &mut out),
                    }
                    out.push('|');
                }
            }
        }
        out
    }

    #[test]
    fn both_ways_give_the_same() {
        let session = filled();
        let conditions = [
            "a = 1 AND b = 7",
            "a = -2 AND b = 30",
            "b = 7 AND 1 = a",
            "a = 9 AND b = 9",
            "a = 2",
            "a > 1",
            "a >= -1 AND a < 1",
            "a BETWEEN 0 AND 1",
            "a = 1 AND b > 28",
            "a = 1 AND 3 >= b",
            "a = 1 AND b >= 5 AND b <= 4",
            "(a = 1) AND ((b < 3))",
            "t.a = 1 AND t.b = 2",
            "a = '1' AND b = '2'",
            "a IN (2, -1, 2, 9) AND b = 7",
            "b IN (30, 1) AND a IN (3, -3, 0)",
            "a = 1 AND b IN (5, 99, 4)",
            "a IN (1) AND b IN (8)",
            "a IN (0, 3, -2)",
            "a IN (3, 0, 3) AND b BETWEEN 28 AND 29",
            "a IN (-3, 9) AND b > 27",
            "(a) IN ((1), '2') AND b <= 2",
            "a IN (8, 9) AND b = 1",
        ];
        let columns = ["*", "b, a", "c AS x, a AS y", "d, n, a"];
        let tails = ["", " ORDER BY a, b", " ORDER BY a DESC, b DESC", " ORDER BY b DESC LIMIT 3", " LIMIT 0"];
        let mut fast = 0;
        for condition in conditions {
            for columns in columns {
                for tail in tails {
                    // Without an order of its own, a result in the key's order is as good as any.
                    let order =
                        if tail.contains("ORDER") || tail.contains("LIMIT 0") { tail } else { " ORDER BY t.a, t.b" };
                    let sql = format!("SELECT {columns} FROM t WHERE {condition}{tail}");
                    let Some(plan) = recognised(&session, &sql) else { continue };
                    fast += 1;
                    let here = shown(plan.run(session.inner(), &[]).map(Option::unwrap));
                    let slow = format!("SELECT {columns} FROM t WHERE ({condition}) AND a + 0 IS NOT NULL{order}");
                    assert!(recognised(&session, &slow).is_none(), "{slow}");
                    assert_eq!(here, shown(session.execute(&slow)), "{sql}");
                }
            }
        }
        assert!(fast > 150, "only {fast} statements were recognised");
    }

    #[test]
    fn texts_and_times_in_keys_are_found() {
        let session = filled();
        for (sql, rows) in [
            ("SELECT v FROM s WHERE k = 'x' AND at = '2024-01-01 00:00:01'", 1),
            ("SELECT v FROM s WHERE k = 'x' AND at >= '2024-01-01 00:00:00' ORDER BY at DESC", 2),
            ("SELECT v FROM s WHERE k = 'y\u{e9}'", 1),
            ("SELECT v FROM s WHERE k = 'z'", 0),
        ] {
            let plan = recognised(&session, sql).expect(sql);
            assert_eq!(shown(plan.run(session.inner(), &[]).map(Option::unwrap)).lines().count(), rows + 1, "{sql}");
        }
    }

    #[test]
    fn what_is_in_doubt_goes_the_long_way() {
        let session = filled();
        for sql in [
            "SELECT * FROM t",
            "SELECT * FROM t WHERE b = 1",
            "SELECT * FROM t WHERE a = 1 OR a = 2",
            "SELECT * FROM t WHERE a = 1 AND c = 'x'",
            "SELECT * FROM t WHERE a = 1.5",
            "SELECT * FROM t WHERE a = NULL",
            "SELECT * FROM t WHERE a = 1 AND a = 2",
            "SELECT * FROM t WHERE a = 99999999999",
            "SELECT a + 1 FROM t WHERE a = 1",
            "SELECT a, a FROM t WHERE a = 1",
            "SELECT DISTINCT a FROM t WHERE a = 1",
            "SELECT * FROM t WHERE a = 1 ORDER BY c",
            "SELECT * FROM t WHERE a > 1 ORDER BY b",
            "SELECT * FROM t WHERE a = 1 ORDER BY a, b LIMIT 5 OFFSET 1",
            "SELECT b AS a, a AS b FROM t WHERE a > 1 ORDER BY a",
            "SELECT * FROM t WHERE a = 1 FOR UPDATE",
            "SELECT * FROM t AS x (p, q) WHERE a = 1",
            "SELECT * FROM t TABLESAMPLE BERNOULLI (10) WHERE a = 1",
            "WITH t AS (SELECT 1 AS a) SELECT * FROM t WHERE a = 1",
            "SELECT * FROM s WHERE k = 'x' AND at > '2024-01-01'",
            "SELECT count(*) FROM t WHERE a = 1",
            "SELECT * FROM t WHERE a NOT IN (1, 2)",
            "SELECT * FROM t WHERE a IN (1, NULL)",
            "SELECT * FROM t WHERE a IN (1, 2.5)",
            "SELECT * FROM t WHERE a IN (1, 2) AND a = 1",
            "SELECT * FROM t WHERE a IN (1, 2) AND a > 1",
            "SELECT * FROM t WHERE a IN (SELECT 1)",
            "SELECT * FROM t WHERE a = 1 AND b IN (1, b)",
            "SELECT * FROM t WHERE a IN (1, 2) AND b = 3 ORDER BY b, a",
            "SELECT * FROM t WHERE a IN (1, 2) ORDER BY b",
        ] {
            assert!(recognised(&session, sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn a_plan_is_not_used_when_its_table_has_changed() {
        let session = filled();
        let sql = "SELECT c FROM t WHERE a = 1 AND b = 1";
        assert!(shown(session.execute(sql)).ends_with("c1|"));
        assert!(shown(session.execute(sql)).ends_with("c1|"));
        session.execute("DROP TABLE t").unwrap();
        assert_eq!(session.execute(sql).unwrap_err().sqlstate(), "42P01");
        session.execute("CREATE TABLE t (c INT, a INT, b INT, PRIMARY KEY (b, a))").unwrap();
        session.execute("INSERT INTO t VALUES (42, 1, 1)").unwrap();
        assert!(shown(session.execute(sql)).ends_with("42|"));
        session.execute("TRUNCATE t").unwrap();
        assert_eq!(shown(session.execute(sql)), "c:integer,");
    }

    #[test]
    fn parameters_are_taken_where_they_fit() {
        let session = filled();
        let prepared = session.prepare("SELECT c FROM t WHERE a = $1 AND b >= $2 ORDER BY b LIMIT $3").unwrap();
        let run = |a: ScalarValue, b: ScalarValue, n: i64| {
            shown(prepared.execute(&[a, b, ScalarValue::Int64(Some(n))])).lines().count() - 1
        };
        assert_eq!(run(ScalarValue::Int32(Some(1)), ScalarValue::Int64(Some(29)), 10), 2);
        assert_eq!(run(ScalarValue::Int64(Some(1)), ScalarValue::Int32(Some(1)), 10), 10);
        assert_eq!(run(ScalarValue::Int64(Some(1 << 40)), ScalarValue::Int32(Some(1)), 10), 0);
        assert_eq!(run(ScalarValue::Int64(None), ScalarValue::Int32(Some(1)), 10), 0);
        let listed = session.prepare("SELECT c FROM t WHERE a IN ($1, $2, 3) AND b = $3 ORDER BY a").unwrap();
        let run = |a: ScalarValue, b: i64| {
            let params = [a, ScalarValue::Int64(Some(-3)), ScalarValue::Int64(Some(b))];
            shown(listed.execute(&params)).lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(run(ScalarValue::Int64(Some(0)), 4), ["c4|", "c4|", "c4|"]);
        assert_eq!(run(ScalarValue::Int64(Some(-3)), 4), ["c4|", "c4|"]);
        assert_eq!(run(ScalarValue::Int64(None), 4), ["c4|", "c4|"]);
        assert_eq!(run(ScalarValue::Int64(Some(0)), 31), [] as [&str; 0]);
    }

    #[test]
    fn a_list_too_long_takes_the_long_way() {
        let session = filled();
        let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let sql = |a: usize, b: usize| format!("SELECT c FROM t WHERE a IN ({}) AND b IN ({})", list(a), list(b));
        assert!(recognised(&session, &sql(32, 32)).is_some());
        assert!(recognised(&session, &sql(32, 33)).is_none());
        for sql in [sql(32, 32), sql(32, 33)] {
            assert_eq!(shown(session.execute(&sql)).lines().count(), 1 + 4 * 30, "{sql}");
        }
    }
}
