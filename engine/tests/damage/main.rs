/*!
The damage campaign: whatever happens to a stored byte is found, or proved to mean nothing; and no answer is ever wrong.

A small database is built, in which every kind of file occurs. Then its files are damaged, one damage at a time: a bit of
every byte flipped, truncated at every length, blocks of 512 and 4,096 bytes zeroed, swapped, replaced by an older version of
the same block or by another file's, files missing or mixed up. After each, the check and a reader look at the database:

- what the reader reads is what was committed, or an error; never anything else;
- the check names a problem whenever reading fails, and whenever the damaged byte means something;
- where both are silent, the byte must be one of those that mean nothing, which `Place::means_nothing` lists;
- the log alone may lose commits at its end, and only where no later frame's watermark proves that they were there
  (`documented`): such damage can't be told from a write that a crash cut short.

`OMENDB_DAMAGE=all` flips every bit, cuts at every length and swaps every pair of blocks. Without it a run takes a minute.
*/
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // two threads of our own, and the environment
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod campaign;
mod check;
mod database;
mod oracle;
