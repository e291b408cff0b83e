/*!
Rows that pass a filter.

What counts is a key's newest version, so that rows are looked at above the merge of versions: where the newest one does not pass there is
no row, whatever older versions hold. (Where one run alone has the keys, the run filters, and reads less.)
*/

use crate::error::{Error, Result};
use crate::run::select::RowTest;
use crate::run::{ColumnPredicate, RunBatch};
use crate::scan::ScanMetrics;
use crate::scan::merge::RowStream;
use crate::scan::rows::filter;
use crate::types::ColumnType;
use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;

/// The rows of a stream that pass.
#[derive(Debug)]
pub(crate) struct Passing {
    stream: Box<dyn RowStream>,
    /// Tests, and where the stream's batches have their columns.
    tests: Vec<(RowTest, usize)>,
    /// Columns behind these are there for the tests alone.
    columns: usize,
}

impl Passing {
    /// `places` says of each test where its column is; of the columns, the first `columns` are handed on.
    pub(crate) fn new(
        stream: Box<dyn RowStream>,
        filter: &[(ColumnPredicate, ColumnType)],
        places: Vec<usize>,
        columns: usize,
    ) -> Result<Self> {
        let tests = filter.iter().map(|(predicate, ty)| RowTest::new(predicate, *ty)).collect::<Result<Vec<_>>>()?;
        Ok(Passing { stream, tests: tests.into_iter().zip(places).collect(), columns })
    }

    fn mask(&self, batch: &RunBatch) -> Result<BooleanBuffer> {
        let mut mask = BooleanBuffer::new_set(batch.len());
        for (test, place) in &self.tests {
            let column = batch.columns.get(*place).ok_or_else(|| Error::internal("a source left out a column"))?;
            mask = &mask & &test.passing(column)?;
        }
        Ok(mask)
    }
}

impl RowStream for Passing {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        while let Some(mut batch) = self.stream.next()? {
            let mask = self.mask(&batch)?;
            batch.columns.truncate(self.columns);
            let kept = mask.count_set_bits();
            if kept == batch.len() {
                return Ok(Some(batch));
            }
            if kept > 0 {
                return filter(&batch, &BooleanArray::new(mask, None)).map(Some);
            }
        }
        Ok(None)
    }

    fn metrics(&self) -> ScanMetrics {
        self.stream.metrics()
    }
}
