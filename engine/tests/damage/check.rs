/*!
What a check says: of sound databases, of damaged ones, and of those that are no databases.
*/

use super::database::*;
use omendb_engine::ErrorKind;
use omendb_engine::db::{CheckReport, Db, Problem, check_directory};
use omendb_engine::io;

fn report(files: &Files) -> CheckReport {
    check_directory(&disk_of(files), dir()).unwrap()
}

#[test]
fn a_sound_database_is_counted_and_nothing_is_wrong() {
    let built = with_runs();
    let report = report(&built.files);
    assert_eq!((report.problems.as_slice(), report.notes.as_slice()), (&[][..], &[][..]));
    assert_eq!(report.tables, 2);
    let runs = built.files.keys().filter(|name| name.starts_with("run-")).count() as u64;
    assert_eq!(report.runs, runs);
    assert!(report.rows >= 20 + 7 && report.slices >= runs && report.manifest_edits >= 1 && report.log_frames >= 1);
    assert_eq!(report.bytes, built.files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert!(report.to_string().ends_with("no problems"), "{report}");
}

#[test]
fn an_open_database_is_checked_beside_its_writers() {
    let mut builder = Builder::new();
    let types = builder.table(new_table("types", &COLUMNS, &["k"]));
    for k in 0..30 {
        builder.put(&types, &[row(k, k)]);
        if k % 7 == 0 {
            builder.flush();
        }
        let report = builder.db().check().unwrap();
        assert_eq!(report.problems, [], "after commit {k}");
        assert_eq!(report.tables, 1);
    }
    assert!(Db::open(omendb_engine::db::Options::memory()).unwrap().check().unwrap().is_sound());
}

#[test]
fn a_check_goes_on_while_a_writer_flushes_and_merges() {
    let io = io::memory();
    let small = omendb_engine::db::Options { memtable_bytes: 4 << 10, ..options(&io) };
    let db = Db::open(small).unwrap();
    let mut txn = db.begin().unwrap();
    let types = txn.create_table(new_table("types", &COLUMNS, &["k"])).unwrap();
    txn.commit().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..150 {
                let rows: Vec<_> = (0..5).map(|k| row((k * 31 + round * 17) % 90, round)).collect();
                write(&db, &types, omendb_engine::db::WriteKind::Put, &rows);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!(db.check().unwrap().problems, []);
        }
    });
    assert!(db.stats().unwrap().compactions > 0);
    assert_eq!(db.check().unwrap().problems, []);
}

#[test]
fn a_problem_names_file_offset_table_and_what_to_do_and_the_check_goes_on() {
    let mut built = with_runs();
    let names: Vec<String> = built.files.keys().filter(|name| name.starts_with("run-")).cloned().collect();
    let of = |name: &str, report: &CheckReport| -> Vec<Problem> {
        report.problems.iter().filter(|problem| problem.file == dir().join(name)).cloned().collect()
    };
    let mut advice = Vec::new();
    for name in &names {
        built.files.get_mut(name).unwrap()[100] ^= 1;
        for problem in of(name, &report(&built.files)) {
            assert!(problem.offset.unwrap() <= 100 && problem.to_string().contains(name.as_str()), "{problem}");
            advice.push(problem.advice);
        }
        built.files.get_mut(name).unwrap()[100] ^= 1;
    }
    for words in ["Rows of table types", "Rows of table pairs", "Tables may be missing"] {
        assert!(advice.iter().any(|advice| advice.contains(words)), "{words}: {advice:#?}");
    }
    // All at once, the catalog's among them.
    for name in &names {
        built.files.get_mut(name).unwrap()[100] ^= 1;
    }
    let report = report(&built.files);
    assert!(names.iter().all(|name| !of(name, &report).is_empty()), "{:#?}", report.problems);
    assert!(report.to_string().ends_with("problems"), "{report}");
}

#[test]
fn what_a_crash_leaves_is_a_note_and_no_problem() {
    let mut built = with_runs();
    built.files.insert("run-900.omen".to_owned(), b"half a run".to_vec());
    built.files.insert("CURRENT.tmp".to_owned(), b"half a line".to_vec());
    built.files.insert("manifest-00000099".to_owned(), vec![0; 100]);
    built.files.insert("wal-00000099.log".to_owned(), vec![0; 16 << 10]);
    built.files.insert("letter.txt".to_owned(), b"dear".to_vec());
    let report = report(&built.files);
    assert_eq!(report.problems, []);
    for name in ["run-900.omen", "CURRENT.tmp", "manifest-00000099", "wal-00000099.log", "letter.txt"] {
        assert!(report.notes.iter().any(|note| note.file == dir().join(name)), "{name}: {:?}", report.notes);
    }
}

#[test]
fn damage_in_the_middle_of_the_log_is_named_with_every_place() {
    let mut built = with_log_closed();
    let logs: Vec<String> = built.files.keys().filter(|name| name.starts_with("wal-")).cloned().collect();
    assert!(logs.len() > 1, "{logs:?}");
    for name in &logs {
        built.files.get_mut(name).unwrap()[4096 + 70] ^= 1;
    }
    let report = report(&built.files);
    for name in &logs {
        let named = |problem: &&Problem| problem.file == dir().join(name) && problem.offset == Some(4096);
        assert!(report.problems.iter().any(|problem| named(&problem)), "{name}: {:?}", report.problems);
    }
    let error = reader(&disk_of(&built.files)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.place().is_some_and(|place| place.offset.is_some()), "{error}");
}

#[test]
fn other_directories_are_no_databases() {
    let io = io::memory();
    assert_eq!(check_directory(&io, dir()).unwrap_err().kind(), ErrorKind::NotADatabase);
    io.create_dir_all(dir()).unwrap();
    assert_eq!(check_directory(&io, dir()).unwrap_err().kind(), ErrorKind::NotADatabase);
    put(&io, "letter.txt", b"dear");
    assert_eq!(check_directory(&io, dir()).unwrap_err().kind(), ErrorKind::NotADatabase);
    assert_eq!(check_directory(&io, &dir().join("letter.txt")).unwrap_err().kind(), ErrorKind::NotADatabase);
}
