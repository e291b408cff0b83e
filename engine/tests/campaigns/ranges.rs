/*!
Deleted ranges in random histories of one thread: rows are put, deleted, expire, and go by the range, are flushed and merged, and the
database is opened again. After every step it holds what the model says: a range hides all that is older, and nothing else.

What threads, faults and crashes make of ranges, the other campaigns ask.
*/

use crate::model::{self, Change, State, difference, read};
use crate::workloads;
use omendb_engine::db::{Db, Options};
use omendb_engine::io::{self, IoRef, random::Random};

/// Histories of an ordinary run; `OMENDB_RANGES_SEEDS` asks for another number.
const SEEDS: u64 = 40;

const STEPS: usize = 60;

const KEYS: u64 = 50;

/// Without threads of its own, so that a seed says all.
fn open(io: &IoRef) -> Db {
    Db::open(Options { background: false, ..workloads::options(io) }).unwrap()
}

fn changes(random: &mut Random) -> Vec<Change> {
    let change = |random: &mut Random| {
        let k = random.below(KEYS) as i64;
        match random.below(8) {
            0 => Change::Delete("t", k),
            1 => Change::Expire("t", k, random.next_u64() >> 2),
            2 | 3 => Change::DeleteRange("t", k, k + 1 + random.below(20) as i64),
            _ => Change::Put("t", k, random.next_u64() >> 2),
        }
    };
    (0..=random.below(4)).map(|_| change(random)).collect()
}

fn history(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let io = io::memory();
    let mut db = open(&io);
    let mut state = State::new();
    let mut done = Vec::new();
    for step in 0..STEPS {
        let what = match random.below(8) {
            _ if step == 0 => commit(&db, &mut state, vec![Change::Create("t", true)]),
            0 | 1 => db.flush().map(|()| "flush".to_owned()),
            2 => db.compact(None).map(|()| "compact".to_owned()),
            3 if random.chance(1, 4) => {
                let closed = db.close();
                db = open(&io);
                closed.map(|()| "open".to_owned())
            }
            _ => commit(&db, &mut state, changes(&mut random)),
        };
        done.push(what.map_err(|error| format!("after {done:#?}: {error}"))?);
        let found = db.snapshot().and_then(|snapshot| read(&snapshot));
        let found = found.map_err(|error| format!("after {done:#?}: {error}"))?;
        if let Some(lines) = difference(&found, &state) {
            return Err(format!("{lines}\nafter {done:#?}"));
        }
    }
    Ok(())
}

fn commit(db: &Db, state: &mut State, changes: Vec<Change>) -> omendb_engine::Result<String> {
    model::commit(db, &changes)?;
    changes.iter().for_each(|change| model::apply(state, change));
    Ok(format!("{changes:?}"))
}

#[test]
fn ranges_hide_what_is_older_and_nothing_else() {
    let first = crate::setting("OMENDB_RANGES_SEED", 1);
    for seed in first..first + crate::setting("OMENDB_RANGES_SEEDS", SEEDS) {
        if let Err(what) = history(seed) {
            panic!(
                "ranges of seed {seed}: {what}\nto replay:\n    OMENDB_RANGES_SEED={seed} OMENDB_RANGES_SEEDS=1 cargo test -p \
                 omendb-engine --test campaigns ranges"
            );
        }
    }
}
