//! Damage: found, or harmless.

use super::support::*;
use crate::error::{Error, ErrorKind};
use crate::io::{Buffer, IoRef, OpenMode};
use crate::run::*;

fn bytes_of(io: &IoRef, id: u64) -> Vec<u8> {
    let file = io.open(&file_path(dir(), RunId(id)), OpenMode::Read).unwrap();
    file.read_exact_at(0, file.len().unwrap() as usize).unwrap().to_vec()
}

fn put(io: &IoRef, id: u64, bytes: &[u8]) {
    let file = io.open(&file_path(dir(), RunId(id)), OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(0, Buffer::from_slice(bytes)).unwrap();
}

/// Reads everything in every way; the rows must be the table's, or there is an error.
fn answers(io: &IoRef, meta: &RunMeta, table: &Table) -> Result<()> {
    let run = open(io, meta);
    let mut scan = run.scan(everything(&table.schema.columns));
    let mut rows = 0;
    while let Some(batch) = scan.next()? {
        for row in 0..batch.len() {
            let expected = &table.rows[rows];
            assert_eq!(batch.keys.get(row), expected.key);
            assert_eq!((batch.seqs[row], batch.is_tombstone(row)), (expected.seq, expected.tombstone));
            for ((array, (_, ty)), value) in batch.columns.iter().zip(&table.schema.columns).zip(&expected.values) {
                assert!(same(&crate::column::value_at(array, row, *ty).unwrap(), value));
            }
            rows += 1;
        }
    }
    assert_eq!(rows, table.rows.len());
    let run = open(io, meta);
    let mut values = Vec::new();
    for row in &table.rows {
        let found = run.find(&row.key)?.unwrap_or_else(|| panic!("a lost key was no error"));
        values.clear();
        run.read_row(&found, &table.schema.columns, &mut values)?;
        assert!(values.iter().zip(&row.values).all(|(a, b)| same(a, b)));
        for (column, _) in &table.schema.columns {
            run.slice_stats(found.slice as usize, *column)?;
        }
    }
    Ok(())
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NewerFormat)
}

fn small_table(random: &mut Random) -> Table {
    table(schema(&[ColumnType::Int64], &[ColumnType::Text, ColumnType::Float64, DECIMAL]), 24, MIXED, random)
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let random = &mut Random(40);
    for layout in [Layout::Row, Layout::Column] {
        let table = small_table(random);
        let io = files();
        let meta = write(&io, 1, &table, options(layout, Some(8), 0), random);
        let whole = bytes_of(&io, 1);
        answers(&io, &meta, &table).unwrap();
        let mut harmless = 0;
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << random.below(8);
            put(&io, 1, &damaged);
            match answers(&io, &meta, &table) {
                Ok(()) => {
                    harmless += 1;
                    assert_ne!(open(&io, &meta).verify().unwrap(), [], "byte {at} is not verified");
                }
                Err(error) => {
                    assert!(is_damage(&error), "{error}");
                    assert!(error.place().is_some(), "{error} has no place");
                }
            }
        }
        // The header, and statistics of the system columns, which these reads do not need.
        assert!(harmless < 64 + 200, "{harmless}");
    }
}

#[test]
fn a_file_cut_short_or_lengthened_is_found() {
    let random = &mut Random(41);
    let table = small_table(random);
    let io = files();
    let meta = write(&io, 1, &table, RunOptions::default(), random);
    let whole = bytes_of(&io, 1);
    for len in 0..whole.len() {
        put(&io, 1, &whole[..len]);
        assert!(is_damage(&answers(&io, &meta, &table).unwrap_err()));
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&whole[..100]);
    put(&io, 1, &longer);
    assert!(is_damage(&answers(&io, &meta, &table).unwrap_err()));
}

#[test]
fn blocks_that_changed_places_are_found() {
    let random = &mut Random(42);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Uuid]), 3000, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, None, 0), random);
    let whole = bytes_of(&io, 1);
    for block in [512, 4096] {
        let blocks = whole.len() / block;
        for _ in 0..10 {
            let (a, b) = (random.below(blocks), random.below(blocks));
            let mut swapped = whole.clone();
            swapped[a * block..(a + 1) * block].copy_from_slice(&whole[b * block..(b + 1) * block]);
            swapped[b * block..(b + 1) * block].copy_from_slice(&whole[a * block..(a + 1) * block]);
            if swapped == whole {
                continue;
            }
            put(&io, 1, &swapped);
            assert_ne!(open(&io, &meta).verify().unwrap(), []);
        }
    }
}

#[test]
fn another_runs_block_or_file_is_found() {
    let random = &mut Random(43);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Uuid]), 3000, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, None, 0), random);
    let other = write(&io, 2, &table, options(Layout::Column, None, 0), random);
    // Same rows, same places, another random id: only the checksums differ.
    let (mine, theirs) = (bytes_of(&io, 1), bytes_of(&io, 2));
    assert_eq!((meta.bytes, mine.len()), (other.bytes, theirs.len()));
    for block in 0..mine.len() / 4096 {
        let mut mixed = mine.clone();
        mixed[block * 4096..(block + 1) * 4096].copy_from_slice(&theirs[block * 4096..(block + 1) * 4096]);
        if mixed != mine {
            put(&io, 1, &mixed);
            assert_ne!(open(&io, &meta).verify().unwrap(), [], "block {block}");
        }
    }
    put(&io, 1, &theirs);
    assert!(is_damage(&answers(&io, &meta, &table).unwrap_err()));
}

#[test]
fn a_run_of_a_newer_format_says_so() {
    let random = &mut Random(44);
    let table = small_table(random);
    let io = files();
    let meta = write(&io, 1, &table, RunOptions::default(), random);
    let mut bytes = bytes_of(&io, 1);
    let trailer = bytes.len() - 64;
    bytes[trailer + 40] = 9;
    let sum = crc32c::crc32c(&bytes[trailer..trailer + 60]);
    bytes[trailer + 60..].copy_from_slice(&sum.to_le_bytes());
    put(&io, 1, &bytes);
    assert_eq!(open(&io, &meta).slices().unwrap_err().kind(), ErrorKind::NewerFormat);
}

#[test]
fn random_bytes_in_checked_frames_are_errors_not_panics() {
    // With checksums set right over damaged payloads, the decoders behind them must hold by themselves.
    let random = &mut Random(45);
    let table = small_table(random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(8), 0), random);
    let whole = bytes_of(&io, 1);
    let frames = frames_of(&io, &meta);
    for _ in 0..3000 {
        let mut damaged = whole.clone();
        let (offset, len) = frames[random.below(frames.len())];
        for _ in 0..1 + random.below(3) {
            damaged[offset + 4 + random.below(len - 4)] = random.next() as u8;
        }
        let crc = super::super::format::frame_crc(meta.random_id, offset as u64, &[&damaged[offset + 4..offset + len]]);
        damaged[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
        put(&io, 1, &damaged);
        let run = open(&io, &meta);
        let mut values = Vec::new();
        for row in &table.rows {
            if let Ok(Some(found)) = run.find(&row.key) {
                let _ = run.read_row(&found, &table.schema.columns, &mut values);
                let _ = run.slice_stats(found.slice as usize, table.schema.columns[1].0);
            }
        }
        let _ = run.verify();
    }
}

/// Offset and length of all frames of a run, the footer's included.
fn frames_of(io: &IoRef, meta: &RunMeta) -> Vec<(usize, usize)> {
    let run = open(io, meta);
    let loaded = run.loaded().unwrap();
    let mut frames = vec![(meta.footer_offset as usize, meta.footer_bytes as usize)];
    frames.extend(loaded.footer.sections.iter().map(|section| (section.offset as usize, section.bytes as usize)));
    for slice in 0..loaded.locators.slices() {
        for column in 0..loaded.columns.len() {
            let extent = loaded.locators.frame(slice, column);
            frames.extend((extent.bytes > 0).then_some((extent.offset as usize, extent.bytes)));
        }
    }
    frames
}
