/*!
The bench runner as people run it: what is printed where, every exit code, and the fields of a result.

Durations are tiny, and no figure is ever held against a speed.
*/
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A directory that a database `db` is made in.
struct Place {
    dir: tempfile::TempDir,
}

/// How a command ended.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omendb-bench"));
        command.current_dir(self.dir.path()).args(arguments).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", self.dir.path()).env_remove("NO_COLOR");
        ["OMENDB_DB", "OMENDB_SYNC", "OMENDB_CACHE", "OMENDB_MEMORY"].iter().for_each(|name| {
            command.env_remove(name);
        });
        command
    }

    fn bench(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    /// A quick run on `db`.
    fn quick(&self, arguments: &[&str]) -> Ran {
        let quick = ["--db", "db", "--duration", "400ms", "--warmup", "100ms"];
        self.bench(&[&["run"], arguments, &quick].concat())
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    #[track_caller]
    fn ends(self, code: i32, says: &[&str]) -> Ran {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        for text in says {
            assert!(self.err.contains(text), "{text:?} is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

/// How often an operation was done.
fn count(result: &Value, name: &str) -> u64 {
    let operations = result["operations"].as_array().unwrap();
    operations.iter().find(|operation| operation["name"] == name).unwrap()["count"].as_u64().unwrap()
}

#[test]
fn workloads_are_listed_on_stdout() {
    let listed = Place::new().bench(&["list"]).ends(0, &[]).out;
    for name in ["metrics", "ycsb-a", "ycsb-f", "durable-commit", "open-close", "tpch", "devops", "sql"] {
        assert!(listed.lines().any(|line| line.split_whitespace().next() == Some(name)), "{listed}");
    }
}

#[test]
fn metrics_run_in_a_closed_loop_and_what_came_of_it_is_printed_and_kept() {
    let place = Place::new();
    let run = place.quick(&["metrics", "--rows", "4000", "--clients", "2", "--seed", "7", "-o", "a.json"]);
    let run = run.ends(0, &["loading 4,000 rows", "checking what is there"]);
    for text in ["metrics: 2 clients, closed loop, sync always", "p99.99", "ingest", "downsample", "checked: all"] {
        assert!(run.out.contains(text), "{text:?} is not in: {}", run.out);
    }
    let result = place.json("a.json");
    assert_eq!(result["schema"], "omendb-bench/1");
    assert_eq!(result["workload"], "metrics");
    assert_eq!(result["failure"], Value::Null);
    assert_eq!((result["settings"]["seed"].as_u64(), result["settings"]["clients"].as_u64()), (Some(7), Some(2)));
    assert_eq!((&result["settings"]["sync"], &result["settings"]["rate"]), (&Value::from("always"), &Value::Null));
    assert!(result["environment"]["cores"].as_u64().unwrap() > 0);
    assert!(result["environment"]["filesystem"].as_str().unwrap().contains(" on "));
    assert!(!result["git_revision"].as_str().unwrap().is_empty());
    let ingested = &result["operations"][0];
    assert_eq!(ingested["rows"].as_u64(), Some(count(&result, "ingest") * 100));
    assert_eq!(ingested["response"], Value::Null);
    let samples = result["samples"].as_array().unwrap();
    let sampled: u64 = samples.iter().map(|sample| sample["operations"][0]["count"].as_u64().unwrap()).sum();
    assert_eq!(sampled, count(&result, "ingest"));
    let counted = ingested["service"]["counts"].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap());
    assert_eq!(counted.sum::<u64>(), count(&result, "ingest"));
    let engine = &result["engine"];
    // On a machine that is slow enough no commit is measured.
    assert!(engine["committed_bytes"] == 0 || engine["write_amplification"].as_f64().unwrap() > 0.0);
    assert!(result["indexes"].as_array().unwrap().iter().any(|index| index["table"] == "bench_metrics"));
}

#[test]
fn a_second_run_begins_where_the_first_began() {
    let place = Place::new();
    for _ in 0..2 {
        let run = place.quick(&["metrics", "--rows", "2000", "-o", "-", "--quiet"]).ends(0, &[]);
        let result: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(result["parameters"]["rows at the start"], 2000);
        let rows = 2000 + 100 * count(&result, "ingest");
        // Those of the warm-up are not counted, and are there.
        let checked: String = result["verified"].as_str().unwrap().chars().filter(char::is_ascii_digit).collect();
        assert!(checked.parse::<u64>().unwrap() >= rows);
    }
}

#[test]
fn at_a_rate_both_times_are_kept() {
    let place = Place::new();
    let run = place.quick(&["metrics", "--rows", "2000", "--rate", "200", "-o", "a.json"]).ends(0, &[]);
    assert!(run.out.contains("200 operations due a second") && run.out.contains("… from when due"), "{}", run.out);
    let result = place.json("a.json");
    assert_eq!(result["settings"]["rate"].as_f64(), Some(200.0));
    for operation in result["operations"].as_array().unwrap().iter().filter(|operation| operation["count"] != 0) {
        let (service, response) = (&operation["service"], &operation["response"]);
        assert!(response["max"].as_u64() >= service["p50"].as_u64(), "{operation}");
    }
}

#[test]
fn durable_commits_are_all_there_after_reopening_and_must_be_durable() {
    let place = Place::new();
    let run = place.quick(&["durable-commit", "--clients", "4"]).ends(0, &[]);
    assert!(run.out.contains("after closing and opening again"), "{}", run.out);
    place.quick(&["durable-commit", "--sync", "none"]).ends(2, &["--sync always"]);
}

#[test]
fn a_table_that_somebody_else_made_is_left_alone() {
    let place = Place::new();
    let database = omendb_sql::Database::open(omendb_sql::OpenOptions::dir(place.path("db"))).unwrap();
    database.session().execute("CREATE TABLE bench_metrics (a BIGINT)").unwrap();
    database.close().unwrap();
    place.quick(&["metrics"]).ends(1, &["\"bench_metrics\" that omendb-bench has not made", "hint"]);
    let database = omendb_sql::Database::open(omendb_sql::OpenOptions::dir(place.path("db"))).unwrap();
    let session = database.session();
    session.execute("INSERT INTO bench_metrics VALUES (1)").unwrap();
    session.execute("CREATE TABLE orders (a BIGINT)").unwrap();
    drop(session);
    database.close().unwrap();
    // The tables before it are not made either.
    place.quick(&["tpch"]).ends(1, &["\"orders\" that omendb-bench has not made"]);
    let database = omendb_sql::Database::open(omendb_sql::OpenOptions::dir(place.path("db"))).unwrap();
    assert!(database.session().execute("SELECT * FROM region").is_err());
}

#[test]
fn the_six_of_ycsb_run_and_lose_no_update() {
    let place = Place::new();
    for (workload, operations) in [
        ("ycsb-a", ["read", "update"]),
        ("ycsb-b", ["read", "update"]),
        ("ycsb-c", ["read", "read"]),
        ("ycsb-d", ["read", "insert"]),
        ("ycsb-e", ["scan", "insert"]),
        ("ycsb-f", ["read", "read-modify-write"]),
    ] {
        let run = place.quick(&[workload, "--rows", "500", "--clients", "3", "--narrow", "-o", "-"]).ends(0, &[]);
        let result: Value = serde_json::from_str(&run.out).unwrap();
        let names: Vec<&str> = operations.to_vec();
        assert!(result["operations"].as_array().unwrap().iter().all(|o| names.contains(&o["name"].as_str().unwrap())));
        assert!(result["verified"].as_str().unwrap().starts_with("all "), "{workload}");
    }
    let run = place.quick(&["ycsb-a", "--rows", "300", "--distribution", "uniform", "-o", "a.json"]).ends(0, &[]);
    assert!(run.out.contains("update"));
    assert_eq!(place.json("a.json")["parameters"]["distribution"], "uniform");
}

#[test]
fn a_database_is_opened_looked_at_and_closed_again() {
    let place = Place::new();
    let run = place.quick(&["open-close", "--rows", "2000"]).ends(0, &[]);
    assert!(run.out.contains("first lookup") && run.out.contains("2,000 rows are there"), "{}", run.out);
    place.quick(&["open-close", "--clients", "2"]).ends(2, &["one client"]);
}

#[test]
fn a_script_is_timed_statement_by_statement() {
    let place = Place::new();
    let database = omendb_sql::Database::open(omendb_sql::OpenOptions::dir(place.path("db"))).unwrap();
    let session = database.session();
    session.execute("CREATE TABLE t (a BIGINT PRIMARY KEY)").unwrap();
    session.execute("INSERT INTO t VALUES (1), (2), (3)").unwrap();
    drop(session);
    database.close().unwrap();
    std::fs::write(place.path("q.sql"), "SELECT a FROM t WHERE a = 2;\n-- all\nSELECT count(*) FROM t").unwrap();
    let run = place.quick(&["sql", "q.sql", "--clients", "2", "-o", "a.json"]).ends(0, &[]);
    assert!(run.out.contains("1: SELECT a FROM t WHERE a = 2") && run.out.contains("as many rows as the first time"));
    let result = place.json("a.json");
    assert_eq!(result["operations"][0]["rows"], result["operations"][0]["count"]);
    std::fs::write(place.path("bad.sql"), "SELECT b FROM t").unwrap();
    place.quick(&["sql", "bad.sql", "-o", "bad.json"]).ends(1, &["\"b\"", "ended with an error"]);
    assert!(place.json("bad.json")["failure"].as_str().unwrap().contains("42703"));
    place.quick(&["sql"]).ends(2, &["which script?"]);
    place.quick(&["metrics", "q.sql"]).ends(2, &["workload sql takes FILE"]);
}

#[test]
fn all_queries_of_tpch_run_and_their_answers_are_those_of_the_same_rows_in_memory() {
    let place = Place::new();
    let run = place.quick(&["tpch", "--scale", "0.01", "--clients", "2", "-o", "a.json"]);
    let run = run.ends(0, &["loaded 60,175 rows of lineitem", "asking the reference"]);
    assert!(run.out.contains("checked: all answers are those of the same rows in memory"), "{}", run.out);
    let result = place.json("a.json");
    assert_eq!(result["parameters"], json!({"scale": 0.01, "rows of all tables": 86_805}));
    let names: Vec<String> = (1..=22).map(|number| format!("q{number:02}")).collect();
    let operations = result["operations"].as_array().unwrap();
    assert_eq!(operations.iter().map(|o| o["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    assert!(operations.iter().all(|o| o["errors"] == 0));
    place.quick(&["tpch", "--rows", "5"]).ends(2, &["--scale 0.1"]);
    place.quick(&["tpch", "--scale", "0"]).ends(2, &["0.01, or a number from 0.03 to 1000"]);
    place.quick(&["metrics", "--scale", "1"]).ends(2, &["workload tpch takes --scale"]);
}

#[test]
fn all_of_tsbs_devops_queries_run_and_are_computed_anew() {
    let place = Place::new();
    let run = place.quick(&["devops", "--rows", "1", "--clients", "2", "--seed", "3", "-o", "a.json"]);
    let run = run.ends(0, &["loading 69,120 rows of 8 hosts", "asking each query once"]);
    assert!(run.out.contains("checked: every answer against one computed from the hosts' values"), "{}", run.out);
    let result = place.json("a.json");
    assert_eq!(result["parameters"], json!({"hosts": 8, "rows": 69_120, "metrics": 10}));
    let operations = result["operations"].as_array().unwrap();
    assert_eq!((operations.len(), &operations[13]["name"]), (15, &json!("lastpoint")));
    assert!(operations.iter().all(|operation| operation["errors"] == 0));
}

/// A place in a directory that is on a device, as far as one can be named.
fn on_a_device() -> Place {
    Place { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
}

#[test]
fn cold_runs_say_what_every_operation_has_read_from_the_device() {
    let place = on_a_device();
    for (workload, operations) in [
        (&["metrics", "--rows", "4000"][..], &["get", "last", "range", "compare", "downsample"][..]),
        (&["ycsb-c", "--rows", "500"], &["read"]),
        (&["tpch", "--scale", "0.01"], &[]),
        (&["devops", "--rows", "1"], &[]),
    ] {
        let run = place.quick(&[workload, &["--cold", "-o", "a.json"]].concat());
        if run.code == 1 && run.err.contains("keeps files in memory") {
            return;
        }
        let run = run.ends(0, &[]);
        assert!(run.out.contains("cold: by the kernel's counts") && run.out.contains("read each"), "{}", run.out);
        let result = place.json("a.json");
        assert_eq!(result["settings"]["cold"], true);
        let found = result["operations"].as_array().unwrap();
        let names: Vec<&str> = found.iter().map(|operation| operation["name"].as_str().unwrap()).collect();
        assert!(operations.is_empty() || names == operations, "{names:?}");
        for operation in found.iter().filter(|operation| operation["count"] != 0) {
            let (reads, count) = (&operation["device_reads"], operation["count"].as_u64().unwrap());
            let of = |name: &str| reads[name].as_u64().unwrap();
            assert!(of("bytes_min") >= 512 && of("bytes_max") >= of("bytes_min"), "{operation}");
            assert!((of("bytes_min") * count..=of("bytes_max") * count).contains(&of("bytes")), "{operation}");
        }
        let samples = result["samples"].as_array().unwrap().iter();
        let sampled = samples.flat_map(|sample| sample["operations"].as_array().unwrap());
        let sampled: u64 = sampled.filter_map(|operation| operation["device_bytes"].as_u64()).sum();
        assert_eq!(sampled, found.iter().filter_map(|o| o["device_reads"]["bytes"].as_u64()).sum::<u64>());
    }
    place.bench(&["report", "a.json", "-o", "r.html"]).ends(0, &[]);
    assert!(std::fs::read_to_string(place.path("r.html")).unwrap().contains("read from the device, each"));
    // A warm one says nothing of it.
    place.quick(&["ycsb-c", "--rows", "500", "-o", "a.json"]).ends(0, &[]);
    let result = place.json("a.json");
    assert_eq!((&result["settings"]["cold"], &result["operations"][0]["device_reads"]), (&json!(false), &Value::Null));
}

#[cfg(target_os = "linux")]
#[test]
fn what_lies_in_memory_is_not_run_cold() {
    let place = Place { dir: tempfile::tempdir_in("/dev/shm").unwrap() };
    let run = place.quick(&["ycsb-c", "--rows", "500", "--cold", "-o", "a.json"]);
    run.ends(1, &["this is no cold run", "in memory", "tmpfs"]);
    assert!(place.json("a.json")["failure"].as_str().unwrap().starts_with("this is no cold run"));
    place
        .quick(&["ycsb-a", "--cold"])
        .ends(2, &["ycsb-a is not run cold: it writes", "metrics, ycsb-c, tpch, devops are"]);
    place.quick(&["learned-index", "--cold"]).ends(2, &["it works in memory"]);
    place.quick(&["ycsb-c", "--cold", "--clients", "2"]).ends(2, &["a cold run has one client"]);
}

/// A result whose one operation takes `nanos` in each of forty seconds, but for a little.
fn result(place: &Place, name: &str, nanos: u64) {
    let sample = |at: u64| {
        // Neighbours differ by up to a hundredth, in no order.
        let p = nanos + nanos * (at * 7 % 11) / 1000;
        let times = json!({"p50": p, "p90": p * 2, "p99": p * 4, "p999": p * 9, "max": p * 10});
        let count = 200_000_000_000 / p;
        json!({"at_seconds": at, "seconds": 1.0, "operations": [{"count": count, "rows": count, "service": times}]})
    };
    let result = json!({
        "schema": "omendb-bench/1",
        "workload": "metrics",
        "settings": {"interval_seconds": 1.0},
        "operations": [{"name": "get"}],
        "samples": (0..40).map(sample).collect::<Vec<_>>(),
    });
    std::fs::write(place.path(name), result.to_string()).unwrap();
}

#[test]
fn equal_results_do_not_differ_and_five_in_a_hundred_slower_is_a_regression() {
    let place = Place::new();
    result(&place, "a.json", 2000);
    result(&place, "same.json", 2000);
    result(&place, "slow.json", 2100);
    let same = place.bench(&["compare", "a.json", "same.json"]).ends(0, &["one run of each"]);
    assert!(same.out.trim_end().ends_with("no difference") && !same.out.contains("worse"), "{}", same.out);
    let slow = place.bench(&["compare", "a.json", "slow.json"]).ends(5, &[]);
    assert!(slow.out.contains("regression: operations/s, get p50"), "{}", slow.out);
    let fast = place.bench(&["compare", "slow.json", "a.json", "slow.json", "same.json"]).ends(0, &[]);
    assert!(fast.out.contains("better: operations/s, get p50"), "{}", fast.out);
    place.bench(&["compare", "--threshold", "10", "a.json", "slow.json"]).ends(0, &[]);
    let json = place.bench(&["compare", "--json", "a.json", "slow.json"]).ends(5, &[]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["measures"][1]["measure"], "get p50");
    assert_eq!(json["measures"][1]["verdict"], "worse");
    assert!((json["measures"][1]["ratio"].as_f64().unwrap() - 1.05).abs() < 0.01);
}

#[test]
fn what_is_no_valid_result_is_not_compared() {
    let place = Place::new();
    result(&place, "a.json", 2000);
    std::fs::write(place.path("x.json"), "{}").unwrap();
    place.bench(&["compare", "a.json", "x.json"]).ends(1, &["\"x.json\"", "schema"]);
    place.bench(&["compare", "a.json", "none.json"]).ends(1, &["\"none.json\""]);
    place.bench(&["compare", "a.json"]).ends(2, &[]);
    place.bench(&["compare", "a.json", "a.json", "a.json"]).ends(2, &["pairs"]);
    let mut failed = place.json("a.json");
    failed["failure"] = "wrong result: no such row".into();
    std::fs::write(place.path("failed.json"), failed.to_string()).unwrap();
    place.bench(&["compare", "a.json", "failed.json"]).ends(1, &["the run has failed: wrong result"]);
}

#[test]
fn a_report_is_one_page_with_the_results_figures() {
    let place = Place::new();
    place.quick(&["metrics", "--rows", "2000", "-o", "a.json"]).ends(0, &[]);
    place.bench(&["report", "a.json", "-o", "r.html"]).ends(0, &[]);
    let page = std::fs::read_to_string(place.path("r.html")).unwrap();
    for text in ["<!doctype html>", "downsample", "<svg", "bench_metrics", "closed loop", "p99.99"] {
        assert!(page.contains(text), "{text}");
    }
    for outside in ["http://", "https://", "src=", "@import", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    place.bench(&["report", "a.json", "a.json", "-o", "r.html"]).ends(0, &[]);
    place.bench(&["report", "-o", "r.html"]).ends(2, &[]);
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    let place = Place::new();
    place
        .bench(&["run", "metric", "--db", "db"])
        .ends(2, &["there is no workload \"metric\"", "did you mean \"metrics\"?"]);
    place.bench(&["run", "metrics"]).ends(2, &["--db"]);
    place.bench(&["run", "metrics", "--db", "db", "--duration", "soon"]).ends(2, &["500ms"]);
    place.bench(&["run", "metrics", "--db", "db", "--sync", "sometimes"]).ends(2, &["sync"]);
    place.bench(&["frobnicate"]).ends(2, &["frobnicate"]);
    assert!(!place.path("db").exists());
}

#[test]
fn a_database_that_cannot_be_opened_is_told_apart() {
    let place = Place::new();
    std::fs::create_dir(place.path("db")).unwrap();
    std::fs::write(place.path("db/precious.txt"), "mine").unwrap();
    place.quick(&["metrics"]).ends(4, &[]);
    assert_eq!(std::fs::read_dir(place.path("db")).unwrap().count(), 1);
}

#[test]
fn help_version_completions_and_man_go_to_stdout() {
    let place = Place::new();
    let run = |arguments: &[&str]| place.bench(arguments).ends(0, &[]).out;
    assert!(run(&["--help"]).starts_with("Examples:"));
    assert!(!run(&["-h"]).contains("Examples:"));
    let version = run(&["--version"]);
    assert!(version.starts_with("omendb-bench ") && version.contains("git") && version.contains("format"), "{version}");
    assert!(run(&["completions", "bash"]).contains("omendb-bench"));
    assert!(run(&["man"]).contains(".TH omendb-bench"));
}

#[cfg(unix)]
#[test]
fn an_interruption_ends_the_run_without_a_result() {
    let place = Place::new();
    let arguments = ["run", "metrics", "--db", "db", "--rows", "2000", "--duration", "1h", "-o", "a.json"];
    let mut command = place.command(&arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("loading")));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!place.path("a.json").exists());
}
