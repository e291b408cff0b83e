/*!
The engine through its public interface, as its users see it.
*/
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests look at files from outside
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod aggregates;
mod catalog;
mod files;
mod filters;
mod fixture;
mod layouts;
mod leases;
mod loads;
mod model;
mod opening;
mod pace;
mod ranges;
mod reads;
mod recovery;
mod space;
mod support;
mod transactions;
mod ttl;
