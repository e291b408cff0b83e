/*!
What is done to a database while it is being tormented. Each workload makes a new database, is small enough to be run
to its end in some thousand operations of the disk, and follows from a seed.

Sizes are shrunk until everything happens: segments of 16 KiB (the least that the log's format allows), memtables of a few
rows, runs of 4 KiB, manifest files of a few edits.
*/

use crate::model::{Change, World};
use omendb_engine::Result;
use omendb_engine::db::{Db, Options, SyncMode};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::io::{IoRef, thread};
use std::sync::Arc;
use std::time::Duration;

/// One workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Commits,
    Flush,
    Compaction,
    Ddl,
    Load,
    /// Recovery itself: what opens after a crash, crashes.
    Recovery,
}

pub(crate) const ALL: [Workload; 6] =
    [Workload::Commits, Workload::Flush, Workload::Compaction, Workload::Ddl, Workload::Load, Workload::Recovery];

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Commits => "commits",
            Workload::Flush => "flush",
            Workload::Compaction => "compaction",
            Workload::Ddl => "ddl",
            Workload::Load => "load",
            Workload::Recovery => "recovery",
        }
    }

    pub(crate) fn named(name: &str) -> Workload {
        ALL.into_iter().find(|workload| workload.name() == name).unwrap_or_else(|| panic!("no workload {name}"))
    }

    /// Whether commits come back before they are durable.
    pub(crate) fn is_lazy(self, seed: u64) -> bool {
        matches!(self, Workload::Commits | Workload::Load) && seed % 4 == 3
    }

    pub(crate) fn world(self, seed: u64) -> World {
        if self.is_lazy(seed) { World::lazy() } else { World::default() }
    }

    pub(crate) fn options(self, seed: u64, io: &IoRef) -> Options {
        let small = options(io);
        let sync = match (self.is_lazy(seed), seed % 8) {
            (false, _) => SyncMode::Always,
            (true, 3) => SyncMode::None,
            (true, _) => SyncMode::Interval(Duration::from_millis(3)),
        };
        let memtable_bytes = if self == Workload::Commits { 1 << 20 } else { small.memtable_bytes };
        Options { memtable_bytes, sync, ..small }
    }

    /// Runs it on an empty disk.
    pub(crate) fn run(self, seed: u64, io: &IoRef, world: &Arc<World>) -> Result<()> {
        let db = Db::open(self.options(seed, io))?;
        let mut random = Random::new(mix(seed ^ 0x5eed));
        match self {
            Workload::Commits => commits(&db, world, &mut random),
            Workload::Flush => flush(&db, world, &mut random),
            Workload::Compaction => compaction(&db, world, &mut random),
            Workload::Ddl => ddl(&db, world, &mut random),
            Workload::Load => load(&db, world, &mut random),
            Workload::Recovery => mixed(&db, world, &mut random),
        }?;
        world.count(&db);
        db.close()
    }
}

/// The least sizes.
pub(crate) fn options(io: &IoRef) -> Options {
    Options {
        dir: Some("/db".into()),
        io: Some(Arc::clone(io)),
        memtable_bytes: 4 << 10,
        log_segment_bytes: 16 << 10,
        run_bytes: 4 << 10,
        manifest_bytes: 12 << 10,
        cache_bytes: 1 << 20,
        threads: 1,
        ..Options::memory()
    }
}

fn key(random: &mut Random) -> i64 {
    random.below(60) as i64
}

fn put(random: &mut Random, table: &'static str) -> Change {
    Change::Put(table, key(random), random.next_u64() >> 2)
}

/// A row that goes: deleted, or expired.
fn end(random: &mut Random, table: &'static str) -> Change {
    match random.chance(1, 2) {
        true => Change::Delete(table, key(random)),
        false => Change::Expire(table, key(random), random.next_u64() >> 2),
    }
}

/// A range of at most a third of the keys.
fn range(random: &mut Random, table: &'static str) -> Change {
    let from = key(random);
    Change::DeleteRange(table, from, from + 1 + random.below(20) as i64)
}

fn tables(db: &Db, world: &World) -> Result<()> {
    world.commit(db, vec![Change::Create("t", true), Change::Create("h", false)]).map(drop)
}

/// Three writers at once: group commit, segment changes, several kinds of records.
fn commits(db: &Db, world: &Arc<World>, random: &mut Random) -> Result<()> {
    tables(db, world)?;
    let writer = |number: i64, seed: u64| {
        let (db, world) = (db.clone(), Arc::clone(world));
        thread::spawn(&format!("writer-{number}"), move || -> Result<()> {
            let mut random = Random::new(seed);
            for _ in 0..14 {
                // Each has keys of its own, so that the order of two commits at once does not matter.
                let own = |random: &mut Random| 100 * number + key(random);
                let count = 1 + random.below(3);
                let mut changes: Vec<Change> =
                    (0..count).map(|_| Change::Put("t", own(&mut random), random.next_u64() >> 2)).collect();
                if random.chance(1, 4) {
                    changes.push(Change::Delete("t", own(&mut random)));
                }
                world.commit(&db, changes)?;
            }
            Ok(())
        })
    };
    let writers = (1..=3).map(|number| writer(number, random.next_u64())).collect::<Result<Vec<_>>>()?;
    for _ in 0..4 {
        world.commit(db, vec![Change::Append("h", random.next_u64() >> 2)])?;
    }
    for writer in writers {
        writer.join()??;
    }
    // The log rests, and writes its watermark.
    thread::sleep(Duration::from_millis(150));
    world.commit(db, vec![put(random, "t")]).map(drop)
}

/// Memtables of a few rows: flushes in the background and on demand.
fn flush(db: &Db, world: &Arc<World>, random: &mut Random) -> Result<()> {
    tables(db, world)?;
    for round in 0..26 {
        let mut changes = vec![put(random, "t"), put(random, "t")];
        if random.chance(1, 3) {
            changes.push(end(random, "t"));
        }
        if random.chance(1, 3) {
            changes.push(Change::Append("h", random.next_u64() >> 2));
        }
        if round % 5 == 3 {
            // Before, between or behind the rows of its commit.
            changes.insert(random.index(changes.len() + 1), range(random, "t"));
        }
        world.commit(db, changes)?;
        if round % 9 == 8 {
            db.flush()?;
        }
    }
    Ok(())
}

/// Overlapping runs, tombstones among them, merged in the background and on demand.
fn compaction(db: &Db, world: &Arc<World>, random: &mut Random) -> Result<()> {
    tables(db, world)?;
    for round in 0..8 {
        let mut changes: Vec<Change> = (0..3).map(|_| put(random, "t")).collect();
        changes.push(end(random, "t"));
        changes.push(Change::Append("h", random.next_u64() >> 2));
        world.commit(db, changes)?;
        if round % 3 == 1 {
            world.commit(db, vec![range(random, "t")])?;
        }
        db.flush()?;
        if round % 4 == 3 {
            db.compact(None)?;
        }
    }
    world.commit(db, vec![Change::Delete("t", key(random)), put(random, "t")]).map(drop)
}

/// Tables come, change and go, some with rows in the same commit, some with runs.
fn ddl(db: &Db, world: &Arc<World>, random: &mut Random) -> Result<()> {
    tables(db, world)?;
    for round in 0..4 {
        world.commit(db, vec![Change::Create("x", round % 2 == 0)])?;
        if round % 2 == 0 {
            world.commit(db, vec![put(random, "x"), put(random, "t")])?;
            world.commit(db, vec![Change::Create("y", true), put(random, "y"), put(random, "y")])?;
        } else {
            world.commit(db, vec![Change::Append("x", random.next_u64() >> 2)])?;
            let rows = (0..8).map(|k| (k, random.next_u64() >> 2)).collect();
            world.commit(db, vec![Change::Create("y", true), Change::Load("y", rows)])?;
        }
        if random.chance(1, 2) {
            db.flush()?;
        }
        world.commit(db, vec![Change::Truncate("x"), Change::Append("h", random.next_u64() >> 2)])?;
        world.commit(db, vec![Change::Drop("x"), put(random, "t")])?;
        world.commit(db, vec![Change::Drop("y")])?;
    }
    Ok(())
}

/// Loads and large transactions over and between rows that are there.
fn load(db: &Db, world: &Arc<World>, random: &mut Random) -> Result<()> {
    tables(db, world)?;
    for round in 0..4i64 {
        world.commit(db, vec![put(random, "t"), put(random, "t")])?;
        let start = if round % 2 == 0 { 100 * round } else { key(random) };
        let rows = (0..12).map(|k| (start + k * 2, random.next_u64() >> 2)).collect();
        world.commit(db, vec![Change::Load("t", rows)])?;
        world.commit(db, vec![put(random, "t"), Change::Append("h", random.next_u64() >> 2)])?;
        // More than a memtable: staged as runs.
        let mut large: Vec<Change> = (0..10).map(|k| Change::Put("t", 40 + k, random.next_u64() >> 2 | 3)).collect();
        large.push(Change::Delete("t", 3));
        if round % 2 == 1 {
            // Published with the runs.
            large.insert(random.index(large.len() + 1), range(random, "t"));
        }
        world.commit(db, large)?;
        world.commit(db, vec![put(random, "t"), Change::Delete("t", key(random))])?;
    }
    Ok(())
}

/// A little of everything, for recovery to find.
pub(crate) fn mixed(db: &Db, world: &Arc<World>, random: &mut Random) -> Result<()> {
    if db.snapshot()?.table("t")?.is_none() {
        tables(db, world)?;
    }
    for round in 0..12 {
        let mut changes = vec![put(random, "t"), put(random, "t")];
        if random.chance(1, 2) {
            changes.push(Change::Delete("t", key(random)));
        }
        changes.push(Change::Append("h", random.next_u64() >> 2));
        world.commit(db, changes)?;
        match round {
            3 => db.flush()?,
            5 => db.compact(None)?,
            4 | 8 => drop(world.commit(db, vec![range(random, "t")])?),
            7 => {
                let rows = (0..12).map(|k| (k * 3, random.next_u64() >> 2)).collect();
                world.commit(db, vec![Change::Load("t", rows)])?;
            }
            9 => drop(world.commit(db, vec![Change::Create("x", true), Change::Put("x", 1, 5)])?),
            _ => {}
        }
    }
    world.commit(db, vec![Change::Drop("x")]).map(drop)
}

/// What follows a recovery: a few commits, one of them flushed.
pub(crate) fn after_recovery(db: &Db, world: &Arc<World>, random: &mut Random) -> Result<()> {
    if db.snapshot()?.table("t")?.is_none() {
        tables(db, world)?;
    }
    world.commit(db, vec![put(random, "t")])?;
    db.flush()?;
    world.commit(db, vec![put(random, "t"), Change::Delete("t", key(random))]).map(drop)
}
