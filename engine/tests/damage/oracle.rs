/*!
What may come of a damaged database.
*/

use super::database::*;
use omendb_engine::db::{CheckReport, Db, check_directory};
use omendb_engine::io::IoRef;
use omendb_engine::{ErrorKind, Result};

/// What damage came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The check names it.
    Found,
    /// Every answer is right, and the check has nothing to say.
    Harmless,
    /// The log's last commits are gone, and nobody can know.
    Cut,
}

/// Looks at a database that should be `built` and was damaged. `cut`: whether the log may have lost its end.
pub(crate) fn look(io: &IoRef, built: &Built, cut: bool, what: &str) -> Outcome {
    let report = check_directory(io, dir());
    let read = reader(io).and_then(|db| state(&db));
    judge(&report, &read, built, cut, what)
}

fn judge(report: &Result<CheckReport>, read: &Result<State>, built: &Built, cut: bool, what: &str) -> Outcome {
    let named = match report {
        Ok(report) => {
            for problem in &report.problems {
                assert!(!problem.what.is_empty() && problem.file.starts_with(dir()), "{what}: {problem}");
            }
            !report.is_sound()
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotADatabase, "{what}: {error}");
            true
        }
    };
    match read {
        Err(error) => {
            let told = matches!(
                error.kind(),
                ErrorKind::Corruption | ErrorKind::NewerFormat | ErrorKind::NotADatabase | ErrorKind::Io
            );
            assert!(told, "{what}: {error:?}");
            assert!(named, "{what}: reading fails and the check is silent: {error}");
            Outcome::Found
        }
        Ok(state) if state == built.state() => match named {
            true => Outcome::Found,
            false => Outcome::Harmless,
        },
        Ok(state) => {
            assert!(built.history.contains(state), "{what}: rows that never were: {state:#?}");
            assert!(cut || named, "{what}: commits are lost and the check is silent");
            assert!(cut, "{what}: commits are lost without an error, though the check names it: {report:?}");
            Outcome::Cut
        }
    }
}

/// Opens a copy for writing: what was found must not be cut away, and what is harmless must stay so.
pub(crate) fn look_as_writer(files: &Files, built: &Built, cut: bool, what: &str) {
    let io = disk_of(files);
    let opened = Db::open(options(&io)).and_then(|db| {
        let state = state(&db);
        db.close().and(state)
    });
    match opened {
        Ok(state) if state == *built.state() => {}
        Ok(state) => {
            assert!(built.history.contains(&state), "{what}: a writer finds rows that never were");
            assert!(cut, "{what}: a writer opens and commits are lost");
        }
        Err(error) => {
            let after = self::files(&io);
            for (name, bytes) in files {
                let kept = is_log(name) && !is_unused_segment(name, bytes) || name.starts_with("run-");
                assert!(!kept || after.get(name) == Some(bytes), "{what}: {name} is not as it was, after {error}");
            }
        }
    }
}
