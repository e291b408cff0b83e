/*!
COPY: a file into a table, a table or a query into a file.

COPY FROM reads through [`crate::files`] as the loader does: what the options do not say is found out from the file, and a file
is loaded as a whole or not at all. Columns that the file has not take their defaults.
*/

use super::assign::{self, Writer};
use super::context::{Context, Transacted, fold};
use super::{ddl, query};
use crate::error::{Result, SqlError, no_such_column, state};
use crate::files::{
    self, CsvOptions, FileColumn, Format, ReadOptions, SniffOptions, Source, TargetColumn, WriteOptions,
};
use crate::session::{Done, Outcome};
use crate::types::SqlType;
use arrow::array::{ArrayRef, RecordBatch};
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast::{
    self, CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, Ident, Query, Statement,
};
use omendb_engine::db::{Ingest, OnConflict};
use omendb_engine::types::TableDef;
use std::path::Path;
use std::sync::Arc;

/// What the options say.
#[derive(Debug, Default)]
struct Options {
    format: Option<Format>,
    csv: CsvOptions,
}

impl Options {
    fn of(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> Result<Options> {
        let mut out = Options::default();
        for option in options {
            match option {
                CopyOption::Format(name) if name.value.eq_ignore_ascii_case("text") => {
                    return Err(SqlError::unsupported("COPY's format text is not supported")
                        .with_hint("The formats are csv, tsv, ndjson and parquet."));
                }
                CopyOption::Format(name) => out.format = Some(Format::parse(&name.value)?),
                CopyOption::Delimiter(c) => out.csv.delimiter = Some(byte(*c, "delimiter")?),
                CopyOption::Null(text) => out.csv.null = Some(text.clone()),
                CopyOption::Header(header) => out.csv.header = Some(*header),
                CopyOption::Quote(c) => out.csv.quote = Some(Some(byte(*c, "quote")?)),
                CopyOption::Escape(c) => out.csv.escape = Some(byte(*c, "escape")?),
                CopyOption::Encoding(name) if matches!(name.to_lowercase().as_str(), "utf8" | "utf-8") => {}
                CopyOption::Freeze(false) => {}
                other => return Err(SqlError::unsupported(format!("COPY's option {other} is not supported"))),
            }
        }
        for option in legacy {
            out.legacy(option)?;
        }
        Ok(out)
    }

    /// PostgreSQL's older spelling: `COPY … CSV HEADER DELIMITER ';'`.
    fn legacy(&mut self, option: &CopyLegacyOption) -> Result<()> {
        match option {
            CopyLegacyOption::Csv(options) => {
                self.format = Some(Format::Csv);
                for option in options {
                    match option {
                        CopyLegacyCsvOption::Header => self.csv.header = Some(true),
                        CopyLegacyCsvOption::Quote(c) => self.csv.quote = Some(Some(byte(*c, "quote")?)),
                        CopyLegacyCsvOption::Escape(c) => self.csv.escape = Some(byte(*c, "escape")?),
                        other => return Err(SqlError::unsupported(format!("COPY's option {other} is not supported"))),
                    }
                }
            }
            CopyLegacyOption::Delimiter(c) => self.csv.delimiter = Some(byte(*c, "delimiter")?),
            CopyLegacyOption::Null(text) => self.csv.null = Some(text.clone()),
            CopyLegacyOption::Header => self.csv.header = Some(true),
            CopyLegacyOption::Parquet => self.format = Some(Format::Parquet),
            other => return Err(SqlError::unsupported(format!("COPY's option {other} is not supported"))),
        }
        Ok(())
    }
}

fn byte(c: char, what: &str) -> Result<u8> {
    u8::try_from(c).ok().filter(u8::is_ascii).ok_or_else(|| {
        SqlError::new(state::INVALID_PARAMETER_VALUE, format!("COPY {what} must be a single one-byte character"))
    })
}

fn file_name(target: &CopyTarget) -> Result<&str> {
    match target {
        CopyTarget::File { filename } => Ok(filename),
        CopyTarget::Stdin | CopyTarget::Stdout => {
            Err(SqlError::unsupported("COPY with STDIN or STDOUT is not supported")
                .with_hint("Name a file, or use \\copy in the shell."))
        }
        CopyTarget::Program { .. } => Err(SqlError::unsupported("COPY with PROGRAM is not supported")),
    }
}

/// COPY FROM.
pub(crate) fn from(t: &mut Transacted, statement: &Statement) -> Result<Outcome> {
    let Statement::Copy { source: CopySource::Table { table_name, columns }, target, options, legacy_options, .. } =
        statement
    else {
        return Err(SqlError::internal("COPY FROM expected"));
    };
    let options = Options::of(options, legacy_options)?;
    let table = t.context.table(table_name)?;
    let wanted = wanted_columns(&table, columns)?;
    let sources = files::expand(file_name(target)?)?;
    let writer = Writer::new(table.clone())?;
    let context = t.context.clone();
    let memory = context.session.database.load_memory_bytes;
    let mut ingest = t.transaction.ingest(&table, OnConflict::Error, memory)?;
    for source in &sources {
        read_into(&context, &writer, &table, &wanted, source, &options, &mut ingest)?;
    }
    let report = ingest.finish().map_err(|e| context.engine_error(e))?;
    Ok(Done::rows("COPY", report.rows_stored))
}

/// The columns that a file may fill, in the order that a file without names has them.
fn wanted_columns(table: &TableDef, named: &[Ident]) -> Result<Vec<FileColumn>> {
    let of = |name: &str| {
        let column = table.column(name).ok_or_else(|| no_such_column(name, &table.name))?;
        Ok(FileColumn { name: column.name.clone(), ty: SqlType::of_column(column), nullable: column.nullable })
    };
    match named {
        [] => table.columns.iter().map(|column| of(&column.name)).collect(),
        named => named.iter().map(|ident| of(&fold(ident))).collect(),
    }
}

fn read_into(
    context: &Context,
    writer: &Writer,
    table: &TableDef,
    wanted: &[FileColumn],
    source: &Source,
    options: &Options,
    ingest: &mut Ingest<'_>,
) -> Result<()> {
    let sniffed = files::sniff(
        source,
        &SniffOptions {
            format: options.format,
            csv: options.csv.clone(),
            table: wanted.iter().map(|column| column.name.clone()).collect(),
            ..SniffOptions::default()
        },
    )?;
    let targets = files::match_columns(&sniffed, source.name(), wanted)?;
    let fill = Fill::new(context, table, &targets)?;
    let read = ReadOptions { threads: context.session.database.threads, ..ReadOptions::default() };
    for batch in files::read(source, &sniffed, &targets, &read, None)? {
        context.running.check()?;
        let batch = writer.stored(fill.columns(context, &batch?)?)?;
        ingest.write(writer.columns(), &batch).map_err(|e| context.engine_error(e))?;
    }
    Ok(())
}

/// Where each of a table's columns comes from: a column of the file, or its default.
struct Fill<'a> {
    table: &'a TableDef,
    from: Vec<Result<usize, Expr>>,
}

impl<'a> Fill<'a> {
    fn new(context: &Context, table: &'a TableDef, targets: &[TargetColumn]) -> Result<Fill<'a>> {
        let mut from = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            from.push(match targets.iter().position(|target| target.column.name == column.name) {
                Some(place) => Ok(place),
                None => Err(ddl::default_of(context, column)?),
            });
        }
        Ok(Fill { table, from })
    }

    fn columns(&self, context: &Context, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let of = |(from, column): (&Result<usize, Expr>, &omendb_engine::types::ColumnDef)| match from {
            Ok(place) => {
                let array = batch.columns().get(*place).cloned();
                array.ok_or_else(|| SqlError::internal("a file's column went missing"))
            }
            Err(default) => {
                let array = context.evaluate_constant(default.clone(), batch.num_rows())?;
                assign::accepted(&array, column)
            }
        };
        self.from.iter().zip(&self.table.columns).map(of).collect()
    }
}

/// COPY TO.
pub(crate) fn to(context: Context, statement: &Statement) -> Result<Outcome> {
    let Statement::Copy { source, target, options, legacy_options, .. } = statement else {
        return Err(SqlError::internal("COPY TO expected"));
    };
    let options = Options::of(options, legacy_options)?;
    let path = file_name(target)?;
    let format = options.format.or_else(|| Format::of_name(path)).ok_or_else(|| {
        SqlError::new(state::INVALID_PARAMETER_VALUE, format!("the format of \"{path}\" cannot be told from its name"))
            .with_hint("Say it: COPY … TO '…' (FORMAT csv). The formats are csv, tsv, ndjson and parquet.")
    })?;
    let mut write = WriteOptions::of(format);
    let CsvOptions { delimiter, quote, escape, header, null } = options.csv;
    write.dialect.delimiter = delimiter.unwrap_or(write.dialect.delimiter);
    write.dialect.quote = quote.unwrap_or(write.dialect.quote);
    write.dialect.escape = escape.unwrap_or(write.dialect.escape);
    write.dialect.header = header.unwrap_or(write.dialect.header);
    write.dialect.null = null.unwrap_or(write.dialect.null);
    let plan = match source {
        CopySource::Query(query) => context.plan(query)?,
        CopySource::Table { table_name, columns } => {
            let table = context.table(table_name)?;
            context.plan(&query_of_table(&table, columns)?)?
        }
    };
    let rows = query::start(context, plan)?;
    let schema = rows.schema();
    let count = files::write(rows, schema, Path::new(path), &write)?;
    Ok(Done::rows("COPY", count))
}

/// `SELECT columns FROM table`.
fn query_of_table(table: &Arc<TableDef>, columns: &[Ident]) -> Result<Query> {
    let names = wanted_columns(table, columns)?;
    let quoted = |name: &str| Ident::with_quote('"', name).to_string();
    let list: Vec<String> = names.iter().map(|column| quoted(&column.name)).collect();
    match super::parse::statement(&format!("SELECT {} FROM {}", list.join(", "), quoted(&table.name)))? {
        ast::Statement::Query(query) => Ok(*query),
        _ => Err(SqlError::internal("a SELECT became something else")),
    }
}
