/*!
Where a file's bytes come from: a path or stdin, plain or compressed.

Compression is known by its first bytes, whatever the name says: gzip (`1f 8b`) and Zstandard (`28 b5 2f fd`), several
members in a row included. Bytes are counted as they leave the file, before decompression, so that progress has a
known total. Stdin can be read once: what sniffing has read of it is kept and read again.
*/

use crate::error::{SqlError, state};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The most files that one glob may match.
const FILES_MAX: usize = 100_000;

/// Bytes that one system call reads.
const READ_BYTES: usize = 256 << 10;

/// Bytes that tell a compression.
const MAGIC_BYTES: usize = 4;

/// One input. Clones share the count of bytes, and stdin's one reading.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    /// `None` for stdin and pipes.
    path: Option<PathBuf>,
    len: Option<u64>,
    read: Arc<AtomicU64>,
    /// What sniffing has read of stdin, decompressed, and is to be read again.
    stdin: Arc<Mutex<StdinState>>,
}

#[derive(Default)]
struct StdinState {
    peeked: Vec<u8>,
    rest: Option<Box<dyn Read + Send>>,
    taken: bool,
}

impl std::fmt::Debug for StdinState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdinState").field("peeked", &self.peeked.len()).field("taken", &self.taken).finish()
    }
}

impl Source {
    /// The file at `path`, which must be there and must be no directory.
    ///
    /// # Errors
    /// 58P01 when it is not there, 58030 when it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Source, SqlError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(|e| open_error(&name, &e))?;
        if metadata.is_dir() {
            return Err(SqlError::new(state::IO_ERROR, format!("cannot read \"{name}\": it is a directory"))
                .with_hint(format!("Name its files, or use a glob such as '{}/*.csv'.", name.trim_end_matches('/'))));
        }
        let file = File::open(path).map_err(|e| open_error(&name, &e))?;
        if !metadata.is_file() {
            // A pipe can be opened and read once only.
            return Ok(Source::once(&name, Box::new(file)));
        }
        let (path, len) = (Some(path.to_owned()), Some(metadata.len()));
        Ok(Source { name, path, len, read: Arc::default(), stdin: Arc::default() })
    }

    /// Standard input.
    pub fn stdin() -> Source {
        Source::once("stdin", Box::new(io::stdin()))
    }

    /// A stream that can be read once, under a name for messages.
    pub fn once(name: &str, stream: Box<dyn Read + Send>) -> Source {
        let state = StdinState { rest: Some(stream), ..StdinState::default() };
        let stdin = Arc::new(Mutex::new(state));
        Source { name: name.to_owned(), path: None, len: None, read: Arc::default(), stdin }
    }

    /// How messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path; `None` for stdin and pipes.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Bytes of the file as it lies on disk, where that is known.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// Whether it is known to hold nothing.
    pub fn is_empty(&self) -> bool {
        self.len == Some(0)
    }

    /// Bytes of the file that have been read so far, before decompression.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Counts bytes that were read past [`Source::reader`] (Parquet).
    pub(super) fn count(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The decompressed bytes from the start.
    ///
    /// # Errors
    /// 58P01 and 58030 when it cannot be opened, 0A000 when stdin has been read already.
    pub fn reader(&self) -> Result<Box<dyn Read + Send>, SqlError> {
        match &self.path {
            Some(path) => {
                self.read.store(0, Ordering::Relaxed);
                let file = File::open(path).map_err(|e| open_error(&self.name, &e))?;
                self.decompressed(file)
            }
            None => {
                let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
                self.start_stdin(&mut stdin)?;
                let (Some(rest), false) = (stdin.rest.take(), std::mem::replace(&mut stdin.taken, true)) else {
                    return Err(SqlError::unsupported(format!("{} can be read only once", self.name)));
                };
                Ok(Box::new(io::Cursor::new(std::mem::take(&mut stdin.peeked)).chain(rest)))
            }
        }
    }

    /// At most `bytes` decompressed bytes from the start, and whether that is all there is.
    ///
    /// # Errors
    /// As [`Source::reader`], and 58030 or 22P04 when the bytes cannot be read.
    pub fn sample(&self, bytes: usize) -> Result<(Vec<u8>, bool), SqlError> {
        // One byte more tells whether there is more.
        let wanted = bytes.saturating_add(1);
        let mut sample = match &self.path {
            Some(_) => {
                let sample = read_up_to(&mut self.reader()?, wanted, &self.name)?;
                self.read.store(0, Ordering::Relaxed);
                sample
            }
            None => {
                let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
                self.start_stdin(&mut stdin)?;
                let missing = wanted.saturating_sub(stdin.peeked.len());
                if let Some(rest) = stdin.rest.as_mut() {
                    let more = read_up_to(rest, missing, &self.name)?;
                    stdin.peeked.extend_from_slice(&more);
                }
                stdin.peeked.clone()
            }
        };
        let whole = sample.len() <= bytes;
        sample.truncate(bytes);
        Ok((sample, whole))
    }

    /// Puts the decompressor on stdin, once.
    fn start_stdin(&self, stdin: &mut StdinState) -> Result<(), SqlError> {
        if stdin.peeked.is_empty()
            && !stdin.taken
            && let Some(raw) = stdin.rest.take()
        {
            stdin.rest = Some(self.decompressed(raw)?);
        }
        Ok(())
    }

    fn decompressed(&self, raw: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>, SqlError> {
        let mut raw = Counted { inner: raw, count: self.read.clone() };
        let magic = read_up_to(&mut raw, MAGIC_BYTES, &self.name)?;
        let all = io::BufReader::with_capacity(READ_BYTES, io::Cursor::new(magic.clone()).chain(raw));
        match magic.as_slice() {
            [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(all))),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                let decoder = zstd::stream::read::Decoder::with_buffer(all);
                Ok(Box::new(decoder.map_err(|e| read_error(&self.name, &e))?))
            }
            _ => Ok(Box::new(all)),
        }
    }

    /// BLAKE3 of the file's bytes as they lie on disk.
    ///
    /// # Errors
    /// 0A000 for stdin, 58P01 and 58030 when the file cannot be read.
    pub fn content_hash(&self) -> Result<[u8; 32], SqlError> {
        let Some(path) = &self.path else {
            return Err(SqlError::unsupported("stdin has no content to compare before it is read"));
        };
        let mut file = File::open(path).map_err(|e| open_error(&self.name, &e))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(*hasher.finalize().as_bytes()),
                Ok(n) => {
                    hasher.update(buffer.get(..n).unwrap_or_default());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(&self.name, &e)),
            }
        }
    }
}

/// Whether the text is a glob: it has `*`, `?` or `[`, and no file of that very name is there.
fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[']) && !Path::new(pattern).exists()
}

/// Whether a name in FROM can only mean files: it has a slash, a glob, or an ending that a format claims.
pub fn matches_files(name: &str) -> bool {
    name.contains('/') || is_glob(name) || super::Format::of_name(name).is_some()
}

/// The files of a path, of a glob (sorted by name), or stdin for `-`.
///
/// # Errors
/// 58P01 when there is none, 58030 when one cannot be opened, 22023 when the glob makes no sense.
pub fn expand(pattern: &str) -> Result<Vec<Source>, SqlError> {
    if pattern == "-" {
        return Ok(vec![Source::stdin()]);
    }
    if !is_glob(pattern) {
        return Ok(vec![Source::open(pattern)?]);
    }
    let paths = glob::glob(pattern).map_err(|e| {
        SqlError::new(state::INVALID_PARAMETER_VALUE, format!("\"{pattern}\" is no pattern of file names: {}", e.msg))
    })?;
    let mut sources = Vec::new();
    for path in paths {
        let path = path.map_err(|e| open_error(&e.path().display().to_string(), e.error()))?;
        if !path.is_dir() {
            sources.push(Source::open(path)?);
        }
        if sources.len() > FILES_MAX {
            let message = format!("\"{pattern}\" matches more than {FILES_MAX} files");
            return Err(SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message));
        }
    }
    if sources.is_empty() {
        return Err(SqlError::new(state::UNDEFINED_FILE, format!("no file matches \"{pattern}\"")));
    }
    Ok(sources)
}

fn open_error(name: &str, e: &io::Error) -> SqlError {
    let (state, why) = match e.kind() {
        io::ErrorKind::NotFound => (state::UNDEFINED_FILE, "no such file or directory".to_owned()),
        io::ErrorKind::PermissionDenied => (state::IO_ERROR, "permission denied".to_owned()),
        _ => (state::IO_ERROR, e.to_string()),
    };
    SqlError::new(state, format!("cannot open \"{name}\": {why}"))
}

/// A failed read of `name`; what decompressors say of bad data is told apart from what the system says.
pub(super) fn read_error(name: &str, e: &io::Error) -> SqlError {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => truncated(name),
        // Decompressors have no kind of their own for these: gzip says InvalidInput or InvalidData, zstd says Other.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => SqlError::new(
            state::BAD_COPY_FILE_FORMAT,
            format!("cannot read \"{name}\": the compressed data are damaged ({e})"),
        ),
        _ => SqlError::new(state::IO_ERROR, format!("cannot read \"{name}\": {e}")),
    }
}

fn truncated(name: &str) -> SqlError {
    SqlError::new(state::BAD_COPY_FILE_FORMAT, format!("cannot read \"{name}\": the compressed data end too early"))
        .with_hint("The file was cut short; fetch or write it again.")
}

fn read_up_to(source: &mut impl Read, bytes: usize, name: &str) -> Result<Vec<u8>, SqlError> {
    let mut out = Vec::new();
    let limit = u64::try_from(bytes).unwrap_or(u64::MAX);
    source.by_ref().take(limit).read_to_end(&mut out).map_err(|e| read_error(name, &e))?;
    Ok(out)
}

/// Counts what goes through.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text(source: &Source) -> Result<String, SqlError> {
        let mut out = String::new();
        source.reader()?.read_to_string(&mut out).map_err(|e| read_error(source.name(), &e))?;
        Ok(out)
    }

    #[test]
    fn compression_is_known_by_its_bytes_and_members_join() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain.csv");
        let joined = [gz(b"a,b\n"), gz(b"1,2\n")].concat();
        std::fs::write(&path, &joined).unwrap();
        let source = Source::open(&path).unwrap();
        assert_eq!(text(&source).unwrap(), "a,b\n1,2\n");
        assert_eq!(source.bytes_read(), joined.len() as u64);
        let frames = [zstd::encode_all(&b"a,b\n"[..], 1).unwrap(), zstd::encode_all(&b"1,2\n"[..], 1).unwrap()];
        std::fs::write(&path, frames.concat()).unwrap();
        assert_eq!(text(&Source::open(&path).unwrap()).unwrap(), "a,b\n1,2\n");
        assert_eq!(source.sample(3).unwrap(), (b"a,b".to_vec(), false));
        assert_eq!(source.sample(100).unwrap(), (b"a,b\n1,2\n".to_vec(), true));
    }

    #[test]
    fn compressed_files_that_are_cut_short_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let noise: Vec<u8> = (0..100_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let path = dir.path().join("x.csv.gz");
        for whole in [gz(&noise), zstd::encode_all(&noise[..], 1).unwrap()] {
            std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            let mut sink = Vec::new();
            let source = Source::open(&path).unwrap();
            let error = source.reader().unwrap().read_to_end(&mut sink).unwrap_err();
            let error = read_error("x.csv.gz", &error);
            assert_eq!(
                (error.sqlstate(), error.message()),
                ("22P04", "cannot read \"x.csv.gz\": the compressed data end too early")
            );
        }
    }

    #[test]
    fn a_stream_is_sampled_and_then_read_whole_and_only_once() {
        let source = Source::once("stdin", Box::new(io::Cursor::new(gz(b"a,b\n1,2\n"))));
        assert_eq!(source.sample(2).unwrap(), (b"a,".to_vec(), false));
        assert_eq!(source.sample(5).unwrap(), (b"a,b\n1".to_vec(), false));
        assert_eq!(text(&source).unwrap(), "a,b\n1,2\n");
        assert_eq!(source.reader().map(|_| ()).unwrap_err().sqlstate(), "0A000");
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Source::open(dir.path().join("no.csv")).unwrap_err();
        assert_eq!(missing.sqlstate(), "58P01");
        let directory = Source::open(dir.path()).unwrap_err();
        assert!(directory.message().contains("directory") && directory.hint().is_some());
        let none = expand(&format!("{}/*.csv", dir.path().display())).unwrap_err();
        assert_eq!(none.sqlstate(), "58P01");
        for name in ["b.csv", "a.csv", "c[1].csv"] {
            std::fs::write(dir.path().join(name), "x\n1\n").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let sources = expand(&format!("{}/{pattern}", dir.path().display())).unwrap();
            sources.iter().map(|s| s.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("?.csv"), ["a.csv", "b.csv"]);
        assert_eq!(names("c[1].csv"), ["c[1].csv"]);
    }

    #[test]
    fn the_content_hash_is_that_of_the_bytes_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), gz(b"a")).unwrap();
        let source = Source::open(dir.path().join("x")).unwrap();
        assert_eq!(source.content_hash().unwrap(), *blake3::hash(&gz(b"a")).as_bytes());
    }
}
