/*!
What a check found, for programs and for people.
*/

use crate::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// Problems that a report names; more are counted only.
const PROBLEMS_MAX: usize = 10_000;

/// Notes that a report has; more are left out.
const NOTES_MAX: usize = 1_000;

/// Something that is wrong: data are damaged, missing, or contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file; the directory where no one file is to blame.
    pub file: PathBuf,
    /// The byte offset in it, where one is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.offset)?;
        write!(f, "{}. {}", self.what, self.advice)
    }
}

/// Something that is unusual and no damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub file: PathBuf,
    /// The byte offset in it, where one is known.
    pub offset: Option<u64>,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.file, self.offset)?;
        f.write_str(&self.what)
    }
}

fn place(f: &mut fmt::Formatter<'_>, file: &Path, offset: Option<u64>) -> fmt::Result {
    write!(f, "{}", file.display())?;
    if let Some(offset) = offset {
        write!(f, ", offset {offset}")?;
    }
    f.write_str(": ")
}

/// What was read, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The database's directory.
    pub dir: PathBuf,
    /// Whether the check came to its end.
    pub is_whole: bool,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Edits of the manifest.
    pub manifest_edits: u64,
    /// Segments of the log that count.
    pub log_segments: u64,
    /// Their frames.
    pub log_frames: u64,
    /// Records in them that are not in runs only.
    pub log_records: u64,
    /// Tables.
    pub tables: u64,
    /// Runs that could be read.
    pub runs: u64,
    /// Their slices.
    pub slices: u64,
    /// Their rows, tombstones and old versions included.
    pub rows: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Problems beyond those named.
    pub more_problems: u64,
    /// What is unusual and no damage.
    pub notes: Vec<Note>,
}

impl CheckReport {
    pub(super) fn new(dir: &Path) -> CheckReport {
        CheckReport {
            dir: dir.to_owned(),
            is_whole: false,
            files: 0,
            bytes: 0,
            manifest_edits: 0,
            log_segments: 0,
            log_frames: 0,
            log_records: 0,
            tables: 0,
            runs: 0,
            slices: 0,
            rows: 0,
            problems: Vec::new(),
            more_problems: 0,
            notes: Vec::new(),
        }
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn problem(&mut self, error: &Error, advice: &str) {
        let (file, offset) = match error.place() {
            Some(place) => (place.file.clone(), place.offset),
            None => (self.dir.clone(), None),
        };
        self.push(Problem { file, offset, what: error.message().to_owned(), advice: advice.to_owned() });
    }

    pub(super) fn push(&mut self, problem: Problem) {
        match self.problems.len() < PROBLEMS_MAX {
            true if self.problems.contains(&problem) => {}
            true => self.problems.push(problem),
            false => self.more_problems += 1,
        }
    }

    pub(super) fn note(&mut self, file: &Path, offset: impl Into<Option<u64>>, what: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(Note { file: file.to_owned(), offset: offset.into(), what: what.into() });
        }
    }
}

/// The counts, in a few lines; problems and notes print themselves.
impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} files, {} bytes", self.dir.display(), self.files, self.bytes)?;
        let (edits, segments, frames, records) =
            (self.manifest_edits, self.log_segments, self.log_frames, self.log_records);
        writeln!(f, "manifest: {edits} edits; log: {segments} segments, {frames} frames, {records} records")?;
        let (tables, runs, slices, rows) = (self.tables, self.runs, self.slices, self.rows);
        writeln!(f, "{tables} tables; {runs} runs, {slices} slices, {rows} rows")?;
        match u64::try_from(self.problems.len()).unwrap_or(u64::MAX).saturating_add(self.more_problems) {
            0 => write!(f, "no problems"),
            1 => write!(f, "1 problem"),
            problems => write!(f, "{problems} problems"),
        }
    }
}
