//! The policy against a model: trees whose runs are made up, merged as the policy says, step by step, with flushes, loads and
//! reopenings between the steps.

use super::*;
use crate::cache::Cache;
use crate::io::random::Random;
use crate::io::{self, IoRef};
use crate::lease::Leases;
use crate::run::{Layout, Run, RunMeta, RunSchema};
use crate::scan::tree::{Mem, RunFile};
use crate::txn::catalog::SystemTables;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

const PUT_BYTES: u64 = 100;
const TOMBSTONE_BYTES: u64 = 20;
const RUN_BYTES: u64 = 40 * PUT_BYTES;
const MEMTABLE_ROWS: usize = 10;
/// No step reads more than so many runs' worth.
const STEP_RUNS_MAX: u64 = 3;

type Rows = BTreeMap<u32, (Seq, bool)>;

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn number(key: &[u8]) -> u32 {
    u32::from_be_bytes(key.try_into().unwrap())
}

fn bytes(rows: &Rows) -> u64 {
    rows.values().map(|(_, tombstone)| if *tombstone { TOMBSTONE_BYTES } else { PUT_BYTES }).sum()
}

fn within(rows: &Rows, span: &Span) -> Rows {
    let range = span.range();
    rows.iter().filter(|(number, _)| range.contains(&key(**number))).map(|(number, row)| (*number, *row)).collect()
}

struct World {
    seed: u64,
    random: Random,
    io: IoRef,
    cache: Arc<Cache>,
    tree: Tree,
    rounds: Vec<Round>,
    contents: RefCell<BTreeMap<RunId, Rows>>,
    truth: Rows,
    next_run: u64,
    seq: Seq,
    flushed: u64,
    merged: u64,
    user: u64,
    most_read: u64,
    deepest: usize,
    nested: bool,
    /// Whether loads come while steps are being written.
    loads: bool,
    /// How much more than there is the survey sees.
    blur: Vec<u64>,
}

impl Survey for World {
    fn bytes_in(&self, run: &Arc<RunRef>, span: &Span) -> Result<u64> {
        let exact = bytes(&within(&self.contents.borrow()[&run.id()], span));
        // Fences tell too much, never nothing where there is something.
        Ok(exact * self.blur.get(usize::try_from(run.id().0).unwrap() % self.blur.len()).unwrap_or(&1))
    }

    fn cut(&self, runs: &[Arc<RunRef>], span: &Span, parts: usize) -> Result<Option<Key>> {
        let contents = self.contents.borrow();
        let mut keys: Vec<u32> = runs.iter().flat_map(|run| within(&contents[&run.id()], span).into_keys()).collect();
        keys.sort_unstable();
        let sees = self.blur == [1] || !parts.is_multiple_of(3);
        Ok(keys.get(keys.len() / parts).filter(|_| sees).map(|number| Key::from(&key(*number)[..])))
    }
}

impl World {
    fn new(seed: u64) -> World {
        let schema = RunSchema::of(&SystemTables::new().tables).unwrap();
        let tree = Tree {
            schema: Arc::new(schema),
            active: Mem::new(1),
            upper: Vec::new(),
            last: Vec::new(),
            rewrites: 0,
            probes: Arc::default(),
        };
        World {
            seed,
            random: Random::new(seed),
            io: io::memory(),
            cache: Cache::new(1 << 20),
            tree,
            rounds: Vec::new(),
            contents: RefCell::default(),
            truth: Rows::new(),
            next_run: 1,
            seq: 0,
            flushed: 0,
            merged: 0,
            user: 0,
            most_read: 0,
            deepest: 0,
            nested: false,
            loads: false,
            blur: vec![1],
        }
    }

    fn run(&mut self, rows: Rows, level: u8, fixed_seq: Option<Seq>) -> Arc<RunRef> {
        let id = RunId(self.next_run);
        self.next_run += 1;
        let count = |n: usize| u64::try_from(n).unwrap();
        let seqs = || rows.values().map(|(seq, _)| *seq);
        let meta = RunMeta {
            id,
            random_id: id.0,
            rows: count(rows.len()),
            tombstones: count(rows.values().filter(|(_, tombstone)| *tombstone).count()),
            bytes: bytes(&rows),
            footer_offset: 0,
            footer_bytes: 0,
            layout: Layout::Column,
            min_key: key(*rows.first_key_value().unwrap().0).to_vec(),
            max_key: key(*rows.last_key_value().unwrap().0).to_vec(),
            min_seq: seqs().min().unwrap(),
            max_seq: seqs().max().unwrap(),
        };
        let dir = Path::new("/db");
        let file = RunFile::new(&Leases::new(&self.io, dir), id, false);
        let run = Run::open(&self.io, dir, meta, &self.cache).unwrap();
        self.contents.get_mut().insert(id, rows);
        Arc::new(RunRef { run, level, fixed_seq, file })
    }

    /// Runs of about `RUN_BYTES` each.
    fn runs(&mut self, rows: Rows, level: u8, fixed_seq: Option<Seq>) -> Vec<Arc<RunRef>> {
        let (mut out, mut part) = (Vec::new(), Rows::new());
        for (number, row) in rows {
            part.insert(number, row);
            if bytes(&part) >= RUN_BYTES {
                out.push(self.run(std::mem::take(&mut part), level, fixed_seq));
            }
        }
        if !part.is_empty() {
            out.push(self.run(part, level, fixed_seq));
        }
        out
    }

    fn put_above(&mut self, runs: Vec<Arc<RunRef>>) {
        self.tree.upper.splice(0..0, runs.into_iter().map(Source::Run));
        self.sort();
    }

    /// As the store does after a merge, and recovery.
    fn sort(&mut self) {
        self.tree.upper.sort_by_key(|source| match source {
            Source::Run(run) => Reverse((run.max_seq(), run.id())),
            _ => Reverse((Seq::MAX, RunId(u64::MAX))),
        });
    }

    fn flush(&mut self, changes: &[(u32, bool)]) {
        let mut rows = Rows::new();
        for (number, tombstone) in changes {
            self.seq += 1;
            rows.insert(*number, (self.seq, *tombstone));
        }
        self.truth.extend(rows.iter().map(|(number, row)| (*number, *row)));
        self.user += bytes(&rows);
        self.flushed += bytes(&rows);
        let runs = self.runs(rows, 0, None);
        self.put_above(runs);
    }

    /// A bulk load of `count` keys from `first` on, all of one number.
    fn load(&mut self, first: u32, step: u32, count: u32) {
        self.seq += 1;
        let seq = self.seq;
        let rows: Rows = (0..count).map(|place| (first + place * step, (seq, false))).collect();
        self.truth.extend(rows.iter().map(|(number, row)| (*number, *row)));
        self.user += bytes(&rows);
        let runs = self.runs(rows, 0, Some(seq));
        let (lonely, others): (Vec<_>, Vec<_>) =
            runs.into_iter().partition(|run| self.tree.runs().all(|other| !meet(other, run)));
        self.tree.add_last(lonely.into_iter().map(|run| run.moved(LAST_LEVEL, run.fixed_seq)));
        self.put_above(others);
    }

    /// Takes over what a step says; gives the bytes it wrote.
    fn work(&mut self, step: &Step) {
        let mut rows = Rows::new();
        for run in &step.last {
            rows.extend(self.contents.get_mut()[&run.id()].iter().map(|(number, row)| (*number, *row)));
        }
        let mut read = bytes(&rows);
        for run in step.upper.iter().rev() {
            let above = within(&self.contents.get_mut()[&run.id()], &step.span);
            read += bytes(&above);
            rows.extend(above);
        }
        self.most_read = self.most_read.max(read);
        if step.level == LAST_LEVEL {
            rows.retain(|_, (_, tombstone)| !*tombstone);
        }
        if step.upper.is_empty() {
            // Then nothing is written.
            rows.clear();
        }
        self.merged += bytes(&rows);
        let made = self.runs(rows, step.level, None);
        let is_gone = |run: &Arc<RunRef>| step.gone.iter().any(|gone| gone.id() == run.id());
        self.tree.upper.retain(|source| !matches!(source, Source::Run(run) if is_gone(run)));
        self.tree.last.retain(|run| !is_gone(run));
        match step.level {
            LAST_LEVEL => self.tree.add_last(made),
            _ => self.tree.upper.extend(made.into_iter().map(Source::Run)),
        }
        self.sort();
    }

    /// As the worker does it: begins what is due, and does one step; false where there is nothing to do.
    fn merge(&mut self, is_old: &dyn Fn(&RunRef) -> bool) -> bool {
        match due(&self.tree, &self.rounds, is_old) {
            Some(Job::Move(run)) => {
                self.tree.upper.retain(|source| !matches!(source, Source::Run(other) if other.id() == run.id()));
                self.tree.add_last([run.moved(LAST_LEVEL, run.fixed_seq)]);
                return true;
            }
            Some(Job::Merge(round)) => self.rounds.push(round),
            None => {}
        }
        let urgent = (0..self.rounds.len()).min_by_key(|place| self.rounds[*place].source());
        let Some(urgent) = urgent else { return false };
        self.nested |= self.rounds.len() > 1;
        let step = self.rounds[urgent].step(&self.tree, self, RUN_BYTES).unwrap();
        if self.loads && self.random.chance(1, 10) {
            // While the step is being written: into a gap of the keys, if there is one.
            let first = u32::try_from(self.random.below(4000)).unwrap();
            self.load(first, 1, 3);
        }
        self.work(&step);
        self.rounds[urgent].advance(&step);
        self.rounds.retain(|round| !round.is_done());
        true
    }

    fn settle(&mut self) {
        let before = self.next_run;
        while self.merge(&|_| false) {
            assert!(self.next_run < before + 100_000, "seed {}: merges never end", self.seed);
        }
        assert_eq!(debt(&self.tree, &[]), 0, "seed {}: debt where nothing is due", self.seed);
        self.deepest = self.deepest.max(depth(self.tree.upper_runs()));
    }

    /// What a reader finds, and the rules of a tree.
    fn check(&self) {
        let seed = self.seed;
        let contents = self.contents.borrow();
        for (before, after) in self.tree.last.iter().zip(self.tree.last.iter().skip(1)) {
            assert!(before.last_key() < after.first_key(), "seed {seed}: the last level overlaps");
        }
        let mut seen = Rows::new();
        for run in self.tree.upper_runs().chain(&self.tree.last) {
            for (number, row) in &contents[&run.id()] {
                seen.entry(*number).or_insert((run.fixed_seq.unwrap_or(row.0), row.1));
            }
        }
        let live = |rows: &Rows| rows.iter().filter(|(_, row)| !row.1).map(|(n, row)| (*n, row.0)).collect::<Vec<_>>();
        assert_eq!(live(&seen), live(&self.truth), "seed {seed}: not the newest rows");
        assert!(
            self.blur != [1] || self.most_read <= STEP_RUNS_MAX * RUN_BYTES,
            "seed {seed}: a step reads {} bytes",
            self.most_read
        );
    }

    /// A crash or a forced merge: what was under way is forgotten.
    fn forget(&mut self) {
        self.rounds.clear();
    }

    fn write_amplification(&self) -> f64 {
        (self.flushed + self.merged) as f64 / self.user as f64
    }
}

/// What is written in one memtable.
fn changes(kind: u64, round: u32, random: &mut Random) -> Vec<(u32, bool)> {
    let rows = u32::try_from(MEMTABLE_ROWS).unwrap();
    let below = |random: &mut Random, n: u32| u32::try_from(random.below(u64::from(n))).unwrap();
    (0..rows)
        .map(|row| match kind {
            // Anywhere; in order; in order with some that are late; a hot spot; a queue whose head is deleted.
            0 => (below(random, 3000), false),
            1 => (round * rows + row, false),
            2 if random.chance(1, 20) => (below(random, round * rows + 1), false),
            2 => (round * rows + row, false),
            3 if random.chance(9, 10) => (1000 + below(random, 60), random.chance(1, 10)),
            3 => (below(random, 3000), false),
            4 if row % 2 == 1 => ((round * rows + row - 1).saturating_sub(200), true),
            4 => (round * rows + row, false),
            _ => (below(random, 1500), random.chance(1, 3)),
        })
        .collect()
}

#[test]
fn random_trees_stay_in_order_and_every_job_is_bounded() {
    let mut nested = false;
    for seed in 0..20 {
        let mut world = World::new(seed);
        let kind = seed % 6;
        let diligence = 1 + world.random.below(6);
        world.loads = seed % 5 < 2;
        if seed % 4 == 3 {
            world.blur = vec![1, 2, 7, 3];
        }
        for round in 0..260 {
            let mut changes = changes(kind, round, &mut world.random);
            if world.random.chance(1, 8) {
                // A memtable that is flushed into several runs.
                for _ in 0..12 {
                    let more = super::tests::changes(kind, round, &mut world.random);
                    changes.extend(more);
                }
            }
            world.flush(&changes);
            if world.random.chance(1, 40) {
                let (first, step) = (world.random.below(4000), 1 + world.random.below(9));
                world.load(u32::try_from(first).unwrap(), u32::try_from(step).unwrap(), 90);
            }
            let steps = world.random.below(diligence);
            for _ in 0..steps {
                let old = world.random.chance(1, 50);
                world.merge(&|_| old);
                world.check();
            }
            if world.random.chance(1, 30) {
                world.forget();
            }
            if round % 50 == 49 {
                world.settle();
                world.check();
            }
        }
        world.forget();
        for job in all(&world.tree) {
            match job {
                Job::Move(run) => {
                    world.tree.upper.retain(|source| !matches!(source, Source::Run(other) if other.id() == run.id()));
                    world.tree.add_last([run.moved(LAST_LEVEL, run.fixed_seq)]);
                }
                Job::Merge(mut round) => {
                    while !round.is_done() {
                        let step = round.step(&world.tree, &world, RUN_BYTES).unwrap();
                        world.work(&step);
                        round.advance(&step);
                        world.check();
                    }
                }
            }
        }
        assert!(world.tree.upper.is_empty(), "seed {seed}");
        assert!(world.tree.last.iter().all(|run| run.run.meta().tombstones == 0), "seed {seed}");
        nested |= world.nested;
    }
    assert!(nested, "no round ever began while another was under way");
}

#[test]
fn a_step_that_ends_before_the_first_row_leaves_the_last_level_alone() {
    let mut world = World::new(1);
    world.load(0, 1, 30);
    world.flush(&[(20, false)]);
    // So heavy does the row look that its stretch is cut, and the only place is before it.
    world.blur = vec![60];
    let jobs = all(&world.tree);
    let [Job::Merge(round)] = jobs.as_slice() else { panic!("one merge, not {jobs:?}") };
    let mut round = round.clone();
    let first = round.step(&world.tree, &world, RUN_BYTES).unwrap();
    assert_eq!(first.span.to, Edge::At(Key::from(&key(20)[..]), false));
    while !round.is_done() {
        let step = round.step(&world.tree, &world, RUN_BYTES).unwrap();
        world.work(&step);
        round.advance(&step);
        world.check();
    }
    assert!(world.tree.upper.is_empty());
}

#[test]
fn reads_and_writes_are_amplified_within_bounds() {
    // Kind, and bytes written for each byte of the user's at most.
    for (kind, written_max) in [(0, 8.0), (1, 2.01), (2, 5.0), (3, 8.0), (4, 6.0), (5, 8.0)] {
        for seed in 0..2 {
            let mut world = World::new(seed);
            for round in 0..500 {
                let changes = changes(kind, round, &mut world.random);
                world.flush(&changes);
                world.settle();
            }
            world.check();
            let (written, deepest) = (world.write_amplification(), world.deepest);
            assert!(written <= written_max, "kind {kind}, seed {seed}: {written} bytes written for one");
            assert!(deepest <= 3 * LEVEL_RUNS_MAX, "kind {kind}, seed {seed}: {deepest} upper runs over one key");
            let (upper, last) = (bytes_of(world.tree.upper_runs()), bytes_of(&world.tree.last));
            assert!(upper <= last / 2 + 10 * RUN_BYTES, "kind {kind}, seed {seed}: {upper} above {last}");
            assert_eq!(pressure(&world.tree, PUT_BYTES * 10), 0, "kind {kind}, seed {seed}");
        }
    }
}

/// Rows in key order, and then single rows far behind: windows that no late row falls into are not touched.
#[test]
fn late_rows_rewrite_the_windows_they_fall_into() {
    let mut world = World::new(1);
    for round in 0..200 {
        let changes = changes(1, round, &mut world.random);
        world.flush(&changes);
        world.settle();
    }
    let windows: Vec<(RunId, Vec<u8>)> =
        world.tree.last.iter().map(|run| (run.id(), run.first_key().to_vec())).collect();
    assert!(windows.len() > 20);
    let late = number(&windows[5].1) + 1;
    for round in 200..220u32 {
        let mut changes = changes(1, round, &mut world.random);
        changes[0] = (late + round % 7, false);
        world.flush(&changes);
        world.settle();
    }
    world.merge(&|_| true);
    world.settle();
    while world.merge(&|_| true) {}
    world.check();
    assert!(world.tree.upper.is_empty());
    let touched = windows.iter().filter(|(id, _)| world.tree.last.iter().all(|run| run.id() != *id)).count();
    assert!((1..=2).contains(&touched), "{touched} of {} windows were rewritten", windows.len());
}

#[test]
fn tombstones_go_down_though_they_are_few_bytes() {
    let mut world = World::new(1);
    world.load(0, 1, 400);
    let dead = |from: u32| (0..40).map(|n| (n * 10 + from, true)).collect::<Vec<_>>();
    for from in 0..2 {
        world.flush(&dead(from));
        assert!(due(&world.tree, &[], &|_| false).is_none(), "less than a quarter is left alone");
        assert_eq!(debt(&world.tree, &[]), 0);
    }
    world.flush(&dead(2));
    assert!(debt(&world.tree, &[]) > 0);
    world.settle();
    world.check();
    assert!(world.tree.upper.is_empty() && world.tree.runs().all(|run| run.run.meta().tombstones == 0));
    // Where nothing lies below, there is nothing to be hidden.
    world.flush(&(0..360).map(|n| (n, true)).collect::<Vec<_>>());
    world.settle();
    world.check();
    assert!(world.tree.upper.is_empty() && world.tree.runs().all(|run| run.run.meta().tombstones == 0));
}

#[test]
fn what_is_old_goes_down() {
    let mut world = World::new(1);
    world.load(0, 1, 400);
    world.flush(&[(7, true), (300, false)]);
    assert!(!world.merge(&|_| false));
    assert!(world.merge(&|run| run.level == 0));
    while world.merge(&|_| false) {}
    assert!(world.tree.upper.is_empty());
    world.check();
}

#[test]
fn a_step_of_the_first_level_comes_between_two_of_a_large_merge() {
    let mut world = World::new(1);
    for round in 0..300 {
        let changes = changes(0, round, &mut world.random);
        world.flush(&changes);
        world.settle();
    }
    // Until a round into the last level is under way, with steps left.
    let mut round = 300;
    while !world.rounds.iter().any(|round| round.level == LAST_LEVEL && round.inputs.len() > 1) {
        let changes = changes(0, round, &mut world.random);
        world.flush(&changes);
        round += 1;
        world.merge(&|_| false);
    }
    let busy = world.rounds[0].inputs.len();
    for _ in 0..LEVEL_RUNS_MAX {
        let changes = changes(0, round, &mut world.random);
        world.flush(&changes);
        round += 1;
    }
    world.merge(&|_| false);
    assert!(world.tree.upper_runs().filter(|run| run.level == 0).count() <= busy + LEVEL_RUNS_MAX);
    assert!(world.nested, "the flushed runs waited for the merge");
    world.settle();
    world.check();
}

#[test]
fn pressure_grows_with_what_is_left_undone() {
    let mut world = World::new(1);
    let mut before = 0;
    for round in 0..80 {
        let changes = changes(0, round, &mut world.random);
        world.flush(&changes);
        let now = pressure(&world.tree, PUT_BYTES * 10);
        assert!(now >= before && now - before <= PRESSURE_MAX / 10, "from {before} to {now}");
        assert!(now == 0 || world.tree.upper.len() > BACKLOG_RUNS.0, "{now}, and {} runs", world.tree.upper.len());
        before = now;
    }
    assert_eq!(before, PRESSURE_MAX);
    assert_eq!((share(5, 10, 20), share(15, 10, 20), share(99, 10, 20), share(3, 2, 1)), (0, 500, 1000, 1000));
    world.settle();
    assert_eq!(pressure(&world.tree, PUT_BYTES * 10), 0);
}
