/*!
The main job in one page: an embedded database, a table, a bulk load, questions.

```text
    cargo run --example quickstart
```
*/

use omendb_sql::{Database, OpenOptions, Outcome, Session, SqlError, text};
use std::path::Path;

/// The database this makes, in the working directory.
const DIRECTORY: &str = "quickstart.omendb";

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), SqlError> {
    let database = Database::open(OpenOptions { dir: Some(DIRECTORY.into()), ..OpenOptions::default() })?;
    let session = database.session();

    session.execute("DROP TABLE IF EXISTS metrics")?;
    session.execute(
        "CREATE TABLE metrics (run_id BIGINT, step BIGINT, ts TIMESTAMP, loss DOUBLE PRECISION, \
         acc DOUBLE PRECISION, lr DOUBLE PRECISION, PRIMARY KEY (run_id, step))",
    )?;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/metrics.csv");
    show(&session, &format!("COPY metrics FROM '{}' (FORMAT csv, HEADER true)", sample.display()))?;

    println!("\nOne row by key, in one trip to the device:");
    show(&session, "SELECT * FROM metrics WHERE run_id = 3 AND step = 400")?;
    println!("\nThe last value of a run:");
    show(&session, "SELECT step, ts, loss FROM metrics WHERE run_id = 3 ORDER BY step DESC LIMIT 1")?;
    println!("\nAll runs compared:");
    show(
        &session,
        "SELECT run_id, count(*) AS steps, round(min(loss), 4) AS best_loss, round(max(acc), 4) AS best_acc \
         FROM metrics GROUP BY run_id ORDER BY best_loss LIMIT 5",
    )?;

    database.close()?;
    println!(
        "\nThe database lies in {DIRECTORY}. Open the shell on it:\n\n    cargo run --bin omendb -- {DIRECTORY}\n"
    );
    Ok(())
}

/// Runs a statement and prints its rows, or its tag.
fn show(session: &Session, sql: &str) -> Result<(), SqlError> {
    match session.execute(sql)? {
        Outcome::Done(done) => println!("{}", done.tag),
        Outcome::Rows(rows) => {
            let schema = rows.schema();
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            println!("{}", names.join(" | "));
            for batch in rows {
                let batch = batch?;
                for row in 0..batch.num_rows() {
                    let mut line = String::new();
                    for (column, field) in batch.columns().iter().zip(schema.fields()) {
                        if !line.is_empty() {
                            line.push_str(" | ");
                        }
                        text::format(column, row, field, &mut line);
                    }
                    println!("{line}");
                }
            }
        }
    }
    Ok(())
}
