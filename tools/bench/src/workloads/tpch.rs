/*!
TPC-H's tables and its 22 queries, each an operation of its own; each client has a session and asks one after another, again and again.

Before anything is timed each query is asked once: what cannot be run is named, and fails the run. Every answer, then and later, is
compared value by value with the reference's ([`reference`]), and at scale 1 with the one that the specification publishes.

This is a workload *derived from* TPC-H: there are no refreshes, no streams and no price, so its figures are not to be compared with
published results of the benchmark itself.
*/

mod queries;
mod reference;
mod tables;

use super::answer::{Expected, rows};
use super::sessions::{Sessions, ask, rows_of};
use super::{come_to_rest, left_by_earlier_run, note};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::workload::{Client, Entry, Kind, Workload};
use arrow::array::RecordBatch;
use omendb_cli::size::count;
use omendb_engine::db::Db;
use omendb_sql::error::state;
use omendb_sql::{Session, SqlError};
use queries::{QUERIES, Query};
use reference::Reference;
use std::sync::atomic::{AtomicU64, Ordering};
use tables::TABLES;

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "tpch",
    about: "TPC-H's 22 queries, their answers compared with those of the same rows in memory",
    kind: Kind::Driven(open),
    not_cold: None,
};

/// The scale unless somebody said otherwise: 100 MB as text, 866,602 rows.
const SCALE: f64 = 0.1;

struct Tpch<'a> {
    settings: &'a Settings,
    sessions: Sessions,
    scale: f64,
    rows: Vec<u64>,
    asked: Vec<Asked>,
}

/// A query as it is asked, what it must answer, and how often it did.
struct Asked {
    query: &'static Query,
    text: String,
    expected: Expected,
    /// What the specification says, at scale 1.
    published: Option<Expected>,
    answers: AtomicU64,
}

fn open(settings: &Settings) -> Result<Box<dyn Workload + '_>, Failure> {
    if settings.rows.is_some() {
        return Err(Failure::Usage("the size of tpch is its scale: `--scale 0.1`, not --rows".into()));
    }
    let scale = settings.scale.unwrap_or(SCALE);
    Ok(Box::new(Tpch { settings, sessions: Sessions::open(settings)?, scale, rows: Vec::new(), asked: Vec::new() }))
}

impl Tpch<'_> {
    /// Loads all tables, into the database and into the reference.
    fn load(&mut self) -> Result<Reference, Failure> {
        let reference = Reference::new()?;
        // Such names others may have, too: nothing is made where one of them is taken.
        for table in &TABLES {
            left_by_earlier_run(self.sessions.engine(), table.name)?;
        }
        for table in &TABLES {
            let batches = table.load(self.sessions.engine(), self.settings, self.scale)?;
            let rows = rows_of(&batches);
            note(self.settings, &format!("loaded {} rows of {}", count(rows), table.name));
            self.rows.push(rows);
            reference.add(table.name, batches)?;
        }
        Ok(reference)
    }

    /// Asks every query once. Those that can't be run are named together.
    fn ask_all(&self) -> Result<(), Failure> {
        let session = self.sessions.session();
        let mut unsupported = Vec::new();
        for asked in &self.asked {
            self.settings.stop_if_interrupted()?;
            match ask(&session, &asked.text) {
                Ok(answer) => asked.check(&answer)?,
                Err(failure) => unsupported.push(format!("{}: {}", asked.query.name(), failure.sentence())),
            }
        }
        self.settings.stop_if_interrupted()?;
        match unsupported.len() {
            0 => Ok(()),
            n => {
                let message = format!("{n} of {} queries cannot be run: {}", QUERIES.len(), unsupported.join("; "));
                Err(SqlError::new(state::FEATURE_NOT_SUPPORTED, message).into())
            }
        }
    }
}

impl Asked {
    fn check(&self, answer: &[RecordBatch]) -> Result<(), Failure> {
        let answer = rows(answer)?;
        let name = self.query.name();
        self.expected.check(&answer).map_err(|what| Failure::Wrong(format!("{name} {what}")))?;
        if let Some(published) = &self.published {
            let what = published.check(&self.query.as_published(answer));
            what.map_err(|what| Failure::Wrong(format!("by the specification's answer {name} {what}")))?;
        }
        self.answers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Workload for Tpch<'_> {
    fn db(&self) -> Option<Db> {
        Some(self.sessions.engine().clone())
    }

    fn operations(&self) -> Vec<String> {
        QUERIES.iter().map(Query::name).collect()
    }

    fn commits(&self, _operation: usize) -> bool {
        false
    }

    fn parameters(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("scale", self.scale.into()), ("rows of all tables", self.rows.iter().sum::<u64>().into())]
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let reference = self.load()?;
        note(self.settings, "asking the reference, and each query once");
        for query in &QUERIES {
            self.settings.stop_if_interrupted()?;
            let expected = reference.answer(query, self.scale)?;
            let published = (self.scale == 1.0).then(|| query.published());
            let text = query.text(self.scale);
            self.asked.push(Asked { query, text, expected, published, answers: AtomicU64::new(0) });
        }
        // Its rows are not to lie in memory while the database is measured.
        drop(reference);
        come_to_rest(self.sessions.engine(), self.settings)?;
        self.ask_all()?;
        self.asked.iter().for_each(|asked| asked.answers.store(0, Ordering::Relaxed));
        Ok(())
    }

    fn client(&self, number: usize) -> Result<Box<dyn Client + '_>, Failure> {
        // Clients begin at different queries, so that they are not all at the same.
        let place = number * self.asked.len() / self.settings.clients.max(1);
        Ok(Box::new(TpchClient {
            tpch: self,
            session: self.sessions.session(),
            place,
            next: place,
            answer: Vec::new(),
        }))
    }

    fn verify(&mut self) -> Result<String, Failure> {
        let session = self.sessions.session();
        for (table, rows_loaded) in TABLES.iter().zip(&self.rows) {
            let answer = rows(&ask(&session, &format!("SELECT count(*) FROM {}", table.name))?)?;
            let right = vec![vec![super::answer::Cell::int(i64::try_from(*rows_loaded).unwrap_or(i64::MAX))]];
            let expected = Expected { rows: right, order: Vec::new(), limit: None, units: 1 };
            expected.check(&answer).map_err(|what| Failure::Wrong(format!("the count of {} {what}", table.name)))?;
        }
        let published = if self.scale == 1.0 { ", and the specification's" } else { "" };
        let mut text =
            format!("all answers are those of the same rows in memory{published}; every table's rows are there");
        let never = self.asked.iter().filter(|asked| asked.answers.load(Ordering::Relaxed) == 0);
        let never: Vec<String> = never.map(|asked| asked.query.name()).collect();
        if !never.is_empty() {
            text.push_str(&format!("; there was no time for {}: run longer", never.join(", ")));
        }
        Ok(text)
    }
}

struct TpchClient<'a> {
    tpch: &'a Tpch<'a>,
    session: Session,
    /// Which query is asked.
    place: usize,
    next: usize,
    answer: Vec<RecordBatch>,
}

impl Client for TpchClient<'_> {
    fn draw(&mut self) -> Result<usize, Failure> {
        self.place = self.next % self.tpch.asked.len().max(1);
        self.next = self.place + 1;
        Ok(self.place)
    }

    fn run(&mut self) -> Result<u64, Failure> {
        let text = self.tpch.asked.get(self.place).map_or("", |asked| asked.text.as_str());
        self.answer = ask(&self.session, text)?;
        Ok(rows_of(&self.answer))
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.tpch.asked.get(self.place).map_or(Ok(()), |asked| asked.check(&self.answer))
    }
}
