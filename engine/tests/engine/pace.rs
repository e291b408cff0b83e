/*!
What statistics say of writing, merging and waiting.
*/

use crate::support::*;
use omendb_engine::db::{Db, DelayCause, Options};
use std::time::Duration;

/// Nothing is flushed or merged but on demand.
fn idle() -> Options {
    Options { background: false, ..small() }
}

#[test]
fn statistics_tell_what_was_written_and_why() {
    let db = Db::open(idle()).unwrap();
    let fresh = db.stats().unwrap();
    assert_eq!((fresh.write_amplification(), fresh.space_amplification()), (None, None));
    let t = create_kv(&db, "t");
    let rows = ints(&(0..300).map(|k| (k * 7919 % 307, k)).collect::<Vec<_>>());
    rows.chunks(100).for_each(|chunk| {
        put(&db, &t, chunk);
    });
    let logged = db.stats().unwrap();
    assert!(logged.bytes_committed >= 300 * 12 && logged.bytes_logged > logged.bytes_committed);
    assert_eq!((logged.bytes_flushed, logged.bytes_merged, logged.bytes_written), (0, 0, 0));
    db.flush().unwrap();
    let flushed = db.stats().unwrap();
    assert!(flushed.bytes_flushed > 0 && flushed.bytes_merged == 0);
    assert_eq!((flushed.upper_bytes, flushed.bytes_written), (flushed.run_bytes, flushed.bytes_flushed));
    db.compact(None).unwrap();
    let merged = db.stats().unwrap();
    assert!(merged.bytes_merged > 0 && merged.compactions > 0);
    assert_eq!(merged.bytes_written, merged.bytes_flushed + merged.bytes_merged);
    assert_eq!((merged.upper_bytes, merged.debt_bytes, merged.space_amplification()), (0, 0, Some(1.0)));
    let amplification = merged.write_amplification().unwrap();
    let written = (merged.bytes_written + merged.bytes_logged) as f64;
    assert!((amplification - written / merged.bytes_committed as f64).abs() < 1e-9, "{merged:?}");
}

#[test]
fn commits_are_slowed_down_where_flushes_or_merges_fall_behind() {
    let db = Db::open(idle()).unwrap();
    let t = create_kv(&db, "t");
    let mut round = 0;
    let mut write = || {
        round += 1;
        put(&db, &t, &ints(&(0..100).map(|k| (k * 37 % 101, round)).collect::<Vec<_>>()));
        db.stats().unwrap()
    };
    assert_eq!(write().delay_cause, DelayCause::None);
    let mut waiting = write();
    while waiting.delay_cause == DelayCause::None {
        waiting = write();
    }
    assert_eq!(waiting.delay_cause, DelayCause::Flush);
    assert!(waiting.debt_bytes > 0, "{waiting:?}");
    db.flush().unwrap();
    // The memtables had the same keys: too many runs lie over each other.
    let mut behind = db.stats().unwrap();
    while behind.delay_cause == DelayCause::None {
        write();
        db.flush().unwrap();
        behind = db.stats().unwrap();
    }
    assert_eq!(behind.delay_cause, DelayCause::MergeDebt);
    assert!(behind.debt_bytes > 0 && behind.delay_cause.to_string().starts_with("merge debt"));
    db.compact(None).unwrap();
    let stats = db.stats().unwrap();
    assert_eq!((stats.delay_cause, stats.debt_bytes, stats.delay), (DelayCause::None, 0, Duration::ZERO));
    assert_eq!(all(&db, &t).len(), 100);
}
