/*!
The file of a run: `run-<id>.omen`, format version 1. All integers are little-endian; a varint is LEB128.

```text
    0 ┌──────────────────────────────────────────────────────────────────────────┐
      │ header, 64 bytes                                                         │
      │   magic "OMENRUN\0" · u32 format version · u32 0 · u64 run id            │
      │   u64 random run id · zeros · u32 CRC32C of the first 60 bytes           │
   64 ├──────────────────────────────────────────────────────────────────────────┤
      │ tile 0 │ tile 1 │ …          packed, no padding                          │
      │                                                                          │
      │   tile    = chunk of column 0 │ chunk of column 1 │ … │ of SEQ │ of KIND │
      │   chunk   = frame of slice 0 │ frame of slice 1 │ …   (the tile's slices)│
      │   frame   = u32 CRC32C(u64 random run id, u64 file offset,               │
      │                        u64 payload length, payload) │ payload           │
      │   payload = one vector (encoding.rs); in the first key column:           │
      │             varint length │ last key of the slice before (0: none)       │
      │             varint length │ first key of the slice after (0: none)       │
      │             vector                                                       │
      ├──────────────────────────────────────────────────────────────────────────┤
      │ sections, each one frame, in any order:                                  │
      │   filter (one a block) │ statistics (one a column) │ index │ locators    │
      │   │ schema                                                               │
      ├──────────────────────────────────────────────────────────────────────────┤
      │ footer, one frame: features, counts, bounds, section directory           │
      ├──────────────────────────────────────────────────────────────────────────┤
      │ trailer, 64 bytes                                                        │
      │   u64 footer offset · u64 footer frame length · u64 run id               │
      │   u64 random run id · u64 file length · u32 format version · zeros       │
      │   magic "OMENRUN\0" · u32 CRC32C of the first 60 bytes                   │
      └──────────────────────────────────────────────────────────────────────────┘
```

```text
    footer payload, all varints but keys:
        features (bits)    │ layout: 0 row, 1 column │ rows of a slice │ slices of a tile │ rows │ tombstones
      │ slices │ tiles │ lowest seq │ highest seq │ default seq │ where the tiles end
      │ length │ lowest key │ length │ highest key
      │ sections │ sections × (kind │ column id, or 0 │ offset │ bytes of the frame)
    section kinds: 1 schema   2 index (model.rs)   3 locators (locators.rs)   4 statistics (statistics.rs)
                   5 filter (filter.rs): of a block of slices, the first of which stands in place of the column id
    schema payload:
        u8 key encoding version (1)
      │ varint columns │ columns × (varint id │ u8 type │ u8 precision │ u8 scale │ u8 collation: 0 = C), in file order
      │ varint key columns │ key columns × (varint id │ u8 1 if it takes NULL)
    types: 1 Boolean  2 Int16  3 Int32  4 Int64  5 Float32  6 Float64  7 Decimal  8 Text  9 Bytes  10 Date  11 Time
           12 Timestamp  13 TimestampTz  14 Interval  15 Uuid  16 Json; precision and scale are 0 but for Decimal
    trailer                                        header
     0  u64  footer offset                          0  [8]  "OMENRUN\0"
     8  u64  bytes of the footer's frame            8  u32  format version
    16  u64  run id                                12  u32  0
    24  u64  random run id                         16  u64  run id
    32  u64  bytes of this file                    24  u64  random run id
    40  u32  format version                        32       zeros
    44       zeros                                 60  u32  CRC32C of the 60 bytes before
    52  [8]  "OMENRUN\0"
    60  u32  CRC32C of the 60 bytes before
```

Sections fill the file from the tiles' end to the footer, and the footer ends where the trailer begins, so that each byte of
the file is covered by one checksum. A column's SEQ and KIND come after the schema's columns, in tiles as in locators.

**Slices and tiles.** A slice is a run's power of two of rows, at most 1,024; only a tile's last may have fewer. A tile
is a power of two of slices; the last has what is left, and a tile may end early so that large values don't swell it, or with a series.
Tiles with fewer rows than a whole one are listed in the locators. A tile of one slice is the *row shape*; a tile of 8,192 rows
is the *column shape*: one format, a parameter.

**Left out.** A frame of length 0 is not there, not even its checksum, and stands for a slice whose values are all the
column's default: NULL for a user's column, the footer's `default_seq` for SEQ, put for KIND. A key column is always there.

**Checksums.** A frame's CRC covers where it lies and whose it is, so that a block that was misdirected, or is an old file's, does not pass.

**Growth.** Section kinds that a reader does not know are skipped; a change that a reader must know sets a bit in the
footer's features, and a reader refuses bits that it does not know. Bit 0: byte strings may be of shape 4, numerals with a
directory. A history of older versions will be one section kind and one bit.
*/

use super::{Layout, RunSchema, offset_of};
use crate::bytes::{Input, put_counted, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{ENCODING_VERSION, KeySchema};
use crate::limits::{COLUMNS_MAX, KEY_BYTES_MAX, KEY_COLUMNS_MAX, SLICE_ROWS_MAX};
use crate::types::{ColumnId, ColumnType, RunId, Seq};
use std::path::Path;

const MAGIC: [u8; 8] = *b"OMENRUN\0";
/// The version that this release writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes before the first tile.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes at the file's end.
pub(super) const TRAILER_BYTES: usize = 64;
/// Bytes of a frame before its payload.
pub(super) const FRAME_OVERHEAD: usize = 4;
/// Slices of one tile: a whole tile of the smallest slices.
pub(super) const TILE_SLICES_MAX: usize = crate::limits::TILE_ROWS;
/// Sections of one run: one for each column, and room to grow.
const SECTIONS_MAX: usize = 4 * (COLUMNS_MAX + 64);
/// Strings that are stored as numbers have a directory of their groups.
const FEATURE_NUMERALS_DIRECTORY: u64 = 1;
/// Feature bits that this release knows, and sets in what it writes.
const KNOWN_FEATURES: u64 = FEATURE_NUMERALS_DIRECTORY;

/// The first 60 bytes' checksum in the last four.
fn seal(block: &mut [u8; 64]) {
    let (body, sum) = block.split_at_mut(60);
    sum.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

fn is_sealed(block: &[u8; 64]) -> bool {
    let (body, sum) = block.split_at(60);
    crc32c::crc32c(body).to_le_bytes() == *sum
}

/// The header's bytes.
pub(super) fn encode_header(id: RunId, random: u64) -> [u8; HEADER_BYTES] {
    let mut block = [0; HEADER_BYTES];
    let fields = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &[0; 4], &id.0.to_le_bytes(), &random.to_le_bytes()];
    fill(&mut block, &fields);
    seal(&mut block);
    block
}

fn fill(block: &mut [u8; 64], fields: &[&[u8]]) {
    let bytes = fields.iter().flat_map(|field| field.iter());
    block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Checks a header against what the trailer says.
pub(super) fn check_header(bytes: &[u8], id: RunId, random: u64) -> Result<()> {
    if bytes != encode_header(id, random) {
        return Err(Error::corruption("the run's header is damaged"));
    }
    Ok(())
}

/// The end of the file: where the footer is, and whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) footer_offset: u64,
    pub(super) footer_bytes: u64,
    pub(super) id: RunId,
    /// Ties every frame to this file.
    pub(super) random: u64,
    pub(super) file_bytes: u64,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut block = [0; TRAILER_BYTES];
        let fields = [
            &self.footer_offset.to_le_bytes()[..],
            &self.footer_bytes.to_le_bytes(),
            &self.id.0.to_le_bytes(),
            &self.random.to_le_bytes(),
            &self.file_bytes.to_le_bytes(),
            &FORMAT_VERSION.to_le_bytes(),
            &[0; 8],
            &MAGIC,
        ];
        fill(&mut block, &fields);
        seal(&mut block);
        block
    }

    /// Reads the trailer of a file of `file_bytes` that should be run `id`.
    pub(super) fn decode(bytes: &[u8], id: RunId, file_bytes: u64) -> Result<Trailer> {
        let block: &[u8; TRAILER_BYTES] =
            bytes.try_into().map_err(|_| Error::corruption("the run's file is too short for a trailer"))?;
        let mut input = Input::new(block, "a part of the run");
        let trailer = Trailer {
            footer_offset: input.u64()?,
            footer_bytes: input.u64()?,
            id: RunId(input.u64()?),
            random: input.u64()?,
            file_bytes: input.u64()?,
        };
        let version = input.u32()?;
        input.take(8)?;
        if !is_sealed(block) || input.take(8)? != MAGIC {
            return Err(Error::corruption("the run's file has no valid trailer: it is cut short, damaged, or no run"));
        }
        if version > FORMAT_VERSION {
            let message = format!("the run has format version {version}; this release reads up to {FORMAT_VERSION}");
            return Err(Error::new(ErrorKind::NewerFormat, message));
        }
        if trailer.id != id || trailer.file_bytes != file_bytes {
            let message = format!(
                "the file is that of run {} with {} bytes, where run {} with {file_bytes} is expected",
                trailer.id.0, trailer.file_bytes, id.0
            );
            return Err(Error::corruption(message));
        }
        let room = file_bytes.saturating_sub(offset_of(HEADER_BYTES + TRAILER_BYTES));
        let end = trailer.footer_offset.checked_add(trailer.footer_bytes);
        if trailer.footer_bytes > room || end != Some(file_bytes.saturating_sub(offset_of(TRAILER_BYTES))) {
            return Err(Error::corruption("the run's trailer points outside its file"));
        }
        Ok(trailer)
    }
}

/// The checksum of a frame's payload, which `parts` make up, at `offset` of the file whose random id is `random`.
pub(super) fn frame_crc(random: u64, offset: u64, parts: &[&[u8]]) -> u32 {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut place = [0; 24];
    let fields = [random, offset, offset_of(length)];
    place.chunks_exact_mut(8).zip(fields).for_each(|(to, field)| to.copy_from_slice(&field.to_le_bytes()));
    parts.iter().fold(crc32c::crc32c(&place), |crc, part| crc32c::crc32c_append(crc, part))
}

/// The payload of a frame that lies at `offset`, checked.
pub(super) fn open_frame(frame: &[u8], random: u64, offset: u64) -> Result<&[u8]> {
    let (sum, payload) = split_frame(frame)?;
    if frame_crc(random, offset, &[payload]).to_le_bytes() != *sum && !mutant!(DropRunChecksum) {
        return Err(Error::corruption("a checksum does not hold: the bytes are not what this run wrote here"));
    }
    Ok(payload)
}

/// A frame's checksum and payload, unchecked.
pub(super) fn split_frame(frame: &[u8]) -> Result<(&[u8], &[u8])> {
    frame.split_at_checked(FRAME_OVERHEAD).ok_or_else(|| Error::corruption("a frame is shorter than its checksum"))
}

/// The neighbours of a slice, at the front of its first key column's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard<'a> {
    /// Last key of the slice before; empty if there is none.
    pub(super) prev_last: &'a [u8],
    /// First key of the slice after; empty if there is none.
    pub(super) next_first: &'a [u8],
}

impl<'a> Guard<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_counted(out, self.prev_last);
        put_counted(out, self.next_first);
    }

    /// The guard, and the vector that follows.
    pub(super) fn decode(payload: &'a [u8]) -> Result<(Guard<'a>, &'a [u8])> {
        let mut input = Input::new(payload, "a part of the run");
        let guard =
            Guard { prev_last: input.counted_up_to(KEY_BYTES_MAX)?, next_first: input.counted_up_to(KEY_BYTES_MAX)? };
        Ok((guard, input.rest()))
    }

    /// Whether a key that is present or absent here can be nowhere else.
    pub(super) fn admits(&self, key: &[u8]) -> bool {
        (self.prev_last.is_empty() || self.prev_last < key) && (self.next_first.is_empty() || key < self.next_first)
    }
}

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectionKind {
    Schema,
    Index,
    Locators,
    /// Of the column that the directory names.
    Statistics,
    /// Of a block of slices: the directory names the first.
    Filter,
    /// Of a later release.
    Unknown(u64),
}

impl SectionKind {
    fn code(self) -> u64 {
        match self {
            SectionKind::Schema => 1,
            SectionKind::Index => 2,
            SectionKind::Locators => 3,
            SectionKind::Statistics => 4,
            SectionKind::Filter => 5,
            SectionKind::Unknown(code) => code,
        }
    }

    fn of(code: u64) -> SectionKind {
        match code {
            1 => SectionKind::Schema,
            2 => SectionKind::Index,
            3 => SectionKind::Locators,
            4 => SectionKind::Statistics,
            5 => SectionKind::Filter,
            code => SectionKind::Unknown(code),
        }
    }
}

/// One entry of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: SectionKind,
    /// The column it is about, 0 where it is about none; the first slice of a filter's block.
    pub(super) column: ColumnId,
    pub(super) offset: u64,
    /// Bytes of the frame.
    pub(super) bytes: u64,
}

/// Counts, bounds and the section directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) layout: Layout,
    pub(super) slice_rows: u32,
    pub(super) tile_slices: u32,
    pub(super) rows: u64,
    pub(super) tombstones: u64,
    pub(super) slices: u32,
    pub(super) tiles: u32,
    pub(super) min_seq: Seq,
    pub(super) max_seq: Seq,
    /// What a left-out SEQ frame stands for.
    pub(super) default_seq: Seq,
    /// Where the tiles end.
    pub(super) data_end: u64,
    pub(super) min_key: Vec<u8>,
    pub(super) max_key: Vec<u8>,
    pub(super) sections: Vec<Section>,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let head = [
            KNOWN_FEATURES,
            self.layout.code().into(),
            self.slice_rows.into(),
            self.tile_slices.into(),
            self.rows,
            self.tombstones,
            self.slices.into(),
            self.tiles.into(),
            self.min_seq,
            self.max_seq,
            self.default_seq,
            self.data_end,
        ];
        head.iter().for_each(|field| put_varint(&mut out, *field));
        put_counted(&mut out, &self.min_key);
        put_counted(&mut out, &self.max_key);
        put_varint(&mut out, offset_of(self.sections.len()));
        for section in &self.sections {
            let fields = [section.kind.code(), section.column.0.into(), section.offset, section.bytes];
            fields.iter().for_each(|field| put_varint(&mut out, *field));
        }
        out
    }

    pub(super) fn decode(payload: &[u8], trailer: &Trailer) -> Result<Footer> {
        let mut input = Input::new(payload, "a part of the run");
        let features = input.varint()?;
        if features & !KNOWN_FEATURES != 0 {
            let message = format!("the run uses features {features:#x} that this release does not know");
            return Err(Error::new(ErrorKind::NewerFormat, message));
        }
        let mut footer = Footer {
            layout: Layout::of_code(input.varint()?)?,
            slice_rows: input.varint32()?,
            tile_slices: input.varint32()?,
            rows: input.varint()?,
            tombstones: input.varint()?,
            slices: input.varint32()?,
            tiles: input.varint32()?,
            min_seq: input.varint()?,
            max_seq: input.varint()?,
            default_seq: input.varint()?,
            data_end: input.varint()?,
            min_key: input.counted_up_to(KEY_BYTES_MAX)?.to_vec(),
            max_key: input.counted_up_to(KEY_BYTES_MAX)?.to_vec(),
            sections: Vec::new(),
        };
        let sections = input.count(SECTIONS_MAX, "sections")?;
        for _ in 0..sections {
            let kind = SectionKind::of(input.varint()?);
            let column = ColumnId(input.varint32()?);
            footer.sections.push(Section { kind, column, offset: input.varint()?, bytes: input.varint()? });
        }
        input.end()?;
        footer.check(trailer)?;
        Ok(footer)
    }

    /// What must hold among the counts, so that no later arithmetic or allocation goes astray.
    fn check(&self, trailer: &Trailer) -> Result<()> {
        let wrong = |what: &str| Err(Error::corruption(format!("the run's footer contradicts itself: {what}")));
        let power = |n: u32, max: usize| n.is_power_of_two() && offset_of(max) >= n.into();
        if !power(self.slice_rows, SLICE_ROWS_MAX) || !power(self.tile_slices, TILE_SLICES_MAX) {
            return wrong("rows of a slice or slices of a tile");
        }
        let start = offset_of(HEADER_BYTES);
        if self.data_end < start || self.data_end > trailer.footer_offset {
            return wrong("the tiles' end");
        }
        // Each slice has a key vector, which takes at least its checksum and a byte.
        let slices_max = (self.data_end - start) / offset_of(FRAME_OVERHEAD + 1);
        let rows_max = u64::from(self.slices) * u64::from(self.slice_rows);
        if self.slices == 0 || u64::from(self.slices) > slices_max || self.tiles == 0 || self.tiles > self.slices {
            return wrong("slices or tiles");
        }
        if self.rows < self.slices.into() || self.rows > rows_max || self.tombstones > self.rows {
            return wrong("rows or tombstones");
        }
        if self.min_key.is_empty() || self.min_key > self.max_key || self.min_seq > self.max_seq {
            return wrong("bounds of keys or sequence numbers");
        }
        for section in &self.sections {
            let end = section.offset.checked_add(section.bytes);
            if section.offset < self.data_end || end.is_none_or(|end| end > trailer.footer_offset) {
                return wrong("a section lies outside");
            }
        }
        Ok(())
    }

    /// The one section of a kind that every run has.
    pub(super) fn section(&self, kind: SectionKind) -> Result<Section> {
        let found = self.sections.iter().find(|section| section.kind == kind);
        found.copied().ok_or_else(|| Error::corruption(format!("the run has no section {kind:?}")))
    }
}

/// The schema section: `u8 key encoding version`, then columns in file order with type, collation and place in the key.
pub(super) fn encode_schema(schema: &RunSchema) -> Result<Vec<u8>> {
    let mut out = vec![ENCODING_VERSION];
    put_varint(&mut out, offset_of(schema.columns.len()));
    for (id, ty) in &schema.columns {
        put_varint(&mut out, id.0.into());
        out.extend_from_slice(&type_code(*ty)?);
        out.push(COLLATION_C);
    }
    put_varint(&mut out, offset_of(schema.key_columns.len()));
    for (id, column) in schema.key_columns.iter().zip(schema.key.columns()) {
        put_varint(&mut out, id.0.into());
        out.push(u8::from(column.nullable));
    }
    Ok(out)
}

const COLLATION_C: u8 = 0;

/// Reads what [`encode_schema`] wrote.
pub(super) fn decode_schema(payload: &[u8]) -> Result<RunSchema> {
    let mut input = Input::new(payload, "a part of the run");
    let encoding = input.byte()?;
    if encoding != ENCODING_VERSION {
        return Err(Error::new(ErrorKind::NewerFormat, format!("the run's keys have encoding version {encoding}")));
    }
    let mut columns = Vec::new();
    for _ in 0..input.count(COLUMNS_MAX + 1, "columns")? {
        let id = ColumnId(input.varint32()?);
        let ty = type_of([input.byte()?, input.byte()?, input.byte()?])?;
        if input.byte()? != COLLATION_C {
            return Err(Error::new(ErrorKind::NewerFormat, "a column of the run has a collation that is not known"));
        }
        columns.push((id, ty));
    }
    let mut key_columns = Vec::new();
    let mut key_types = Vec::new();
    for _ in 0..input.count(KEY_COLUMNS_MAX, "columns of a key")? {
        let id = ColumnId(input.varint32()?);
        let nullable = input.byte()? != 0;
        let column = columns.iter().find(|(column, _)| *column == id);
        let (_, ty) = column.ok_or_else(|| Error::corruption("the run's key names a column that it does not store"))?;
        key_columns.push(id);
        key_types.push((*ty, nullable));
    }
    input.end()?;
    let mut ids: Vec<ColumnId> = columns.iter().map(|column| column.0).collect();
    ids.sort_unstable();
    if key_columns.is_empty() || ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Error::corruption("the run's schema has no key, or a column twice"));
    }
    let key = KeySchema::new(key_types).map_err(|e| Error::corruption(e.to_string()))?;
    Ok(RunSchema { key, key_columns, columns })
}

/// A column type in three bytes: its number, and a decimal's precision and scale.
fn type_code(ty: ColumnType) -> Result<[u8; 3]> {
    let number = match ty {
        ColumnType::Boolean => 1,
        ColumnType::Int16 => 2,
        ColumnType::Int32 => 3,
        ColumnType::Int64 => 4,
        ColumnType::Float32 => 5,
        ColumnType::Float64 => 6,
        ColumnType::Decimal { precision, scale } => return Ok([7, precision, scale.cast_unsigned()]),
        ColumnType::Text => 8,
        ColumnType::Bytes => 9,
        ColumnType::Date => 10,
        ColumnType::Time => 11,
        ColumnType::Timestamp => 12,
        ColumnType::TimestampTz => 13,
        ColumnType::Interval => 14,
        ColumnType::Uuid => 15,
        ColumnType::Json => 16,
    };
    Ok([number, 0, 0])
}

fn type_of([number, precision, scale]: [u8; 3]) -> Result<ColumnType> {
    Ok(match number {
        1 => ColumnType::Boolean,
        2 => ColumnType::Int16,
        3 => ColumnType::Int32,
        4 => ColumnType::Int64,
        5 => ColumnType::Float32,
        6 => ColumnType::Float64,
        7 if (1..=38).contains(&precision) && scale <= precision => {
            ColumnType::Decimal { precision, scale: scale.cast_signed() }
        }
        8 => ColumnType::Text,
        9 => ColumnType::Bytes,
        10 => ColumnType::Date,
        11 => ColumnType::Time,
        12 => ColumnType::Timestamp,
        13 => ColumnType::TimestampTz,
        14 => ColumnType::Interval,
        15 => ColumnType::Uuid,
        16 => ColumnType::Json,
        number => {
            let message = format!("a column of the run has type {number} ({precision}, {scale}), which is not known");
            return Err(Error::corruption(message));
        }
    })
}

/// Places an error in the run's file, unless it is placed already.
pub(super) fn placed<T>(result: Result<T>, path: &Path, offset: u64) -> Result<T> {
    result.map_err(|e| e.at(path, offset))
}
