/*!
Aggregates that the engine adds up, against DataFusion's over the same rows: random tables with memtables, runs of upper levels over a last
level, deleted ranges, versions, NULLs, NaN and rows that have expired; random ranges and filters; the same statement with
`enable_slice_aggregate` on and off must give the same rows, names and types.

Doubles are multiples of a quarter, so that their sums are exact in any order.
*/
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use omendb_sql::{Database, OpenOptions, Outcome, Session, text};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let n = u64::try_from(of.len()).unwrap();
        of.get(usize::try_from(self.below(n)).unwrap()).copied().unwrap()
    }
}

fn database() -> Database {
    Database::open(OpenOptions { threads: Some(2), ..OpenOptions::memory() }).unwrap()
}

fn done(session: &Session, sql: &str) {
    match session.execute(sql) {
        Ok(Outcome::Done(_)) => {}
        Ok(Outcome::Rows(_)) => panic!("{sql}: rows"),
        Err(e) => panic!("{sql}: {} {}", e.sqlstate(), e.message()),
    }
}

/// The schema and the rows as text, or the error.
fn asked(session: &Session, sql: &str) -> Result<(SchemaRef, Vec<String>), String> {
    let told = |e: omendb_sql::SqlError| format!("{}: {}", e.sqlstate(), e.message());
    let rows = match session.execute(sql).map_err(told)? {
        Outcome::Rows(rows) => rows,
        Outcome::Done(done) => panic!("{sql}: {}", done.tag),
    };
    let schema = rows.schema();
    let mut lines = Vec::new();
    for batch in rows {
        lines.extend(shown(&batch.map_err(told)?));
    }
    Ok((schema, lines))
}

fn shown(batch: &RecordBatch) -> Vec<String> {
    let line = |row: usize| {
        let mut line = String::new();
        for (i, column) in batch.columns().iter().enumerate() {
            line.push('|');
            match column.is_null(row) {
                true => line.push_str("NULL"),
                false => text::format(column, row, batch.schema().field(i), &mut line),
            }
        }
        // Either zero may be the least or greatest value.
        line.replace("|-0|", "|0|")
    };
    (0..batch.num_rows()).map(line).collect()
}

fn plan(session: &Session, sql: &str) -> String {
    asked(session, &format!("EXPLAIN {sql}")).unwrap().1.join("\n")
}

/// Some rows of one series; `salt` makes them differ from those that were there.
fn insert(session: &Session, series: u64, from: u64, to: u64, salt: u64) {
    let sql = format!(
        "INSERT INTO m SELECT {series}, k, \
           CASE WHEN (k + {salt}) % 13 = 0 THEN NULL ELSE (k * 7919 + {salt}) % 1000 END, \
           (k + {salt}) % 100, \
           CASE WHEN (k + {salt}) % 211 = 0 THEN 'NaN'::float8 WHEN k % 17 = 0 THEN NULL \
                ELSE ((k * 31 + {salt}) % 4000 - 2000)::float8 / 4 END, \
           (k % 64) / 4.0, \
           ((k * 37 + {salt}) % 100000) / 100.0, \
           CASE WHEN k % 19 = 0 THEN NULL ELSE 't' || ((k + {salt}) % 300) END, \
           CASE WHEN (k + {salt}) % 23 = 0 THEN now() - interval '2 days' ELSE now() + interval '2 days' END, \
           md5('{salt} ' || k) \
         FROM generate_series({from}, {to}) AS k \
         ON CONFLICT (g, k) DO UPDATE SET i = excluded.i, f = excluded.f, d = excluded.d, t = excluded.t, at = excluded.at",
    );
    done(session, &sql);
}

fn change(database: &Database, session: &Session, random: &mut Random, steps: u64) {
    let (series, from) = (random.below(5), random.below(steps));
    let to = from + random.below(steps / 2);
    match random.below(10) {
        0..=3 => insert(session, series, from, to.min(steps), random.below(1000)),
        4 => done(session, &format!("DELETE FROM m WHERE g = {series} AND k BETWEEN {from} AND {to}")),
        5 => done(session, &format!("DELETE FROM m WHERE k % 97 = {} AND g = {series}", random.below(97))),
        6 => done(session, &format!("UPDATE m SET i = i + 1, f = -f WHERE g = {series} AND k < {from} AND k % 41 = 3")),
        7 | 8 => database.engine().flush().unwrap(),
        _ => database.engine().compact(None).unwrap(),
    }
}

const AGGREGATES: &[&str] = &[
    "count(*)",
    "count(i)",
    "count(t)",
    "min(i)",
    "max(i)",
    "sum(i)",
    "avg(i)",
    "min(s)",
    "sum(s)",
    "avg(s)",
    "min(f)",
    "max(f)",
    "sum(f)",
    "avg(f)",
    "min(r)",
    "sum(r)",
    "avg(r)",
    "min(d)",
    "max(d)",
    "sum(d)",
    "avg(d)",
    "min(t)",
    "max(t)",
    "min(k)",
    "max(k)",
    "count(at)",
    "sum(i) FILTER (WHERE s > 50)",
    "sum(i + 1)",
];

fn query(random: &mut Random, steps: u64) -> String {
    let mut columns: Vec<&str> = (0..=random.below(5)).map(|_| random.one(AGGREGATES)).collect();
    if random.below(4) > 0 {
        columns.retain(|column| !column.contains("FILTER") && !column.contains("+"));
        columns.push("count(*)");
    }
    let (low, high) = (random.below(steps), random.below(steps));
    let filters = [
        String::new(),
        String::new(),
        format!("WHERE g = {}", low % 5),
        format!("WHERE g >= {} AND g < {}", low % 5, high % 6),
        format!("WHERE g = {} AND k >= {low}", high % 5),
        format!("WHERE k BETWEEN {} AND {}", low.min(high), low.max(high)),
        format!("WHERE f > {}", low % 500),
        format!("WHERE i IS NOT NULL AND s <= {}", low % 100),
        format!("WHERE t LIKE 't1%' AND g IN (1, 3) AND k > {low}"),
        format!("WHERE i % 3 = {}", low % 3),
    ];
    let filter = filters.get(usize::try_from(random.below(10)).unwrap()).unwrap();
    let columns = columns.join(", ");
    if random.below(3) == 0 {
        return edges(random, filter);
    }
    match random.below(4) {
        0 => format!("SELECT {columns} FROM m {filter}"),
        1 => format!("SELECT g, {columns} FROM m {filter} GROUP BY g ORDER BY g"),
        2 => format!("SELECT g AS series, {columns} FROM m {filter} GROUP BY g HAVING count(*) > 10 ORDER BY 1 DESC"),
        _ => format!("SELECT {columns}, g FROM m {filter} GROUP BY g ORDER BY g LIMIT 3"),
    }
}

/// The first or last rows of groups.
fn edges(random: &mut Random, filter: &str) -> String {
    let (way, other) = if random.below(2) == 0 { ("", "DESC") } else { ("DESC", "") };
    let column = random.one(&["i", "s", "f", "t", "at", "d / 2", "k"]);
    match random.below(7) {
        0 => format!("SELECT DISTINCT ON (g) * FROM m {filter} ORDER BY g, k {way}"),
        1 => format!("SELECT DISTINCT ON (g) g, {column} FROM m {filter} ORDER BY g DESC, k {way}"),
        2 => format!(
            "SELECT g, first_value({column} ORDER BY k {way}), last_value(f ORDER BY g, k {other}) FROM m {filter} GROUP BY g ORDER BY g"
        ),
        3 => format!("SELECT last_value({column} ORDER BY k), max(k) FROM m {filter} GROUP BY g ORDER BY g LIMIT 2"),
        4 => format!("SELECT first_value({column} ORDER BY g {way}, k {way}) FROM m {filter}"),
        // These want more than one end, or an order that is not the key's.
        5 => format!(
            "SELECT g, first_value({column} ORDER BY k), max(k), count(*) FROM m {filter} GROUP BY g ORDER BY g"
        ),
        _ => format!("SELECT DISTINCT ON (g) * FROM m {filter} ORDER BY g, f {way}, k"),
    }
}

#[test]
fn statistics_and_datafusion_agree() {
    let (mut answered, mut sought) = (0, 0);
    for seed in 0..4 {
        let mut random = Random(seed);
        let database = database();
        let session = database.session();
        let with = if seed % 3 == 1 { " WITH (ttl = '1 hour', ttl_column = at)" } else { "" };
        done(
            &session,
            &format!(
                "CREATE TABLE m (g INT, k BIGINT, i BIGINT, s SMALLINT, f DOUBLE PRECISION, r REAL, d NUMERIC(12,2), t TEXT, \
                 at TIMESTAMPTZ, pad TEXT, PRIMARY KEY (g, k)){with}"
            ),
        );
        let steps = if seed % 2 == 0 { 4_000 } else { 1_500 };
        for series in 0..5 {
            insert(&session, series, 0, steps, seed);
        }
        database.engine().compact(None).unwrap();
        let plain = database.session();
        done(&plain, "SET enable_slice_aggregate = off");
        done(&plain, "SET enable_group_seek = off");
        for _ in 0..6 {
            change(&database, &session, &mut random, steps);
            for _ in 0..12 {
                let sql = query(&mut random, steps);
                let (ours, theirs) = (asked(&session, &sql), asked(&plain, &sql));
                assert_eq!(ours, theirs, "seed {seed}: {sql}\n{}", plan(&session, &sql));
                answered += u32::from(plan(&session, &sql).contains("OmenAggregate"));
                sought += u32::from(plan(&session, &sql).contains("first_of="));
                let plain = plan(&plain, &sql);
                assert!(!plain.contains("OmenAggregate") && !plain.contains("first_of="), "{sql}");
            }
        }
    }
    assert!(answered > 50 && sought > 20, "of 288, the engine added up {answered} and sought the rows of {sought}");
}

fn metrics() -> (Database, Session) {
    let database = database();
    let session = database.session();
    done(&session, "CREATE TABLE m (run BIGINT, step BIGINT, loss DOUBLE PRECISION, n INT, PRIMARY KEY (run, step))");
    let insert =
        "INSERT INTO m SELECT r, s, (s % 100) / 4.0, s FROM generate_series(1, 10) AS r, generate_series(1, 5000) AS s";
    done(&session, insert);
    database.engine().compact(None).unwrap();
    (database, session)
}

#[test]
fn explain_shows_what_the_engine_adds_up_and_analyze_counts() {
    let (_database, session) = metrics();
    let sql = "SELECT run, count(*), avg(loss), min(loss), max(n) FROM m GROUP BY run ORDER BY run";
    let shown = plan(&session, sql);
    let words = "OmenAggregate: table=m, group=[run], aggregates=[count(*), count(loss), sum(loss), min(loss), max(n)]";
    assert!(shown.contains(words) && !shown.contains("OmenScan") && !shown.contains("SortExec"), "{shown}");
    let analyzed = asked(&session, &format!("EXPLAIN ANALYZE {sql}")).unwrap().1.join("\n");
    let count = |name: &str| {
        let rest = analyzed.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("{name}\n{analyzed}"));
        rest.split([',', ']']).next().unwrap().trim().to_owned()
    };
    assert_ne!(count("slices_answered"), "0", "{analyzed}");
    assert_ne!(count("rows_read"), "50.00 K", "{analyzed}");
    let whole = plan(&session, "SELECT count(*), sum(n) FROM m");
    assert!(whole.contains("group=[], aggregates=[count(*), sum(n)]"), "{whole}");
    let ranged = plan(&session, "SELECT max(loss) FROM m WHERE run = 3 AND step > 100");
    assert!(ranged.contains("OmenAggregate") && ranged.contains("key=[range run=3, 100<step]"), "{ranged}");
    let distinct = plan(&session, "SELECT DISTINCT run FROM m");
    assert!(distinct.contains("group=[run], aggregates=[]"), "{distinct}");
}

#[test]
fn first_and_last_rows_of_groups_are_sought() {
    let (_database, session) = metrics();
    let sql = "SELECT DISTINCT ON (run) * FROM m ORDER BY run, step DESC";
    let shown = plan(&session, sql);
    assert!(shown.contains("reverse, first_of=[run]"), "{shown}");
    let analyzed = asked(&session, &format!("EXPLAIN ANALYZE {sql}")).unwrap().1.join("\n");
    let scan = analyzed.lines().find(|line| line.contains("OmenScan")).unwrap();
    assert!(scan.contains("output_rows=1") && scan.contains("slices_read=1"), "{analyzed}");
    let (_, rows) = asked(&session, sql).unwrap();
    assert_eq!((rows.len(), rows.last().map(String::as_str)), (10, Some("|10|5000|0|5000")), "{rows:?}");
    for (sql, way) in [
        ("SELECT run, last_value(loss ORDER BY step) FROM m GROUP BY run", "reverse, first_of=[run]"),
        ("SELECT run, first_value(loss ORDER BY step), min(step) FROM m GROUP BY run", "loss], first_of=[run]"),
        ("SELECT run, first_value(loss ORDER BY step DESC), max(step) FROM m GROUP BY run", "reverse, first_of=[run]"),
        ("SELECT last_value(n ORDER BY step) FROM m WHERE run = 4", "reverse, first_of=[run]"),
        ("SELECT last_value(n ORDER BY run, step) FROM m", "reverse, first_of=[]"),
        ("SELECT run, last_value(n ORDER BY step) FROM m WHERE loss > 3 GROUP BY run", "reverse, first_of=[run]"),
    ] {
        let shown = plan(&session, sql);
        assert!(shown.contains(way), "{sql}\n{shown}");
    }
    for sql in [
        "SELECT DISTINCT ON (run) * FROM m ORDER BY run, loss DESC",
        "SELECT DISTINCT ON (step) * FROM m ORDER BY step, run DESC",
        "SELECT run, last_value(n ORDER BY step), first_value(n ORDER BY step) FROM m GROUP BY run",
        "SELECT run, last_value(n ORDER BY step), min(step) FROM m GROUP BY run",
        "SELECT run, last_value(n ORDER BY step), count(*) FROM m GROUP BY run",
        "SELECT run, last_value(n ORDER BY step) FILTER (WHERE n > 4) FROM m GROUP BY run",
        "SELECT run, last_value(n) IGNORE NULLS FROM m GROUP BY run",
        "SELECT run, last_value(n ORDER BY step) FROM m WHERE n % 2 = 0 GROUP BY run",
        "SELECT run, step, last_value(n ORDER BY step) FROM m GROUP BY run, step",
    ] {
        let shown = plan(&session, sql);
        assert!(!shown.contains("first_of="), "{sql}\n{shown}");
    }
}

#[test]
fn what_statistics_cannot_say_stays_with_datafusion() {
    let (_database, session) = metrics();
    for sql in [
        "SELECT count(DISTINCT n) FROM m",
        "SELECT sum(n + 1) FROM m",
        "SELECT stddev(loss) FROM m",
        "SELECT step, count(*) FROM m GROUP BY step",
        "SELECT run, step, count(*) FROM m GROUP BY run, step",
        "SELECT run % 2, count(*) FROM m GROUP BY run % 2",
        "SELECT run, count(*) FROM m GROUP BY ROLLUP (run)",
        "SELECT sum(n) FILTER (WHERE loss > 3) FROM m",
        "SELECT sum(n) FROM m WHERE n % 2 = 0",
    ] {
        let shown = plan(&session, sql);
        assert!(!shown.contains("OmenAggregate"), "{sql}\n{shown}");
    }
}

#[test]
fn grouping_by_a_prefix_of_the_key_streams() {
    let (_database, session) = metrics();
    for sql in [
        "SELECT run, stddev(loss) FROM m GROUP BY run",
        "SELECT run, step, stddev(loss) FROM m GROUP BY run, step",
        "SELECT run, stddev(loss) FROM m WHERE loss > 2 GROUP BY run",
        "SELECT step, stddev(loss) FROM m WHERE run = 4 GROUP BY step",
    ] {
        let shown = plan(&session, sql);
        assert!(shown.contains("ordering_mode=Sorted"), "{sql}\n{shown}");
    }
    let (_, rows) = asked(&session, "SELECT run, var_pop(n), count(*) FROM m GROUP BY run ORDER BY run").unwrap();
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| row.ends_with("|2083333.25|5000")), "{rows:?}");
}

#[test]
fn nan_is_the_greatest_value_in_every_way_of_adding_up() {
    let database = database();
    let s = database.session();
    done(&s, "CREATE TABLE t (g INT, k INT, f DOUBLE PRECISION, r REAL, PRIMARY KEY (g, k))");
    done(
        &s,
        "INSERT INTO t SELECT g, k, CASE WHEN g = 3 OR (g = 2 AND k % 7 = 0) THEN 'NaN'::float8 ELSE k END, \
         CASE WHEN g = 3 OR (g = 2 AND k % 7 = 0) THEN 'NaN'::real ELSE k END \
         FROM generate_series(1, 3) AS g, generate_series(1, 3000) AS k",
    );
    let expected = ["|1|1|3000|1|3000", "|2|1|NaN|1|NaN", "|3|NaN|NaN|NaN|NaN"];
    for compacted in [false, true] {
        if compacted {
            database.engine().compact(None).unwrap();
        }
        for on in ["on", "off"] {
            done(&s, &format!("SET enable_slice_aggregate = {on}"));
            let sql = "SELECT g, min(f), max(f), min(r), max(r) FROM t GROUP BY g ORDER BY g";
            assert_eq!(asked(&s, sql).unwrap().1, expected, "{on}");
            let sql = "SELECT min(f), max(f), sum(f) FROM t WHERE g < 3";
            assert_eq!(asked(&s, sql).unwrap().1, ["|1|NaN|NaN"], "{on}");
        }
    }
}
