/*!
The damages, one kind of file after the other.
*/

use super::database::*;
use super::oracle::*;
use omendb_engine::io::IoRef;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// Whether every bit and every length are asked for.
fn all() -> bool {
    std::env::var("OMENDB_DAMAGE").is_ok_and(|value| value == "all")
}

/// SplitMix64 of one number.
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// After how many damages a campaign says how far it is.
const PROGRESS: usize = 100_000;

/// One damage to one file.
#[derive(Debug, Clone)]
struct Damage {
    name: String,
    what: String,
    /// Bytes of the file before and after that may differ.
    range: Range<usize>,
    change: Change,
}

/// What is done to a file. Kept small: there are many.
#[derive(Debug, Clone)]
enum Change {
    Flip { at: usize, bit: u64 },
    Cut { len: usize },
    Replace { at: usize, block: Vec<u8> },
    Swap { a: usize, b: usize, size: usize },
    Whole(Vec<u8>),
}

impl Damage {
    /// The file after it.
    fn apply(&self, files: &Files) -> Vec<u8> {
        let mut bytes = files[&self.name].clone();
        match &self.change {
            Change::Flip { at, bit } => bytes[*at] ^= 1 << bit,
            Change::Cut { len } => bytes.truncate(*len),
            Change::Replace { at, block } => {
                let end = (at + block.len()).min(bytes.len());
                bytes[*at..end].copy_from_slice(&block[..end - at]);
            }
            Change::Swap { a, b, size } => {
                let (front, back) = bytes.split_at_mut(*b);
                front[*a..a + size].swap_with_slice(&mut back[..*size]);
            }
            Change::Whole(other) => bytes = other.clone(),
        }
        bytes
    }
}

/// What came of many damages.
#[derive(Debug, Default)]
struct Tally {
    found: usize,
    harmless: usize,
    cut: usize,
}

/// A log segment's frames as they lie in the undamaged file.
struct Frame {
    range: Range<usize>,
    lsn: u64,
    watermark: u64,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = 4096;
    while bytes.get(at + 4..at + 8).is_some_and(|magic| magic == b"OMWF") {
        let payload = u32::from_le_bytes(bytes[at + 60..at + 64].try_into().unwrap()) as usize;
        let end = at + (64 + payload).next_multiple_of(4096);
        frames.push(Frame { range: at..end, lsn: number(bytes, at + 40), watermark: number(bytes, at + 48) });
        at = end;
    }
    frames
}

/// The newest segment that has a header.
fn last_segment(files: &Files) -> Option<&String> {
    files.iter().rfind(|(name, bytes)| is_log(name) && bytes.get(4..8) == Some(b"OMWS")).map(|(name, _)| name)
}

/// Whether damage to these bytes of a log can't be told from a torn write: no frame behind it that is left, and no later
/// segment, proves that the first frame it meets was durable.
fn documented(files: &Files, damage: &Damage, after: &[u8]) -> bool {
    if !is_log(&damage.name) || last_segment(files) != Some(&damage.name) {
        return false;
    }
    let before = frames(&files[&damage.name]);
    let met = |frame: &&Frame| frame.range.start < damage.range.end && damage.range.start < frame.range.end;
    // A header that is damaged takes all frames with it.
    let (first, start) = match damage.range.start < 4096 {
        true => (before.first(), number(&files[&damage.name], 48)),
        false => (before.iter().find(met), before.iter().find(met).map_or(0, |frame| frame.lsn)),
    };
    let left = |frame: &&Frame| frame.range.start >= damage.range.end && frame.range.end <= after.len();
    first.is_some() && !before.iter().filter(left).any(|frame| frame.watermark > start)
}

/// Whether bytes mean nothing, so that nobody can or need notice: the process id in `LOCK`; in the manifest, zeros behind
/// the last edit and its seal; in the log, what lies behind the last frame, and frames without payload that only repeat
/// a watermark.
fn means_nothing(files: &Files, damage: &Damage, after: &[u8]) -> bool {
    let bytes = &files[&damage.name];
    match damage.name.as_str() {
        "LOCK" => true,
        name if name.starts_with("manifest-") => after.len() == bytes.len() && damage.range.start >= last_seal(bytes),
        name if is_log(name) => {
            let frames = frames(bytes);
            let payload = |frame: &&Frame| number(bytes, frame.range.start + 56) >> 32 > 0;
            let end = frames.iter().rfind(payload).map_or(4096, |frame| frame.range.end);
            damage.range.start >= end || (bytes.get(4..8) != Some(b"OMWS"))
        }
        _ => false,
    }
}

/// Where the last seal of a manifest begins.
fn last_seal(bytes: &[u8]) -> usize {
    (0..bytes.len()).step_by(4096).rfind(|at| bytes.get(at + 4..at + 8) == Some(b"OMED")).unwrap()
}

/// Damages a copy of the database in every way that `damages` gives, on two threads.
fn run(built: &Built, damages: &[Damage]) -> Tally {
    println!("{} damages", damages.len());
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let tally = &tally;
            scope.spawn(move || {
                let io = disk_of(&built.files);
                for (place, damage) in damages.iter().enumerate().filter(|(place, _)| place % 2 == half) {
                    let outcome = one(&io, built, damage, place);
                    let mut tally = tally.lock().unwrap();
                    if place > 0 && place.is_multiple_of(PROGRESS) {
                        println!("{place} of {} damages: {tally:?}", damages.len());
                    }
                    match outcome {
                        Some(Outcome::Found) => tally.found += 1,
                        Some(Outcome::Harmless) => tally.harmless += 1,
                        Some(Outcome::Cut) => tally.cut += 1,
                        None => {}
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("all {} damages: {tally:?}", damages.len());
    tally
}

fn one(io: &IoRef, built: &Built, damage: &Damage, place: usize) -> Option<Outcome> {
    let name = &damage.name;
    let bytes = damage.apply(&built.files);
    if bytes == built.files[name] {
        return None;
    }
    let what = format!("{name}: {}", damage.what);
    put(io, name, &bytes);
    let cut = documented(&built.files, damage, &bytes);
    let outcome = look(io, built, cut, &what);
    if outcome == Outcome::Harmless {
        let nothing = cut || means_nothing(&built.files, damage, &bytes);
        assert!(nothing, "{what}: nobody noticed, and these bytes mean something");
    }
    if place.is_multiple_of(37) || (outcome != Outcome::Found && place.is_multiple_of(5)) {
        let mut files = built.files.clone();
        files.insert(name.clone(), bytes);
        look_as_writer(&files, built, cut, &what);
    }
    put(io, name, &built.files[name]);
    Some(outcome)
}

fn damage(name: &str, what: String, range: Range<usize>, change: Change) -> Damage {
    Damage { name: name.to_owned(), what, range, change }
}

/// Bytes of a file that stand for something; of long stretches of zeros one in a hundred is taken.
fn places(bytes: &[u8]) -> Vec<usize> {
    let quiet = |at: usize| bytes[at.saturating_sub(64)..(at + 64).min(bytes.len())].iter().all(|byte| *byte == 0);
    (0..bytes.len()).filter(|at| all() || at % 101 == 0 || !quiet(*at)).collect()
}

fn flips(files: &Files, name: &str) -> Vec<Damage> {
    let bits = |at: usize| if all() { 0..8 } else { mixed(at as u64) % 8..mixed(at as u64) % 8 + 1 };
    let flip = |at: usize, bit: u64| {
        damage(name, format!("bit {bit} of byte {at} flipped"), at..at + 1, Change::Flip { at, bit })
    };
    places(&files[name]).into_iter().flat_map(|at| bits(at).map(move |bit| flip(at, bit))).collect()
}

fn cuts(files: &Files, name: &str) -> Vec<Damage> {
    let whole = files[name].len();
    let near = |len: usize| len % 512 < 2 || len % 512 == 511;
    let lengths = (0..whole).filter(|len| all() || whole < 4096 || len % 173 == 0 || near(*len));
    lengths.map(|len| damage(name, format!("cut to {len} bytes"), len..whole, Change::Cut { len })).collect()
}

/// The file with one of its blocks replaced.
fn with_block(files: &Files, name: &str, what: &str, at: usize, block: &[u8]) -> Damage {
    let range = at..(at + block.len()).min(files[name].len());
    let what = format!("{what} at {at}, {} bytes", block.len());
    damage(name, what, range, Change::Replace { at, block: block.to_vec() })
}

fn zeroed(files: &Files, name: &str) -> Vec<Damage> {
    let mut out = Vec::new();
    for size in [512, 4096] {
        let blocks = (0..files[name].len()).step_by(size);
        out.extend(blocks.map(|at| with_block(files, name, "zeroed", at, &vec![0; size])));
    }
    out
}

fn swapped(files: &Files, name: &str) -> Vec<Damage> {
    let whole = &files[name];
    let mut out = Vec::new();
    for size in [512, 4096] {
        let blocks = whole.len() / size;
        let pairs = (0..blocks).flat_map(|a| (a + 1..blocks).map(move |b| (a * size, b * size)));
        let differ = pairs.filter(|(a, b)| whole[*a..a + size] != whole[*b..b + size]);
        for (n, (a, b)) in differ.enumerate() {
            if all() || blocks < 20 || mixed(n as u64).is_multiple_of(blocks as u64 / 4) {
                let what = format!("blocks of {size} at {a} and {b} swapped");
                out.push(damage(name, what, a..b + size, Change::Swap { a, b, size }));
            }
        }
    }
    out
}

/// Blocks as they were in an older version of the same file.
fn stale(built: &Built, name: &str) -> Vec<Damage> {
    let whole = &built.files[name];
    let mut out: BTreeMap<(usize, Vec<u8>), Damage> = BTreeMap::new();
    for older in built.versions.iter().filter_map(|files| files.get(name)) {
        for size in [512, 4096] {
            for at in (0..whole.len()).step_by(size) {
                let Some(block) = older.get(at..at + size).filter(|block| whole.get(at..at + size) != Some(*block))
                else {
                    continue;
                };
                let key = (at, block.to_vec());
                out.entry(key).or_insert_with(|| with_block(&built.files, name, "stale block", at, block));
            }
        }
    }
    out.into_values().collect()
}

/// Blocks of other files: of the same database's, and of another database's.
fn foreign(files: &Files, other: &Files, name: &str) -> Vec<Damage> {
    let kind = |name: &str| name.chars().take_while(char::is_ascii_alphabetic).collect::<String>();
    let ours = files.iter().filter(|(theirs, _)| *theirs != name && kind(theirs) == kind(name));
    let theirs = other.iter().filter(|(theirs, _)| kind(theirs) == kind(name));
    let mut out = Vec::new();
    for (_, bytes) in ours.chain(theirs) {
        for size in [512, 4096] {
            for (at, block) in bytes.chunks_exact(size).enumerate().map(|(n, block)| (n * size, block)) {
                if at < files[name].len() && block.iter().any(|byte| *byte != 0) {
                    out.push(with_block(files, name, "another file's block", at, block));
                }
            }
        }
        let whole = files[name].len().max(bytes.len());
        out.push(damage(name, "another file".to_owned(), 0..whole, Change::Whole(bytes.clone())));
    }
    out
}

/// All damages to the files whose names pass.
fn damages(built: &Built, other: &Built, wanted: impl Fn(&str) -> bool) -> Vec<Damage> {
    let files = &built.files;
    let mut out = Vec::new();
    for name in files.keys().filter(|name| wanted(name)) {
        out.extend(flips(files, name));
        out.extend(cuts(files, name));
        out.extend(zeroed(files, name));
        out.extend(swapped(files, name));
        out.extend(stale(built, name));
        out.extend(foreign(files, &other.files, name));
        let longer = [files[name].as_slice(), &[7; 100]].concat();
        let range = files[name].len()..longer.len();
        out.push(damage(name, "100 bytes appended".to_owned(), range, Change::Whole(longer)));
    }
    out
}

fn untouched_is_sound(built: &Built) {
    let io = disk_of(&built.files);
    assert_eq!(look(&io, built, false, "untouched"), Outcome::Harmless);
}

#[test]
fn damage_to_a_run_is_found_in_every_byte() {
    let built = with_runs();
    untouched_is_sound(&built);
    let all = damages(&built, &with_runs(), |name| name.starts_with("run-"));
    let tally = run(&built, &all);
    assert_eq!((tally.harmless, tally.cut), (0, 0), "a run has no byte that means nothing");
}

#[test]
fn damage_to_manifest_and_identity_is_found_or_harmless() {
    let built = with_runs();
    let all = damages(&built, &with_runs(), |name| !name.starts_with("run-") && !is_log(name));
    let tally = run(&built, &all);
    assert_eq!(tally.cut, 0, "no edit that was acknowledged is lost");
    assert!(tally.found > 1000 && tally.harmless > 0);
}

/// Without its seal the last edit may be one that a crash has met; bytes in front of the seal's place are damage all the same.
#[test]
fn a_seal_that_lies_elsewhere_is_found() {
    let built = with_runs();
    let io = disk_of(&built.files);
    let mut moved = 0;
    for name in built.files.keys().filter(|name| name.starts_with("manifest-")) {
        let seal = last_seal(&built.files[name]);
        for block in (seal - 4096..seal).step_by(512) {
            let unused = built.files[name][block..block + 512].iter().all(|byte| *byte == 0);
            let what = format!("the seal moved from {seal} to {block}");
            let damage = damage(name, what, block..seal + 512, Change::Swap { a: block, b: seal, size: 512 });
            assert_eq!(one(&io, &built, &damage, 0), Some(Outcome::Found), "{}", damage.what);
            moved += usize::from(unused);
        }
    }
    assert!(moved > 0, "no edit ended long before its seal");
}

#[test]
fn damage_to_a_closed_log_is_found_wherever_it_is() {
    let built = with_log_closed();
    untouched_is_sound(&built);
    let all = damages(&built, &with_log_closed(), is_log);
    let tally = run(&built, &all);
    assert!(tally.found > 1000);
    assert_eq!(tally.cut, 0, "the manifest says where it ended");
}

#[test]
fn damage_to_a_killed_log_is_found_or_the_documented_case() {
    let built = with_log_killed();
    untouched_is_sound(&built);
    let all = damages(&built, &with_log_killed(), is_log);
    let tally = run(&built, &all);
    assert!(tally.found > 1000 && tally.cut > 0);
}

#[test]
fn missing_and_exchanged_files_are_found() {
    for built in [with_runs(), with_log_killed()] {
        let names: Vec<&String> = built.files.keys().filter(|name| *name != "LOCK").collect();
        let last = last_segment(&built.files).cloned();
        for name in &names {
            let io = disk_of(&built.files);
            io.remove_file(&dir().join(name)).unwrap();
            let unused = is_unused_segment(name, &built.files[*name]);
            let cut = Some(*name) == last.as_ref();
            let what = format!("{name} is missing");
            let outcome = look(&io, &built, cut, &what);
            assert!(outcome == Outcome::Found || unused || cut, "{what}: {outcome:?}");
            let mut files = built.files.clone();
            files.remove(*name);
            look_as_writer(&files, &built, cut, &what);
        }
        for (a, b) in names.iter().flat_map(|a| names.iter().map(move |b| (*a, *b))).filter(|(a, b)| a < b) {
            let mut files = built.files.clone();
            let (first, second) = (files[a].clone(), files[b].clone());
            files.insert(a.clone(), second);
            files.insert(b.clone(), first);
            let outcome = look(&disk_of(&files), &built, false, &format!("{a} and {b} are exchanged"));
            assert_eq!(outcome, Outcome::Found, "{a} and {b} are exchanged");
        }
    }
}
