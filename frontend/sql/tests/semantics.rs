/*!
What a query answers, as PostgreSQL would: one table of statements and answers, by room.

A case is a statement and what it gives: the rows as text, columns separated by `|` and rows by `;`, NULL as `∅`; or the
SQLSTATE of its error behind a `!`. The tables are three small ones, in memory and in two batches, so that constants,
columns, NULLs and grouping are all met. PostgreSQL 15 was the reference; where OmenDB differs on purpose, the case says so.
*/
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use omendb_sql::{SqlError, semantics, text};
use std::collections::HashMap;
use std::sync::Arc;

fn context() -> SessionContext {
    let config = semantics::configure(SessionConfig::new().with_target_partitions(2));
    let builder = SessionStateBuilder::new().with_config(config).with_default_features();
    let context = SessionContext::new_with_state(semantics::register(builder).build());
    for (name, batches) in tables() {
        let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    context
}

fn batch(columns: Vec<(&str, ArrayRef, Option<&str>)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array, label)| {
            let metadata = label.map(|label| ("omendb.type".to_owned(), label.to_owned()));
            Field::new(*name, array.data_type().clone(), true)
                .with_metadata(metadata.into_iter().collect::<HashMap<_, _>>())
        })
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array, _)| array).collect())
        .unwrap()
}

fn tables() -> Vec<(&'static str, Vec<RecordBatch>)> {
    let t = batch(vec![
        ("k", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), Some(i64::MAX), None])), None),
        ("i", Arc::new(Int32Array::from(vec![Some(10), Some(0), Some(-7), Some(i32::MAX), None])), None),
        ("s", Arc::new(Int16Array::from(vec![Some(1), Some(2), Some(3), Some(i16::MAX), None])), None),
        ("d", Arc::new(Float64Array::from(vec![Some(0.5), Some(1.5), Some(2.5), Some(1e308), None])), None),
        ("r", Arc::new(Float32Array::from(vec![Some(0.1), Some(0.25), Some(3.5), Some(1e38), None])), None),
        (
            "n",
            Arc::new(
                Decimal128Array::from(vec![Some(100), Some(250), Some(333), Some(99_999), None])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
            None,
        ),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), None])), None),
        ("t", Arc::new(StringViewArray::from(vec![Some("1"), Some("2"), Some("x"), Some("a b"), None])), None),
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(0),
                Some(1_704_067_200_000_000),
                Some(1_704_067_200_250_000),
                Some(32_503_680_000_000_000),
                None,
            ])),
            None,
        ),
        (
            "tz",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(0), Some(1_704_067_200_000_000), None, None, None])
                    .with_timezone("UTC"),
            ),
            None,
        ),
        ("dt", Arc::new(Date32Array::from(vec![Some(0), Some(19_723), Some(-1), None, None])), None),
        (
            "u",
            Arc::new(StringViewArray::from(vec![
                Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
                Some("00000000-0000-0000-0000-000000000000"),
                None,
                None,
                None,
            ])),
            Some("uuid"),
        ),
        (
            "y",
            Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0xde, 0xad][..]), Some(&[][..]), None, None, None])),
            None,
        ),
    ]);
    let two = vec![t.slice(0, 2), t.slice(2, 3)];
    let big = batch(vec![
        ("g", Arc::new(Int32Array::from(vec![1, 1, 2, 2])), None),
        ("k", Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX, 5, -5])), None),
        ("i", Arc::new(Int32Array::from(vec![i32::MAX, i32::MAX, 5, 5])), None),
    ]);
    let empty = t.slice(0, 0);
    vec![("t", two), ("big", vec![big]), ("empty", vec![empty])]
}

/// Runs one statement the way the session does: parse, rewrite, plan, run.
async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    let state = context.state();
    let mut statement = state.sql_to_statement(sql, &state.config().options().sql_parser.dialect)?;
    if let Statement::Statement(inner) = &mut statement {
        semantics::rewrite(inner)?;
    }
    let plan: LogicalPlan = state.statement_to_plan(statement).await?;
    let frame = context.execute_logical_plan(plan).await?;
    let plan = frame.create_physical_plan().await?;
    let schema = plan.schema();
    let batches = datafusion::physical_plan::collect(plan, context.task_ctx()).await.map_err(SqlError::from)?;
    for batch in &batches {
        assert_eq!(batch.schema().fields().len(), schema.fields().len());
        for (have, want) in batch.schema().fields().iter().zip(schema.fields()) {
            assert_eq!(have.data_type(), want.data_type(), "{sql}");
        }
    }
    Ok(batches)
}

fn render(batches: &[RecordBatch]) -> String {
    let mut rows = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch
                .columns()
                .iter()
                .zip(schema.fields())
                .map(|(column, field)| {
                    let mut out = String::new();
                    text::format(column.as_ref(), row, field, &mut out);
                    if column.is_null(row) { "∅".to_owned() } else { out }
                })
                .collect();
            rows.push(cells.join("|"));
        }
    }
    rows.join(";")
}

fn check(cases: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = context();
        let mut wrong = Vec::new();
        for (sql, expected) in cases {
            let found = match run(&context, sql).await {
                Ok(batches) => render(&batches),
                Err(error) => {
                    let full = format!("!{} {}", error.sqlstate(), error.message());
                    match expected.contains(' ') && expected.starts_with('!') {
                        true => full,
                        false if *expected == format!("!{}", error.sqlstate()) => (*expected).to_owned(),
                        false => full,
                    }
                }
            };
            if found != **expected {
                wrong.push(format!("{sql}\n    expected {expected}\n    found    {found}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    });
}

#[test]
fn arithmetic_is_checked() {
    check(&[
        ("SELECT 1 + 1", "2"),
        ("SELECT 2147483647 + 1", "!22003 integer out of range"),
        ("SELECT 9223372036854775807 + 1", "!22003 bigint out of range"),
        ("SELECT -9223372036854775808 - 1", "!22003 bigint out of range"),
        ("SELECT -9223372036854775808", "-9223372036854775808"),
        ("SELECT 9223372036854775808", "9223372036854775808"),
        ("SELECT 3000000000 * 3000000000", "9000000000000000000"),
        ("SELECT 4000000000 * 3000000000", "!22003 bigint out of range"),
        ("SELECT k + 1 FROM t", "!22003 bigint out of range"),
        ("SELECT k + 1 FROM t WHERE k < 10 ORDER BY 1", "2;3;4"),
        ("SELECT i + 1 FROM t", "!22003 integer out of range"),
        ("SELECT i + k FROM t WHERE k = 1", "11"),
        ("SELECT s + 1 FROM t WHERE s = 32767", "32768"),
        ("SELECT s + s FROM t", "!22003 smallint out of range"),
        ("SELECT s * s FROM t WHERE s < 100 ORDER BY s", "1;4;9"),
        ("SELECT -i FROM t WHERE i IS NOT NULL ORDER BY k", "-10;0;7;-2147483647"),
        ("SELECT -(k - 9223372036854775807 - 2) FROM t WHERE k = 1", "!22003"),
        ("SELECT - k FROM t WHERE k = 3", "-3"),
        ("SELECT abs(-5), abs(i) FROM t WHERE i = -7", "5|7"),
        ("SELECT abs(-9223372036854775808)", "!22003"),
        ("SELECT 10 / 0", "!22012 division by zero"),
        ("SELECT 10 % 0", "!22012"),
        ("SELECT 7 / 2, -7 / 2, -7 % 3, 7 % -3", "3|-3|-1|1"),
        ("SELECT 10 / i FROM t", "!22012"),
        ("SELECT k % 2, count(*) FROM t WHERE k < 10 GROUP BY k % 2 ORDER BY 1", "0|1;1|2"),
        ("SELECT -9223372036854775808 / -1", "!22003 bigint out of range"),
        ("SELECT -9223372036854775808 % -1", "0"),
        ("SELECT 1.0 / 0", "!22012"),
        ("SELECT 1::float8 / 0", "!22012"),
        ("SELECT 0::float8 / 0::float8", "!22012"),
        ("SELECT 'NaN'::float8 / 0", "NaN"),
        ("SELECT d * 10 FROM t", "!22003 value out of range: overflow"),
        ("SELECT 'Infinity'::float8 * 2", "Infinity"),
        ("SELECT 1e-300::float8 * 1e-300::float8", "!22003 value out of range: underflow"),
        ("SELECT r * 10::real FROM t", "!22003"),
        ("SELECT d + d FROM t WHERE k = 2", "3"),
        ("SELECT 5.5 % 2", "1.5"),
        ("SELECT 5.5 % 0", "!22012"),
        ("SELECT NULL + 1", "∅"),
        ("SELECT 1 / NULL::int", "∅"),
        ("SELECT NULL::int / 0", "∅"),
        ("SELECT k FROM t WHERE k + 0 = 2", "2"),
        ("SELECT k FROM t WHERE k < 10 AND k * 2 > 3 ORDER BY k", "2;3"),
        ("SELECT k FROM t WHERE k * 2 > 3 AND k < 10 ORDER BY k", "!22003"),
        ("SELECT k FROM t WHERE i <> 0 AND 10 / i >= 1", "1"),
        ("SELECT k FROM t WHERE i <> 0 AND 10 / i = 1 AND k > 0", "1"),
        ("SELECT k FROM t WHERE k IN (SELECT k FROM t) AND i <> 0 AND 10 / i >= 1", "1"),
        (
            "SELECT count(*) FROM t JOIN big ON t.k > 0 AND big.g > 0 WHERE big.i = 5 AND t.i <> 0 AND 10 / t.i >= 1",
            "2",
        ),
        ("SELECT CASE WHEN i = 0 THEN 0 ELSE 10 / i END FROM t WHERE k < 10 ORDER BY k", "1;0;-1"),
        ("SELECT k FROM t WHERE k < 10 ORDER BY -k", "3;2;1"),
        ("SELECT k + 1 AS k1 FROM empty", ""),
        ("SELECT 1 / 0 FROM empty", "!22012"),
        ("SELECT k / 0 FROM empty", ""),
        ("SELECT 2 ^ 10", "1024"),
        ("SELECT d - 0.5 FROM t WHERE k = 1", "0"),
    ]);
}

#[test]
fn numerics_are_exact() {
    check(&[
        ("SELECT 0.1 + 0.2", "0.3"),
        ("SELECT 0.1 + 0.2 = 0.3", "t"),
        ("SELECT 10.0 / 3", "3.3333333333333333"),
        ("SELECT 2.0 / 3", "0.6666666666666667"),
        ("SELECT -2.0 / 3", "-0.6666666666666667"),
        ("SELECT 1.5 * 1.5", "2.25"),
        ("SELECT n * 2 FROM t WHERE k = 3", "6.66"),
        ("SELECT n / 4 FROM t WHERE k = 2", "0.6250000000000000"),
        ("SELECT n + 1 FROM t WHERE k = 1", "2.00"),
        ("SELECT sum(k) / count(*) FROM t WHERE k < 10", "2.0000000000000000"),
        ("SELECT 99999999999999999999.5 * 99999999999999999999.5", "!22003"),
        ("SELECT 99999999999999999999999999999999999999 + 1", "!22003"),
        ("SELECT 1e3, 1.5e2, 1e-3", "1000|150|0.001"),
        ("SELECT round(2.345, 2), round(2.5), round(-2.5)", "2.35|3|-3"),
        ("SELECT round(d, 1) FROM t WHERE k = 1", "0.5"),
        ("SELECT round(avg(d), 2) FROM t WHERE k < 10", "1.5"),
        ("SELECT round(avg(i), 2) FROM t WHERE k < 10", "1"),
        ("SELECT power(2, 0.5)", "1.4142135623730951"),
        ("SELECT 0.1::float8 + 0.2::float8", "0.30000000000000004"),
        ("SELECT 1.5 + d FROM t WHERE k = 1", "2"),
        ("SELECT 3 * 0.1", "0.3"),
        ("SELECT floor(2.7), ceil(2.2), floor(d) FROM t WHERE k = 2", "2|3|1"),
        ("SELECT greatest(1, 2.5), coalesce(NULL, 1.5)", "2.5|1.5"),
        ("SELECT 12345678901234567890123456789012345678901", "!22003"),
        ("SELECT 1e300", "1e+300"),
    ]);
}

#[test]
fn comparisons_take_the_type_of_the_column() {
    check(&[
        ("SELECT k FROM t WHERE d < 0.6", "1"),
        ("SELECT k FROM t WHERE d = 0.5", "1"),
        ("SELECT k FROM t WHERE r = 0.25", "2"),
        ("SELECT k FROM t WHERE r = 0.1", ""),
        ("SELECT k FROM t WHERE d BETWEEN 0.4 AND 1.6 ORDER BY k", "1;2"),
        ("SELECT k FROM t WHERE d IN (0.5, 2.5) ORDER BY k", "1;3"),
        ("SELECT k FROM t WHERE n = 2.5", "2"),
        ("SELECT k FROM t WHERE n = 2.505", ""),
        ("SELECT k FROM t WHERE n = '2.5'", "2"),
        ("SELECT k FROM t WHERE k = '2'", "2"),
        ("SELECT k FROM t WHERE k = 'x'", "!22P02 invalid input syntax for type bigint: \"x\""),
        ("SELECT k FROM empty WHERE i = 'x'", "!22P02 invalid input syntax for type integer: \"x\""),
        ("SELECT k FROM t WHERE i = '99999999999'", "!22003"),
        ("SELECT k FROM t WHERE ts = '2024-01-01'", "2"),
        ("SELECT k FROM t WHERE ts > '2024-01-01 00:00:00.1' ORDER BY k", "3;9223372036854775807"),
        ("SELECT k FROM t WHERE ts >= '2999-01-01'", "9223372036854775807"),
        ("SELECT k FROM t WHERE ts = 'tomorrowish'", "!22007"),
        ("SELECT k FROM t WHERE tz = '2024-01-01 02:00:00+02'", "2"),
        ("SELECT k FROM t WHERE dt = '2024-01-01'", "2"),
        ("SELECT k FROM t WHERE dt IN ('2024-01-01', '1970-01-01') ORDER BY k", "1;2"),
        ("SELECT k FROM t WHERE dt = '2024-02-30'", "!22008"),
        ("SELECT k FROM t WHERE b = 'yes' ORDER BY k", "1;9223372036854775807"),
        ("SELECT k FROM t WHERE u = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "1"),
        ("SELECT k FROM t WHERE u IN ('{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}')", "1"),
        ("SELECT k FROM t WHERE u = 'nope'", "!22P02 invalid input syntax for type uuid: \"nope\""),
        ("SELECT k FROM t WHERE y = '\\xDEAD'", "1"),
        ("SELECT k FROM t WHERE y = '\\xdead'::bytea", "1"),
        ("SELECT k FROM t WHERE t = 'x'", "3"),
        ("SELECT t.k FROM t JOIN big ON t.d > 0.5 AND big.g = 1 AND t.k = 2 LIMIT 1", "2"),
        ("SELECT k FROM t a WHERE d = (SELECT max(d) FROM t b WHERE b.k = a.k AND b.d < 1.0)", "1"),
    ]);
}

#[test]
fn sums_do_not_wrap() {
    check(&[
        ("SELECT sum(k) FROM big WHERE g = 1", "18446744073709551614"),
        ("SELECT g, sum(k), sum(i) FROM big GROUP BY g ORDER BY g", "1|18446744073709551614|4294967294;2|0|10"),
        ("SELECT sum(DISTINCT k) FROM big", "9223372036854775807"),
        ("SELECT g, sum(DISTINCT i) FROM big GROUP BY g ORDER BY g", "1|2147483647;2|5"),
        ("SELECT sum(i) FILTER (WHERE g = 2) FROM big", "10"),
        ("SELECT g, sum(k) FILTER (WHERE k > 0) FROM big GROUP BY g ORDER BY g", "1|18446744073709551614;2|5"),
        (
            "SELECT sum(k) OVER (ORDER BY g, k) FROM big ORDER BY 1",
            "18446744073709551609;18446744073709551614;18446744073709551614;18446744073709551614",
        ),
        ("SELECT sum(i) OVER (ORDER BY g ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM big WHERE g = 2", "5;10"),
        ("SELECT sum(k) OVER (PARTITION BY g) FROM big WHERE g = 2", "0;0"),
        ("SELECT sum(k) FROM empty", "∅"),
        ("SELECT sum(i), sum(s), sum(d) FROM t WHERE k < 10", "3|6|4.5"),
        ("SELECT sum(n) FROM t", "1006.82"),
        ("SELECT sum(9223372036854775807::numeric(19,0) * 1) FROM t", "46116860184273879035"),
        ("SELECT sum(99999999999999999999999999999999999999::numeric(38,0)) FROM t", "!22003"),
        ("SELECT sum(k * 9223372036854775807) FROM big", "!22003"),
        ("SELECT sum(k::numeric(38,0)) FROM big WHERE g = 1", "18446744073709551614"),
        ("SELECT sum(t) FROM t", "!42883"),
        ("SELECT sum(i + 1) FROM t WHERE k < 10", "6"),
        ("SELECT sum(k) + 1 FROM t WHERE k < 10", "7"),
        ("SELECT avg(k) FROM t WHERE k < 10", "2"),
        ("SELECT count(*), count(k), min(i), max(i) FROM t", "5|4|-7|2147483647"),
        ("SELECT sum(k) FROM t HAVING sum(k) > 5", "9223372036854775813"),
        ("SELECT sum(i)::bigint / 2 FROM t WHERE k < 10", "1"),
        ("SELECT sum(CASE WHEN i > 0 THEN 1 ELSE 0 END) FROM t", "2"),
        ("SELECT stddev(i) FROM t WHERE k < 3", "7.0710678118654755"),
    ]);
}

#[test]
fn casts_are_postgresqls() {
    check(&[
        ("SELECT 'x'::int", "!22P02 invalid input syntax for type integer: \"x\""),
        ("SELECT ''::int", "!22P02"),
        ("SELECT ' 42 '::int", "42"),
        ("SELECT '99999999999'::int", "!22003 value \"99999999999\" is out of range for type integer"),
        ("SELECT '1.5'::int", "!22P02"),
        ("SELECT t::int FROM t WHERE k < 3 ORDER BY k", "1;2"),
        ("SELECT t::int FROM t", "!22P02 invalid input syntax for type integer: \"x\""),
        ("SELECT 0.5::float8::int, 1.5::float8::int, 2.5::float8::int, (-0.5)::float8::int", "0|2|2|0"),
        ("SELECT 0.5::int, 1.5::int, 2.5::int, (-2.5)::int", "1|2|3|-3"),
        ("SELECT 1e10::float8::int", "!22003 integer out of range"),
        ("SELECT 'NaN'::float8::int", "!22003"),
        ("SELECT 9223372036854775807::float8::bigint", "!22003 bigint out of range"),
        ("SELECT 40000::smallint", "!22003 smallint out of range"),
        ("SELECT k::int FROM t", "!22003 integer out of range"),
        ("SELECT d::int FROM t WHERE k < 10 ORDER BY k", "0;2;2"),
        ("SELECT 123.456::numeric(5,2)", "123.46"),
        ("SELECT 1234.5::numeric(5,2)", "!22003 numeric field overflow"),
        ("SELECT '1e5'::numeric(10,2)", "100000.00"),
        ("SELECT '12.345'::numeric(4,2), '-12.345'::numeric(4,2)", "12.35|-12.35"),
        ("SELECT 'abc'::numeric(5,2)", "!22P02"),
        ("SELECT 0.1::float8::numeric(20,18)", "0.100000000000000000"),
        ("SELECT '1e400'::float8", "!22003"),
        ("SELECT 'inf'::float8, '-Infinity'::real, 'nan'::float8", "Infinity|-Infinity|NaN"),
        ("SELECT 1e200::float8::real", "!22003"),
        ("SELECT 't'::bool, 'TRUE'::bool, 'on'::bool, '1'::bool, 'no'::bool, 'off'::bool", "t|t|t|t|f|f"),
        ("SELECT 'o'::bool", "!22P02"),
        ("SELECT true::int, 0::bool, 5::bool", "1|f|t"),
        ("SELECT true::text, 1.50::text, 1e20::float8::text, k::text FROM t WHERE k = 1", "true|1.50|1e+20|1"),
        ("SELECT ts::text || '!' FROM t WHERE k = 3", "2024-01-01 00:00:00.25!"),
        ("SELECT 'abcdef'::varchar(3)", "abc"),
        ("SELECT '2024-02-29'::date, '20240229'::date", "2024-02-29|2024-02-29"),
        ("SELECT '2023-02-29'::date", "!22008 date/time field value out of range: \"2023-02-29\""),
        ("SELECT 'yesterdayish'::date", "!22007"),
        ("SELECT '2024-01-01 25:00'::timestamp", "!22008"),
        ("SELECT DATE '2024-03-01' - DATE '2024-02-01'", "29"),
        ("SELECT '12:34:56.789'::time, '24:00'::time", "12:34:56.789|24:00:00"),
        ("SELECT '\\xdead'::bytea, 'ab'::bytea", "\\xdead|\\x6162"),
        ("SELECT '\\xdea'::bytea", "!22P02"),
        ("SELECT 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("SELECT 'zz'::uuid", "!22P02"),
        ("SELECT '{\"a\": 1}'::json", "{\"a\": 1}"),
        ("SELECT '{a'::json", "!22P02 invalid input syntax for type json"),
        ("SELECT TRY_CAST('x' AS int)", "!0A000"),
        ("SELECT 'x'::frobnitz", "!42704"),
        ("SELECT interval '1 month 2 days 03:04:05.6'", "1 mon 2 days 03:04:05.6"),
        (
            "SELECT interval '1.5 days', interval '2 hours ago', interval 'P1Y2M3DT4H5M6S'",
            "1 day 12:00:00|-02:00:00|1 year 2 mons 3 days 04:05:06",
        ),
        ("SELECT interval '-1 mon 3 days', interval '5' minute, interval '1 fortnightish'", "!22007"),
        ("SELECT interval '-1 mon 3 days', interval '90 min', interval '0'", "-1 mons +3 days|01:30:00|00:00:00"),
        ("SELECT '1 day'::interval, '-1 day'::interval", "1 day|-1 days"),
        ("SELECT CASE WHEN false THEN t::int ELSE 0 END FROM t WHERE k = 3", "0"),
        ("SELECT k FROM t WHERE t <> 'x' AND t <> 'a b' AND t::int = 2", "2"),
    ]);
}

#[test]
fn times_are_microseconds_and_zones_are_kept() {
    check(&[
        ("SELECT timestamp '2024-01-01 12:00:00.123456'", "2024-01-01 12:00:00.123456"),
        ("SELECT timestamptz '2024-01-01 12:00:00+02'", "2024-01-01 10:00:00+00"),
        ("SELECT '2024-01-01 12:00:00-05:30'::timestamptz", "2024-01-01 17:30:00+00"),
        ("SELECT pg_typeof(timestamptz '2024-01-01 12:00:00+02')", "timestamp with time zone"),
        ("SELECT pg_typeof(now()), now() > '2020-01-01', now() = current_timestamp", "timestamp with time zone|t|t"),
        ("SELECT pg_typeof(localtimestamp)", "timestamp without time zone"),
        ("SELECT timestamp '2024-01-01' + interval '1 day 2 hours'", "2024-01-02 02:00:00"),
        ("SELECT timestamp '2024-01-03 02:00' - timestamp '2024-01-01'", "2 days 02:00:00"),
        ("SELECT date_trunc('hour', timestamp '2024-01-01 12:34:56')", "2024-01-01 12:00:00"),
        ("SELECT extract(second FROM ts), date_part('epoch', ts) FROM t WHERE k = 3", "0.25|1704067200.25"),
        ("SELECT extract(minute FROM time '12:34:56.5'), extract(second FROM time '12:34:56.5')", "34|56.5"),
        ("SELECT extract(year FROM ts), date_part('month', ts) FROM t WHERE k = 2", "2024|1"),
        ("SELECT timestamp '2024-07-01 12:00' AT TIME ZONE 'America/New_York'", "2024-07-01 16:00:00+00"),
        ("SELECT timestamptz '2024-07-01 12:00+00' AT TIME ZONE 'America/New_York'", "2024-07-01 08:00:00"),
        ("SELECT timestamp '2024-07-01 12:00' AT TIME ZONE 'Nowhere/City'", "!22023"),
        ("SELECT timestamp '2999-01-01'", "2999-01-01 00:00:00"),
        ("SELECT timestamp '0044-03-15 BC'", "0044-03-15 00:00:00 BC"),
        ("SELECT dt + 1 FROM t WHERE k = 1", "1970-01-02"),
        ("SELECT dt - interval '1 day' FROM t WHERE k = 1", "1969-12-31 00:00:00"),
        ("SELECT max(ts) FROM t WHERE k < 10", "2024-01-01 00:00:00.25"),
    ]);
}

#[test]
fn what_would_be_ignored_is_refused() {
    check(&[
        ("SELECT * FROM t FOR UPDATE", "!0A000 FOR UPDATE is not supported"),
        ("SELECT * FROM (SELECT * FROM t FOR SHARE) x", "!0A000 FOR SHARE is not supported"),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "!0A000"),
        ("SELECT k INTO x FROM t", "!0A000"),
        ("SELECT k FROM t ORDER BY k FETCH FIRST 2 ROWS ONLY", "1;2"),
        ("SELECT k FROM t ORDER BY k OFFSET 1 ROWS FETCH NEXT ROW ONLY", "2"),
        ("SELECT k FROM t ORDER BY k FETCH FIRST 1 ROWS WITH TIES", "!0A000"),
    ]);
}

#[test]
fn functions_and_types() {
    check(&[
        (
            "SELECT pg_typeof(i), pg_typeof(k), pg_typeof(d), pg_typeof(n), pg_typeof(t), pg_typeof(u) FROM t LIMIT 1",
            "integer|bigint|double precision|numeric|text|uuid",
        ),
        (
            "SELECT pg_typeof(i + 1), pg_typeof(i + s), pg_typeof(s + s), pg_typeof(k + i) FROM t LIMIT 1",
            "integer|integer|smallint|bigint",
        ),
        (
            "SELECT pg_typeof(i / 2), pg_typeof(i * 1.5), pg_typeof(i * d), pg_typeof(r * 2), pg_typeof(r * r) FROM t LIMIT 1",
            "integer|numeric|double precision|double precision|real",
        ),
        (
            "SELECT pg_typeof(sum(i)), pg_typeof(sum(k)), pg_typeof(sum(d)), pg_typeof(avg(i)) FROM t",
            "bigint|numeric|double precision|double precision",
        ),
        ("SELECT pg_typeof(row_number() OVER ()) FROM t LIMIT 1", "bigint"),
        ("SELECT row_number() OVER (ORDER BY k) - 1 FROM t WHERE k < 10 ORDER BY 1", "0;1;2"),
        ("SELECT rank() OVER (ORDER BY k), lag(k, 1) OVER (ORDER BY k) FROM t WHERE k < 3 ORDER BY 1", "1|∅;2|1"),
        ("SELECT pg_typeof('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid), pg_typeof('{}'::json)", "uuid|json"),
        ("SELECT length(gen_random_uuid()), pg_typeof(gen_random_uuid())", "36|uuid"),
        ("SELECT count(DISTINCT gen_random_uuid()) FROM t", "5"),
        ("SELECT sqrt(4), ln(1), exp(0), power(2, 3)", "2|0|1|8"),
        ("SELECT sqrt(-1)", "!2201F"),
        ("SELECT power(0, -1)", "!2201F"),
        ("SELECT log(0)", "!2201E"),
        ("SELECT acos(2)", "!22003"),
        ("SELECT ln(0)", "!2201E cannot take logarithm of zero"),
        ("SELECT ln(-1)", "!2201E"),
        ("SELECT exp(1000)", "!22003"),
        ("SELECT sqrt(d) FROM t WHERE k = 1", "0.7071067811865476"),
        ("SELECT array_agg(k ORDER BY k) FROM t", "{1,2,3,9223372036854775807,NULL}"),
        ("SELECT array_agg(t ORDER BY t) FROM t WHERE t IS NOT NULL", "{1,2,\"a b\",x}"),
        ("SELECT string_agg(t, ',' ORDER BY t) FROM t", "1,2,a b,x"),
        ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY d) FROM t WHERE k < 10", "1.5"),
        ("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT sum(n) FROM c", "15"),
        ("SELECT x FROM (VALUES (1), (2)) v(x) WHERE x + 1 = 3", "2"),
        ("SELECT 1 UNION ALL SELECT 2.5 ORDER BY 1", "1.0;2.5"),
        ("SELECT k, i * 2 AS dbl FROM t WHERE k IN (SELECT k + 1 FROM t WHERE k < 3) ORDER BY k", "2|0;3|-14"),
        ("SELECT count(*) FROM generate_series(1, 10)", "10"),
        ("SELECT d::text, r FROM t WHERE k = 1", "0.5|0.1"),
        (
            "SELECT 100000000000000::float8, 1000000000000000::float8, 0.0001::float8, 0.00001::float8",
            "100000000000000|1e+15|0.0001|1e-05",
        ),
        ("SELECT 123456::real, 1234567::real", "123456|1.234567e+06"),
        ("SELECT nullif(i, 10), coalesce(i, 0) FROM t WHERE k = 1", "∅|10"),
        ("SELECT i FROM t WHERE k = 1 AND d * 2 = 1 AND n * 1.5 = 1.5", "10"),
        ("SELECT (SELECT max(k) FROM t WHERE k < 10) * 2", "6"),
        ("SELECT k FROM t WHERE EXISTS (SELECT 1 FROM big WHERE big.g + 1 = t.k) ORDER BY k", "2;3"),
        ("SELECT g, sum(i) * 1.0 / count(*) FROM big GROUP BY g HAVING sum(i) / 2 = 5", "2|5.0000000000000000"),
        (
            "SELECT CASE WHEN k > 2 THEN 'hi' ELSE 'lo' END, count(*) FROM t WHERE k < 10 GROUP BY 1 ORDER BY 1",
            "hi|1;lo|2",
        ),
        ("SELECT DISTINCT k % 2 AS m FROM t WHERE k < 10 ORDER BY m", "0;1"),
        ("SELECT k FROM t WHERE k < 10 ORDER BY k % 2, k * -1", "2;3;1"),
        ("SELECT count(*) FILTER (WHERE i / 2 > 1) FROM t", "2"),
        ("SELECT k FROM t WHERE (k, i) IN ((1, 10))", "1"),
        ("SELECT concat('a', k, 1.50, b) FROM t WHERE k = 1", "a11.50true"),
        ("SELECT width FROM (SELECT k - 1 AS width FROM t WHERE k < 4) q WHERE width > 0 ORDER BY width", "1;2"),
        ("SELECT bool_and(b), bool_or(b), every(b) FROM t WHERE b IS NOT NULL", "!42883"),
    ]);
}

#[test]
fn columns_have_the_names_that_postgresql_gives_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = context();
        for (sql, name) in [
            ("SELECT i + i FROM t WHERE k = 1", "?column?"),
            ("SELECT -i FROM t WHERE k = 1", "?column?"),
            ("SELECT t::int FROM t WHERE k = 1", "t"),
            ("SELECT '1'::bigint", "int8"),
            ("SELECT (upper(t))::varchar FROM t WHERE k = 1", "upper"),
            ("SELECT CASE WHEN k = 1 THEN 1 END FROM t WHERE k = 1", "case"),
            ("SELECT CASE WHEN k = 1 THEN 1 ELSE k END FROM t WHERE k = 1", "k"),
            ("SELECT sum(i) FROM t", "sum"),
            ("SELECT count(*) FROM t", "count"),
            ("SELECT (SELECT max(k) FROM t)", "max"),
            ("SELECT coalesce(k, 1) FROM t WHERE k = 1", "coalesce"),
            ("SELECT extract(year FROM date '2024-01-01')", "extract"),
            ("SELECT k / 2 AS half FROM t", "half"),
            ("SELECT s.count FROM (SELECT count(*) FROM t) AS s", "count"),
            ("SELECT lower(t) FROM t UNION ALL SELECT upper(t) FROM t", "lower"),
        ] {
            let batches = run(&context, sql).await.unwrap();
            assert_eq!(batches[0].schema().field(0).name(), name, "{sql}");
        }
    });
}

#[test]
fn predicates_still_push_down() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = context();
        for (condition, pushed) in [
            ("d < 0.5", "t.d < Float64(0.5)"),
            ("k = 5", "t.k = Int64(5)"),
            ("i = 5", "t.i = Int32(5)"),
            ("k = 2 + 3", "t.k = Int64(5)"),
            ("ts >= '2024-01-01'", "t.ts >= TimestampMicrosecond(1704067200000000, None)"),
            ("ts >= timestamp '2024-01-01' - interval '1 day'", "t.ts >= TimestampMicrosecond(1703980800000000, None)"),
            ("dt = '2024-01-01'", "t.dt = Date32(\"2024-01-01\")"),
            ("r < 0.5", "t.r < Float32(0.5)"),
        ] {
            let state = context.state();
            let plan = state.create_logical_plan(&format!("SELECT k FROM t WHERE {condition}")).await.unwrap();
            let plan = state.optimize(&plan).unwrap().to_string();
            assert!(plan.contains(pushed), "{condition}: {plan}");
        }
    });
}

#[test]
fn errors_travel_through_datafusion() {
    let error: SqlError = DataFusionError::from(SqlError::new("22012", "division by zero")).context("deep").into();
    assert_eq!(error.sqlstate(), "22012");
}

/// Types that no table of ours has but queries, files and functions give.
#[test]
fn every_arrow_type_has_a_text_and_a_name() {
    use arrow::array::*;
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::*;
    let list = |values: ArrayRef| -> ArrayRef {
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        Arc::new(ListArray::new(field, offsets, values, None))
    };
    let nested: ArrayRef = list(list(Arc::new(Int32Array::from(vec![Some(1), None]))));
    let record: ArrayRef = Arc::new(StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Int32Array::from(vec![Some(1)])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["x \"y\""])) as ArrayRef),
        (Arc::new(Field::new("c", DataType::Utf8, true)), Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef),
    ]));
    let dictionary: DictionaryArray<Int32Type> = vec!["p", "q"].into_iter().collect();
    let day_time = IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, -1500)]);
    let month_day_nano = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(-14, 3, -4_000_000_000)]);
    let cases: Vec<(ArrayRef, &str, &str)> = vec![
        (
            list(Arc::new(StringArray::from(vec![
                Some("a"),
                Some("b c"),
                Some(""),
                Some("NULL"),
                Some("q\"\\"),
                None,
            ]))),
            "{a,\"b c\",\"\",\"NULL\",\"q\\\"\\\\\",NULL}",
            "text[]",
        ),
        (nested, "{{1,NULL}}", "integer[][]"),
        (record, "(1,\"x \"\"y\"\"\",)", "record"),
        (Arc::new(dictionary.slice(1, 1)), "q", "text"),
        (Arc::new(UInt64Array::from(vec![u64::MAX])), "18446744073709551615", "bigint"),
        (Arc::new(Float64Array::from(vec![-0.0])), "-0", "double precision"),
        (Arc::new(Float64Array::from(vec![1e-5])), "1e-05", "double precision"),
        (Arc::new(Float64Array::from(vec![123_456_789.125])), "123456789.125", "double precision"),
        (Arc::new(Float64Array::from(vec![f64::MAX])), "1.7976931348623157e+308", "double precision"),
        (Arc::new(Float64Array::from(vec![5e-324])), "5e-324", "double precision"),
        (Arc::new(Float32Array::from(vec![f32::NEG_INFINITY])), "-Infinity", "real"),
        (Arc::new(Decimal128Array::from(vec![-5]).with_precision_and_scale(5, 3).unwrap()), "-0.005", "numeric(5,3)"),
        (
            Arc::new(Decimal128Array::from(vec![i128::MAX / 2]).with_precision_and_scale(38, 38).unwrap()),
            "0.85070591730234615865843651857942052863",
            "numeric(38,38)",
        ),
        (Arc::new(Decimal128Array::from(vec![12]).with_precision_and_scale(5, -2).unwrap()), "1200", "numeric(5,-2)"),
        (Arc::new(LargeBinaryArray::from(vec![&b"\x00\xff"[..]])), "\\x00ff", "bytea"),
        (Arc::new(Date32Array::from(vec![-719_529])), "0002-12-31 BC", "date"),
        (Arc::new(Date64Array::from(vec![951_782_400_000])), "2000-02-29", "date"),
        (Arc::new(Time64NanosecondArray::from(vec![1])), "00:00:00.000000001", "time without time zone"),
        (
            Arc::new(TimestampNanosecondArray::from(vec![-1])),
            "1969-12-31 23:59:59.999999999",
            "timestamp without time zone",
        ),
        (
            Arc::new(TimestampSecondArray::from(vec![0]).with_timezone("+05:00")),
            "1970-01-01 00:00:00+00",
            "timestamp with time zone",
        ),
        (Arc::new(DurationMillisecondArray::from(vec![-90_061_001])), "-1 days -01:01:01.001", "interval"),
        (Arc::new(IntervalYearMonthArray::from(vec![25])), "2 years 1 mon", "interval"),
        (Arc::new(day_time), "1 day -00:00:01.5", "interval"),
        (Arc::new(month_day_nano), "-1 years -2 mons +3 days -00:00:04", "interval"),
        (Arc::new(NullArray::new(1)), "", "unknown"),
    ];
    for (array, expected, name) in cases {
        let field = Field::new("c", array.data_type().clone(), true);
        let mut out = String::new();
        text::format(array.as_ref(), 0, &field, &mut out);
        assert_eq!((out.as_str(), text::type_name(&field).as_str()), (expected, name));
    }
    let varchar = Field::new("c", DataType::Utf8View, true)
        .with_metadata(HashMap::from([("omendb.type".to_owned(), "varchar(20)".to_owned())]));
    assert_eq!(text::type_name(&varchar), "character varying(20)");
}

/// Every day of 800 years, and random floats: what is written reads back.
#[test]
fn dates_and_floats_read_back() {
    use arrow::array::Array;
    let days = Date32Array::from_iter_values(-292_194..292_194);
    let field = Field::new("c", days.data_type().clone(), true);
    let mut out = String::new();
    for row in (0..days.len()).step_by(7) {
        out.clear();
        text::format(&days, row, &field, &mut out);
        let expected = chrono::NaiveDate::default() + chrono::Duration::days(i64::from(days.value(row)));
        assert_eq!(out, expected.format("%Y-%m-%d").to_string());
    }
    let mut seed = 88_172_645_463_325_252u64;
    let doubles = Float64Array::from_iter_values((0..20_000).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        f64::from_bits(seed)
    }));
    let field = Field::new("c", doubles.data_type().clone(), true);
    for row in 0..doubles.len() {
        out.clear();
        text::format(&doubles, row, &field, &mut out);
        let back: f64 = out.replace("Infinity", "inf").parse().unwrap();
        assert!(back == doubles.value(row) || back.is_nan(), "{out}");
    }
}
