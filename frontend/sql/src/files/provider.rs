/*!
Files as tables of DataFusion: `FROM 'x.csv'`, or a glob over many.

The types are those that loading the same files would give a table. Parquet goes through DataFusion's own source, with its
pruning and its pushed-down projections and filters; text, and Parquet with columns that only our reader types (uuid,
json), go through [`super::read`], which parses the columns that the query asks for and no others.
*/

use super::read::{ReadOptions, TargetColumn, read};
use super::sniff::{FileColumn, SniffOptions, Sniffed, sniff_all};
use super::source::{Source, expand};
use super::{Format, parquet};
use crate::error::{SqlError, state};
use crate::types::{SqlType, from_engine};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use std::path::Path;
use std::sync::Arc;

/// Batches that wait for the query.
const BATCHES_WAITING: usize = 4;

/// The table of a path or a glob. Stdin (`-`) can be read by one scan only.
///
/// # Errors
/// When the files cannot be opened, are not what their names say, or do not go together.
pub fn provider(pattern: &str, options: &SniffOptions) -> Result<Arc<dyn TableProvider>, SqlError> {
    let sources = expand(pattern)?;
    if let Some(table) = plain_parquet(&sources, options)? {
        return Ok(table);
    }
    let (columns, sniffed) = sniff_all(&sources, options)?;
    let fields: Vec<Field> = columns.iter().map(|c| c.ty.field(&c.name, true)).collect();
    let files = sources.into_iter().zip(sniffed).collect();
    Ok(Arc::new(FileTable { schema: Arc::new(Schema::new(fields)), columns, files }))
}

/// DataFusion's own table over Parquet files, if that gives the types that loading gives.
fn plain_parquet(sources: &[Source], options: &SniffOptions) -> Result<Option<Arc<dyn TableProvider>>, SqlError> {
    let format = |s: &Source| options.format.or_else(|| Format::of_name(s.name()));
    if !options.types.is_empty() || !sources.iter().all(|s| format(s) == Some(Format::Parquet)) {
        return Ok(None);
    }
    let mut merged: Vec<Field> = Vec::new();
    let mut urls = Vec::with_capacity(sources.len());
    for source in sources {
        let schema = parquet::schema(source)?;
        if !parquet::is_plain(&schema) {
            return Ok(None);
        }
        for field in schema.fields() {
            let field = engine_field(field);
            match merged.iter().find(|f| f.name() == field.name()) {
                None => merged.push(field),
                Some(known) if known.data_type() == field.data_type() => {}
                // Our own reader finds a common type, or says why there is none.
                Some(_) => return Ok(None),
            }
        }
        urls.push(url(source)?);
    }
    let format = Arc::new(ParquetFormat::default().with_force_view_types(true));
    let options = ListingOptions::new(format).with_file_extension("");
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(options)
        .with_schema(Arc::new(Schema::new(merged)));
    Ok(Some(Arc::new(ListingTable::try_new(config)?)))
}

/// The field as a table of ours would have it; lists and structs, which a table cannot hold, stay what they are.
fn engine_field(field: &Field) -> Field {
    match SqlType::of_field(field) {
        Ok(ty) => ty.field(field.name(), true),
        Err(_) => field.clone().with_nullable(true),
    }
}

/// A `file:` URL, in which nothing is a wildcard.
fn url(source: &Source) -> Result<ListingTableUrl, SqlError> {
    let path = source.path().unwrap_or(Path::new(""));
    let path = std::path::absolute(path)?;
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => url.push(char::from(*byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(ListingTableUrl::parse(url)?)
}

/// Files that our own reader reads.
#[derive(Debug)]
struct FileTable {
    schema: SchemaRef,
    columns: Vec<FileColumn>,
    files: Vec<(Source, Sniffed)>,
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let (schema, columns) = match projection {
            None => (self.schema.clone(), self.columns.clone()),
            Some(places) => {
                let columns = places.iter().filter_map(|place| self.columns.get(*place).cloned()).collect();
                (Arc::new(self.schema.project(places)?), columns)
            }
        };
        // One partition a file: each reads with threads of its own, and the order of rows is the file's.
        let part = |(source, sniffed): &(Source, Sniffed)| -> Arc<dyn PartitionStream> {
            Arc::new(FilePart {
                schema: schema.clone(),
                columns: columns.clone(),
                source: source.clone(),
                sniffed: sniffed.clone(),
            })
        };
        let parts = self.files.iter().map(part).collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema.clone(), parts, None, [], false, limit)?))
    }
}

/// One file's share of a scan.
#[derive(Debug)]
struct FilePart {
    schema: SchemaRef,
    columns: Vec<FileColumn>,
    source: Source,
    sniffed: Sniffed,
}

impl PartitionStream for FilePart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_WAITING);
        let (send, rows) = (stream.tx(), context.session_config().batch_size().max(1));
        let scan = Scan {
            schema: self.schema.clone(),
            columns: self.columns.clone(),
            source: self.source.clone(),
            sniffed: self.sniffed.clone(),
        };
        stream.spawn_blocking(move || {
            scan.run(|batch| {
                let mut from = 0;
                while from < batch.num_rows() {
                    let part = batch.slice(from, rows.min(batch.num_rows() - from));
                    from += part.num_rows();
                    if send.blocking_send(Ok(part)).is_err() {
                        return false;
                    }
                }
                true
            })
            .map_err(DataFusionError::from)
        });
        stream.build()
    }
}

/// The reading of one file, on a thread that may block.
struct Scan {
    schema: SchemaRef,
    columns: Vec<FileColumn>,
    source: Source,
    sniffed: Sniffed,
}

impl Scan {
    /// Gives each batch to `take` until that has enough.
    fn run(self, mut take: impl FnMut(RecordBatch) -> bool) -> Result<(), SqlError> {
        // A file may lack columns that others have: those are NULL.
        let place = |column: &FileColumn| self.sniffed.columns.iter().position(|c| c.name == column.name);
        let places: Vec<Option<usize>> = self.columns.iter().map(place).collect();
        let target = |(column, place): (&FileColumn, &Option<usize>)| {
            Some(TargetColumn { column: column.clone(), field: (*place)? })
        };
        let targets: Vec<TargetColumn> = self.columns.iter().zip(&places).filter_map(target).collect();
        let options = ReadOptions { projected: true, types_sniffed: true, ..ReadOptions::default() };
        for batch in read(&self.source, &self.sniffed, &targets, &options, None)? {
            let batch = batch?;
            let mut read = batch.columns().iter();
            let mut arrays = Vec::with_capacity(self.columns.len());
            for ((column, place), field) in self.columns.iter().zip(&places).zip(self.schema.fields()) {
                arrays.push(match place {
                    Some(_) => {
                        let array = read.next().ok_or_else(|| SqlError::internal("a column was not read"))?;
                        from_engine(array, column.ty.column)?
                    }
                    None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
                });
            }
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
                .map_err(|e| SqlError::new(state::INTERNAL_ERROR, e.to_string()))?;
            if !take(batch) {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{WriteOptions, write};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    fn query(tables: &[(&str, &str)], sql: &str) -> Result<String, SqlError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let context = SessionContext::new();
        for (name, pattern) in tables {
            context.register_table(*name, provider(pattern, &SniffOptions::default())?)?;
        }
        let batches = runtime.block_on(async { context.sql(sql).await?.collect().await })?;
        Ok(pretty_format_batches(&batches)?.to_string())
    }

    #[test]
    fn a_csv_and_the_parquet_made_from_it_answer_alike() {
        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("a b%20*.csv");
        let mut text = String::from("id,name,at,x\n");
        for i in 0..20_000 {
            text.push_str(&format!("{i},name {},2024-01-{:02} 10:00:00,{}.5\n", i % 7, i % 28 + 1, i));
        }
        std::fs::write(&csv, text).unwrap();
        let table = provider(csv.to_str().unwrap(), &SniffOptions::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let context = SessionContext::new();
        context.register_table("t", table.clone()).unwrap();
        let all = runtime.block_on(async { context.table("t").await.unwrap().collect().await.unwrap() });
        let parquet = dir.path().join("a b%20*.parquet");
        write(all.into_iter().map(Ok), table.schema(), &parquet, &WriteOptions::of(Format::Parquet)).unwrap();
        let tables = [("c", csv.to_str().unwrap()), ("p", parquet.to_str().unwrap())];
        for select in [
            "SELECT count(*) FROM ? AS t",
            "SELECT name, count(*), sum(id), max(at), avg(x) FROM ? AS t WHERE at > '2024-01-10' GROUP BY name ORDER BY name",
            "SELECT id FROM ? AS t WHERE name = 'name 3' ORDER BY id DESC LIMIT 5",
            "SELECT arrow_typeof(id), arrow_typeof(name), arrow_typeof(at), arrow_typeof(x) FROM ? AS t LIMIT 1",
        ] {
            let answer = |table: &str| query(&tables, &select.replace('?', table)).unwrap();
            assert_eq!(answer("c"), answer("p"), "{select}");
        }
    }

    #[test]
    fn a_glob_joins_files_by_their_columns_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("1.ndjson"), "{\"a\":1,\"u\":\"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\"}\n")
            .unwrap();
        std::fs::write(dir.path().join("2.ndjson"), "{\"b\":true,\"a\":2}\n").unwrap();
        let pattern = format!("{}/*.ndjson", dir.path().display());
        let shown = query(&[("t", &pattern)], "SELECT * FROM t ORDER BY a").unwrap();
        let expected = "\
+---+--------------------------------------+------+
| a | u                                    | b    |
+---+--------------------------------------+------+
| 1 | a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 |      |
| 2 |                                      | true |
+---+--------------------------------------+------+";
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_error_in_the_file_ends_the_query_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, "a,b\n1,2\n3\n").unwrap();
        let error = query(&[("t", path.to_str().unwrap())], "SELECT a FROM t").unwrap_err();
        assert_eq!(error.sqlstate(), "22P04");
        assert!(error.message().contains("line 3"), "{error}");
        assert_eq!(query(&[("t", "/nowhere/x.csv")], "SELECT 1").unwrap_err().sqlstate(), "58P01");
    }
}
