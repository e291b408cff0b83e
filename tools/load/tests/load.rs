/*!
The loader as people run it: every flag, every exit code, every line of the summary.

Databases are opened again through the library to see what a run has left.
*/
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use omendb_sql::engine::column::value_at;
use omendb_sql::engine::db::{Db, Options, ScanRequest};
use omendb_sql::engine::types::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory with files to load and a database `db` in it.
struct Place {
    dir: tempfile::TempDir,
}

/// How a run ended.
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

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Place {
        std::fs::write(self.path(name), bytes).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omendb-load"));
        command.current_dir(self.dir.path()).args(arguments).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", self.dir.path()).env_remove("NO_COLOR");
        command
    }

    /// Runs with `--db db --table t` before the arguments.
    fn load(&self, arguments: &[&str]) -> Ran {
        ran(self.command(&[&["--db", "db", "--table", "t"], arguments].concat()).output().unwrap())
    }

    fn load_stdin(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(&[&["--db", "db", "--table", "t"], arguments].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        ran(child.wait_with_output().unwrap())
    }

    /// The table's rows as stored, or `None` when there is no table.
    fn rows(&self) -> Option<Vec<Vec<Value>>> {
        if !self.path("db").exists() {
            return None;
        }
        let db = Db::open(Options { create: false, ..Options::dir(self.path("db")) }).unwrap();
        let snapshot = db.snapshot().unwrap();
        let table = snapshot.table("t").unwrap()?;
        let mut rows = Vec::new();
        let request = ScanRequest { projection: table.column_ids(), ..ScanRequest::default() };
        for batch in snapshot.scan(&table, request).unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().zip(&table.columns);
                rows.push(cells.map(|(array, column)| value_at(array, row, column.ty).unwrap()).collect());
            }
        }
        Some(rows)
    }
}

fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
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

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

const ZIPS: &str = "zip,n\n00501,1\n98101,2\n";

#[test]
fn a_new_table_is_made_from_a_file_and_its_schema_printed() {
    let place = Place::new();
    let ran = place.file("x.csv", ZIPS).load(&["--create", "--primary-key", "zip", "x.csv"]);
    let ran = ran.ends(
        0,
        &[
            "t: 2 rows read = 2 stored + 0 skipped + 0 rejected",
            "checked: the table has 2 rows",
            "1 file, 22 B",
            "rows/s",
            "bytes per row",
            "model segments",
        ],
    );
    assert_eq!(ran.out, "CREATE TABLE t (\n    zip TEXT,\n    n BIGINT,\n    PRIMARY KEY (zip)\n);\n");
}

#[test]
fn what_was_loaded_is_there_after_reopening() {
    let place = Place::new();
    place.file("x.csv", ZIPS).load(&["--create", "--primary-key", "zip", "x.csv"]).ends(0, &[]);
    assert_eq!(place.rows().unwrap(), [vec![text("00501"), Value::Int(1)], vec![text("98101"), Value::Int(2)]]);
    place
        .file("y.ndjson", "{\"n\":3,\"zip\":\"10001\"}\n")
        .load(&["y.ndjson"])
        .ends(0, &["checked: the table has 3 rows"]);
}

#[test]
fn several_files_and_globs_go_into_one_table() {
    let place = Place::new();
    place.file("1.csv", "a,b\n1,x\n").file("2.csv", "b,a\ny,2.5\n").file("3.ndjson", "{\"a\":3,\"c\":true}\n");
    let ran = place
        .load(&["--create", "*.csv", "3.ndjson"])
        .ends(0, &["3 rows read = 3 stored", "3 files", "the table has 3 rows"]);
    assert_eq!(ran.out, "CREATE TABLE t (\n    a DOUBLE PRECISION,\n    b TEXT,\n    c BOOLEAN\n);\n");
}

#[test]
fn stdin_is_a_file_like_others_but_cannot_be_resumed() {
    let place = Place::new();
    place.load_stdin(&["--create", "-"], ZIPS.as_bytes()).ends(0, &["2 rows read = 2 stored"]);
    place.load_stdin(&["--create", "--resume", "-"], ZIPS.as_bytes()).ends(2, &["stdin cannot be resumed"]);
    place.load(&["--create", "-", "-"]).ends(2, &["only once"]);
    let gz = place.file("g", gzip(ZIPS.as_bytes()));
    gz.load_stdin(&["--dry-run", "-"], &std::fs::read(place.path("g")).unwrap()).ends(0, &["2 rows read"]);
}

/// A gzip member with stored blocks: enough to be read back, and no library needed.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    let len = u16::try_from(bytes.len()).unwrap();
    out.extend(len.to_le_bytes());
    out.extend((!len).to_le_bytes());
    out.extend(bytes);
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    out.extend((!crc).to_le_bytes());
    out.extend(u32::from(len).to_le_bytes());
    out
}

#[test]
fn compressed_files_are_read_and_truncated_ones_refused() {
    let place = Place::new();
    let whole = gzip(ZIPS.as_bytes());
    place.file("x.csv.gz", &whole).file("cut.csv.gz", &whole[..whole.len() - 6]);
    place.load(&["--create", "--dry-run", "x.csv.gz"]).ends(0, &["2 rows read = 2 stored"]);
    place.load(&["--create", "cut.csv.gz"]).ends(1, &["the compressed data end too early", "cut short"]);
}

#[test]
fn a_dry_run_stores_nothing() {
    let place = Place::new();
    let ran = place.file("x.csv", ZIPS).load(&["--create", "--dry-run", "--quiet", "x.csv"]).ends(0, &[]);
    assert!(ran.out.starts_with("CREATE TABLE t (") && ran.err.is_empty());
    assert!(!place.path("db").exists());
    place
        .file("bad.csv", "a,b\n1,2\n3\n")
        .load(&["--create", "--dry-run", "--rejects", "r.csv", "bad.csv"])
        .ends(3, &["1 stored + 0 skipped + 1 rejected"]);
    assert!(!place.path("r.csv").exists());
}

#[test]
fn the_first_bad_row_fails_the_load_and_nothing_of_it_stays() {
    let place = Place::new();
    place.file("bad.csv", "a,b\n1,x\n2,y,z\n3,w\n");
    place
        .load(&["--create", "bad.csv"])
        .ends(1, &["bad.csv, line 3: the record has 3 fields, expected 2", "2,y,z", "--rejects FILE"]);
    assert_eq!(place.rows(), None);
}

#[test]
fn rejects_are_kept_with_line_reason_and_raw_text_and_add_up() {
    let place = Place::new();
    place.file("bad.csv", b"a,b\n1,x\n2\n3,\"p\nq\"\n4,\xff\n5,\"u\"v\n6,z\n");
    let ran = place.load(&["--create", "--rejects", "r.csv", "--max-rejects", "3", "bad.csv"]);
    ran.ends(
        3,
        &["6 rows read = 3 stored + 0 skipped + 3 rejected", "the table has 3 rows", "the rejected rows are in r.csv"],
    );
    let kept = std::fs::read(place.path("r.csv")).unwrap();
    let expected = b"line,column,sqlstate,reason,raw,file\n\
        3,,22P04,\"the record has 1 field, expected 2\",2,bad.csv\n\
        6,b,22021,invalid byte sequence for encoding UTF-8: 0xff,\"4,\xff\",bad.csv\n\
        7,,22P04,text follows the closing quote of a field,\"5,\"\"u\"\"v\",bad.csv\n";
    assert_eq!(String::from_utf8_lossy(&kept), String::from_utf8_lossy(expected));
    assert_eq!(kept, expected);
}

#[test]
fn one_reject_too_many_fails_and_without_a_limit_any_number_is_taken() {
    let place = Place::new();
    place.file("bad.csv", "a,b\n1,x\n2\n3\n4\n");
    place
        .load(&["--create", "--rejects", "r.csv", "--max-rejects", "2", "bad.csv"])
        .ends(1, &["line 5", "--max-rejects"]);
    place
        .load(&["--create", "--rejects", "r.csv", "bad.csv"])
        .ends(3, &["4 rows read = 1 stored + 0 skipped + 3 rejected"]);
}

#[test]
fn values_that_do_not_fit_declared_types_are_rejects() {
    let place = Place::new();
    place.file("x.csv", "n,d\n1,2024-01-01\n40000,2024-01-02\n3,2024-02-30\n");
    let ran = place.load(&["--create", "--types", "n=SMALLINT,d=DATE", "--rejects", "r.csv", "x.csv"]);
    ran.ends(3, &["3 rows read = 1 stored + 0 skipped + 2 rejected"]);
    let kept = std::fs::read_to_string(place.path("r.csv")).unwrap();
    assert!(kept.contains("3,n,22003,") && kept.contains("4,d,22008,"), "{kept}");
}

#[test]
fn a_type_that_changes_past_the_sample_names_line_column_value_and_remedy() {
    let place = Place::new();
    let mut csv = String::from("n\n");
    (0..2000).for_each(|i| writeln!(csv, "{i}").unwrap());
    csv.push_str("many\n");
    let says = [
        "x.csv, line 2002, column \"n\": invalid input syntax for type bigint: \"many\"",
        "--types 'n=TEXT'",
        "--sample",
    ];
    place.file("x.csv", csv).load(&["--create", "--sample", "1KiB", "x.csv"]).ends(1, &says);
    let ran = place.load(&["--create", "x.csv"]).ends(0, &[]);
    assert!(ran.out.contains("n TEXT"));
}

#[test]
fn keys_that_are_there_already_follow_the_policy() {
    let place = Place::new();
    place.file("x.csv", "k,v\n1,a\n2,b\n1,c\n");
    place.load(&["--create", "--primary-key", "k", "x.csv"]).ends(1, &["(k)=(1)", "--on-conflict skip"]);
    assert_eq!(place.rows(), None);
    place
        .load(&["--create", "--primary-key", "k", "--on-conflict", "skip", "x.csv"])
        .ends(0, &["3 rows read = 2 stored + 1 skipped"]);
    assert_eq!(place.rows().unwrap(), [vec![Value::Int(1), text("a")], vec![Value::Int(2), text("b")]]);
    place.file("y.csv", "k,v\n2,new\n3,d\n");
    place
        .load(&["--on-conflict", "replace", "y.csv"])
        .ends(0, &["2 rows read = 2 stored", "1 of the rows stored replaced another", "has 3 rows"]);
    place.load(&["y.csv"]).ends(1, &["(k)=("]);
    assert_eq!(place.rows().unwrap().len(), 3);
}

#[test]
fn a_policy_for_keys_needs_a_key() {
    let place = Place::new();
    place.file("x.csv", ZIPS).load(&["--create", "--on-conflict", "skip", "x.csv"]).ends(2, &["primary key"]);
    place.load(&["--primary-key", "zip", "x.csv"]).ends(2, &["--create"]);
    place.load(&["--create", "--primary-key", "zap", "x.csv"]).ends(1, &["no column \"zap\"", "zip, n"]);
    place
        .file("null.csv", "k,v\n1,a\n,b\n")
        .load(&["--create", "--primary-key", "k", "null.csv"])
        .ends(1, &["line 3, column \"k\"", "23502"]);
}

#[test]
fn a_rerun_with_resume_loads_no_file_twice() {
    let place = Place::new();
    place.file("1.csv", "a\n1\n").file("2.csv", "a\n2\n");
    place.load(&["--create", "--resume", "1.csv"]).ends(0, &["the table has 1 rows"]);
    place
        .load(&["--create", "--resume", "1.csv", "2.csv"])
        .ends(0, &["1.csv was loaded before", "1 rows read = 1 stored", "the table has 2 rows"]);
    place.load(&["--create", "--resume", "*.csv"]).ends(0, &["nothing to do"]);
    place.load(&["--resume", "--null", "NA", "1.csv"]).ends(0, &["the table has 3 rows"]);
    place.load(&["--create", "1.csv"]).ends(1, &["is there already", "--resume"]);
    assert_eq!(place.rows().unwrap().len(), 3);
}

#[test]
fn a_file_that_fails_leaves_those_before_it() {
    let place = Place::new();
    place.file("1.csv", "a,b\n1,2\n").file("2.csv", "a,b\n1,2\n3\n").file("3.csv", "a,b\n5,6\n");
    place.load(&["--create", "1.csv", "2.csv", "3.csv"]).ends(1, &["2.csv, line 3", "1 of 3 files are stored"]);
    assert_eq!(place.rows().unwrap().len(), 1);
}

#[test]
fn dialects_are_sniffed_or_said() {
    let place = Place::new();
    let create = |file: &str, says: &[&str]| {
        place.load(&[&["--create", "--dry-run", "--quiet"], says, &[file]].concat()).ends(0, &[]).out
    };
    place.file("semi.csv", "a;b\n1,5;x\n").file("bare", "1|x\n2|y\n").file("t.tsv", "a\tb\n1\t\"x\"\n");
    assert_eq!(create("semi.csv", &[]), "CREATE TABLE t (\n    a TEXT,\n    b TEXT\n);\n");
    assert_eq!(create("bare", &[]), "CREATE TABLE t (\n    column1 BIGINT,\n    column2 TEXT\n);\n");
    assert_eq!(create("bare", &["--columns", "id,name"]), "CREATE TABLE t (\n    id BIGINT,\n    name TEXT\n);\n");
    assert_eq!(create("bare", &["--header"]), "CREATE TABLE t (\n    \"1\" BIGINT,\n    x TEXT\n);\n");
    assert_eq!(create("t.tsv", &["--no-header"]), "CREATE TABLE t (\n    column1 TEXT,\n    column2 TEXT\n);\n");
    place.file("odd.csv", "a;b\n1;x\n");
    assert_eq!(create("odd.csv", &["--delimiter", ","]), "CREATE TABLE t (\n    \"a;b\" TEXT\n);\n");
    place.file("q.csv", "a,b\n1,*x,y*\n2,NA\n");
    assert_eq!(create("q.csv", &["--quote", "*", "--null", "NA"]), "CREATE TABLE t (\n    a BIGINT,\n    b TEXT\n);\n");
    place.file("n.txt", "{\"a\":1}\n");
    assert_eq!(create("n.txt", &[]), create("n.txt", &["--format", "ndjson"]));
    place.file("bom.csv", "\u{feff}a,b\r\n1,2\r\n");
    assert_eq!(create("bom.csv", &["--threads", "3"]), "CREATE TABLE t (\n    a BIGINT,\n    b BIGINT\n);\n");
}

#[test]
fn what_cannot_be_opened_says_why_and_with_which_code() {
    let place = Place::new();
    place.file("x.csv", ZIPS);
    place.load(&["x.csv"]).ends(4, &["there is no database in \"db\"", "--create"]);
    place.load(&["--create", "no.csv"]).ends(1, &["cannot open \"no.csv\": no such file or directory"]);
    place.load(&["--create", "*.parquet"]).ends(1, &["no file matches"]);
    place.load(&["--create", "."]).ends(1, &["directory"]);
    place
        .file("cut.parquet", "PAR1 and then no more")
        .load(&["--create", "cut.parquet"])
        .ends(1, &["damaged or truncated Parquet"]);
    place.file("empty.csv", "").load(&["--create", "empty.csv"]).ends(1, &["empty"]);
    place.load(&["--frobnicate", "x.csv"]).ends(2, &["--frobnicate"]);
    place.load(&["--create", "--memory", "lots", "x.csv"]).ends(2, &["memory"]);
    place.load(&["--create"]).ends(2, &["<FILE>"]);
    assert!(!place.path("db").exists());
}

#[test]
fn a_directory_that_is_no_database_is_told_apart() {
    let place = Place::new();
    std::fs::create_dir(place.path("db")).unwrap();
    place.file("x.csv", ZIPS).file("db/precious.txt", "mine");
    place.load(&["--create", "x.csv"]).ends(4, &[]);
    assert_eq!(std::fs::read_dir(place.path("db")).unwrap().count(), 1);
}

#[test]
fn a_table_that_is_not_there_gets_a_suggestion() {
    let place = Place::new();
    place.file("x.csv", ZIPS).load(&["--create", "x.csv"]).ends(0, &[]);
    let ran = ran(place.command(&["--db", "db", "--table", "tt", "x.csv"]).output().unwrap());
    ran.ends(1, &["table \"tt\" does not exist", "Did you mean \"t\"?"]);
    place.file("y.csv", "zpi,n\n1,2\n").load(&["y.csv"]).ends(1, &["column \"zpi\"", "Did you mean \"zip\"?"]);
}

#[test]
fn help_version_completions_and_man_go_to_stdout() {
    let place = Place::new();
    let run = |arguments: &[&str]| ran(place.command(arguments).output().unwrap()).ends(0, &[]).out;
    assert!(run(&["--help"]).starts_with("Examples:"));
    assert!(!run(&["-h"]).contains("Examples:"));
    let version = run(&["--version"]);
    assert!(version.starts_with("omendb-load ") && version.contains("git") && version.contains("format"), "{version}");
    assert!(run(&["completions", "bash"]).contains("omendb-load"));
    assert!(run(&["man"]).contains(".TH omendb-load"));
}

#[test]
fn colour_comes_only_when_asked_for_away_from_a_terminal() {
    let place = Place::new();
    assert!(!place.load(&["--create", "no.csv"]).err.contains('\u{1b}'));
    assert!(place.load(&["--create", "--color", "always", "no.csv"]).err.contains('\u{1b}'));
}

#[cfg(unix)]
#[test]
fn an_interruption_leaves_nothing_of_the_file() {
    let place = Place::new();
    let mut csv = String::from("k,v\n");
    (0..200_000).for_each(|i| writeln!(csv, "{i},some text for the row").unwrap());
    // A pipe that is never closed keeps the load going until it is told to stop.
    let arguments = ["--db", "db", "--table", "t", "--create", "--sample", "1KiB", "-"];
    let mut command = place.command(&arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(csv.as_bytes()).unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
    assert!(place.rows().is_none_or(|rows| rows.is_empty()));
}

#[test]
fn a_parquet_file_loads_like_any_other() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let Some(sample) = std::fs::read_dir(shared)
        .into_iter()
        .flatten()
        .flatten()
        .find(|e| e.path().extension().is_some_and(|e| e == "parquet"))
    else {
        return;
    };
    let place = Place::new();
    let path = sample.path().display().to_string();
    place.load(&["--create", &path]).ends(0, &["0 skipped + 0 rejected", "checked"]);
}
