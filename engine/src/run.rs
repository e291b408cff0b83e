/*!
Runs: immutable files of rows sorted by key. So far only what the manifest remembers of one: [`meta::RunMeta`].
*/

pub mod meta;
