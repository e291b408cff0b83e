/*!
`docs/format-bytes.md` is the formats byte by byte, as the files draw them that own encoder and decoder: `docs/format.md` names
these, and here they are put together and held against the page. `OMENDB_WRITE_DOCS=1` writes it anew.
*/

#![allow(clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

const INTRODUCTION: &str = "\
# File formats, byte by byte

What stands at the top of each file that owns a format's encoder and decoder, in the order of [the overview](format.md). This page is
put together from them (`OMENDB_WRITE_DOCS=1 cargo test -p omendb-tests --test format_docs`), and a test holds it against them.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is drawn and where, from the tables of the overview: the last cell has paths, of which all but the first may be names in
/// the same folder.
fn drawn(overview: &str) -> Vec<(String, Vec<PathBuf>)> {
    let mut drawn = Vec::new();
    for line in overview.lines().filter(|line| line.starts_with('|') && line.contains(".rs`")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (what, places) = (cells.first().expect("a cell"), cells.last().expect("a cell"));
        let mut folder = PathBuf::new();
        let mut paths = Vec::new();
        for name in places.split('`').filter(|name| name.ends_with(".rs")) {
            let path = if name.contains('/') { PathBuf::from(name) } else { folder.join(name) };
            folder = path.parent().expect("a folder").to_owned();
            paths.push(path);
        }
        drawn.push(((*what).to_owned(), paths));
    }
    drawn
}

/// The prose at the top of a file, as Markdown of its own: links within the code become names, headings go down.
fn prose(path: &Path) -> String {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, rest) = text.split_once("/*!\n").unwrap_or_else(|| panic!("{} has no prose", path.display()));
    let (prose, _) = rest.split_once("\n*/").unwrap_or_else(|| panic!("the prose of {} has no end", path.display()));
    let mut out = String::new();
    for line in prose.lines() {
        let heading = if line.starts_with('#') { "###" } else { "" };
        writeln!(out, "{heading}{}", without_links(line)).expect("memory");
    }
    out
}

fn without_links(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((name, behind)) = after.split_once("`]") else { break };
        write!(out, "{before}`{name}`").expect("memory");
        let target = behind.strip_prefix('(').and_then(|target| target.split_once(')'));
        rest = target.map_or(behind, |(_, behind)| behind);
    }
    out + rest
}

#[test]
fn the_page_of_bytes_is_what_the_files_draw() {
    let overview = std::fs::read_to_string(root().join("docs/format.md")).expect("the overview");
    let mut page = INTRODUCTION.to_owned();
    let mut seen: Vec<PathBuf> = Vec::new();
    for (what, paths) in drawn(&overview) {
        let paths: Vec<PathBuf> = paths.into_iter().filter(|path| !seen.contains(path)).collect();
        if !paths.is_empty() {
            write!(page, "\n## {}\n", what.trim_start_matches("… ")).expect("memory");
        }
        for path in paths {
            write!(page, "\n*`{}`*\n\n{}", path.display(), prose(&path)).expect("memory");
            seen.push(path);
        }
    }
    assert!(seen.len() > 20, "the overview names {} files only", seen.len());
    let place = root().join("docs/format-bytes.md");
    if std::env::var_os("OMENDB_WRITE_DOCS").is_some() {
        std::fs::write(&place, &page).expect("the page is written");
    }
    let there = std::fs::read_to_string(&place).unwrap_or_default();
    assert!(there == page, "docs/format-bytes.md is not what the files say: OMENDB_WRITE_DOCS=1 writes it anew");
}
