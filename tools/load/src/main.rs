//! `omendb-load`, the bulk loader. Everything it does is in the library beside it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    omendb_load::run(std::env::args_os().collect()).into()
}
