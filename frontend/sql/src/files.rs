//! Reading and writing files (being written).
pub mod csv;
pub mod parse;
pub mod pipeline;
