/*!
The command line.

Options that shape what is stored (format, dialect, types, conflicts) are written into the record of a load, so that
`--resume` tells a file loaded with these options from the same file loaded with others.
*/

use clap::{Parser, ValueEnum};
use omendb_cli::{ColourChoice, DatabaseArgs, settings};
use omendb_sql::engine::db::OnConflict;
use omendb_sql::files::{CsvOptions, Format, SniffOptions, parse_type};
use omendb_sql::types::SqlType;
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  omendb-load --db runs.omendb --table flights --create flights.parquet
  omendb-load --db runs.omendb --table zips --create --primary-key zip_code zipcodes.csv
  omendb-load --db runs.omendb --table metrics 'export/*.csv.gz' --on-conflict skip
  omendb-load --db runs.omendb --table metrics big.csv --rejects bad.csv --max-rejects 1000
  omendb-load --db runs.omendb --table metrics --resume 'export/*.csv'    go on after an interruption
  omendb-load --db runs.omendb --table t --create --dry-run x.csv         what would happen, and the schema
  zstdcat x.csv.zst | omendb-load --db runs.omendb --table t --create -
";

/// The OmenDB bulk loader: CSV, TSV, NDJSON and Parquet files into a table.
#[derive(Debug, Parser)]
#[command(
    name = "omendb-load",
    version = omendb_cli::version::version(),
    before_long_help = EXAMPLES,
    after_help = "Each file is stored as a whole or not at all. `omendb-load completions SHELL` prints completions, \
        `omendb-load man` the man page.",
)]
pub(crate) struct Args {
    /// Database directory
    #[arg(long, env = "OMENDB_DB", value_name = "DIR")]
    pub(crate) db: PathBuf,
    /// Table to load
    #[arg(long, value_name = "NAME")]
    pub(crate) table: String,
    /// Make the table (and the database) from what the files hold
    #[arg(long)]
    pub(crate) create: bool,
    /// Columns of the new table's primary key
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', requires = "create")]
    pub(crate) primary_key: Vec<String>,
    /// Read and check everything, store nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What to do about a row whose key is there already
    #[arg(long, value_enum, default_value = "error", value_name = "WHAT")]
    pub(crate) on_conflict: OnConflictArg,
    /// Pass over files that were loaded before with the same options
    #[arg(long)]
    pub(crate) resume: bool,
    /// Keep rows that cannot be stored in this CSV file: line, column, sqlstate, reason, raw, file
    #[arg(long, value_name = "FILE", help_heading = "Bad rows")]
    pub(crate) rejects: Option<PathBuf>,
    /// Fail after more than N bad rows [default: 0, or no limit with --rejects]
    #[arg(long, value_name = "N", help_heading = "Bad rows")]
    pub(crate) max_rejects: Option<u64>,
    /// Format of the files [default: by name and content]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Files")]
    pub(crate) format: Option<FormatArg>,
    /// Between fields, one character or "tab" [default: sniffed]
    #[arg(long, value_name = "CHAR", value_parser = character, help_heading = "Files")]
    pub(crate) delimiter: Option<u8>,
    /// Around fields, one character or "none" [default: sniffed]
    #[arg(long, value_name = "CHAR", value_parser = quote, help_heading = "Files")]
    pub(crate) quote: Option<QuoteArg>,
    /// Before a quote inside quotes [default: sniffed, usually the quote]
    #[arg(long, value_name = "CHAR", value_parser = character, help_heading = "Files")]
    pub(crate) escape: Option<u8>,
    /// The unquoted field that means NULL [default: the empty one]
    #[arg(long, value_name = "TEXT", help_heading = "Files")]
    pub(crate) null: Option<String>,
    /// The first record names the columns [default: sniffed]
    #[arg(long, conflicts_with = "no_header", help_heading = "Files")]
    pub(crate) header: bool,
    /// The first record is data
    #[arg(long, help_heading = "Files")]
    pub(crate) no_header: bool,
    /// Names of the files' columns, in order, in place of their own
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Files")]
    pub(crate) columns: Vec<String>,
    /// Types of columns, the others are sniffed: 'zip=TEXT,price=NUMERIC(10,2)'
    #[arg(long, value_name = "TYPES", value_parser = types, requires = "create", help_heading = "Files")]
    pub(crate) types: Option<Types>,
    /// How much of a file is looked at for its schema
    #[arg(long, value_name = "SIZE", value_parser = settings::bytes, default_value = "16MiB", help_heading = "Files")]
    pub(crate) sample: usize,
    /// Threads that read [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Colour: auto is on a terminal, unless NO_COLOR is set [default: auto]
    #[arg(long, env = "OMENDB_COLOR", value_enum, value_name = "WHEN")]
    pub(crate) color: Option<ColourChoice>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// CSV, TSV, NDJSON or Parquet, also .gz and .zst; globs; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<String>,
}

/// What to do about a key that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnConflictArg {
    /// Fail; nothing of the file is stored.
    Error,
    /// Leave the row that is there.
    Skip,
    /// Put the new row in its place.
    Replace,
}

impl From<OnConflictArg> for OnConflict {
    fn from(arg: OnConflictArg) -> Self {
        match arg {
            OnConflictArg::Error => OnConflict::Error,
            OnConflictArg::Skip => OnConflict::Skip,
            OnConflictArg::Replace => OnConflict::Replace,
        }
    }
}

/// A format's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Values between commas, semicolons, tabs or bars.
    Csv,
    /// Values between tabs.
    Tsv,
    /// One JSON object a line.
    #[value(alias = "jsonl", alias = "json")]
    Ndjson,
    /// Parquet.
    Parquet,
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Csv => Format::Csv,
            FormatArg::Tsv => Format::Tsv,
            FormatArg::Ndjson => Format::NdJson,
            FormatArg::Parquet => Format::Parquet,
        }
    }
}

/// A quote, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuoteArg(Option<u8>);

/// Columns and their types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Types(Vec<(String, SqlType)>);

impl Args {
    /// Parses a command line.
    ///
    /// # Errors
    /// clap's, which knows how to print itself (help and version are errors too).
    pub(crate) fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
        Args::try_parse_from(arguments)
    }

    /// What is known of the files before looking; `table` are the names of the table's columns, if it is there.
    pub(crate) fn sniff_options(&self, table: Vec<String>) -> SniffOptions {
        let header = match (self.header, self.no_header) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        SniffOptions {
            format: self.format.map(Format::from),
            csv: CsvOptions {
                delimiter: self.delimiter,
                quote: self.quote.map(|q| q.0),
                escape: self.escape,
                header,
                null: self.null.clone(),
            },
            sample_bytes: self.sample,
            names: self.columns.clone(),
            types: self.types.as_ref().map(|t| t.0.clone()).unwrap_or_default(),
            table,
        }
    }

    /// The most rows that may be rejected; `None` for any number.
    pub(crate) fn reject_limit(&self) -> Option<u64> {
        match (self.max_rejects, &self.rejects) {
            (Some(limit), _) => Some(limit),
            (None, Some(_)) => None,
            (None, None) => Some(0),
        }
    }

    /// What `--resume` compares beside a file's content.
    pub(crate) fn fingerprint(&self) -> String {
        let options = self.sniff_options(Vec::new());
        format!(
            "v1 format={:?} csv={:?} names={:?} types={:?} on_conflict={:?}",
            options.format, options.csv, options.names, options.types, self.on_conflict
        )
    }
}

fn character(text: &str) -> Result<u8, String> {
    match (text, text.as_bytes()) {
        ("tab" | "\\t", _) => Ok(b'\t'),
        (_, [b'\n' | b'\r']) => Err("a line end cannot stand here".into()),
        (_, [byte]) if byte.is_ascii() => Ok(*byte),
        _ => Err("one ASCII character is wanted".into()),
    }
}

fn quote(text: &str) -> Result<QuoteArg, String> {
    match text {
        "" | "none" => Ok(QuoteArg(None)),
        _ => character(text).map(|byte| QuoteArg(Some(byte))),
    }
}

/// `a=TEXT,b=NUMERIC(10,2)`: commas inside parentheses belong to the type.
fn types(text: &str) -> Result<Types, String> {
    let mut parts = vec![String::new()];
    let mut depth = 0i32;
    for c in text.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match (c, depth, parts.last_mut()) {
            (',', 0, _) => parts.push(String::new()),
            (_, _, Some(part)) => part.push(c),
            _ => {}
        }
    }
    let one = |part: &String| {
        let (name, ty) = part.split_once('=').ok_or_else(|| format!("\"{part}\" is not COLUMN=TYPE"))?;
        let ty = parse_type(ty.trim()).map_err(|e| e.message().to_owned())?;
        Ok((name.trim().to_owned(), ty))
    };
    parts.iter().map(one).collect::<Result<_, String>>().map(Types)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let fixed = ["omendb-load", "--db", "d", "--table", "t"];
        Args::parse_from(fixed.iter().chain(words).map(OsString::from))
    }

    #[test]
    fn the_definitions_are_sound() {
        Args::command().debug_assert();
        assert!(parse(&[]).is_err());
        assert!(parse(&["x.csv", "--primary-key", "a"]).is_err());
        assert!(parse(&["x.csv", "--header", "--no-header"]).is_err());
        assert!(parse(&["x.csv", "--delimiter", "ab"]).is_err());
        assert!(parse(&["x.csv", "--threads", "0"]).is_err());
        assert!(parse(&["x.csv", "--create", "--types", "a"]).is_err());
        assert!(parse(&["x.csv", "--create", "--types", "a=frob"]).is_err());
    }

    #[test]
    fn options_mean_what_they_say() {
        let words = ["x.csv", "y.csv", "--create", "--primary-key", "a,b", "--delimiter", "tab", "--quote", "none"];
        let args = parse(&[&words[..], &["--types", "a=TEXT, p=NUMERIC(10,2)", "--sample", "1KiB"]].concat()).unwrap();
        assert_eq!(args.files, ["x.csv", "y.csv"]);
        assert_eq!(args.primary_key, ["a", "b"]);
        let options = args.sniff_options(Vec::new());
        assert_eq!((options.csv.delimiter, options.csv.quote, options.sample_bytes), (Some(b'\t'), Some(None), 1024));
        assert_eq!(
            options.types.iter().map(|(n, t)| format!("{n} {}", t.name())).collect::<Vec<_>>(),
            ["a text", "p numeric(10,2)"]
        );
    }

    #[test]
    fn bad_rows_fail_a_load_unless_somebody_asked_for_them() {
        assert_eq!(parse(&["x"]).unwrap().reject_limit(), Some(0));
        assert_eq!(parse(&["x", "--rejects", "r"]).unwrap().reject_limit(), None);
        assert_eq!(parse(&["x", "--rejects", "r", "--max-rejects", "5"]).unwrap().reject_limit(), Some(5));
        assert_ne!(parse(&["x"]).unwrap().fingerprint(), parse(&["x", "--null", "NA"]).unwrap().fingerprint());
    }
}
