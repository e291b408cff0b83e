//! See `omendb_engine::fuzzing::text_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| omendb_engine::fuzzing::text_files(bytes));
