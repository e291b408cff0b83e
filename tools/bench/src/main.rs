//! `omendb-bench`, the bench runner. Everything it does is in the library beside it.

use omendb_cli::memory;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    omendb_bench::run(std::env::args_os().collect()).into()
}
