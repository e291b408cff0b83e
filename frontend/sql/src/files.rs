/*!
Files from outside: CSV, TSV, NDJSON and Parquet, read into typed columns and written from query results.

```text
    source      a path, a glob's matches or stdin; .gz and .zst; bytes counted, content hashed
    sniff       what a file holds: format, dialect, columns and their types; as a CREATE TABLE
    parse       one field of text into one value of a column
    csv         records cut and parsed, in pieces
    ndjson      the same for one JSON object a line
    parquet     row groups decoded and converted
    pipeline    several threads, results in the file's order
    read        all of the above: a file into batches, bad rows told apart
    rejects     rows that were not stored, counted and kept
    provider    a file as a table of DataFusion: FROM 'x.csv'
    write       COPY TO: written beside, renamed when whole
```

COPY FROM, direct queries and the loader all read through [`read`], so that they agree on every value. Batches come in
the engine's own Arrow types. What a file says about types comes from [`sniff`], wherever nobody has declared them.
*/

pub mod csv;
mod ndjson;
mod parquet;
pub mod parse;
mod pipeline;
mod provider;
mod read;
mod rejects;
mod sniff;
mod source;
mod write;

pub use arrow::array::RecordBatch as Batch;
pub use csv::CsvDialect;
pub use provider::provider;
pub use read::{Batches, OnReject, ReadOptions, TargetColumn, match_columns, read};
pub use rejects::{RejectLog, RejectedRow};
pub use sniff::{
    CsvOptions, FileColumn, SAMPLE_BYTES, SniffOptions, Sniffed, create_table, parse_type, sniff, sniff_all,
};
pub use source::{Source, expand, matches_files};
pub use write::{WriteOptions, write};

use crate::error::{SqlError, state};
use std::path::Path;

/// What a file's bytes are, under any compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Values between commas, or whatever the dialect says.
    Csv,
    /// Values between tabs.
    Tsv,
    /// One JSON object a line.
    NdJson,
    /// Parquet.
    Parquet,
}

impl Format {
    /// The format that a file's name claims, compression endings aside.
    pub fn of_name(name: &str) -> Option<Format> {
        let lower = name.to_ascii_lowercase();
        let bare = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".zst")).unwrap_or(&lower);
        match Path::new(bare).extension()?.to_str()? {
            "csv" => Some(Format::Csv),
            "tsv" | "tab" => Some(Format::Tsv),
            "ndjson" | "jsonl" | "json" => Some(Format::NdJson),
            "parquet" | "pq" => Some(Format::Parquet),
            _ => None,
        }
    }

    /// The format that an option names.
    ///
    /// # Errors
    /// 22023 for a name that is none.
    pub fn parse(name: &str) -> Result<Format, SqlError> {
        match name.to_ascii_lowercase().as_str() {
            "csv" => Ok(Format::Csv),
            "tsv" => Ok(Format::Tsv),
            "ndjson" | "jsonl" | "json" => Ok(Format::NdJson),
            "parquet" => Ok(Format::Parquet),
            _ => Err(SqlError::new(state::INVALID_PARAMETER_VALUE, format!("\"{name}\" is no format of files"))
                .with_hint("The formats are csv, tsv, ndjson and parquet.")),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::NdJson => "ndjson",
            Format::Parquet => "parquet",
        }
    }
}
