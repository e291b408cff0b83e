/*!
Builds a run's slice index: fences or model, whichever is asked for or better, and proves it.

The proof is part of the build: every slice's first and last key is looked up in the finished bytes, by the reader's own
code. A model that names one wrong slice is not written; fences take its place. Fences that do are an error.
*/

use super::fences::FEW_SLICES;
use super::front::{FrontWriter, shared};
use super::head::{HeadMap, wide};
use super::line::Fit;
use super::wire::WHAT;
use super::{BYTES, Header, IndexChoice, IndexKind, IndexStats, Reason, SliceIndex, WIDE};
use crate::bytes::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{EncodedKeys, KeyShape};

/// A model must not take more bytes than this for each slice; plain fences take 8.
const MODEL_BYTES_PER_SLICE_MAX: usize = 4;
/// Of so many slices, at most one may be an exception.
const SLICES_PER_EXCEPTION_MIN: usize = 20;
/// The fits that are tried, in slices. Wider ones suit rougher data; each reads more residuals.
const EPSILONS: [usize; 3] = [2, 4, 8];
/// Which of them is best is found out on so many stretches of so many slices each: far more than a line is long where lines
/// matter, and a small part of a large run.
const SAMPLE_PARTS: usize = 16;
const SAMPLE_SLICES: usize = 1024;
/// Keys that a proof looks up together.
const PROOF_BATCH: usize = 256;

/// Takes each slice's first and last key while a run is written, and ends as the index's bytes.
#[derive(Debug)]
pub struct IndexBuilder {
    shape: KeyShape,
    choice: IndexChoice,
    firsts: EncodedKeys,
    lasts: EncodedKeys,
    in_order: bool,
}

impl IndexBuilder {
    /// A builder for keys of this shape.
    pub fn new(shape: KeyShape, choice: IndexChoice) -> Self {
        let width = match shape {
            KeyShape::Int => Some(8),
            KeyShape::Series { prefix_fixed_width } => prefix_fixed_width.map(|prefix| prefix + 8),
            KeyShape::Bytes => None,
        };
        let keys = || EncodedKeys::with_capacity(width, 0);
        IndexBuilder { shape, choice, firsts: keys(), lasts: keys(), in_order: true }
    }

    /// The next slice. Keys must ascend: first ≤ last, and both greater than the slice before; else `finish` fails.
    pub fn push(&mut self, first_key: &[u8], last_key: &[u8]) {
        self.in_order &= first_key <= last_key && self.lasts.last().is_none_or(|before| before < first_key);
        self.firsts.push(first_key);
        self.lasts.push(last_key);
    }

    /// How many slices there are so far.
    pub fn slices(&self) -> usize {
        self.firsts.len()
    }

    /// The index's bytes, proved, and what is to be said of them.
    ///
    /// # Errors
    /// `InvalidArgument` for keys out of order; `LimitExceeded` beyond 2³² slices or 4 GiB of separators.
    pub fn finish(self) -> Result<(Vec<u8>, IndexStats)> {
        if !self.in_order {
            return Err(Error::invalid("slices out of order in a slice index"));
        }
        if u32::try_from(self.slices()).is_err() {
            return Err(Error::new(ErrorKind::LimitExceeded, "a run of more than 2^32 slices"));
        }
        let map = HeadMap::build(self.shape, &self.firsts)?;
        let reason = match self.model(map.as_deref())? {
            Ok((bytes, index)) => return Ok((bytes, index.stats().clone())),
            Err(reason) => reason,
        };
        let bytes = self.fences(map.as_deref(), reason)?;
        let index = SliceIndex::open(&bytes)?;
        match self.is_proved(&index) {
            true => Ok((bytes, index.stats().clone())),
            false => Err(Error::internal("the fences of a run name a wrong slice")),
        }
    }

    /// The model, where it is permitted, wanted, good enough and proved; else why it is not.
    fn model(&self, map: Option<&[u8]>) -> Result<Result<(Vec<u8>, SliceIndex), Reason>> {
        let wanted = match self.choice {
            IndexChoice::Fences => Err(Reason::Asked),
            IndexChoice::Auto if self.slices() <= FEW_SLICES => Err(Reason::FewSlices),
            IndexChoice::Auto => Ok(Reason::ModelIsSmaller),
            IndexChoice::Model => Ok(Reason::Asked),
        };
        let reason = match wanted {
            Ok(reason) => reason,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(map_bytes) = map else { return Ok(Err(Reason::KeyHasNoHead)) };
        let map = HeadMap::open(&mut Input::new(map_bytes, WHAT))?;
        let reach = |keys: &EncodedKeys| -> Vec<u64> { keys.iter().map(|key| map.reach(key).unwrap_or(0)).collect() };
        let fit = best_fit(&reach(&self.firsts), &reach(&self.lasts));
        if self.choice == IndexChoice::Auto {
            if fit.exceptions() * SLICES_PER_EXCEPTION_MIN > self.slices() {
                return Ok(Err(Reason::ManyExceptions));
            }
            if fit.bytes() + map_bytes.len() > self.slices() * MODEL_BYTES_PER_SLICE_MAX {
                return Ok(Err(Reason::ModelIsLarge));
            }
        }
        let mut out = self.header(IndexKind::Model, reason);
        out.extend_from_slice(map_bytes);
        fit.write(&mut out);
        let bytes = sealed(out);
        let index = SliceIndex::open(&bytes)?;
        Ok(if self.is_proved(&index) { Ok((bytes, index)) } else { Err(Reason::ProofFailed) })
    }

    /// Fences: numbers where the keys have a short exact one, else separators.
    fn fences(&self, map: Option<&[u8]>, reason: Reason) -> Result<Vec<u8>> {
        let opened = map.map(|bytes| HeadMap::open(&mut Input::new(bytes, WHAT))).transpose()?;
        let is_wide = self.shape == KeyShape::Series { prefix_fixed_width: Some(8) }
            && self.firsts.iter().all(|key| key.len() == 16);
        let numbers = opened.as_ref().filter(|map| map.is_arithmetic() || map.prefixes() <= self.slices() / 4);
        let mut out;
        if let (Some(map), Some(bytes)) = (numbers.filter(|map| map.is_arithmetic() || !is_wide), map) {
            out = self.header(IndexKind::Eytzinger, reason);
            out.extend_from_slice(bytes);
            out.extend(self.firsts.iter().flat_map(|key| map.reach(key).unwrap_or(0).to_le_bytes()));
        } else if is_wide {
            out = self.header(IndexKind::Eytzinger, reason);
            out.push(WIDE);
            out.extend(self.firsts.iter().flat_map(|key| wide(key).to_le_bytes()));
        } else {
            out = self.header(IndexKind::Separators, reason);
            out.push(BYTES);
            out.extend(self.separators()?);
        }
        Ok(sealed(out))
    }

    /// For each slice the shortest start of its first key that is greater than all keys before.
    fn separators(&self) -> Result<Vec<u8>> {
        let mut writer = FrontWriter::default();
        let mut before: Option<&[u8]> = None;
        for (first, last) in self.firsts.iter().zip(self.lasts.iter()) {
            let len = before.map_or(0, |before| shared(before, first) + 1);
            writer.push(first.get(..len).unwrap_or(first))?;
            before = Some(last);
        }
        writer.finish()
    }

    fn header(&self, kind: IndexKind, reason: Reason) -> Vec<u8> {
        let slices = u32::try_from(self.slices()).unwrap_or(u32::MAX);
        Header { kind, choice: self.choice, reason, slices }.to_bytes()
    }

    /// Whether the reader names every slice by its first and by its last key.
    fn is_proved(&self, index: &SliceIndex) -> bool {
        index.slices() == self.slices() && names_all(index, &self.firsts) && names_all(index, &self.lasts)
    }
}

/// Whether the reader names slice 0, 1, … by these keys.
fn names_all(index: &SliceIndex, keys: &EncodedKeys) -> bool {
    let (mut keys, mut next) = (keys.iter(), 0);
    let (mut group, mut found) = (Vec::with_capacity(PROOF_BATCH), Vec::with_capacity(PROOF_BATCH));
    loop {
        group.clear();
        group.extend(keys.by_ref().take(PROOF_BATCH));
        if group.is_empty() {
            return true;
        }
        index.find_batch(&group, &mut found);
        let alone = group.first().map(|key| index.find(key));
        if alone != Some(next) || !found.iter().copied().eq(next..next + group.len()) {
            return false;
        }
        next += group.len();
    }
}

/// The fit with the ε that makes it smallest, as far as a sample tells; of equals the smallest ε.
pub(super) fn best_fit(heads: &[u64], reaches: &[u64]) -> Fit {
    let [first, wider @ ..] = EPSILONS;
    let (mut best, mut least) = (first, sampled_bytes(heads, reaches, first));
    for epsilon in wider {
        // Below an eighth of a byte a slice over the residuals themselves, a wider fit has nothing to win.
        let sampled = heads.len().min(SAMPLE_PARTS * SAMPLE_SLICES);
        if least <= sampled * 2 + sampled / 8 {
            break;
        }
        let bytes = sampled_bytes(heads, reaches, epsilon);
        if bytes < least {
            (best, least) = (epsilon, bytes);
        }
    }
    Fit::new(heads, reaches, best)
}

/// Bytes of a fit of a few stretches of slices, spread evenly over all; of all, where they are no more than that.
fn sampled_bytes(heads: &[u64], reaches: &[u64], epsilon: usize) -> usize {
    if heads.len() <= SAMPLE_PARTS * SAMPLE_SLICES {
        return Fit::new(heads, reaches, epsilon).bytes();
    }
    let starts = (0..SAMPLE_PARTS).map(|part| part * (heads.len() / SAMPLE_PARTS));
    let fit = |start| {
        let at = start..start + SAMPLE_SLICES;
        let (heads, reaches) = (heads.get(at.clone()).unwrap_or_default(), reaches.get(at).unwrap_or_default());
        Fit::new(heads, reaches, epsilon).bytes()
    };
    starts.map(fit).sum()
}

/// The bytes with their checksum at the end.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}
