/*!
Rows that have outlived their table's time to live.

A row has expired where its value in the table's column lies before the *cutoff*: the snapshot's clock, less the time to live.
NULL never expires. What counts is a key's newest version, so that rows are looked at above the merge of versions
([`Unexpired`]): if that one has expired there is no row, whatever older versions say.

The clock of a snapshot is read after its view, and no snapshot's is before that of another one taken earlier. A merge reads the
clock before it is published. So what a merge has left out had expired for every snapshot that sees the merge's outcome.
*/

use crate::error::{Error, Result};
use crate::run::{ColumnPredicate, RunBatch, Test};
use crate::scan::ScanMetrics;
use crate::scan::merge::RowStream;
use crate::scan::rows::filter;
use crate::types::{ColumnId, ColumnType, TableDef, Ttl, Value};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};

const DAY_MICROS: i64 = 86_400_000_000;

/// Which rows of a table have expired at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) ttl: Ttl,
    pub(crate) ty: ColumnType,
    /// Values before this have expired, in the column's unit.
    pub(crate) cutoff: i64,
    /// Values before this have for as long as rows live, and for a day at least.
    pub(crate) overdue: i64,
}

impl Expiry {
    /// What has expired at `clock`, in microseconds since 1970-01-01 UTC; `None` where rows don't.
    pub(crate) fn of(table: &TableDef, clock: i64) -> Option<Expiry> {
        let ttl = table.ttl?;
        let ty = table.column_by_id(ttl.column)?.ty;
        let cutoff = clock.saturating_sub(ttl.micros);
        // A date stands for its first moment: it has expired once that lies before the cutoff.
        let whole_days = |micros: i64| micros.div_euclid(DAY_MICROS) + i64::from(micros.rem_euclid(DAY_MICROS) > 0);
        let overdue = cutoff.saturating_sub(ttl.micros.max(DAY_MICROS));
        let (cutoff, overdue) = match ty {
            ColumnType::Date => (whole_days(cutoff), whole_days(overdue)),
            _ => (cutoff, overdue),
        };
        Some(Expiry { ttl, ty, cutoff, overdue })
    }

    pub(crate) fn column(&self) -> ColumnId {
        self.ttl.column
    }

    pub(crate) fn has_expired(&self, value: &Value) -> bool {
        matches!(value, Value::Int(value) if *value < self.cutoff)
    }

    /// Leaves out slices all of whose rows have expired.
    pub(crate) fn predicate(&self) -> ColumnPredicate {
        ColumnPredicate { column: self.column(), test: Test::NullOrAtLeast(Value::Int(self.cutoff)) }
    }

    /// Which rows stay; `None` where all do.
    fn live(&self, batch: &RunBatch, column: &ArrayRef) -> Result<Option<BooleanArray>> {
        let wrong = || Error::internal("rows expire by a column of another type");
        let expired: Box<dyn Fn(usize) -> bool> = match self.ty {
            ColumnType::Date => {
                let days = column.as_primitive_opt::<Date32Type>().ok_or_else(wrong)?;
                Box::new(move |row| i64::from(days.value(row)) < self.cutoff)
            }
            _ => {
                let micros = column.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
                Box::new(move |row| micros.value(row) < self.cutoff)
            }
        };
        let goes = |row: usize| !column.is_null(row) && expired(row) && !batch.is_tombstone(row);
        let Some(first) = (0..batch.len()).find(|row| goes(*row)) else { return Ok(None) };
        let mut live = BooleanBufferBuilder::new(batch.len());
        live.append_n(first, true);
        (first..batch.len()).for_each(|row| live.append(!goes(row)));
        Ok(Some(BooleanArray::new(live.finish(), None)))
    }
}

/// The rows of a stream that have not expired.
#[derive(Debug)]
pub(crate) struct Unexpired {
    stream: Box<dyn RowStream>,
    expiry: Expiry,
    /// Where the stream's batches have the column.
    place: usize,
    /// The column is there for this alone, behind all others.
    extra: bool,
    expired: u64,
}

impl Unexpired {
    pub(crate) fn new(stream: Box<dyn RowStream>, expiry: Expiry, place: usize, extra: bool) -> Self {
        Unexpired { stream, expiry, place, extra, expired: 0 }
    }
}

impl RowStream for Unexpired {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        while let Some(mut batch) = self.stream.next()? {
            let column = batch.columns.get(self.place).ok_or_else(|| Error::internal("a source left out a column"))?;
            let live = self.expiry.live(&batch, column)?;
            if self.extra {
                batch.columns.truncate(self.place);
            }
            let before = batch.len();
            if let Some(live) = live {
                batch = filter(&batch, &live)?;
            }
            self.expired += u64::try_from(before - batch.len()).unwrap_or(0);
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn metrics(&self) -> ScanMetrics {
        let metrics = self.stream.metrics();
        ScanMetrics { rows_expired: metrics.rows_expired + self.expired, ..metrics }
    }
}
