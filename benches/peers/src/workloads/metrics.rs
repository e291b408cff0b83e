/*!
The metrics of training runs, in SQL: a table of (run, step) with a time and three values is loaded from a file in order of time, and
asked what people ask of such a table. Every statement is the same text for all systems, none is prepared, and each is timed until its
whole answer is there.

*Warm* is the median over a query's statements, each for another run or step, or over rounds of the one that it has, after a first
round that does not count. *Cold* is the median of a few first statements, each in a process that was just started, asked `SELECT 1`,
and has nothing of the files in memory, and the kernel neither.

The answers go to the parent, which holds them against the other systems'.
*/

use super::{Report, Task};
use crate::campaign::{Figure, figure};
use crate::process::{disk_bytes, forget_pages, keep_to};
use crate::rows::mix;
use crate::sql::{Answer, Format, Loaded, Rows, Sql, SqlSetup};
use crate::systems::{Result, System, open_sql};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Figures of the table.
pub(crate) const FIGURES: &[Figure] = &[
    figure("csv_load_s", "load from CSV, s"),
    figure("csv_rows_per_s", "… rows/s"),
    figure("parquet_load_s", "load from Parquet, s"),
    figure("parquet_rows_per_s", "… rows/s"),
    figure("tidy_s", "statistics and checkpoint after the load from CSV, s"),
    figure("disk_mib", "on disk, all files, MiB"),
    figure("table_mib", "on disk, the table with its key, MiB"),
    figure("group_warm_ms", "GROUP BY run_id, four aggregates, ms, warm"),
    figure("group_cold_ms", "… cold"),
    figure("whole_warm_ms", "the same of the whole table, ms, warm"),
    figure("whole_cold_ms", "… cold"),
    figure("filtered_warm_ms", "count, avg WHERE acc > 0.9, ms, warm"),
    figure("filtered_cold_ms", "… cold"),
    figure("selective_warm_ms", "count, avg, min, max WHERE loss > 6, ms, warm"),
    figure("selective_cold_ms", "… cold"),
    figure("minutes_warm_ms", "all rows by the minute: count, avg, max, ms, warm"),
    figure("minutes_cold_ms", "… cold"),
    figure("last_warm_ms", "last values of a run, ms, warm"),
    figure("last_cold_ms", "… cold"),
    figure("lasts_warm_ms", "last values of all runs, ms, warm"),
    figure("lasts_cold_ms", "… cold"),
    figure("range_warm_ms", "1,000 steps of a run, ms, warm"),
    figure("range_cold_ms", "… cold"),
    figure("compare_warm_ms", "two runs joined on step: count, avg, max of the difference, ms, warm"),
    figure("compare_cold_ms", "… cold"),
    figure("sampled_warm_ms", "a run by the minute: count, avg, min, max, ms, warm"),
    figure("sampled_cold_ms", "… cold"),
    figure("several_warm_ms", "eight runs at one step, ms, warm"),
    figure("several_cold_ms", "… cold"),
    figure("point_warm_ms", "a row by its key, ms, warm"),
    figure("point_cold_ms", "… cold"),
];

/// Cold statements of a query.
const COLD: usize = 3;

/// Steps of a range.
const RANGE: u64 = 1_000;

/// What is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The table as files.
    pub(crate) csv: PathBuf,
    pub(crate) parquet: PathBuf,
    /// What the files hold.
    pub(crate) rows: u64,
    pub(crate) runs: u64,
    /// Threads of a statement.
    pub(crate) threads: usize,
    /// Bytes of memory for all.
    pub(crate) memory_bytes: usize,
    /// How often a statement is timed that is its query's only one.
    pub(crate) rounds: usize,
}

/// One kind of question, with the statements that ask it.
struct Query {
    name: &'static str,
    statements: Vec<String>,
    /// Rows of each answer, where the generator says how many they are.
    rows: Option<u64>,
}

/// All questions. Every run has `steps` steps at least.
fn queries(plan: &Plan) -> Vec<Query> {
    let steps = (plan.rows / plan.runs).max(1);
    let run = |number: u64| mix(number * 2) % plan.runs + 1;
    let step = |number: u64| mix(number * 2 + 1) % steps;
    let one = |name, rows, sql: &str| Query { name, statements: vec![sql.to_owned(); plan.rounds], rows };
    let many = |name, count, rows, sql: &dyn Fn(u64) -> String| Query {
        name,
        statements: (0..count).map(sql).collect(),
        rows,
    };
    let width = RANGE.min(steps);
    vec![
        one(
            "group",
            Some(plan.runs),
            "SELECT run_id, count(*) AS n, avg(loss) AS a, min(loss) AS lo, max(acc) AS hi FROM metrics \
             GROUP BY run_id ORDER BY run_id",
        ),
        one("whole", Some(1), "SELECT count(*) AS n, avg(loss) AS a, min(loss) AS lo, max(acc) AS hi FROM metrics"),
        one("filtered", Some(1), "SELECT count(*) AS n, avg(loss) AS a FROM metrics WHERE acc > 0.9"),
        one(
            "selective",
            Some(1),
            "SELECT count(*) AS n, avg(loss) AS a, min(lr) AS lo, max(ts) AS latest FROM metrics WHERE loss > 6",
        ),
        one(
            "minutes",
            None,
            "SELECT date_trunc('minute', ts) AS minute, count(*) AS n, avg(loss) AS a, max(acc) AS hi FROM metrics \
             GROUP BY date_trunc('minute', ts) ORDER BY minute",
        ),
        many("last", 200, Some(1), &|n| {
            format!("SELECT step, ts, loss, acc, lr FROM metrics WHERE run_id = {} ORDER BY step DESC LIMIT 1", run(n))
        }),
        one(
            "lasts",
            Some(plan.runs),
            "SELECT DISTINCT ON (run_id) run_id, step, ts, loss, acc FROM metrics ORDER BY run_id, step DESC",
        ),
        many("range", 50, Some(width), &|n| {
            let from = step(n).min(steps - width);
            let to = from + width;
            let run = run(n);
            format!(
                "SELECT step, loss, acc FROM metrics WHERE run_id = {run} AND step >= {from} AND step < {to} ORDER BY step"
            )
        }),
        many("compare", 50, Some(1), &|n| {
            let (a, b) = (run(n), run(n + 1_000));
            format!(
                "SELECT count(*) AS n, avg(a.loss - b.loss) AS mean, max(abs(a.loss - b.loss)) AS most FROM metrics a \
                 JOIN metrics b ON b.step = a.step WHERE a.run_id = {a} AND b.run_id = {b}"
            )
        }),
        many("sampled", 50, None, &|n| {
            format!(
                "SELECT date_trunc('minute', ts) AS minute, count(*) AS n, avg(loss) AS a, min(loss) AS lo, max(loss) AS hi \
                 FROM metrics WHERE run_id = {} GROUP BY date_trunc('minute', ts) ORDER BY minute",
                run(n)
            )
        }),
        many("several", 100, None, &|n| {
            let runs: Vec<String> = (0..8).map(|other| run(n * 8 + other).to_string()).collect();
            format!(
                "SELECT run_id, loss, acc FROM metrics WHERE run_id IN ({}) AND step = {} ORDER BY run_id",
                runs.join(", "),
                step(n)
            )
        }),
        many("point", 1_000, Some(1), &|n| {
            format!("SELECT loss, acc FROM metrics WHERE run_id = {} AND step = {}", run(n), step(n))
        }),
    ]
}

pub(super) fn metrics(task: &Task, plan: &Plan) -> Result<Report> {
    keep_to(plan.threads)?;
    let setup = |part: &str| SqlSetup {
        dir: task.setup.dir.join(part),
        threads: plan.threads,
        memory_bytes: plan.memory_bytes,
        cache_bytes: task.setup.cache_bytes,
        tools: task.setup.tools.clone(),
    };
    let mut report = Report::default();
    let parquet = setup("parquet");
    {
        let mut sql = open_sql(task.system, &parquet)?;
        load(sql.as_mut(), plan, Format::Parquet, &mut report)?;
        sql.stop()?;
    }
    std::fs::remove_dir_all(&parquet.dir)?;
    let csv = setup("csv");
    let mut sql = open_sql(task.system, &csv)?;
    let sql = sql.as_mut();
    let loaded = load(sql, plan, Format::Csv, &mut report)?.ok_or("it reads no CSV")?;
    report.set("tidy_s", loaded.tidy.as_secs_f64());
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.set("table_mib", mib(sql.table_bytes()?));
    report.note = sql.note()?;
    sql.stop()?;
    report.set("disk_mib", mib(disk_bytes(&csv.dir)?));
    let queries = queries(plan);
    for query in &queries {
        let cold = cold(sql, query, &csv.dir);
        note(sql, query, "cold", cold, &mut report)?;
    }
    sql.stop()?;
    sql.start()?;
    for query in &queries {
        let warm = warm(sql, query).map(|(took, answers)| {
            report.answers.insert(query.name.to_owned(), answers);
            took
        });
        note(sql, query, "warm", warm, &mut report)?;
    }
    sql.stop()?;
    Ok(report)
}

/// Loads a file that lies in the kernel's memory, and counts.
fn load(sql: &mut dyn Sql, plan: &Plan, format: Format, report: &mut Report) -> Result<Option<Loaded>> {
    let (name, file) = match format {
        Format::Csv => ("csv", &plan.csv),
        Format::Parquet => ("parquet", &plan.parquet),
    };
    std::io::copy(&mut std::fs::File::open(file)?, &mut std::io::sink())?;
    let Some(loaded) = sql.load(file, format)? else { return Ok(None) };
    report.set(&format!("{name}_load_s"), loaded.load.as_secs_f64());
    report.set(&format!("{name}_rows_per_s"), plan.rows as f64 / loaded.load.as_secs_f64());
    let count = sql.ask("SELECT count(*) AS n FROM metrics")?;
    match count.rows.as_slice() {
        [row] if *row == [plan.rows.to_string()] => Ok(Some(loaded)),
        other => Err(format!("{other:?} rows are there, {} were loaded from {}", plan.rows, file.display()).into()),
    }
}

/// Notes a query's median, or its failure, after which the system is begun anew.
fn note(sql: &mut dyn Sql, query: &Query, state: &str, took: Result<Vec<Duration>>, report: &mut Report) -> Result<()> {
    match took {
        Ok(mut took) => {
            took.sort_unstable();
            let median = took.get(took.len() / 2).ok_or("no statement")?;
            report.set(&format!("{}_{state}_ms", query.name), median.as_secs_f64() * 1e3);
        }
        Err(error) => {
            let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            report.failures.push(format!("{}, {state}: {error}", query.name));
            // It may have ended with the error.
            let _ = sql.stop();
            sql.start()?;
        }
    }
    Ok(())
}

/// Asks, and counts the rows of the answer.
fn ask(sql: &mut dyn Sql, query: &Query, statement: &str) -> Result<Answer> {
    let answer = sql.ask(statement).map_err(|error| format!("{statement}: {error}"))?;
    match query.rows {
        Some(rows) if rows != answer.rows.len() as u64 => {
            Err(format!("{statement}: {} rows instead of {rows}", answer.rows.len()).into())
        }
        _ => Ok(answer),
    }
}

fn cold(sql: &mut dyn Sql, query: &Query, dir: &Path) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for statement in query.statements.iter().take(COLD) {
        sql.stop()?;
        forget_pages(dir)?;
        sql.start()?;
        sql.ask("SELECT 1 AS one")?;
        took.push(ask(sql, query, statement)?.took);
    }
    Ok(took)
}

/// Times of all statements, and their answers.
fn warm(sql: &mut dyn Sql, query: &Query) -> Result<(Vec<Duration>, Vec<Rows>)> {
    // A round that does not count; the one statement of a query needs no more than that once.
    let mut distinct = query.statements.clone();
    distinct.dedup();
    for statement in &distinct {
        ask(sql, query, statement)?;
    }
    let (mut took, mut answers) = (Vec::new(), Vec::new());
    for statement in &query.statements {
        let answer = ask(sql, query, statement)?;
        took.push(answer.took);
        answers.push(answer.rows);
    }
    Ok((took, answers))
}

/// Where two systems' answers differ, in words: the first difference of each query.
pub(crate) fn difference(
    plan: &Plan,
    one: (System, &BTreeMap<String, Vec<Rows>>),
    other: (System, &BTreeMap<String, Vec<Rows>>),
) -> Vec<String> {
    let of_query = |query: &Query| {
        // What has no answer has failed, which was said.
        let answers = one.1.get(query.name)?.iter().zip(other.1.get(query.name)?);
        let mut pairs = query.statements.iter().zip(answers);
        pairs.find_map(|(statement, (a, b))| {
            let told = crate::sql::difference((one.0, a), (other.0, b))?;
            Some(format!("{}: the answers differ: {statement}: {told}", query.name))
        })
    };
    queries(plan).iter().filter_map(of_query).collect()
}
