/*!
Two transactions that may not both succeed: whoever deletes a range loses against whoever committed to it meanwhile, or
acknowledged rows, which the loser could not know, would go with the range.
*/

use crate::model::{Change, Table, commit, difference, perform, read};
use crate::workloads::options;
use omendb_engine::ErrorKind;
use omendb_engine::db::Db;
use omendb_engine::io;
use std::collections::BTreeMap;

#[test]
fn a_range_never_takes_a_row_that_was_committed_to_it_meanwhile() {
    for (round, flushed) in [(0, false), (1, true), (2, false), (3, true)] {
        let db = Db::open(options(&io::memory())).unwrap();
        commit(&db, &[Change::Create("t", true), Change::Put("t", 5, 50)]).unwrap();
        let mut deleting = db.begin().unwrap();
        perform(&mut deleting, &Change::DeleteRange("t", 0, 10)).unwrap();
        // A new row, or another version of one that was there.
        let key = if round < 2 { 7 } else { 5 };
        commit(&db, &[Change::Put("t", key, 70)]).unwrap();
        if flushed {
            db.flush().unwrap();
        }
        let outcome = deleting.commit();
        let rows = BTreeMap::from([(5, 50), (key, 70)]);
        let expect = BTreeMap::from([("t", Table { keyed: true, rows })]);
        let gone = difference(&read(&db.snapshot().unwrap()).unwrap(), &expect);
        assert_eq!(gone, None, "round {round}: an acknowledged row is gone");
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WriteConflict, "round {round}");
    }
}
