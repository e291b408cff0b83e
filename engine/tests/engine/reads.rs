/*!
What lookups read that the cache does not have: counted at the door to the files. The index names a key's slice before anything is
read, so all that a lookup needs goes out at once, and nothing is asked for after an answer has been waited for.
*/

use crate::support::*;
use omendb_engine::Result;
use omendb_engine::db::{Db, Options, Row};
use omendb_engine::io::{self, Completion, DirEntry, Done, EntryKind, File, Io, IoRef, Lock, Op, OpenMode, Pending};
use omendb_engine::key::Key;
use omendb_engine::types::{ColumnId, ColumnType, TableDef, Value};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What was asked of files of runs, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// So many reads in one submission.
    Submitted(usize),
    /// An outcome was waited for.
    Awaited,
}

type Events = Arc<Mutex<Vec<Event>>>;

#[derive(Debug)]
struct CountingIo {
    inner: IoRef,
    events: Events,
}

#[derive(Debug)]
struct CountingFile {
    inner: Arc<dyn File>,
    events: Events,
}

#[derive(Debug)]
struct Counted {
    inner: Completion,
    events: Events,
}

impl Pending for Counted {
    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    fn wait(self: Box<Self>) -> Result<Done> {
        self.events.lock().unwrap().push(Event::Awaited);
        self.inner.wait()
    }
}

impl CountingFile {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn counted(&self, inner: Completion) -> Completion {
        Completion::pending(Box::new(Counted { inner, events: Arc::clone(&self.events) }))
    }
}

impl File for CountingFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn submit(&self, op: Op) -> Completion {
        self.note(Event::Submitted(1));
        self.counted(self.inner.submit(op))
    }

    fn run(&self, op: Op) -> Result<Done> {
        self.note(Event::Submitted(1));
        self.note(Event::Awaited);
        self.inner.run(op)
    }

    fn submit_all(&self, ops: Vec<Op>) -> Vec<Completion> {
        self.note(Event::Submitted(ops.len()));
        self.inner.submit_all(ops).into_iter().map(|completion| self.counted(completion)).collect()
    }

    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.inner.allocate(len)
    }
}

impl Io for CountingIo {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        self.inner.open(path, mode)
    }

    /// Runs that are read are counted.
    fn open_direct(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let inner = self.inner.open_direct(path, mode)?;
        match mode {
            OpenMode::Read => Ok(Arc::new(CountingFile { inner, events: Arc::clone(&self.events) })),
            _ => Ok(inner),
        }
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> Result<Option<EntryKind>> {
        self.inner.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }

    fn lock_existing(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        self.inner.lock_existing(path)
    }

    fn unix_micros(&self) -> i64 {
        self.inner.unix_micros()
    }

    fn monotonic_nanos(&self) -> u64 {
        self.inner.monotonic_nanos()
    }

    fn random_u64(&self) -> u64 {
        self.inner.random_u64()
    }

    fn process_id(&self) -> u32 {
        self.inner.process_id()
    }
}

/// A database whose reads of runs are counted.
struct World {
    options: Options,
    events: Events,
}

const COLUMNS: [(&str, ColumnType); 4] =
    [("k", ColumnType::Int64), ("a", ColumnType::Text), ("b", ColumnType::Int64), ("c", ColumnType::Float64)];

impl World {
    fn new() -> World {
        let events = Events::default();
        let io: IoRef = Arc::new(CountingIo { inner: io::memory(), events: Arc::clone(&events) });
        World { options: Options { background: false, io: Some(io), ..Options::memory() }, events }
    }

    fn open(&self) -> Db {
        Db::open(self.options.clone()).unwrap()
    }

    /// The events of what `act` does.
    fn events<T>(&self, act: impl FnOnce() -> T) -> (T, Vec<Event>) {
        self.events.lock().unwrap().clear();
        let outcome = act();
        (outcome, std::mem::take(&mut *self.events.lock().unwrap()))
    }
}

fn row(k: i64) -> Vec<Value> {
    let text = format!("the text of {k}");
    vec![Value::Int(k), Value::Text(text), Value::Int(k * 3), Value::Float64(k as f64 / 4.0)]
}

/// Reads in all, and whether all of them were in flight before the first was waited for.
fn reads(events: &[Event]) -> (usize, bool) {
    let of = |event: &Event| match event {
        Event::Submitted(reads) => *reads,
        Event::Awaited => 0,
    };
    let first_wait = events.iter().position(|event| *event == Event::Awaited).unwrap_or(events.len());
    (events.iter().map(of).sum(), events.iter().skip(first_wait).all(|event| *event == Event::Awaited))
}

fn submissions(events: &[Event]) -> usize {
    events.iter().filter(|event| **event != Event::Awaited).count()
}

/// Whether the row of `k` is as it must be in these columns, numbered from 0.
fn check(db: &Db, table: &TableDef, k: i64, columns: &[usize], there: bool) {
    let ids: Vec<ColumnId> = columns.iter().map(|column| table.column_ids()[*column]).collect();
    let mut got = Row::default();
    assert_eq!(db.snapshot().unwrap().get(table, &key(table, &[Value::Int(k)]), &ids, &mut got).unwrap(), there);
    if there {
        let expected: Vec<Value> = columns.iter().map(|column| row(k)[*column].clone()).collect();
        assert_eq!(got.values, expected);
    }
}

/// Three tiles of columns in one run of the last level, of one commit.
fn columnar(world: &World) -> (Db, Arc<TableDef>) {
    let db = world.open();
    let table = create(&db, "t", &COLUMNS, &["k"]);
    put(&db, &table, &(0..20_000).map(|k| row(k * 2)).collect::<Vec<_>>());
    db.compact(None).unwrap();
    drop(db);
    let db = world.open();
    // The run's own index and locators are read once.
    check(&db, &table, 0, &[], true);
    (db, table)
}

#[test]
fn a_cold_lookup_in_columns_is_one_submission_with_a_read_for_each_column() {
    let world = World::new();
    let (db, table) = columnar(&world);
    for (k, columns, expected) in [(20_000, vec![1, 3], 3), (39_998, vec![], 1), (39_000, vec![0, 2], 1)] {
        let ((), events) = world.events(|| check(&db, &table, k, &columns, true));
        assert_eq!((reads(&events), submissions(&events)), ((expected, true), 1), "{k} {events:?}");
        let ((), again) = world.events(|| check(&db, &table, k, &columns, true));
        assert_eq!(again, []);
    }
}

#[test]
fn a_cold_batch_of_lookups_waits_for_nothing_before_all_reads_are_out() {
    let world = World::new();
    let (db, table) = columnar(&world);
    let keys: Vec<Key> = [39_998, 7, 20_000, 12, 38_000, 20_002].map(|k| key(&table, &[Value::Int(k)])).to_vec();
    let columns = table.column_ids()[1..3].to_vec();
    let get = || db.snapshot().unwrap().multi_get(&table, &keys, &columns).unwrap();
    let ((rows, which), events) = world.events(get);
    assert_eq!((rows.num_rows(), which), (5, vec![0, 2, 3, 4, 5]));
    // Key and two columns of three tiles, but for the first tile's key, which is there.
    assert_eq!((reads(&events), submissions(&events)), ((8, true), 1), "{events:?}");
    assert_eq!(world.events(get).1, []);
}

#[test]
fn a_cold_lookup_in_upper_runs_is_one_read_for_each_run_and_all_go_out_together() {
    let world = World::new();
    let db = world.open();
    let table = create(&db, "t", &COLUMNS, &["k"]);
    for run in 0..3 {
        put(&db, &table, &(0..3_000).map(|k| row(k * 3 + run)).collect::<Vec<_>>());
        db.flush().unwrap();
    }
    let stats = db.run_stats(&table).unwrap();
    assert_eq!(stats.iter().filter(|run| run.level == 0).count(), 3);
    drop(db);
    let db = world.open();
    // Each run's own index and locators are read once; nobody has the key.
    check(&db, &table, -1, &[1], false);
    check(&db, &table, 3, &[1], true);
    check(&db, &table, 4, &[1], true);
    check(&db, &table, 5, &[1], true);
    let ((), events) = world.events(|| check(&db, &table, 8_000, &[1, 2, 3], true));
    assert_eq!(reads(&events), (3, true), "{events:?}");
    // What the newest run answers, the older ones were asked for along with it.
    let ((), events) = world.events(|| check(&db, &table, 6_002, &[1, 2, 3], true));
    assert_eq!(reads(&events), (3, true), "{events:?}");
    let ((), events) = world.events(|| check(&db, &table, 6_001, &[1, 2, 3], true));
    assert_eq!(reads(&events), (0, true), "{events:?}");
}
