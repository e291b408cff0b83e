/*!
A database for workloads that speak SQL: sessions whose statements stop when the user presses Ctrl-C.
*/

use crate::failure::Failure;
use crate::settings::Settings;
use arrow::array::RecordBatch;
use omendb_engine::db::Db;
use omendb_sql::{CancelHandle, Database, Outcome, Session};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The open database. Closed by being dropped: a session keeps it open.
pub(super) struct Sessions {
    /// Stop what the sessions are at.
    cancels: Arc<Mutex<Vec<CancelHandle>>>,
    database: Database,
}

fn held(cancels: &Mutex<Vec<CancelHandle>>) -> MutexGuard<'_, Vec<CancelHandle>> {
    cancels.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// Opens the database.
    ///
    /// # Errors
    /// Wrong usage where none was named; that it can't be opened.
    pub(super) fn open(settings: &Settings) -> Result<Sessions, Failure> {
        settings.dir()?;
        let database = Database::open(settings.open.clone()).map_err(Failure::CannotOpen)?;
        let cancels: Arc<Mutex<Vec<CancelHandle>>> = Arc::default();
        let handles = Arc::clone(&cancels);
        settings.interrupt.on_interrupt(move || held(&handles).iter().for_each(CancelHandle::cancel));
        Ok(Sessions { cancels, database })
    }

    /// A new session.
    pub(super) fn session(&self) -> Session {
        let session = self.database.session();
        held(&self.cancels).push(session.cancel_handle());
        session
    }

    /// The engine underneath.
    pub(super) fn engine(&self) -> &Db {
        self.database.engine()
    }
}

/// All that a statement gives; none for one that gives no rows.
pub(super) fn ask(session: &Session, sql: &str) -> Result<Vec<RecordBatch>, Failure> {
    match session.execute(sql)? {
        Outcome::Done(_) => Ok(Vec::new()),
        Outcome::Rows(rows) => Ok(rows.collect::<Result<_, _>>()?),
    }
}

/// Rows of batches.
pub(super) fn rows_of(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| u64::try_from(batch.num_rows()).unwrap_or(0)).sum()
}
