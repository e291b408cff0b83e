/*!
The first row of each group of keys with the same first columns, in a scan's direction: in reverse, the last values of all series.

```text
    reverse      a1 a2 a3 … a9 │ b1 b2 … b7 │ c1 │ d1 d2
                            ◄──┘         ◄──┘  ◄─┘    ◄──┘
                 a9 ◄── seek ── b7 ◄── seek ── c1, d2 of one look
```

It looks at a few rows at a time and goes on behind the group of the last one, by a seek. A seek costs about what some sixty rows in
order do: where groups have fewer rows than that, it looks at more rows at a time, up to a whole batch, and reads on as a scan does.
So it takes the time of a scan at most, about, and where groups are long, time by the number of groups.
*/

use crate::error::{Error, Result};
use crate::key::{Key, KeyRange, KeySchema, successor};
use crate::run::{GROWTH, SCAN_ROWS_MAX};
use crate::scan::expiry::Expiry;
use crate::scan::{Layer, Scan, ScanMetrics, ScanRequest, projected_type};
use crate::types::{ColumnType, TableDef};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{concat_batches, partition, take};
use arrow::datatypes::SchemaRef;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

/// Rows of a look that costs about as much as the seek to its place.
const ROWS_OF_A_SEEK: usize = 64;
/// Rows of the first batch; those that follow have more and more, and [`SCAN_ROWS_MAX`] at most.
const BATCH_ROWS_FIRST: usize = 16;
/// Ranges that one look reaches over.
const RANGES_OF_A_LOOK: usize = 64;

/// See the module. An iterator over batches, none of them empty. Fused on error.
#[derive(Debug)]
pub struct Firsts {
    layers: Vec<Layer>,
    table: Arc<TableDef>,
    expiry: Option<Expiry>,
    keys: KeySchema,
    /// The first columns of the key: where each is in the projection, and its type.
    group: Vec<(usize, ColumnType)>,
    /// What is asked of each look; its projection has the group's columns, too.
    request: ScanRequest,
    /// Of the columns that are handed on: the first of the projection.
    schema: SchemaRef,
    /// Keys that are left, ascending.
    rest: VecDeque<KeyRange>,
    /// Rows of the next look.
    rows: usize,
    /// Rows of the next batch, which several looks may give together.
    batch_rows: usize,
    /// Rows that may still come.
    left: usize,
    metrics: ScanMetrics,
}

impl Firsts {
    /// Of groups of keys that have the same first `group_columns` columns; with none, all keys are one group.
    pub(crate) fn new(
        layers: Vec<Layer>,
        table: &Arc<TableDef>,
        request: ScanRequest,
        group_columns: usize,
        expiry: Option<Expiry>,
    ) -> Result<Firsts> {
        let columns = table.key.get(..group_columns);
        let columns = columns.ok_or_else(|| Error::invalid("a group of more columns than the key has"))?;
        if !request.predicates.is_empty() {
            return Err(Error::invalid("the first row of a group must be told by an exact filter"));
        }
        super::check_ranges(&request.ranges)?;
        let mut request = request;
        let schema = table.projected_schema(&request.projection)?;
        let mut group = Vec::with_capacity(columns.len());
        for id in columns {
            let place = request.projection.iter().position(|other| other == id).unwrap_or(request.projection.len());
            if place == request.projection.len() {
                request.projection.push(*id);
            }
            group.push((place, projected_type(table, *id)?));
        }
        let mut rest = VecDeque::from(std::mem::take(&mut request.ranges));
        if rest.is_empty() {
            rest.push_back(KeyRange::all());
        }
        let left = request.limit.unwrap_or(usize::MAX);
        Ok(Firsts {
            layers,
            table: Arc::clone(table),
            expiry,
            keys: KeySchema::of(table)?,
            group,
            request,
            schema,
            rest,
            rows: ROWS_OF_A_SEEK,
            batch_rows: BATCH_ROWS_FIRST,
            left,
            metrics: ScanMetrics::default(),
        })
    }

    /// What it has done so far.
    pub fn metrics(&self) -> ScanMetrics {
        self.metrics
    }

    /// Looks until a batch is full; `None` at the end.
    fn gather(&mut self) -> Result<Option<RecordBatch>> {
        let (mut batches, mut rows) = (Vec::new(), 0);
        while rows < self.batch_rows && self.left > 0 && !self.rest.is_empty() {
            if let Some(batch) = self.look()? {
                rows += batch.num_rows();
                batches.push(batch);
            }
        }
        self.batch_rows = (self.batch_rows * GROWTH).min(SCAN_ROWS_MAX);
        Ok(match batches.as_slice() {
            [] => None,
            [only] => Some(only.clone()),
            _ => Some(concat_batches(&self.schema, &batches)?),
        })
    }

    /// Looks at some rows from where it stands; gives the first ones of their groups.
    fn look(&mut self) -> Result<Option<RecordBatch>> {
        let many = self.rest.len().min(RANGES_OF_A_LOOK);
        let skipped = if self.request.reverse { self.rest.len() - many } else { 0 };
        let ranges = self.rest.iter().skip(skipped).take(many).cloned().collect();
        let request = ScanRequest { ranges, limit: Some(self.rows), ..self.request.clone() };
        let mut scan = Scan::new(self.layers.clone(), &self.table, request, self.expiry)?;
        let mut batches = Vec::new();
        for batch in &mut scan {
            batches.push(batch?);
        }
        self.metrics = self.metrics + scan.metrics();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows < self.rows {
            for _ in 0..many {
                self.pass();
            }
        }
        let batch = match batches.as_slice() {
            [] => return Ok(None),
            [only] => only.clone(),
            [first, ..] => concat_batches(&first.schema(), &batches)?,
        };
        let firsts = self.firsts(&batch)?;
        self.go_behind(&batch, rows - 1)?;
        self.rows = match firsts.len() * ROWS_OF_A_SEEK > rows {
            true => (self.rows * 2).min(SCAN_ROWS_MAX),
            false => ROWS_OF_A_SEEK,
        };
        let firsts: UInt64Array = firsts.into_iter().take(self.left).map(Some).collect();
        self.left -= firsts.len();
        let columns = batch.columns().iter().take(self.schema.fields().len());
        let columns = columns.map(|column| take(column, &firsts, None)).collect::<std::result::Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(firsts.len()));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }

    fn column<'a>(&self, batch: &'a RecordBatch, place: usize) -> Result<&'a ArrayRef> {
        batch.columns().get(place).ok_or_else(|| Error::internal("a scan left out a column"))
    }

    /// The rows of a batch, which has one at least, that are the first ones of their groups.
    fn firsts(&self, batch: &RecordBatch) -> Result<Vec<u64>> {
        let columns = self.group.iter().map(|(place, _)| self.column(batch, *place).cloned());
        let columns = columns.collect::<Result<Vec<_>>>()?;
        if columns.is_empty() {
            return Ok(vec![0]);
        }
        let groups = partition(&columns)?.ranges();
        Ok(groups.into_iter().map(|rows| u64::try_from(rows.start).unwrap_or(u64::MAX)).collect())
    }

    /// Leaves the keys out that are in the group of this row, or that the scan passes before it comes to that.
    fn go_behind(&mut self, batch: &RecordBatch, row: usize) -> Result<()> {
        let value =
            |(place, ty): &(usize, ColumnType)| crate::column::value_at(self.column(batch, *place)?.as_ref(), row, *ty);
        let values = self.group.iter().map(value).collect::<Result<Vec<_>>>()?;
        let prefix = self.keys.encode_prefix(&values)?;
        let kept = match (self.request.reverse, successor(&prefix)) {
            (true, _) => KeyRange { start: Bound::Unbounded, end: Bound::Excluded(Key::from(prefix)) },
            (false, Some(next)) => KeyRange { start: Bound::Included(Key::from(next)), end: Bound::Unbounded },
            (false, None) => KeyRange::empty(),
        };
        while let Some(range) = self.pass() {
            let range = range.intersect(&kept);
            if !range.is_empty() {
                match self.request.reverse {
                    true => self.rest.push_back(range),
                    false => self.rest.push_front(range),
                }
                break;
            }
        }
        Ok(())
    }

    /// Takes out the range at which the scan stands.
    fn pass(&mut self) -> Option<KeyRange> {
        match self.request.reverse {
            true => self.rest.pop_back(),
            false => self.rest.pop_front(),
        }
    }
}

impl Iterator for Firsts {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.gather();
        if batch.is_err() {
            self.rest.clear();
        }
        batch.transpose()
    }
}
