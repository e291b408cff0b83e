/*!
What every OmenDB program shares on its command line.

stdout carries data; everything here that speaks to a person writes to stderr. Settings come from a flag, else the
environment (`OMENDB_*`), else `omendb.toml` in the database directory, else the user's own `config.toml`. Exit codes
are a contract: see [`Exit`].
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod colour;
pub mod exit;
pub mod generate;
pub mod interrupt;
pub mod memory;
pub mod progress;
pub mod report;
pub mod settings;
pub mod size;
pub mod version;

pub use colour::{Colour, ColourChoice};
pub use exit::Exit;
pub use settings::{DatabaseArgs, SettingsError};
