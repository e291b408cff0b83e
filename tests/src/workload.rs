/*!
The queries of `tests/queries`, and the tables they run on.
*/

use crate::root;
use omendb_sql::{Session, SqlError};
use std::path::{Path, PathBuf};

/// Which table is loaded from which file; only zips has a key.
pub struct Files {
    /// Where the files lie.
    pub dir: PathBuf,
    /// Table, file.
    pub tables: [(&'static str, &'static str); 5],
}

impl Files {
    /// The repository's samples.
    pub fn samples() -> Files {
        let tables = [
            ("flights", "flights.parquet"),
            ("birds", "birdstrikes.csv"),
            ("zips", "zipcodes.csv"),
            ("weather", "weather.csv"),
            ("sp500", "sp500.csv"),
        ];
        Files { dir: crate::samples(), tables }
    }

    /// The full files, where they are.
    pub fn full() -> Option<Files> {
        let tables = [
            ("flights", "flights-3m.parquet"),
            ("birds", "birdstrikes.csv"),
            ("zips", "zipcodes.csv"),
            ("weather", "seattle-weather-hourly-normals.csv"),
            ("sp500", "sp500-2000.csv"),
        ];
        crate::full_data().map(|dir| Files { dir, tables })
    }

    /// Makes every table and fills it from its file.
    ///
    /// # Errors
    /// The first statement's that fails.
    pub fn load(&self, session: &Session) -> Result<(), SqlError> {
        for (table, file) in self.tables {
            let path = self.dir.join(file);
            let path = path.display();
            if table == "zips" {
                session.execute(
                    "CREATE TABLE zips (zip_code TEXT PRIMARY KEY, latitude DOUBLE PRECISION, \
                     longitude DOUBLE PRECISION, city TEXT, state TEXT, county TEXT)",
                )?;
                session.execute(&format!("COPY zips FROM '{path}' (FORMAT csv, HEADER true)"))?;
            } else {
                session.execute(&format!("CREATE TABLE {table} AS SELECT * FROM '{path}'"))?;
            }
        }
        Ok(())
    }

    /// The query over the loaded tables.
    pub fn over_tables(&self, sql: &str) -> String {
        self.tables.iter().fold(sql.to_owned(), |sql, (table, _)| sql.replace(&format!("{{{table}}}"), table))
    }

    /// The same query straight over the files in `dir`, named by `file_of`.
    pub fn over_files(&self, sql: &str, file_of: impl Fn(&str, &str) -> PathBuf) -> String {
        self.tables.iter().fold(sql.to_owned(), |sql, (table, file)| {
            sql.replace(&format!("{{{table}}}"), &format!("'{}'", file_of(table, file).display()))
        })
    }
}

/// The named queries of `files.sql`.
pub fn queries() -> Vec<(String, String)> {
    let mut out = Vec::new();
    let text = read(&root().join("tests/queries/files.sql"));
    for part in text.split("-- name: ").skip(1) {
        let (name, sql) = part.split_once('\n').unwrap_or((part, ""));
        let sql = sql.trim().trim_end_matches(';');
        out.push((name.trim().to_owned(), sql.to_owned()));
    }
    out
}

/// The statements of `changes.sql`.
pub fn changes() -> Vec<String> {
    let text = read(&root().join("tests/queries/changes.sql"));
    text.lines().filter(|line| !line.starts_with("--") && !line.trim().is_empty()).map(str::to_owned).collect()
}

/// A file's text; a file that cannot be read gives an empty one, which no test takes for an answer.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
