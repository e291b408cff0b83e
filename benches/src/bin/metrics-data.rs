/*!
Writes the metrics table to a Parquet (zstd) or CSV file, in time order, from a seed.

```text
    cargo run --release -p omendb-benches --bin metrics-data -- --rows 5000000 metrics.parquet
```
*/

use arrow::csv::WriterBuilder;
use clap::Parser;
use omendb_benches::metrics::{MetricsOptions, metrics_schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Writes the training-metrics table: run_id, step, ts, loss, acc, lr.
#[derive(Debug, Parser)]
struct Args {
    /// Rows in all.
    #[arg(long, default_value_t = 5_000_000)]
    rows: u64,
    /// Runs, interleaved in time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Seed: the same seed gives the same file.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The file to write: `.parquet` or `.csv`.
    file: PathBuf,
}

fn write(options: MetricsOptions, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    match path.extension().and_then(|e| e.to_str()) {
        Some("parquet") => {
            let zstd = Compression::ZSTD(ZstdLevel::try_new(3)?);
            let properties = WriterProperties::builder().set_compression(zstd).build();
            let mut writer = ArrowWriter::try_new(file, metrics_schema(), Some(properties))?;
            for batch in options.batches() {
                writer.write(&batch?)?;
            }
            writer.close()?;
        }
        Some("csv") => {
            let mut writer = WriterBuilder::new().with_header(true).build(file);
            for batch in options.batches() {
                writer.write(&batch?)?;
            }
        }
        _ => return Err(format!("{}: the file's name must end in .parquet or .csv", path.display()).into()),
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let options = MetricsOptions { rows: args.rows, runs: args.runs, seed: args.seed };
    match write(options, &args.file) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
