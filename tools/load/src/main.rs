//! `omendb-load`, the bulk loader. Everything it does is in the library beside it.

use omendb_cli::memory;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    memory::return_soon();
    omendb_load::run(std::env::args_os().collect()).into()
}
