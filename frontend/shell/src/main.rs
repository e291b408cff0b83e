/*!
`omendb`, the shell: SQL on a database directory, or in memory.

```text
    args        the command line
    start       from the command line to an open database, and what to do with it
    check       --check
    script      files and pipes: what they hold is run as it arrives, up to the first error
    repl        a person at a terminal: editing, completion, history
    shell       runs one statement or command, and shows what it gives
    meta        the backslash commands
    feed, lexer lines cut into statements, text cut into tokens
    render      results as text
    output      where results go: standard output, a file, a pager
    ticker      progress of a long statement
    variables   \set, and :name in statements
```

stdout carries results and nothing else; prompts, notes, timings, progress and errors go to stderr.
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod args;
mod check;
mod feed;
mod keywords;
mod lexer;
mod meta;
mod output;
mod render;
mod repl;
mod script;
mod shell;
mod start;
mod ticker;
mod variables;

use omendb_cli::memory;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    memory::return_soon();
    start::run(std::env::args_os().collect()).into()
}
