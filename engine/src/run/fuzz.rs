//! A run's decoders for `crate::fuzzing`.

use super::format::{self, Footer, Guard, HEADER_BYTES, TRAILER_BYTES, Trailer};
use super::locators::Locators;
use super::meta::RunMeta;
use super::offset_of;
use super::statistics::StatsDirectory;
use crate::types::{ColumnType, RunId};

/// Columns that the locators are read for.
const COLUMNS: usize = 4;
/// Slices that statistics are read for.
const SLICES: u32 = 2000;
/// Where the footer is said to lie: what it may count is bounded by what fits before.
const FOOTER_OFFSET: u64 = 64 * 1024;

/// A trailer; a footer, which the first two bytes say the length of; and its locators.
pub(crate) fn footer(bytes: &[u8]) {
    let tail = bytes.get(bytes.len().saturating_sub(TRAILER_BYTES)..).unwrap_or_default();
    let _ = Trailer::decode(tail, RunId(1), offset_of(bytes.len()));
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (footer, locators) = rest.split_at_checked(u16::from_le_bytes(*length).into()).unwrap_or((rest, &[]));
    let trailer = Trailer {
        footer_offset: FOOTER_OFFSET,
        footer_bytes: offset_of(footer.len()),
        id: RunId(1),
        random: 0,
        file_bytes: FOOTER_OFFSET + offset_of(footer.len() + TRAILER_BYTES),
    };
    let Ok(footer) = Footer::decode(footer, &trailer) else { return };
    let again = Footer::decode(&footer.encode(), &trailer);
    assert_eq!(again.ok().as_ref(), Some(&footer), "a footer does not come back as it was");
    let Ok(locators) = Locators::decode(locators, &footer, COLUMNS) else { return };
    let (mut rows, mut end) = (0u64, offset_of(HEADER_BYTES));
    for tile in 0..locators.tiles() {
        assert_eq!(locators.tile(tile).offset, end, "tiles do not follow each other");
        end = locators.tile(tile).end();
        for slice in locators.slices_of(tile) {
            assert_eq!(locators.tile_of(slice), tile);
            rows += u64::from(locators.rows_of(slice));
            for column in 0..COLUMNS {
                let frame = locators.frame(slice, column);
                assert!(frame.offset >= locators.tile(tile).offset && frame.end() <= end, "a frame is not in its tile");
            }
        }
    }
    assert_eq!((rows, end), (footer.rows, footer.data_end));
}

/// The schema section, and what the manifest knows of a run.
pub(crate) fn schema(bytes: &[u8]) {
    if let Ok(schema) = format::decode_schema(bytes) {
        assert!(format::encode_schema(&schema).is_ok());
    }
    if let Ok(meta) = RunMeta::decode(bytes) {
        let mut again = Vec::new();
        meta.encode(&mut again);
        assert_eq!(again, bytes, "a run's description does not come back as it was");
    }
}

/// A statistics section about a column of a type.
pub(crate) fn statistics(payload: &[u8], ty: ColumnType) {
    let Ok(directory) = StatsDirectory::open(payload, ty, SLICES) else { return };
    for slice in [0, 1, 1023, 1024, SLICES - 1] {
        let _ = directory.get(payload, slice, 1024);
    }
}

/// A block of a filter, asked for keys; without its guards, too.
pub(crate) fn filter(payload: &[u8]) {
    use crate::model::filter::{Filter, hash};
    let ends = [0, 1, 7, 8, 9, 16, 24];
    let keys = ends.iter().filter_map(|len| payload.get(payload.len().checked_sub(*len)?..));
    if let Ok(block) = super::filter::Block::open(payload) {
        keys.clone().for_each(|key| {
            let _ = block.may_have(key);
        });
    }
    if let Ok(Some(filter)) = Filter::open(payload) {
        keys.for_each(|key| {
            let _ = filter.may_have(hash(key));
        });
    }
}

/// A first key column's payload; gives the vector.
pub(crate) fn tile(payload: &[u8]) -> Option<&[u8]> {
    let (guard, vector) = Guard::decode(payload).ok()?;
    let _ = guard.admits(vector);
    Some(vector)
}

/// The parts of a run's file, each for its target.
#[cfg(test)]
pub(crate) fn parts(io: &crate::io::IoRef, dir: &std::path::Path, name: &str) -> Vec<(&'static str, Vec<u8>)> {
    use super::format::{SectionKind, open_frame};
    use crate::io::OpenMode;
    let file = io.open(&dir.join(name), OpenMode::Read).unwrap();
    let bytes = file.read_at(0, file.len().unwrap() as usize).unwrap();
    let id = super::parse_file_name(name).unwrap();
    let trailer = Trailer::decode(&bytes[bytes.len() - TRAILER_BYTES..], id, bytes.len() as u64).unwrap();
    let open = |offset: u64, len: u64| {
        open_frame(&bytes[offset as usize..(offset + len) as usize], trailer.random, offset).unwrap().to_vec()
    };
    let footer = open(trailer.footer_offset, trailer.footer_bytes);
    let mut out = Vec::new();
    for section in Footer::decode(&footer, &trailer).unwrap().sections {
        let payload = open(section.offset, section.bytes);
        match section.kind {
            SectionKind::Schema => out.push(("run_schema", payload)),
            SectionKind::Index => out.push(("model", payload)),
            SectionKind::Filter => out.push(("run_filter", payload)),
            SectionKind::Statistics if section.column.0 == 17 => {
                out.push(("run_statistics", [&[7], &payload[..]].concat()))
            }
            _ => {}
        }
    }
    out
}

/// Whether it is a block of a filter.
#[cfg(test)]
pub(crate) fn is_filter(payload: &[u8]) -> bool {
    super::filter::Block::open(payload).is_ok()
}

/// Blocks of filters, as the writer makes them.
#[cfg(test)]
pub(crate) fn filter_seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::filter::FilterBuilder;
    let seed = |keys: Vec<Vec<u8>>| {
        let mut builder = FilterBuilder::new(RunId(3));
        builder.begin_slice(&keys[0], keys.len()).unwrap();
        builder.push(keys.iter().map(Vec::as_slice), &keys[keys.len() - 1]);
        builder.finish().unwrap().remove(0).1
    };
    let ints = |count: u64| (0..count).map(|n| (n * 3).to_be_bytes().to_vec()).collect::<Vec<_>>();
    let texts = (0..50).map(|n| format!("customer {n:03}").into_bytes()).collect();
    let guarded = [&[1, 5, 2, 9, 9][..], &seed(ints(30))[2..]].concat();
    vec![
        ("one", seed(ints(1))),
        ("ints", seed(ints(300))),
        ("texts", seed(texts)),
        ("guarded", guarded),
        ("none", vec![0; 3]),
    ]
}

/// A footer with its locators, as their encoders write them: whole tiles, and short ones.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::locators::{ShortTile, encode};
    use super::{Layout, offset_of as offset};
    let seed = |tiles: u32, short: &[ShortTile]| {
        let rows = u64::from(tiles) * 64 - short.iter().map(|tile| 64 - u64::from(tile.rows)).sum::<u64>();
        let missing: u32 = short.iter().map(|tile| 4 - tile.rows.div_ceil(16)).sum();
        let slices = tiles * 4 - missing;
        let lengths: Vec<Vec<u32>> =
            (0..COLUMNS as u32).map(|c| (0..slices).map(|s| 20 + s % 5 + c).collect()).collect();
        let footer = Footer {
            layout: Layout::Column,
            slice_rows: 16,
            tile_slices: 4,
            rows,
            tombstones: 1,
            slices,
            tiles,
            min_seq: 3,
            max_seq: 9,
            default_seq: 3,
            data_end: offset(HEADER_BYTES) + lengths.iter().flatten().map(|length| u64::from(*length)).sum::<u64>(),
            min_key: vec![1],
            max_key: vec![9, 9],
            sections: Vec::new(),
        };
        let footer = footer.encode();
        [&(footer.len() as u16).to_le_bytes()[..], &footer, &encode(&lengths, slices as usize, short)].concat()
    };
    let short = |tile, rows| ShortTile { tile, rows };
    vec![
        ("whole", seed(5, &[])),
        ("last-short", seed(5, &[short(4, 20)])),
        ("short", seed(9, &[short(2, 16), short(3, 1), short(8, 63)])),
    ]
}
