//! A run against a plain sorted vector: what was written is what is found, scanned and counted, and damage is never an answer.

mod damage;
mod filter;
mod prune;
mod rows;
mod scan;
mod support;
