/*!
TSBS's devops queries: a hundred hosts report ten metrics of their processors every ten seconds of a day, and are asked in SQL.

Each of TSBS's query types on processor metrics is an operation, drawn evenly with random hosts and times. Every answer is compared with
one that is computed from the generator's values, row by row, without the database ([`queries`]).

The queries and the shape of the data are TSBS's; its program is not used, and its table of tags is left out. So figures are like
those of TSBS, and not comparable with published ones to the last digit.
*/

mod hosts;
mod queries;

use super::answer::rows;
use super::sessions::{Sessions, ask, rows_of};
use super::{OwnTable, come_to_rest, note};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::workload::{Client, Entry, Kind, Workload};
use arrow::array::RecordBatch;
use hosts::{Hosts, METRICS, STEPS};
use omendb_cli::size::count;
use omendb_engine::db::{Db, OnConflict};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::types::ColumnType;
use omendb_sql::Session;
use queries::{QUERIES, Query, TABLE};

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "devops",
    about: "TSBS's devops queries on processor metrics of many hosts, in SQL",
    kind: Kind::Driven(open),
    not_cold: None,
};

/// Hosts unless somebody said otherwise, and at least: a query names eight.
const HOSTS: u64 = 100;
const HOSTS_MIN: u64 = 8;

struct Devops<'a> {
    settings: &'a Settings,
    sessions: Sessions,
    hosts: Hosts,
}

fn open(settings: &Settings) -> Result<Box<dyn Workload + '_>, Failure> {
    let count = settings.rows.map_or(HOSTS, |rows| (rows / STEPS).max(HOSTS_MIN));
    let hosts = Hosts { seed: settings.seed, count };
    Ok(Box::new(Devops { settings, sessions: Sessions::open(settings)?, hosts }))
}

impl Devops<'_> {
    fn rows(&self) -> u64 {
        self.hosts.count * STEPS
    }

    fn session_of(&self, number: u64) -> DevopsClient<'_> {
        DevopsClient {
            devops: self,
            session: self.sessions.session(),
            random: Random::new(mix(self.settings.seed).wrapping_add(mix(number))),
            drawn: None,
            answer: Vec::new(),
        }
    }
}

impl Workload for Devops<'_> {
    fn db(&self) -> Option<Db> {
        Some(self.sessions.engine().clone())
    }

    fn operations(&self) -> Vec<String> {
        QUERIES.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn commits(&self, _operation: usize) -> bool {
        false
    }

    fn parameters(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("hosts", self.hosts.count.into()), ("rows", self.rows().into()), ("metrics", METRICS.len().into())]
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        note(self.settings, &format!("loading {} rows of {} hosts", count(self.rows()), count(self.hosts.count)));
        let db = self.sessions.engine();
        let mut columns = vec![("hostname", ColumnType::Text), ("ts", ColumnType::Timestamp)];
        columns.extend(METRICS.map(|metric| (metric, ColumnType::Float64)));
        let table = OwnTable { name: TABLE, columns: &columns, key: &["hostname", "ts"] }.make(db)?;
        let ids = table.column_ids();
        let schema = table.projected_schema(&ids)?;
        let mut transaction = db.begin()?;
        let mut ingest = transaction.ingest(&table, OnConflict::Error, self.settings.options()?.memory_bytes)?;
        for host in 0..self.hosts.count {
            self.settings.stop_if_interrupted()?;
            ingest.write(&ids, &self.hosts.batch(&schema, host, 0..STEPS)?)?;
        }
        ingest.finish()?;
        transaction.commit()?;
        come_to_rest(db, self.settings)?;
        note(self.settings, "asking each query once");
        let mut client = self.session_of(u64::MAX);
        for place in 0..QUERIES.len() {
            client.draw_at(place);
            let asked = client.run();
            self.settings.stop_if_interrupted()?;
            asked?;
            client.check()?;
        }
        Ok(())
    }

    fn client(&self, number: usize) -> Result<Box<dyn Client + '_>, Failure> {
        Ok(Box::new(self.session_of(u64::try_from(number).unwrap_or(u64::MAX))))
    }

    fn verify(&mut self) -> Result<String, Failure> {
        let table = self.sessions.engine().snapshot()?.table(TABLE)?;
        let stats = table.map(|table| self.sessions.engine().table_stats(&table)).transpose()?.unwrap_or_default();
        match stats.rows_exact && stats.rows == self.rows() {
            true => Ok(format!(
                "every answer against one computed from the hosts' values, and that {} rows are there",
                count(stats.rows)
            )),
            false => Err(Failure::Wrong(format!("the table has {} rows, not {}", stats.rows, self.rows()))),
        }
    }
}

struct DevopsClient<'a> {
    devops: &'a Devops<'a>,
    session: Session,
    random: Random,
    /// The query, its text, and its name.
    drawn: Option<(Query, String, &'static str)>,
    answer: Vec<RecordBatch>,
}

impl DevopsClient<'_> {
    /// Decides on the hosts and the time of a query.
    fn draw_at(&mut self, place: usize) {
        self.drawn = QUERIES.get(place).map(|(name, kind)| {
            let query = Query::draw(*kind, &self.devops.hosts, &mut self.random);
            let sql = query.sql();
            (query, sql, *name)
        });
    }
}

impl Client for DevopsClient<'_> {
    fn draw(&mut self) -> Result<usize, Failure> {
        let number = self.random.below(u64::try_from(QUERIES.len()).unwrap_or(1));
        let place = usize::try_from(number).unwrap_or(0);
        self.draw_at(place);
        Ok(place)
    }

    fn run(&mut self) -> Result<u64, Failure> {
        let Some((_, sql, name)) = &self.drawn else { return Ok(0) };
        self.answer = ask(&self.session, sql).map_err(|failure| match failure {
            Failure::Failed(error) => Failure::Failed(error.with_detail(format!("The query was {name}: {sql}"))),
            other => other,
        })?;
        Ok(rows_of(&self.answer))
    }

    fn check(&mut self) -> Result<(), Failure> {
        let Some((query, sql, name)) = &self.drawn else { return Ok(()) };
        let answer = query.in_order(rows(&self.answer)?);
        let checked = query.expected(&self.devops.hosts).check(&answer);
        checked.map_err(|what| Failure::Wrong(format!("{name} {what}: {sql}")))
    }
}
