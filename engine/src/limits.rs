/*!
Every limit of the engine, by name, with its reason. A limit that is broken is an error that names it.
*/

/// Bytes of one encoded key. A fence, a guard and a log record each hold a few; 8 KiB keeps them all small.
pub const KEY_BYTES_MAX: usize = 8 * 1024;

/// Bytes of one value. Larger ones belong in files; 64 MiB still lets a row fit a log segment's record.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one encoded row.
pub const ROW_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Columns of one table, PostgreSQL's limit.
pub const COLUMNS_MAX: usize = 1600;

/// Columns of one key, PostgreSQL's limit.
pub const KEY_COLUMNS_MAX: usize = 32;

/// Ranges of keys that one transaction deletes of one table, those that meet counted as one: every lookup between its commit
/// and the next flush asks each.
pub const ERASED_RANGES_MAX: usize = 64;

/// Files of runs that a database has open at a time: half of the 1,024 descriptors that a process usually may have, and more than
/// a scan reads from at once.
pub const RUN_FILES_MAX: usize = 512;

/// Rows of one slice, the unit the index points at.
pub const SLICE_ROWS_MAX: usize = 1024;

/// Bytes that a slice's columns should come to: two device pages.
pub const SLICE_BYTES_TARGET: usize = 8 * 1024;

/// Rows of one tile in column shape: ClickHouse's and Vortex's default.
pub const TILE_ROWS: usize = 8192;
