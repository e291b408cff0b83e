/*!
Training metrics: many runs report step after step, and are looked at meanwhile.

| operation | share | what it is |
|---|---|---|
| ingest | 20 % | a commit of 100 rows: the next steps of the client's own runs in turn, none of which may be there yet |
| get | 30 % | the row of one run at one step |
| last | 20 % | the newest row of one run |
| range | 15 % | loss over 1,000 steps of one run |
| compare | 10 % | the rows of eight runs at the same step |
| downsample | 5 % | the newest 1,000 steps of one run, as the mean loss of each of 100 stretches |

No operation reads more because the table has grown: a faster ingest must not slow down the others.

A cold run leaves the ingest out, and keeps the other shares: what was just written lies in memory.

Every row follows from seed, run and step, so that each answer is compared with what it must be. Readers look at all clients' runs: of
a run that another client is just writing to, they must see at least what was committed when they began, and nothing that was not begun.
*/

use super::{OwnTable, come_to_rest, note};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::workload::{Client, Entry, Kind, Workload, named};
use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use omendb_cli::size::count;
use omendb_engine::Error;
use omendb_engine::db::{Db, Expectation, OnConflict, Row, ScanRequest, WriteKind};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::key::{Key, KeyRange, KeySchema};
use omendb_engine::types::{ColumnId, ColumnType, TableDef, Value};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "metrics",
    about: "training metrics: ingest of interleaved runs, lookups, last values, ranges, comparison, down-sampling",
    kind: Kind::Driven(open),
    not_cold: None,
};

/// The table.
const TABLE: OwnTable<'_> = OwnTable {
    name: "bench_metrics",
    columns: &[
        ("run_id", ColumnType::Int64),
        ("step", ColumnType::Int64),
        ("ts", ColumnType::Timestamp),
        ("loss", ColumnType::Float64),
        ("acc", ColumnType::Float64),
        ("lr", ColumnType::Float64),
    ],
    key: &["run_id", "step"],
};

const OPERATIONS: &[&str] = &["ingest", "get", "last", "range", "compare", "downsample"];

/// Of a hundred operations, how many are which, in the order of [`OPERATIONS`].
const SHARES: [u64; 6] = [20, 30, 20, 15, 10, 5];

/// Rows at the start unless somebody said otherwise.
const ROWS: u64 = 1_000_000;

/// Steps of a run at the start.
const STEPS: u64 = 1_000;

/// Rows of a commit.
const BATCH_ROWS: u64 = 100;

/// Steps of a range, and of what is down-sampled.
const RANGE_STEPS: u64 = 1_000;

/// Runs that are compared.
const COMPARED: u64 = 8;

/// Stretches that a run is cut into.
const STRETCHES: u64 = 100;

/// Rows of a batch of the load.
const LOAD_ROWS: usize = 64 * 1024;

/// 2026-01-01 00:00 UTC in microseconds.
const START_MICROS: u64 = 1_767_225_600_000_000;

/// A row, but for its key.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    ts: i64,
    loss: f64,
    acc: f64,
    lr: f64,
}

/// Equal on every machine. Runs and steps are far below 2^53.
fn point(seed: u64, run: u64, step: u64) -> Point {
    let of_run = mix(seed ^ mix(run));
    let of_row = mix(of_run.wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let share = |bits: u64| (bits & 0xFFFF) as f64 / 65_536.0;
    let rounded = |x: f64, scale: f64| (x * scale).round() / scale;
    let at = step as f64;
    let start = of_run % 60_000_000;
    let micros = START_MICROS + start + step * (800_000 + of_run % 400_000) + of_row % 50_000;
    Point {
        ts: signed(micros),
        loss: rounded(0.2 + share(of_run >> 16) + 6.0 / (1.0 + at / 100.0) + 0.05 * share(of_row), 100_000.0),
        acc: rounded(0.95 - 0.9 / (1.0 + at / 150.0) + 0.05 * share(of_row >> 16), 10_000.0),
        lr: rounded(0.003 * (at / 50.0).min(1.0) / (1.0 + at / 10_000.0), 1_000_000.0),
    }
}

/// Runs and steps are far below 2^63.
fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// How many steps of a run there are.
#[derive(Debug)]
struct Steps {
    /// Committed: everybody sees them.
    committed: AtomicU64,
    /// Committed or being committed: nobody sees more.
    begun: AtomicU64,
}

/// The workload, its database and how far each run is.
struct Metrics<'a> {
    settings: &'a Settings,
    db: Db,
    table: Option<Table>,
    runs: Vec<Steps>,
    steps: u64,
}

/// The table and what is asked of it.
#[derive(Clone)]
struct Table {
    def: Arc<TableDef>,
    columns: Vec<ColumnId>,
    schema: SchemaRef,
    keys: KeySchema,
}

fn open(settings: &Settings) -> Result<Box<dyn Workload + '_>, Failure> {
    let clients = u64::try_from(settings.clients).unwrap_or(u64::MAX);
    let rows = settings.rows.unwrap_or(ROWS);
    let runs = (rows / STEPS).max(clients);
    let steps = (rows / runs).max(1);
    let fresh = || Steps { committed: AtomicU64::new(steps), begun: AtomicU64::new(steps) };
    let runs = (0..runs).map(|_| fresh()).collect();
    Ok(Box::new(Metrics { settings, db: settings.open_engine()?, table: None, runs, steps }))
}

impl Metrics<'_> {
    fn table(&self) -> Result<&Table, Failure> {
        self.table.as_ref().ok_or_else(|| Error::internal("the workload has not made its table").into())
    }

    fn run_count(&self) -> u64 {
        u64::try_from(self.runs.len()).unwrap_or(u64::MAX)
    }

    /// Where the operations that are run begin.
    fn first_operation(&self) -> usize {
        usize::from(self.settings.cold)
    }

    fn run(&self, run: u64) -> Result<&Steps, Failure> {
        let place = usize::try_from(run).ok().and_then(|run| self.runs.get(run));
        place.ok_or_else(|| Error::internal(format!("there is no run {run}")).into())
    }

    /// Puts the first steps of all runs into the table, sorted.
    fn load(&self, table: &Table) -> Result<(), Failure> {
        let memory = self.settings.options()?.memory_bytes;
        let mut transaction = self.db.begin()?;
        let mut ingest = transaction.ingest(&table.def, OnConflict::Error, memory)?;
        let all = (0..self.run_count()).flat_map(|run| (0..self.steps).map(move |step| (run, step)));
        let mut rows = Vec::with_capacity(LOAD_ROWS);
        for row in all {
            rows.push(row);
            if rows.len() == LOAD_ROWS {
                self.settings.stop_if_interrupted()?;
                ingest.write(&table.columns, &table.batch(self.settings.seed, &rows)?)?;
                rows.clear();
            }
        }
        if !rows.is_empty() {
            ingest.write(&table.columns, &table.batch(self.settings.seed, &rows)?)?;
        }
        ingest.finish()?;
        transaction.commit()?;
        Ok(())
    }
}

impl Table {
    fn new(def: Arc<TableDef>) -> Result<Table, Failure> {
        let columns = def.column_ids();
        Ok(Table { schema: def.projected_schema(&columns)?, keys: KeySchema::of(&def)?, columns, def })
    }

    fn batch(&self, seed: u64, rows: &[(u64, u64)]) -> Result<RecordBatch, Failure> {
        let points: Vec<Point> = rows.iter().map(|(run, step)| point(seed, *run, *step)).collect();
        let floats =
            |of: fn(&Point) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(points.iter().map(of))) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(run, _)| signed(*run)))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, step)| signed(*step)))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(points.iter().map(|point| point.ts))),
            floats(|point| point.loss),
            floats(|point| point.acc),
            floats(|point| point.lr),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn key(&self, run: u64, step: u64) -> Result<Key, Failure> {
        Ok(self.keys.encode(&[Value::Int(signed(run)), Value::Int(signed(step))])?)
    }

    /// Steps `from` to `to`, without that one, of a run.
    fn steps(&self, run: u64, from: u64, to: u64) -> Result<KeyRange, Failure> {
        let (from, to) = (Value::Int(signed(from)), Value::Int(signed(to)));
        let range = self.keys.prefix_range(&[Value::Int(signed(run))], Bound::Included(&from), Bound::Excluded(&to))?;
        Ok(range)
    }

    fn whole_run(&self, run: u64) -> Result<KeyRange, Failure> {
        Ok(self.keys.prefix_range(&[Value::Int(signed(run))], Bound::Unbounded, Bound::Unbounded)?)
    }
}

impl Workload for Metrics<'_> {
    fn db(&self) -> Option<Db> {
        Some(self.db.clone())
    }

    fn operations(&self) -> Vec<String> {
        named(OPERATIONS.get(self.first_operation()..).unwrap_or_default())
    }

    fn commits(&self, operation: usize) -> bool {
        self.operations().get(operation).is_some_and(|name| name == "ingest")
    }

    fn parameters(&self) -> Vec<(&'static str, serde_json::Value)> {
        let shares = || OPERATIONS.iter().zip(SHARES).skip(self.first_operation());
        let all: u64 = shares().map(|(_, share)| share).sum();
        let shares = shares().map(|(name, share)| format!("{name} {} %", share as f64 * 100.0 / all as f64));
        vec![
            ("rows at the start", (self.run_count() * self.steps).into()),
            ("runs", self.run_count().into()),
            ("rows of a commit", BATCH_ROWS.into()),
            ("operations", shares.collect::<Vec<_>>().join(", ").into()),
        ]
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let table = Table::new(TABLE.make(&self.db)?)?;
        let rows = self.run_count() * self.steps;
        note(self.settings, &format!("loading {} rows of {} runs", count(rows), count(self.run_count())));
        self.load(&table)?;
        come_to_rest(&self.db, self.settings)?;
        self.table = Some(table);
        Ok(())
    }

    fn client(&self, number: usize) -> Result<Box<dyn Client + '_>, Failure> {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let clients = u64::try_from(self.settings.clients).unwrap_or(u64::MAX);
        let next = (number..self.run_count()).step_by(self.settings.clients).map(|run| (run, self.steps)).collect();
        Ok(Box::new(MetricsClient {
            metrics: self,
            table: self.table()?.clone(),
            random: Random::new(mix(self.settings.seed.wrapping_add(clients)).wrapping_add(mix(number))),
            next,
            turn: 0,
            drawn: Drawn::Nothing,
            in_doubt: None,
            answer: Vec::new(),
            places: Vec::new(),
            row: Row::default(),
            found: false,
            means: Vec::new(),
        }))
    }

    fn verify(&mut self) -> Result<String, Failure> {
        let table = self.table()?;
        let mut seen = 0u64;
        let mut expected = self
            .runs
            .iter()
            .zip(0u64..)
            .flat_map(|(steps, run)| (0..steps.committed.load(Ordering::Acquire)).map(move |step| (run, step)));
        let request = ScanRequest { projection: table.columns.clone(), ..ScanRequest::default() };
        for batch in self.db.snapshot()?.scan(&table.def, request)? {
            let batch = batch?;
            let rows: Vec<(u64, u64)> = expected.by_ref().take(batch.num_rows()).collect();
            let right = rows.len() == batch.num_rows() && table.batch(self.settings.seed, &rows)? == batch;
            if !right {
                let place = rows.first().map_or("the end".to_owned(), |(run, step)| format!("run {run}, step {step}"));
                return Err(Failure::Wrong(format!("the table is not what was written, from {place} on")));
            }
            seen += u64::try_from(batch.num_rows()).unwrap_or(0);
        }
        match expected.next() {
            Some((run, step)) => Err(Failure::Wrong(format!("run {run} has no step {step}, which was committed"))),
            None => Ok(format!("all {} rows of the table, value by value", count(seen))),
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone)]
enum Drawn {
    Nothing,
    Ingest { batch: RecordBatch, reached: Vec<(u64, u64)>, again: bool },
    Get { run: u64, step: u64, key: Key },
    Last { run: u64, floor: u64, range: KeyRange },
    Range { run: u64, from: u64, to: u64, range: KeyRange },
    Compare { step: u64, runs: Vec<u64>, keys: Vec<Key> },
    Downsample { run: u64, from: u64, to: u64, range: KeyRange },
}

/// A client and the memory that its answers lie in.
struct MetricsClient<'a> {
    metrics: &'a Metrics<'a>,
    table: Table,
    random: Random,
    /// The client's own runs, each with its next step.
    next: Vec<(u64, u64)>,
    /// Whose turn it is among them.
    turn: usize,
    drawn: Drawn,
    /// An ingest that ended with an error: whether it happened is not known. It is sent again, over whatever is there.
    in_doubt: Option<(RecordBatch, Vec<(u64, u64)>)>,
    answer: Vec<RecordBatch>,
    places: Vec<u32>,
    row: Row,
    found: bool,
    means: Vec<f64>,
}

impl MetricsClient<'_> {
    fn seed(&self) -> u64 {
        self.metrics.settings.seed
    }

    /// Any run, and how many of its steps are committed.
    fn some_run(&mut self) -> Result<(u64, u64), Failure> {
        let run = self.random.below(self.metrics.run_count());
        Ok((run, self.metrics.run(run)?.committed.load(Ordering::Acquire)))
    }

    fn draw_ingest(&mut self) -> Result<Drawn, Failure> {
        if let Some((batch, reached)) = self.in_doubt.take() {
            return Ok(Drawn::Ingest { batch, reached, again: true });
        }
        let mut rows = Vec::new();
        let mut reached = Vec::new();
        for _ in 0..BATCH_ROWS {
            self.turn = (self.turn + 1) % self.next.len().max(1);
            let Some((run, next)) = self.next.get_mut(self.turn) else { continue };
            rows.push((*run, *next));
            *next += 1;
            reached.push((*run, *next));
        }
        for (run, next) in &reached {
            self.metrics.run(*run)?.begun.fetch_max(*next, Ordering::AcqRel);
        }
        Ok(Drawn::Ingest { batch: self.table.batch(self.seed(), &rows)?, reached, again: false })
    }

    fn draw_compare(&mut self) -> Result<Drawn, Failure> {
        let mut runs = Vec::new();
        let mut steps = u64::MAX;
        for _ in 0..COMPARED.min(self.metrics.run_count()) {
            let (run, committed) = self.some_run()?;
            if !runs.contains(&run) {
                runs.push(run);
                steps = steps.min(committed);
            }
        }
        let step = self.random.below(steps);
        let keys = runs.iter().map(|run| self.table.key(*run, step)).collect::<Result<_, _>>()?;
        Ok(Drawn::Compare { step, runs, keys })
    }

    /// What stands at `step` of `run`, as a row that was read must have it.
    fn check_row(&self, run: u64, step: u64, row: usize, batch: &RecordBatch) -> Result<(), Failure> {
        let read = Point {
            ts: *self
                .value(batch.column(2).as_primitive_opt::<TimestampMicrosecondType>().map(|a| a.values().get(row)))?,
            loss: *self.value(batch.column(3).as_primitive_opt::<Float64Type>().map(|a| a.values().get(row)))?,
            acc: *self.value(batch.column(4).as_primitive_opt::<Float64Type>().map(|a| a.values().get(row)))?,
            lr: *self.value(batch.column(5).as_primitive_opt::<Float64Type>().map(|a| a.values().get(row)))?,
        };
        let key = (
            *self.value(batch.column(0).as_primitive_opt::<Int64Type>().map(|a| a.values().get(row)))?,
            *self.value(batch.column(1).as_primitive_opt::<Int64Type>().map(|a| a.values().get(row)))?,
        );
        let right = point(self.seed(), run, step);
        match key == (signed(run), signed(step)) && read == right {
            true => Ok(()),
            false => Err(Failure::Wrong(format!("run {run}, step {step} is {key:?} {read:?}, not {right:?}"))),
        }
    }

    fn value<T>(&self, value: Option<Option<T>>) -> Result<T, Failure> {
        value
            .flatten()
            .ok_or_else(|| Failure::Wrong("a batch has other types or fewer rows than were asked for".into()))
    }

    /// Steps and losses of an answer that has just these columns, in order.
    fn losses(&self) -> Result<impl Iterator<Item = (i64, f64)> + '_, Failure> {
        let mut pieces = Vec::new();
        for batch in &self.answer {
            let steps = self.value(batch.column(0).as_primitive_opt::<Int64Type>().map(|a| Some(a.values())))?;
            let losses = self.value(batch.column(1).as_primitive_opt::<Float64Type>().map(|a| Some(a.values())))?;
            pieces.push(steps.iter().copied().zip(losses.iter().copied()));
        }
        Ok(pieces.into_iter().flatten())
    }

    fn scan(&mut self, range: KeyRange, projection: &[ColumnId], last: bool) -> Result<u64, Error> {
        self.answer.clear();
        let request = ScanRequest {
            ranges: vec![range],
            projection: projection.to_vec(),
            reverse: last,
            limit: last.then_some(1),
            ..ScanRequest::default()
        };
        let mut rows = 0;
        for batch in self.metrics.db.snapshot()?.scan(&self.table.def, request)? {
            let batch = batch?;
            rows += u64::try_from(batch.num_rows()).unwrap_or(0);
            self.answer.push(batch);
        }
        Ok(rows)
    }

    fn step_and_loss(&self) -> Vec<ColumnId> {
        [1, 3].iter().filter_map(|place: &usize| self.table.columns.get(*place)).copied().collect()
    }

    fn ingest(&mut self, batch: &RecordBatch, again: bool) -> Result<u64, Error> {
        let expects = if again { Expectation::None } else { Expectation::Absent };
        let mut transaction = self.metrics.db.begin()?;
        transaction.write(&self.table.def, WriteKind::Put, &self.table.columns, batch, expects)?;
        transaction.commit()?;
        Ok(BATCH_ROWS)
    }

    fn check_last(&self, run: u64, floor: u64) -> Result<(), Failure> {
        let ceiling = self.metrics.run(run)?.begun.load(Ordering::Acquire);
        let batch = self.answer.iter().find(|batch| batch.num_rows() > 0);
        let batch = batch.ok_or_else(|| Failure::Wrong(format!("run {run} has no last row")))?;
        let step = *self.value(batch.column(1).as_primitive_opt::<Int64Type>().map(|a| a.values().first()))?;
        match u64::try_from(step) {
            Ok(step) if (floor..=ceiling).contains(&(step + 1)) => self.check_row(run, step, 0, batch),
            _ => Err(Failure::Wrong(format!(
                "the last step of run {run} is {step}; {floor} to {ceiling} steps are there"
            ))),
        }
    }

    fn check_range(&self, run: u64, from: u64, to: u64) -> Result<(), Failure> {
        let mut wanted = from..to;
        for (step, loss) in self.losses()? {
            let right = wanted.next().map(|step| (signed(step), point(self.seed(), run, step).loss));
            if right != Some((step, loss)) {
                return Err(Failure::Wrong(format!("run {run} has loss {loss} at step {step}, not {right:?}")));
            }
        }
        match wanted.next() {
            None => Ok(()),
            Some(step) => Err(Failure::Wrong(format!("run {run} has no step {step} in a range that has it"))),
        }
    }

    fn check_compare(&self, step: u64, runs: &[u64]) -> Result<(), Failure> {
        let batch =
            self.answer.first().filter(|batch| batch.num_rows() == runs.len() && self.places.len() == runs.len());
        let batch =
            batch.ok_or_else(|| Failure::Wrong(format!("step {step} is not there of all of the runs {runs:?}")))?;
        for (row, place) in self.places.iter().enumerate() {
            let run = usize::try_from(*place).ok().and_then(|place| runs.get(place));
            let run = run.ok_or_else(|| Failure::Wrong(format!("a row for key {place} of {}", runs.len())))?;
            self.check_row(*run, step, row, batch)?;
        }
        Ok(())
    }

    fn check_downsample(&self, run: u64, from: u64, to: u64) -> Result<(), Failure> {
        self.check_range(run, from, to)?;
        let right = means((from..to).map(|step| point(self.seed(), run, step).loss), to - from);
        match self.means == right {
            true => Ok(()),
            false => Err(Failure::Wrong(format!("run {run} has means {:?}, not {right:?}", self.means))),
        }
    }
}

/// The mean of each of [`STRETCHES`] stretches of as many numbers each, but for a remainder.
fn means(numbers: impl Iterator<Item = f64>, len: u64) -> Vec<f64> {
    let width = len.div_ceil(STRETCHES).max(1);
    let (mut means, mut sum, mut summed) = (Vec::new(), 0.0, 0u64);
    for number in numbers {
        sum += number;
        summed += 1;
        if summed == width {
            means.push(sum / summed as f64);
            (sum, summed) = (0.0, 0);
        }
    }
    if summed > 0 {
        means.push(sum / summed as f64);
    }
    means
}

/// Which operation a number below 100 stands for.
fn operation_of(number: u64) -> usize {
    let mut below = 0;
    let reached = |share: &u64| {
        below += share;
        number < below
    };
    SHARES.iter().position(reached).unwrap_or(0)
}

impl Client for MetricsClient<'_> {
    fn draw(&mut self) -> Result<usize, Failure> {
        let first = self.metrics.first_operation();
        let left_out: u64 = SHARES.iter().take(first).sum();
        let operation = operation_of(left_out + self.random.below(100 - left_out));
        self.drawn = match operation {
            0 => self.draw_ingest()?,
            1 => {
                let (run, committed) = self.some_run()?;
                let step = self.random.below(committed);
                Drawn::Get { run, step, key: self.table.key(run, step)? }
            }
            2 => {
                let (run, floor) = self.some_run()?;
                Drawn::Last { run, floor, range: self.table.whole_run(run)? }
            }
            3 => {
                let (run, committed) = self.some_run()?;
                let from = self.random.below(committed.saturating_sub(RANGE_STEPS) + 1);
                let to = (from + RANGE_STEPS).min(committed);
                Drawn::Range { run, from, to, range: self.table.steps(run, from, to)? }
            }
            4 => self.draw_compare()?,
            _ => {
                let (run, to) = self.some_run()?;
                let from = to.saturating_sub(RANGE_STEPS);
                Drawn::Downsample { run, from, to, range: self.table.steps(run, from, to)? }
            }
        };
        Ok(operation - first)
    }

    fn run(&mut self) -> Result<u64, Failure> {
        match std::mem::replace(&mut self.drawn, Drawn::Nothing) {
            Drawn::Nothing => Err(Error::internal("an operation that was not drawn").into()),
            Drawn::Ingest { batch, reached, again } => {
                let outcome = self.ingest(&batch, again);
                match &outcome {
                    Ok(_) => self.drawn = Drawn::Ingest { batch, reached, again },
                    Err(_) => self.in_doubt = Some((batch, reached)),
                }
                Ok(outcome?)
            }
            Drawn::Get { run, step, key } => {
                let columns = &self.table.columns;
                self.found = self.metrics.db.snapshot()?.get(&self.table.def, &key, columns, &mut self.row)?;
                self.drawn = Drawn::Get { run, step, key };
                Ok(1)
            }
            Drawn::Last { run, floor, range } => {
                self.drawn = Drawn::Last { run, floor, range: range.clone() };
                let columns = self.table.columns.clone();
                Ok(self.scan(range, &columns, true)?)
            }
            Drawn::Range { run, from, to, range } => {
                self.drawn = Drawn::Range { run, from, to, range: range.clone() };
                let columns = self.step_and_loss();
                Ok(self.scan(range, &columns, false)?)
            }
            Drawn::Compare { step, runs, keys } => {
                let (batch, places) =
                    self.metrics.db.snapshot()?.multi_get(&self.table.def, &keys, &self.table.columns)?;
                let rows = u64::try_from(batch.num_rows()).unwrap_or(0);
                self.answer = vec![batch];
                self.places = places;
                self.drawn = Drawn::Compare { step, runs, keys };
                Ok(rows)
            }
            Drawn::Downsample { run, from, to, range } => {
                self.drawn = Drawn::Downsample { run, from, to, range: range.clone() };
                let columns = self.step_and_loss();
                let rows = self.scan(range, &columns, false)?;
                let means = means(self.losses()?.map(|(_, loss)| loss), rows);
                self.means = means;
                Ok(rows)
            }
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        match &self.drawn {
            Drawn::Nothing => Err(Error::internal("an operation that was not run").into()),
            Drawn::Ingest { reached, .. } => {
                for (run, next) in reached {
                    self.metrics.run(*run)?.committed.fetch_max(*next, Ordering::AcqRel);
                }
                Ok(())
            }
            Drawn::Get { run, step, .. } => {
                let right = point(self.seed(), *run, *step);
                let (run, step) = (signed(*run), signed(*step));
                let row = [
                    Value::Int(run),
                    Value::Int(step),
                    Value::Int(right.ts),
                    Value::Float64(right.loss),
                    Value::Float64(right.acc),
                    Value::Float64(right.lr),
                ];
                match self.found && self.row.values == row {
                    true => Ok(()),
                    false if self.found => {
                        Err(Failure::Wrong(format!("a lookup gave {:?}, not {row:?}", self.row.values)))
                    }
                    false => Err(Failure::Wrong(format!("a lookup did not find run {run}, step {step}"))),
                }
            }
            Drawn::Last { run, floor, .. } => self.check_last(*run, *floor),
            Drawn::Range { run, from, to, .. } => self.check_range(*run, *from, *to),
            Drawn::Compare { step, runs, .. } => self.check_compare(*step, runs),
            Drawn::Downsample { run, from, to, .. } => self.check_downsample(*run, *from, *to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_to_a_hundred_and_each_operation_has_its_own() {
        let mut seen = [0u64; 6];
        (0..100).for_each(|number| seen[operation_of(number)] += 1);
        assert_eq!((seen, SHARES.len()), (SHARES, OPERATIONS.len()));
    }

    #[test]
    fn stretches_are_even_but_for_the_last() {
        let of = |len: u64| means((0..len).map(|n| n as f64), len);
        assert_eq!(of(1), [0.0]);
        assert_eq!(of(100).len(), 100);
        assert_eq!(of(250), (0..84).map(|n| if n < 83 { f64::from(n * 3 + 1) } else { 249.0 }).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_follows_from_seed_run_and_step() {
        assert_eq!(point(1, 2, 3), point(1, 2, 3));
        assert_ne!(point(1, 2, 3).loss, point(2, 2, 3).loss);
        assert!(point(1, 2, 4).ts > point(1, 2, 3).ts);
    }
}
