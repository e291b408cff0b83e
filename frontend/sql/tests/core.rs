/*!
The SQL layer from outside: statements and what they give.

`check` runs a statement and compares its rows, one a line, columns separated by `|`; or its command tag; or, for an error,
its SQLSTATE and message.
*/
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use arrow::array::{Array, RecordBatch};
use omendb_sql::{Database, OpenOptions, Outcome, ScalarValue, Session, SqlError, text};
use std::time::Duration;

fn database() -> Database {
    Database::open(OpenOptions { threads: Some(2), ..OpenOptions::memory() }).unwrap()
}

fn session() -> Session {
    database().session()
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut line = String::new();
            for (i, column) in batch.columns().iter().enumerate() {
                if i > 0 {
                    line.push('|');
                }
                match column.is_null(row) {
                    true => line.push_str("NULL"),
                    false => text::format(column, row, batch.schema().field(i), &mut line),
                }
            }
            lines.push(line);
        }
    }
    lines
}

fn outcome(outcome: Result<Outcome, SqlError>) -> String {
    let shown = |e: SqlError| {
        let mut text = format!("ERROR {}: {}", e.sqlstate(), e.message());
        for more in [e.detail(), e.hint()].into_iter().flatten() {
            text.push('\n');
            text.push_str(more);
        }
        text
    };
    match outcome {
        Ok(Outcome::Done(done)) => std::iter::once(done.tag).chain(done.notices).collect::<Vec<_>>().join("\n"),
        Ok(Outcome::Rows(rows)) => match rows.collect::<Result<Vec<_>, _>>() {
            Ok(batches) => lines(&batches).join("\n"),
            Err(e) => shown(e),
        },
        Err(e) => shown(e),
    }
}

fn run(session: &Session, sql: &str) -> String {
    outcome(session.execute(sql))
}

#[track_caller]
fn check(session: &Session, sql: &str, expected: &str) {
    assert_eq!(run(session, sql), expected, "{sql}");
}

/// The statement must fail with this SQLSTATE and with these words in its report.
#[track_caller]
fn fails(session: &Session, sql: &str, state: &str, words: &str) {
    let report = run(session, sql);
    let short: String = sql.chars().take(200).collect();
    assert!(report.starts_with(&format!("ERROR {state}: ")) && report.contains(words), "{short}\n{report}");
}

/// EXPLAIN of the statement must contain these words.
#[track_caller]
fn explains(session: &Session, sql: &str, words: &str) {
    let plan = run(session, &format!("EXPLAIN {sql}"));
    assert!(plan.contains(words), "{sql}\n{plan}");
}

fn with(statements: &[&str]) -> Session {
    let session = session();
    for sql in statements {
        let report = run(&session, sql);
        assert!(!report.starts_with("ERROR"), "{sql}: {report}");
    }
    session
}

mod basics {
    use super::*;

    #[test]
    fn a_table_is_made_filled_read_changed_and_emptied() {
        let s = session();
        check(&s, "CREATE TABLE t (id INT PRIMARY KEY, name TEXT, price NUMERIC(10,2))", "CREATE TABLE");
        check(&s, "INSERT INTO t VALUES (2, 'b', 2.50), (1, 'a', 1.25), (3, NULL, NULL)", "INSERT 0 3");
        check(&s, "SELECT * FROM t ORDER BY id", "1|a|1.25\n2|b|2.50\n3|NULL|NULL");
        check(&s, "UPDATE t SET name = 'c' WHERE id = 3", "UPDATE 1");
        check(&s, "DELETE FROM t WHERE id = 2", "DELETE 1");
        check(&s, "SELECT id, name FROM t ORDER BY id", "1|a\n3|c");
        check(&s, "TRUNCATE t", "TRUNCATE TABLE");
        check(&s, "SELECT count(*) FROM t", "0");
        check(&s, "DROP TABLE t", "DROP TABLE");
        fails(&s, "SELECT * FROM t", "42P01", "relation \"t\" does not exist");
    }

    #[test]
    fn a_table_without_a_key_takes_equal_rows() {
        let s = with(&["CREATE TABLE t (a INT, b TEXT)", "INSERT INTO t VALUES (1, 'x'), (1, 'x')"]);
        check(&s, "SELECT count(*) FROM t", "2");
        check(&s, "UPDATE t SET a = a + 1", "UPDATE 2");
        check(&s, "SELECT a, b FROM t", "2|x\n2|x");
        check(&s, "DELETE FROM t", "DELETE 2");
    }

    #[test]
    fn queries_do_what_datafusion_can() {
        let s = with(&[
            "CREATE TABLE a (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE b (id INT PRIMARY KEY, a_id INT)",
            "INSERT INTO a VALUES (1, 10), (2, 20), (3, 30)",
            "INSERT INTO b VALUES (1, 1), (2, 1), (3, 3), (4, NULL)",
        ]);
        check(
            &s,
            "SELECT a.v, count(b.id) FROM a LEFT JOIN b ON b.a_id = a.id GROUP BY a.v ORDER BY a.v",
            "10|2\n20|0\n30|1",
        );
        check(&s, "SELECT v FROM a WHERE id IN (SELECT a_id FROM b) ORDER BY v", "10\n30");
        check(
            &s,
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) SELECT sum(n) FROM r",
            "10",
        );
        check(&s, "SELECT id, sum(v) OVER (ORDER BY id) FROM a ORDER BY id", "1|10\n2|30\n3|60");
        check(&s, "SELECT id FROM a EXCEPT SELECT a_id FROM b ORDER BY id", "2");
        check(&s, "SELECT x.id FROM (VALUES (1), (2)) AS x(id) JOIN a ON a.id = x.id ORDER BY 1", "1\n2");
    }

    #[test]
    fn names_fold_to_lower_case_unless_quoted() {
        let s = with(&[
            "CREATE TABLE Foo (ID INT PRIMARY KEY, \"Mixed\" INT)",
            "INSERT INTO FOO (Id, \"Mixed\") VALUES (1, 2)",
        ]);
        check(&s, "SELECT iD, \"Mixed\" FROM foo", "1|2");
        fails(&s, "SELECT mixed FROM foo", "42703", "column \"mixed\" does not exist");
        fails(&s, "SELECT * FROM \"Foo\"", "42P01", "Did you mean the table \"foo\"?");
        check(&s, "SELECT id FROM public.foo", "1");
        check(&s, "SELECT id FROM omendb.public.foo", "1");
        fails(&s, "SELECT id FROM other.foo", "42P01", "other.foo");
    }
}

mod errors {
    use super::*;

    #[test]
    fn unknown_names_come_with_a_hint_of_their_own_kind() {
        let s = with(&["CREATE TABLE flights (origin TEXT, delay INT)"]);
        fails(&s, "SELECT * FROM flihgts", "42P01", "Did you mean the table \"flights\"?");
        fails(&s, "SELECT orgin FROM flights", "42703", "Did you mean the column \"origin\"?");
        fails(&s, "SELECT cuont(*) FROM flights", "42883", "Did you mean the function \"count\"?");
        fails(
            &s,
            "INSERT INTO flights (orign) VALUES ('x')",
            "42703",
            "column \"orign\" of relation \"flights\" does not exist",
        );
        fails(&s, "SELECT zzzzzz(1)", "42883", "function zzzzzz");
    }

    #[test]
    fn errors_carry_the_position_of_what_is_wrong() {
        let s = with(&["CREATE TABLE t (a INT)"]);
        for (sql, at) in [
            ("SELECT FROM WHERE", "WHERE"),
            ("SELECT\n  bad FROM t", "bad"),
            ("SELECT * FROM nope", "nope"),
            ("SELECT a FROM t WHERE", ""),
        ] {
            let e = s.execute(sql).err().unwrap();
            let expected = if at.is_empty() { sql.len() } else { sql.find(at).unwrap() };
            assert_eq!(e.position(), Some(expected), "{sql}: {e:?}");
        }
    }

    #[test]
    fn limits_of_statements_hold() {
        let s = session();
        fails(&s, &format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "54001", "nested too deeply");
        fails(&s, &format!("SELECT '{}'", "x".repeat(11 << 20)), "54000", "more than the limit");
        fails(&s, &"~!@#garbage ".repeat(90_000), "42601", "syntax error");
        fails(&s, "", "42601", "there is no statement");
        fails(&s, "SELECT 1; SELECT 2", "42601", "only one statement");
        check(&s, &format!("SELECT 0{}", " + 1".repeat(500)), "500");
        fails(&s, &format!("SELECT 0{}", " + 1".repeat(9_000)), "54001", "nested too deeply");
    }

    #[test]
    fn columns_of_a_result_may_share_a_name() {
        let s = with(&["CREATE TABLE t (a INT, count INT)", "INSERT INTO t VALUES (1, 10), (2, 20)"]);
        for (sql, names, row) in [
            ("SELECT a, a FROM t ORDER BY a LIMIT 1", vec!["a", "a"], "1|1"),
            ("SELECT 7 * 7, 'x', count(*) FROM t", vec!["?column?", "?column?", "count"], "49|x|2"),
            ("SELECT *, count(*) OVER () FROM t ORDER BY a LIMIT 1", vec!["a", "count", "count"], "1|10|2"),
            ("SELECT a::text FROM t GROUP BY a HAVING a > 1", vec!["a"], "2"),
            ("SELECT DISTINCT abs(a), -a FROM t ORDER BY abs(a) DESC LIMIT 1", vec!["abs", "?column?"], "2|-2"),
        ] {
            check(&s, sql, row);
            let Ok(Outcome::Rows(rows)) = s.execute(sql) else { panic!("{sql}") };
            let schema = rows.schema();
            assert_eq!(schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), names, "{sql}");
            for batch in rows {
                assert_eq!(batch.unwrap().schema(), schema, "{sql}");
            }
        }
        fails(&s, "CREATE TABLE u AS SELECT a, a FROM t", "42701", "specified more than once");
        check(&s, "CREATE TABLE u AS SELECT count(*), max(a) FROM t", "SELECT 1");
        check(&s, "SELECT count, max FROM u", "2|2");
    }

    #[test]
    fn a_long_chain_of_conditions_is_answered() {
        let s = with(&["CREATE TABLE t (a INT)", "INSERT INTO t SELECT i FROM generate_series(1, 100) AS s(i)"]);
        let any: Vec<String> = (0..1_000).map(|i| format!("a = {}", i * 2)).collect();
        check(&s, &format!("SELECT count(*) FROM t WHERE {}", any.join(" OR ")), "50");
        let all: Vec<String> = (0..1_000).map(|i| format!("a <> {}", i * 2)).collect();
        check(&s, &format!("SELECT count(*) FROM t WHERE {}", all.join(" AND ")), "50");
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let s = with(&["CREATE TABLE t (a INT)"]);
        for sql in [
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "CREATE VIEW v AS SELECT 1",
            "CREATE INDEX i ON t (a)",
            "ALTER TABLE t ADD COLUMN b INT",
            "CREATE TEMP TABLE x (a INT)",
            "CREATE TABLE x (a INT UNIQUE)",
            "CREATE TABLE x (a INT, UNIQUE (a))",
            "CREATE TABLE x (a INT CHECK (a > 0))",
            "CREATE TABLE x (a INT REFERENCES t(a))",
            "CREATE TABLE x (a INT GENERATED ALWAYS AS IDENTITY)",
            "CREATE TABLE x (a SERIAL)",
            "CREATE TABLE x (a CHAR(3))",
            "CREATE TABLE x (LIKE t)",
            "CREATE TABLE x (a INT) PARTITION BY RANGE (a)",
            "CREATE TABLE x (a INT) WITH (index = 'hash')",
            "GRANT SELECT ON t TO bob",
            "MERGE INTO t USING t AS s ON t.a = s.a WHEN MATCHED THEN DELETE",
            "EXPLAIN ANALYZE DELETE FROM t",
        ] {
            fails(&s, sql, "0A000", "");
        }
        fails(&s, "CREATE TABLE x (a INT) WITH (frobnicate = 1)", "22023", "frobnicate");
        check(&s, "SELECT count(*) FROM information_schema.tables WHERE table_name = 'x'", "0");
    }
}

mod definitions {
    use super::*;

    #[test]
    fn if_exists_and_if_not_exists_give_notices() {
        let s = session();
        check(&s, "CREATE TABLE t (a INT)", "CREATE TABLE");
        fails(&s, "CREATE TABLE t (a INT)", "42P07", "relation \"t\" already exists");
        check(&s, "CREATE TABLE IF NOT EXISTS t (b TEXT)", "CREATE TABLE\nrelation \"t\" already exists, skipping");
        check(&s, "CREATE TABLE u (a INT)", "CREATE TABLE");
        fails(&s, "DROP TABLE t, nope", "42P01", "nope");
        check(&s, "DROP TABLE IF EXISTS t, nope, u", "DROP TABLE\ntable \"nope\" does not exist, skipping");
        check(&s, "SHOW TABLES", "");
    }

    #[test]
    fn keys_are_inline_or_at_the_end_and_checked() {
        let s = session();
        check(&s, "CREATE TABLE a (x INT, y TEXT, PRIMARY KEY (y, x))", "CREATE TABLE");
        check(&s, "CREATE TABLE b (x INT CONSTRAINT b_key PRIMARY KEY)", "CREATE TABLE");
        check(
            &s,
            "SELECT constraint_name, column_name, ordinal_position FROM information_schema.key_column_usage ORDER BY 1, 3",
            "a_pkey|y|1\na_pkey|x|2\nb_key|x|1",
        );
        fails(&s, "CREATE TABLE c (x INT PRIMARY KEY, PRIMARY KEY (x))", "42P16", "multiple primary keys");
        fails(&s, "CREATE TABLE c (x INT, PRIMARY KEY (z))", "42703", "\"z\" named in key");
        fails(&s, "CREATE TABLE c (x INT, PRIMARY KEY (x, x))", "42701", "twice");
        fails(&s, "CREATE TABLE c (x JSON PRIMARY KEY)", "42704", "no order");
        fails(&s, "CREATE TABLE c (x INT, x TEXT)", "42701", "more than once");
        fails(&s, "CREATE TABLE c (x INT NULL NOT NULL)", "42601", "conflicting");
        fails(&s, "CREATE TABLE c (x frobnitz)", "42704", "frobnitz");
        fails(&s, "INSERT INTO a VALUES (NULL, 'x')", "23502", "column \"x\"");
    }

    #[test]
    fn information_schema_tells_columns() {
        let s = with(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(20) NOT NULL DEFAULT 'x', n NUMERIC(8,3), u UUID, j JSON)",
        ]);
        check(
            &s,
            "SELECT ordinal_position, column_name, data_type, is_nullable, column_default, character_maximum_length, \
             numeric_precision, numeric_scale FROM information_schema.columns WHERE table_name = 't' ORDER BY 1",
            "1|id|bigint|NO|NULL|NULL|64|0\n2|v|character varying|NO|'x'|20|NULL|NULL\n\
             3|n|numeric|YES|NULL|NULL|8|3\n4|u|uuid|YES|NULL|NULL|NULL|NULL\n5|j|json|YES|NULL|NULL|NULL|NULL",
        );
        check(
            &s,
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public'",
            "t|BASE TABLE",
        );
        fails(&s, "SELECT * FROM information_schema.nope", "42P01", "nope");
    }

    #[test]
    fn create_table_as_keeps_types_and_names() {
        let s = with(&["CREATE TABLE t (id INT PRIMARY KEY, u UUID, v VARCHAR(5))"]);
        check(&s, "INSERT INTO t VALUES (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'abc')", "INSERT 0 1");
        check(&s, "CREATE TABLE c AS SELECT id AS k, u, v, id * 2 AS twice FROM t", "SELECT 1");
        check(&s, "SELECT * FROM c", "1|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|abc|2");
        check(
            &s,
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'c' AND ordinal_position < 4 \
             ORDER BY ordinal_position",
            "k|integer\nu|uuid\nv|character varying",
        );
        check(&s, "CREATE TABLE e AS SELECT * FROM t WITH NO DATA", "SELECT 0");
        check(&s, "SELECT count(*) FROM e", "0");
        check(&s, "CREATE TABLE d AS SELECT * FROM t WITH DATA", "SELECT 1");
        fails(&s, "CREATE TABLE f AS SELECT 1 / (id - 1) AS x FROM t", "22012", "division by zero");
        fails(&s, "SELECT * FROM f", "42P01", "f");
    }

    #[test]
    fn defaults_are_evaluated_at_insert() {
        let s = with(&[
            "CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT 1 + 1, b TEXT DEFAULT 'it''s', c TIMESTAMPTZ DEFAULT now(), d INT)",
        ]);
        check(&s, "INSERT INTO t (id) VALUES (1)", "INSERT 0 1");
        check(
            &s,
            "INSERT INTO t VALUES (2, DEFAULT, DEFAULT, DEFAULT, DEFAULT), (3, 7, 'x', DEFAULT, 8)",
            "INSERT 0 2",
        );
        check(&s, "INSERT INTO t (id) SELECT 4", "INSERT 0 1");
        check(&s, "SELECT id, a, b, d FROM t ORDER BY id", "1|2|it's|NULL\n2|2|it's|NULL\n3|7|x|8\n4|2|it's|NULL");
        check(&s, "SELECT count(c) FROM t WHERE c > TIMESTAMPTZ '2020-01-01 00:00:00+00'", "4");
        check(&s, "UPDATE t SET a = DEFAULT, d = DEFAULT WHERE id = 3", "UPDATE 1");
        check(&s, "SELECT a, d FROM t WHERE id = 3", "2|NULL");
        fails(&s, "CREATE TABLE x (a INT DEFAULT 'abc')", "22P02", "abc");
        fails(&s, "CREATE TABLE x (a INT DEFAULT upper('abc'))", "42804", "is of type integer");
        fails(&s, "CREATE TABLE x (a INT, b INT DEFAULT a)", "0A000", "column reference");
        fails(&s, "CREATE TABLE x (a INT DEFAULT (SELECT 1))", "0A000", "subquery");
    }

    #[test]
    fn default_values_fills_a_row() {
        let s = with(&["CREATE TABLE t (a INT DEFAULT 5, b TEXT)"]);
        check(&s, "INSERT INTO t DEFAULT VALUES", "INSERT 0 1");
        check(&s, "SELECT * FROM t", "5|NULL");
    }

    #[test]
    fn truncate_takes_several_tables() {
        let s = with(&[
            "CREATE TABLE a (x INT)",
            "CREATE TABLE b (x INT)",
            "INSERT INTO a VALUES (1)",
            "INSERT INTO b VALUES (1)",
        ]);
        check(&s, "TRUNCATE TABLE a, b", "TRUNCATE TABLE");
        check(&s, "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)", "0");
        fails(&s, "TRUNCATE a, nope", "42P01", "nope");
    }
}

mod inserting {
    use super::*;

    #[test]
    fn every_type_goes_in_and_comes_out() {
        let s = with(&[
            "CREATE TABLE t (id INT PRIMARY KEY, b BOOLEAN, i2 SMALLINT, i8 BIGINT, f4 REAL, f8 DOUBLE PRECISION, n NUMERIC(10,2), \
             t TEXT, y BYTEA, d DATE, tm TIME, ts TIMESTAMP, tz TIMESTAMPTZ, iv INTERVAL, u UUID, j JSON)",
            "INSERT INTO t VALUES (1, true, 1, 2, 1.5, 2.5, 3.25, 'x', '\\xdead', '2024-02-29', '12:34:56', \
             '2024-01-02 03:04:05.5', '2024-01-02 03:04:05+02', '1 day', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\": 1}')",
            "INSERT INTO t (id) VALUES (2)",
        ]);
        check(
            &s,
            "SELECT b, i2, i8, f4, f8, n, t, d, tm, ts, u, j FROM t WHERE id = 1",
            "t|1|2|1.5|2.5|3.25|x|2024-02-29|12:34:56|2024-01-02 03:04:05.5|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{\"a\": 1}",
        );
        check(&s, "SELECT count(*) FROM t WHERE id = 2 AND b IS NULL AND iv IS NULL AND j IS NULL AND u IS NULL", "1");
    }

    #[test]
    fn duplicates_and_nulls_are_errors_that_name_the_row() {
        let s = with(&[
            "CREATE TABLE t (a INT, b TEXT, c INT NOT NULL, PRIMARY KEY (a, b))",
            "INSERT INTO t VALUES (5, 'x', 1)",
        ]);
        fails(&s, "INSERT INTO t VALUES (6, 'y', 1), (5, 'x', 2)", "23505", "Key (a, b)=(5, x) already exists.");
        fails(&s, "INSERT INTO t VALUES (7, 'z', 1), (7, 'z', 2)", "23505", "\"t_pkey\"");
        fails(&s, "INSERT INTO t VALUES (8, 'z', NULL)", "23502", "Failing row contains (8, z, null).");
        fails(&s, "INSERT INTO t (a, b) VALUES (8, 'z')", "23502", "null value in column \"c\" of relation \"t\"");
        fails(&s, "UPDATE t SET c = NULL", "23502", "column \"c\"");
        check(&s, "SELECT * FROM t", "5|x|1");
    }

    #[test]
    fn assignment_casts_are_postgresqls() {
        let s =
            with(&["CREATE TABLE t (i2 SMALLINT, i4 INT, n NUMERIC(4,1), v VARCHAR(3), x TEXT, f DOUBLE PRECISION)"]);
        fails(&s, "INSERT INTO t (i2) VALUES (40000)", "22003", "");
        fails(&s, "INSERT INTO t (i2) SELECT 40000", "22003", "");
        fails(&s, "INSERT INTO t (n) VALUES (12345)", "22003", "");
        fails(&s, "INSERT INTO t (v) VALUES ('abcd')", "22001", "character varying(3)");
        fails(&s, "INSERT INTO t (i4) VALUES ('abc')", "22P02", "abc");
        fails(
            &s,
            "INSERT INTO t (i4) VALUES (lower('5'))",
            "42804",
            "is of type integer but expression is of type text",
        );
        fails(&s, "INSERT INTO t (i4) SELECT x FROM t", "42804", "rewrite or cast");
        fails(&s, "INSERT INTO t (i4) VALUES (true)", "42804", "");
        fails(&s, "UPDATE t SET i4 = x", "42804", "");
        check(&s, "INSERT INTO t (i4, v, x, f) VALUES ('5', 'abc  ', 7, 3)", "INSERT 0 1");
        check(&s, "SELECT i4, v, x, f FROM t", "5|abc|7|3");
        check(&s, "INSERT INTO t (i4) SELECT '6'", "INSERT 0 1");
        check(&s, "INSERT INTO t (x) SELECT i4 FROM t WHERE i4 = 6", "INSERT 0 1");
        check(&s, "SELECT x FROM t WHERE x = '6'", "6");
    }

    #[test]
    fn columns_may_be_named_and_left_out() {
        let s = with(&["CREATE TABLE t (a INT, b INT, c INT)"]);
        check(&s, "INSERT INTO t (c, a) VALUES (3, 1)", "INSERT 0 1");
        check(&s, "INSERT INTO t VALUES (1, 2)", "INSERT 0 1");
        check(&s, "SELECT * FROM t", "1|NULL|3\n1|2|NULL");
        fails(&s, "INSERT INTO t (a, a) VALUES (1, 2)", "42701", "");
        fails(&s, "INSERT INTO t VALUES (1, 2, 3, 4)", "42601", "more expressions than target columns");
        fails(&s, "INSERT INTO t (a, b) VALUES (1)", "42601", "more target columns than expressions");
        fails(&s, "INSERT INTO t (a) SELECT 1, 2", "42601", "more expressions than target columns");
        fails(&s, "INSERT INTO t VALUES (1), (1, 2)", "42601", "same length");
    }

    #[test]
    fn a_failed_statement_leaves_nothing() {
        let s = with(&["CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (3)"]);
        fails(&s, "INSERT INTO t SELECT x FROM (VALUES (1), (2), (3)) AS v(x)", "23505", "");
        fails(&s, "INSERT INTO t SELECT 10 / (x - 2) FROM (VALUES (1), (2)) AS v(x)", "22012", "");
        check(&s, "SELECT * FROM t", "3");
    }

    #[test]
    fn an_insert_may_read_its_own_table() {
        let s = with(&["CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)"]);
        check(&s, "INSERT INTO t SELECT a + 10 FROM t", "INSERT 0 2");
        check(&s, "SELECT count(*) FROM t", "4");
    }

    #[test]
    fn on_conflict_does_nothing_or_updates() {
        let s = with(&["CREATE TABLE t (id INT PRIMARY KEY, n INT, v TEXT)", "INSERT INTO t VALUES (1, 1, 'a')"]);
        check(&s, "INSERT INTO t VALUES (1, 9, 'z'), (2, 2, 'b'), (2, 3, 'c') ON CONFLICT DO NOTHING", "INSERT 0 1");
        check(&s, "SELECT * FROM t ORDER BY id", "1|1|a\n2|2|b");
        check(
            &s,
            "INSERT INTO t VALUES (1, 5, 'n'), (3, 3, 'd') ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n, v = 'u'",
            "INSERT 0 2",
        );
        check(&s, "SELECT * FROM t ORDER BY id", "1|6|u\n2|2|b\n3|3|d");
        check(
            &s,
            "INSERT INTO t AS x VALUES (1, 5, 'n'), (2, 5, 'n') ON CONFLICT (id) DO UPDATE SET n = 0 WHERE x.n < 5 RETURNING id, n",
            "2|0",
        );
        fails(&s, "INSERT INTO t VALUES (1, 1, 'a') ON CONFLICT (n) DO NOTHING", "42P10", "");
        fails(
            &s,
            "INSERT INTO t VALUES (9, 1, 'a'), (9, 2, 'b') ON CONFLICT (id) DO UPDATE SET n = 1",
            "21000",
            "second time",
        );
    }

    #[test]
    fn returning_gives_the_written_rows() {
        let s = with(&["CREATE TABLE t (id INT PRIMARY KEY, v INT DEFAULT 7)"]);
        check(&s, "INSERT INTO t (id) VALUES (1), (2) RETURNING id, v * 2 AS w", "1|14\n2|14");
        check(&s, "UPDATE t SET v = id RETURNING *", "1|1\n2|2");
        check(&s, "DELETE FROM t WHERE id = 1 RETURNING t.v", "1");
        fails(&s, "DELETE FROM t RETURNING 1 / (v - 2)", "22012", "");
        check(&s, "SELECT * FROM t", "2|2");
    }
}

mod changing {
    use super::*;

    fn filled() -> Session {
        with(&[
            "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
            "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)",
            "CREATE TABLE o (id INT, w INT)",
            "INSERT INTO o VALUES (2, 200), (3, 300), (3, 301), (9, 900)",
        ])
    }

    #[test]
    fn deletes_touch_only_what_they_say() {
        let s = filled();
        check(&s, "DELETE FROM t WHERE false", "DELETE 0");
        check(&s, "DELETE FROM t WHERE id IN (SELECT id FROM o WHERE w = 200)", "DELETE 1");
        check(&s, "DELETE FROM t WHERE EXISTS (SELECT 1 FROM o WHERE o.id = t.id)", "DELETE 1");
        check(&s, "SELECT * FROM t", "1|10");
        check(&s, "DELETE FROM t AS x WHERE x.id = 1", "DELETE 1");
    }

    #[test]
    fn explain_of_a_write_does_not_write() {
        let s = filled();
        explains(&s, "DELETE FROM t", "Delete: table=t");
        explains(&s, "UPDATE t SET v = 0", "Update: table=t");
        explains(&s, "INSERT INTO t VALUES (4, 4)", "Insert: table=t");
        check(&s, "SELECT count(*), sum(v) FROM t", "3|60");
    }

    #[test]
    fn update_and_delete_take_other_tables() {
        let s = filled();
        check(&s, "UPDATE t SET v = o.w FROM o WHERE o.id = t.id AND o.w < 301", "UPDATE 2");
        check(&s, "SELECT * FROM t ORDER BY id", "1|10\n2|200\n3|300");
        check(&s, "UPDATE t SET v = 0 FROM o WHERE o.id = t.id", "UPDATE 2");
        check(&s, "DELETE FROM t USING o WHERE o.id = t.id", "DELETE 2");
        check(&s, "SELECT * FROM t", "1|10");
    }

    #[test]
    fn updates_see_the_rows_as_they_were() {
        let s = filled();
        check(&s, "UPDATE t SET id = v, v = id WHERE id = 1", "UPDATE 1");
        check(&s, "SELECT * FROM t ORDER BY id", "2|20\n3|30\n10|1");
        check(&s, "UPDATE t SET id = id + 1", "UPDATE 3");
        check(&s, "SELECT id FROM t ORDER BY id", "3\n4\n11");
        fails(&s, "UPDATE t SET id = 4 WHERE id = 3", "23505", "Key (id)=(4) already exists.");
        check(&s, "UPDATE t SET v = (SELECT max(w) FROM o)", "UPDATE 3");
        check(&s, "SELECT DISTINCT v FROM t", "900");
        check(&s, "UPDATE t SET (id, v) = (id + 100, 5) WHERE id = 3", "UPDATE 1");
        check(&s, "SELECT * FROM t WHERE v = 5", "103|5");
        fails(&s, "UPDATE t SET nope = 1", "42703", "nope");
        fails(&s, "UPDATE t SET v = 1, v = 2", "42601", "multiple assignments");
    }

    #[test]
    fn a_subquery_on_the_target_does_not_show_hidden_columns() {
        let s = filled();
        check(&s, "UPDATE t SET v = 1 WHERE id IN (SELECT max(id) FROM (SELECT * FROM t) AS q)", "UPDATE 1");
        check(&s, "DELETE FROM o WHERE id IN (SELECT id FROM o WHERE w > 299)", "DELETE 3");
        check(&s, "SELECT * FROM o", "2|200");
    }
}

mod reading {
    use super::*;

    fn series() -> Session {
        let s = with(&[
            "CREATE TABLE m (run BIGINT, step BIGINT, loss DOUBLE PRECISION, tag TEXT, PRIMARY KEY (run, step))",
        ]);
        check(
            &s,
            "INSERT INTO m SELECT r, t, r + t, 'x' FROM generate_series(1, 20) AS r \
             CROSS JOIN generate_series(1, 100) AS t",
            "INSERT 0 2000",
        );
        s
    }

    #[test]
    fn key_conditions_reach_the_engine() {
        let s = series();
        for (sql, plan) in [
            ("SELECT * FROM m WHERE run = 5 AND step = 7", "key=[point run=5, step=7] | ranges=1"),
            ("SELECT * FROM m WHERE run = 5", "key=[range run=5] | ranges=1"),
            ("SELECT * FROM m WHERE step BETWEEN 3 AND 9 AND run = 5", "key=[range run=5, 3<=step<=9] | ranges=1"),
            (
                "SELECT * FROM m WHERE run IN (1, 2, 3, 9) AND step = 4",
                "key=[point run in 4 values, step=4] | ranges=4",
            ),
            ("SELECT * FROM m WHERE run > 3 AND run <= 5", "key=[range 3<run<=5]"),
            ("SELECT * FROM m WHERE (run = 1 AND step = 2) OR (run = 3 AND step > 90)", "2 alternatives] | ranges=2"),
            ("SELECT * FROM m WHERE loss > 5 AND tag = 'x'", "filter=[loss > 5, tag = 'x']"),
            ("SELECT * FROM m WHERE loss > 5 AND tag LIKE 'x%'", "filter=[loss > 5], pruning=[tag >= 'x', tag < 'y']"),
        ] {
            explains(&s, sql, plan);
        }
    }

    #[test]
    fn conditions_on_keys_and_columns_are_exact_and_others_are_filtered_again() {
        let s = series();
        let exact = run(&s, "EXPLAIN SELECT * FROM m WHERE run = 5 AND step >= 7");
        assert!(!exact.contains("FilterExec"), "{exact}");
        let filtered = run(&s, "EXPLAIN SELECT * FROM m WHERE run = 5 AND loss > 7");
        assert!(!filtered.contains("FilterExec") && filtered.contains("key=[range run=5]"), "{filtered}");
        let inexact = run(&s, "EXPLAIN SELECT * FROM m WHERE run = 5 AND tag LIKE '%x'");
        assert!(inexact.contains("FilterExec") && inexact.contains("key=[range run=5]"), "{inexact}");
        check(&s, "SELECT count(*) FROM m WHERE run = 5 AND step >= 7", "94");
        check(&s, "SELECT count(*) FROM m WHERE run = 5 AND loss > 7", "98");
        check(&s, "SELECT count(*) FROM m WHERE run IN (1, 7, 7, 99) AND step <= 3", "6");
        check(&s, "SELECT count(*) FROM m WHERE (run = 1 AND step = 2) OR (run = 3 AND step > 90) OR run = 20", "111");
        check(&s, "SELECT count(*) FROM m WHERE run = 1 AND run = 2", "0");
        check(&s, "SELECT count(*) FROM m WHERE step = 3", "20");
        check(&s, "SELECT count(*) FROM m WHERE run > 18 OR run < 2", "300");
        check(&s, "SELECT count(*) FROM m WHERE run = 2 AND step > 5 AND step > 7 AND step < 10", "2");
        check(&s, "SELECT count(*) FROM m WHERE NOT (run = 5)", "1900");
        check(&s, "SELECT count(*) FROM m WHERE tag LIKE 'x%' AND tag LIKE 'y%'", "0");
    }

    #[test]
    fn the_order_of_the_key_needs_no_sort() {
        let s = series();
        for sql in [
            "SELECT * FROM m ORDER BY run, step",
            "SELECT step FROM m WHERE run = 5 ORDER BY step",
            "SELECT run, step FROM m WHERE run = 5 ORDER BY run, step",
            "SELECT step, loss FROM m WHERE run = 5 ORDER BY step DESC LIMIT 3",
            "SELECT * FROM m ORDER BY run DESC, step DESC LIMIT 3",
        ] {
            let plan = run(&s, &format!("EXPLAIN {sql}"));
            assert!(!plan.contains("SortExec"), "{sql}\n{plan}");
        }
        check(&s, "SELECT step FROM m WHERE run = 5 ORDER BY step DESC LIMIT 3", "100\n99\n98");
        check(&s, "SELECT run, step FROM m ORDER BY run DESC, step DESC LIMIT 2", "20|100\n20|99");
        check(&s, "SELECT run, step FROM m ORDER BY run, step LIMIT 2 OFFSET 99", "1|100\n2|1");
        explains(&s, "SELECT step FROM m WHERE run = 5 ORDER BY step DESC LIMIT 3", "reverse, limit=3");
    }

    #[test]
    fn a_filter_that_equates_the_key_with_an_expression_does_not_upset_the_order() {
        let s = with(&["CREATE TABLE t (a INT, b INT, c INT, PRIMARY KEY (a, b))"]);
        check(&s, "INSERT INTO t SELECT g % 7, g, g % 5 FROM generate_series(1, 60) AS g", "INSERT 0 60");
        check(&s, "SELECT b, a FROM t WHERE a > 1 AND a + 0 = a AND c = a + 1 ORDER BY a, b LIMIT 2", "23|2\n58|2");
        check(&s, "SELECT a, b FROM t WHERE a > 1 AND a + 0 = a ORDER BY a DESC, b DESC LIMIT 1", "6|55");
    }

    #[test]
    fn explain_analyze_runs_the_query_and_counts() {
        let s = series();
        let plan = run(&s, "EXPLAIN ANALYZE SELECT * FROM m WHERE run = 5");
        for words in ["OmenScan: table=m", "output_rows=100", "slices_read=", "Rows: 100", "Execution time:"] {
            assert!(plan.contains(words), "{words}\n{plan}");
        }
        explains(&s, "SELECT 1", "ProjectionExec");
        assert!(run(&s, "EXPLAIN (VERBOSE) SELECT loss FROM m").contains("Logical plan:"));
        fails(&s, "EXPLAIN (FORMAT JSON) SELECT 1", "0A000", "");
    }

    #[test]
    fn all_tables_of_a_statement_are_of_one_moment() {
        let db = database();
        let (a, b) = (db.session(), db.session());
        check(&a, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE");
        check(&a, "INSERT INTO t SELECT generate_series FROM generate_series(1, 50000)", "INSERT 0 50000");
        let Ok(Outcome::Rows(rows)) = a.execute("SELECT id FROM t") else { panic!() };
        check(&b, "DELETE FROM t", "DELETE 50000");
        let seen: usize = rows.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(seen, 50_000);
        check(&a, "SELECT count(*) FROM t", "0");
    }

    #[test]
    fn uuids_are_found_by_their_key() {
        let s = with(&["CREATE TABLE t (u UUID PRIMARY KEY, n INT)"]);
        check(
            &s,
            "INSERT INTO t VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 1), ('b0eebc999c0b4ef8bb6d6bb9bd380a11', 2)",
            "INSERT 0 2",
        );
        check(&s, "SELECT n FROM t WHERE u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "1");
        check(&s, "SELECT n FROM t WHERE u > 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "2");
        check(&s, "SELECT n FROM t ORDER BY u DESC", "2\n1");
        fails(&s, "INSERT INTO t VALUES ('zz', 3)", "22P02", "uuid");
    }
}

mod sessions {
    use super::*;

    #[test]
    fn settings_are_set_shown_and_reset() {
        let s = session();
        check(&s, "SHOW statement_timeout", "0");
        check(&s, "SET statement_timeout = 5000", "SET");
        check(&s, "SHOW statement_timeout", "5s");
        check(&s, "SET work_mem TO '64MB'", "SET");
        assert_eq!(s.setting("work_mem").as_deref(), Some("64MB"));
        check(&s, "RESET statement_timeout", "RESET");
        check(&s, "SHOW statement_timeout", "0");
        check(&s, "SET TIME ZONE 'UTC'", "SET");
        check(&s, "SHOW TIME ZONE", "UTC");
        check(&s, "SET application_name = 'test'", "SET");
        check(&s, "RESET ALL", "RESET");
        check(&s, "SHOW work_mem", "1GB");
        assert!(run(&s, "SHOW ALL").contains("statement_timeout|0|"));
        fails(&s, "SET stament_timeout = 1", "42704", "Did you mean the setting \"statement_timeout\"?");
        fails(&s, "SHOW nope", "42704", "nope");
        fails(&s, "SET timezone = 'Europe/Berlin'", "22023", "");
        assert_eq!(s.setting("nope"), None);
    }

    #[test]
    fn a_statement_past_its_timeout_is_stopped() {
        let s = with(&["SET statement_timeout = '200ms'"]);
        fails(&s, "SELECT count(*) FROM generate_series(1, 100000000000) AS g", "57014", "statement timeout");
        check(&s, "SELECT 1", "1");
    }

    #[test]
    fn a_statement_is_cancelled_from_another_thread() {
        let s = session();
        let handle = s.cancel_handle();
        handle.cancel();
        let Ok(Outcome::Rows(rows)) = s.execute("SELECT g FROM generate_series(1, 100000000000) AS g") else {
            panic!()
        };
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            handle.cancel();
        });
        let error = rows.filter_map(Result::err).next().unwrap();
        canceller.join().unwrap();
        assert_eq!(error.sqlstate(), "57014");
        check(&s, "SELECT 1", "1");
    }

    #[test]
    fn many_rows_of_a_range_of_keys_are_deleted_at_once() {
        let db = database();
        let s = db.session();
        run(&s, "CREATE TABLE t (a INT, b INT, v INT, PRIMARY KEY (a, b))");
        run(&s, "INSERT INTO t SELECT g / 20000, g % 20000, g FROM generate_series(0, 59999) AS g");
        let ranges = || db.engine().stats().unwrap().erased_ranges;
        run(&s, "DELETE FROM t WHERE a = 0 AND b < 100");
        run(&s, "DELETE FROM t WHERE a = 0 AND v >= 100");
        assert_eq!(ranges(), 0, "few rows, and such as are known by more than their keys, go one by one");
        run(&s, "DELETE FROM t WHERE a = 1 AND b BETWEEN 1000 AND 19000");
        assert_eq!(ranges(), 1);
        check(&s, "SELECT count(*), min(b), max(b) FROM t WHERE a = 1", "1999|0|19999");
        check(&s, "SELECT count(*) FROM t", "21999");
    }

    #[test]
    fn a_query_that_nobody_reads_ends() {
        let s = session();
        let Ok(Outcome::Rows(mut rows)) = s.execute("SELECT g FROM generate_series(1, 100000000000) AS g") else {
            panic!()
        };
        assert!(rows.next().unwrap().unwrap().num_rows() > 0);
        drop(rows);
        check(&s, "SELECT 1", "1");
    }

    #[test]
    fn memory_is_bounded_and_joins_spill() {
        let s = with(&["SET work_mem = '8MB'", "SET threads = 1"]);
        check(
            &s,
            "SELECT count(*) FROM generate_series(1, 400000) AS a JOIN generate_series(1, 400000) AS b ON a = b",
            "400000",
        );
        fails(&s, "SELECT array_agg(g) FROM generate_series(1, 4000000) AS g", "53200", "work_mem");
        check(&s, "SELECT 1", "1");
    }

    #[test]
    fn all_sessions_share_the_memory_of_their_database() {
        let options = OpenOptions { threads: Some(2), memory_bytes: Some(24 << 20), ..OpenOptions::memory() };
        let s = Database::open(options).unwrap().session();
        fails(&s, "SELECT array_agg(g) FROM generate_series(1, 4000000) AS g", "53200", "memory limit of 24 MiB");
        check(&s, "SELECT count(*) FROM generate_series(1, 4000000) AS g", "4000000");
    }

    #[test]
    fn prepared_statements_take_parameters() {
        let s = with(&["CREATE TABLE t (id INT PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')"]);
        let by_key = s.prepare("SELECT v FROM t WHERE id = $1").unwrap();
        assert_eq!(by_key.parameters(), 1);
        assert_eq!(outcome(by_key.execute(&[ScalarValue::Int32(Some(2))])), "b");
        assert_eq!(outcome(by_key.execute(&[ScalarValue::Int64(Some(1))])), "a");
        assert_eq!(outcome(by_key.execute(&[ScalarValue::Int32(None)])), "");
        assert!(outcome(by_key.execute(&[])).starts_with("ERROR 42P02"));
        let insert = s.prepare("INSERT INTO t VALUES ($1, $2)").unwrap();
        assert_eq!(outcome(insert.execute(&[ScalarValue::Int64(Some(3)), ScalarValue::from("c")])), "INSERT 0 1");
        assert!(
            outcome(insert.execute(&[ScalarValue::Int64(Some(3)), ScalarValue::from("c")])).starts_with("ERROR 23505")
        );
        let update = s.prepare("UPDATE t SET v = $2 WHERE id = $1").unwrap();
        assert_eq!(outcome(update.execute(&[ScalarValue::Int32(Some(3)), ScalarValue::from("d")])), "UPDATE 1");
        check(&s, "SELECT v FROM t WHERE id = 3", "d");
        let later = s.prepare("SELECT TIMESTAMP '2026-01-01' + $1 * INTERVAL '1 day'").unwrap();
        assert_eq!(outcome(later.execute(&[ScalarValue::Int64(Some(2))])), "2026-01-03 00:00:00");
        assert!(s.prepare("SELECT nope FROM t WHERE id = $1").is_err());
        fails(&s, "SELECT v FROM t WHERE id = $1", "42P02", "");
    }

    #[test]
    fn names_are_given_for_completion() {
        let s = with(&["CREATE TABLE t (id INT PRIMARY KEY, v TEXT)"]);
        let names = s.names();
        assert_eq!(names.tables, vec![("t".to_owned(), vec!["id".to_owned(), "v".to_owned()])]);
        assert!(names.functions.iter().any(|f| f == "count") && names.keywords.iter().any(|k| k == "SELECT"));
    }

    #[test]
    fn writers_in_each_others_way_run_again() {
        let db = database();
        check(&db.session(), "CREATE TABLE t (id INT PRIMARY KEY, n INT)", "CREATE TABLE");
        check(&db.session(), "INSERT INTO t VALUES (1, 0)", "INSERT 0 1");
        let threads = 2;
        let writes = 20;
        let done: usize = std::thread::scope(|scope| {
            let work = || {
                let s = db.session();
                (0..writes).filter(|_| run(&s, "UPDATE t SET n = n + 1 WHERE id = 1") == "UPDATE 1").count()
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        check(&db.session(), "SELECT n FROM t", &done.to_string());
    }
}

mod files {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn with_files() -> (Session, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("zips.csv"), "zip,city,pop\n00501,Holtsville,1\n98101,\"Seattle, WA\",2\n").unwrap();
        fs::write(dir.path().join("bad.csv"), "zip,city,pop\n1,a,1\n2,b,x\n").unwrap();
        fs::write(dir.path().join("rows.ndjson"), "{\"id\": 1, \"v\": \"a\"}\n{\"id\": 2, \"v\": null}\n").unwrap();
        (session(), dir)
    }

    fn at(dir: &TempDir, sql: &str) -> String {
        sql.replace("DIR", dir.path().to_str().unwrap())
    }

    #[test]
    fn files_are_queried_by_their_names() {
        let (s, dir) = with_files();
        check(&s, &at(&dir, "SELECT * FROM 'DIR/zips.csv' ORDER BY zip"), "00501|Holtsville|1\n98101|Seattle, WA|2");
        check(&s, &at(&dir, "SELECT sum(pop) FROM \"DIR/zips.csv\" AS z WHERE z.city LIKE 'S%'"), "2");
        check(&s, &at(&dir, "SELECT id, v FROM 'DIR/*.ndjson' ORDER BY id"), "1|a\n2|NULL");
        fails(&s, &at(&dir, "SELECT * FROM 'DIR/nope.csv'"), "58P01", "nope.csv");
    }

    #[test]
    fn copy_loads_a_file_as_a_whole_or_not_at_all() {
        let (s, dir) = with_files();
        check(
            &s,
            "CREATE TABLE zips (zip TEXT PRIMARY KEY, city VARCHAR(20), pop INT, note TEXT DEFAULT 'new')",
            "CREATE TABLE",
        );
        check(&s, &at(&dir, "COPY zips FROM 'DIR/zips.csv'"), "COPY 2");
        check(&s, "SELECT * FROM zips ORDER BY zip", "00501|Holtsville|1|new\n98101|Seattle, WA|2|new");
        fails(
            &s,
            &at(&dir, "COPY zips FROM 'DIR/zips.csv' (FORMAT csv, HEADER)"),
            "23505",
            "Key (zip)=(00501) already exists.",
        );
        fails(&s, &at(&dir, "COPY zips FROM 'DIR/bad.csv'"), "22P02", "x");
        check(&s, "SELECT count(*) FROM zips", "2");
        check(&s, "CREATE TABLE two (city TEXT, zip TEXT, pop INT)", "CREATE TABLE");
        check(&s, &at(&dir, "COPY two (zip, city, pop) FROM 'DIR/zips.csv' CSV HEADER"), "COPY 2");
        check(&s, "SELECT zip FROM two ORDER BY zip", "00501\n98101");
        fails(&s, &at(&dir, "COPY two (nope) FROM 'DIR/zips.csv'"), "42703", "nope");
        fails(&s, "COPY two FROM STDIN", "0A000", "");
        fails(&s, &at(&dir, "COPY two FROM 'DIR/zips.csv' (FORMAT text)"), "0A000", "text");
    }

    #[test]
    fn copy_writes_what_a_query_gives() {
        let (s, dir) = with_files();
        check(&s, "CREATE TABLE t (id INT PRIMARY KEY, u UUID, n NUMERIC(8,2))", "CREATE TABLE");
        check(
            &s,
            "INSERT INTO t VALUES (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1.5), (2, NULL, NULL)",
            "INSERT 0 2",
        );
        // A file of text does not say how many digits a number was declared with.
        for (file, expected) in [
            ("t.csv", "1|1.5\n2|NULL"),
            ("t.parquet", "1|1.50\n2|NULL"),
            ("t.ndjson", "1|1.5\n2|NULL"),
            ("t.csv.gz", "1|1.5\n2|NULL"),
        ] {
            check(&s, &at(&dir, &format!("COPY (SELECT * FROM t ORDER BY id) TO 'DIR/{file}'")), "COPY 2");
            check(&s, &at(&dir, &format!("SELECT id, n FROM 'DIR/{file}' ORDER BY id")), expected);
        }
        check(&s, &at(&dir, "COPY t (id) TO 'DIR/ids.csv' (HEADER false)"), "COPY 2");
        assert_eq!(fs::read_to_string(dir.path().join("ids.csv")).unwrap(), "1\n2\n");
        fails(&s, &at(&dir, "COPY (SELECT 1 / (id - 2) FROM t) TO 'DIR/broken.csv'"), "22012", "");
        assert!(!dir.path().join("broken.csv").exists());
        fails(&s, &at(&dir, "COPY t TO 'DIR/what'"), "22023", "FORMAT");
    }
}

mod directories {
    use super::*;

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        let open = |options: OpenOptions| Database::open(OpenOptions { threads: Some(2), ..options });
        let db = open(OpenOptions::dir(&path)).unwrap();
        let s = db.session();
        check(&s, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) DEFAULT 'x')", "CREATE TABLE");
        check(&s, "INSERT INTO t (id) SELECT g FROM generate_series(1, 20000) AS g", "INSERT 0 20000");
        check(&s, "DELETE FROM t WHERE id > 10000", "DELETE 10000");
        assert_eq!(open(OpenOptions::dir(&path)).err().unwrap().sqlstate(), "55006");
        drop(s);
        db.close().unwrap();

        let db = open(OpenOptions { create: false, ..OpenOptions::dir(&path) }).unwrap();
        check(&db.session(), "INSERT INTO t VALUES (0, DEFAULT)", "INSERT 0 1");
        check(&db.session(), "SELECT count(*), min(id), max(id), min(v) FROM t", "10001|0|10000|x");
        fails(&db.session(), "INSERT INTO t VALUES (0, 'y')", "23505", "Key (id)=(0) already exists.");
        db.engine().flush().unwrap();
        check(&db.session(), "SELECT id FROM t WHERE id >= 9999 ORDER BY id DESC", "10000\n9999");
        db.close().unwrap();

        let db = open(OpenOptions { read_only: true, create: false, ..OpenOptions::dir(&path) }).unwrap();
        check(&db.session(), "SELECT count(*) FROM t", "10001");
        fails(&db.session(), "INSERT INTO t VALUES (-1, 'y')", "25006", "");
        fails(&db.session(), "DROP TABLE t", "25006", "");
        db.close().unwrap();
        assert!(open(OpenOptions { create: false, ..OpenOptions::dir(dir.path().join("nope")) }).is_err());
    }

    #[test]
    fn spilled_data_go_to_the_database_and_away_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(OpenOptions { threads: Some(2), ..OpenOptions::dir(dir.path().join("d")) }).unwrap();
        let s = db.session();
        check(&s, "SET work_mem = '8MB'", "SET");
        check(
            &s,
            "SELECT count(*) FROM (SELECT a FROM generate_series(1, 300000) AS a ORDER BY a % 1000, a DESC) AS q \
             JOIN generate_series(1, 300000) AS b ON q.a = b.b",
            "300000",
        );
        let left = std::fs::read_dir(dir.path().join("d").join("tmp")).unwrap();
        assert!(left.flatten().all(|entry| std::fs::read_dir(entry.path()).is_ok_and(|files| files.count() == 0)));
    }
}
