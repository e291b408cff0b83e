//! See `omendb_engine::fuzzing::vector_integers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| omendb_engine::fuzzing::vector_integers(bytes));
