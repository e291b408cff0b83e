/*!
The three comparisons that searches spend their time in, in the widest instructions that the processor has.

A search is written once, over a [`Kernel`], and compiled for each kind of processor; [`Simd::run`] picks the copy. The
scalar kernel works everywhere and is what the others are held against (`tests` below: equal on every input).

**Invariant:** the values [`Avx512`] and [`Avx2`] are proofs. Each is made in one place only, in [`Simd::run`] after the
processor has said that it has the instructions ([`Simd::detect`], and `Simd`'s field is private), so that every call of a
kernel's methods happens on a processor that has them. All else here reads whole arrays through references.
*/

/// Numbers of one cache line.
pub(super) const LINE: usize = 8;
/// Residuals that are compared at once: 2ε for the largest ε of a build.
pub(super) const WINDOW: usize = 16;

/// A cache line of numbers.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [i64; LINE]);

/// Which instructions to use. What [`Self::detect`] gives is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Simd(Width);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86-64 has others than Scalar here"))]
enum Width {
    Scalar,
    Avx2,
    Avx512,
}

/// A search, to be compiled for each kernel. Implementations mark `run`, and what it calls, `#[inline(always)]`: only what
/// becomes a part of `Simd::run`'s copies is compiled with their instructions.
pub(super) trait Search {
    type Found;
    fn run<K: Kernel>(self, kernel: K) -> Self::Found;
}

/// Comparisons of many numbers with one.
pub(super) trait Kernel: Copy {
    /// How many of the numbers are ≤ `x`.
    fn count_le(self, line: &Line, x: i64) -> usize;

    /// Bit i is set where number i is `x`.
    fn equal(self, line: &Line, x: i64) -> u32;

    /// With `T[i] = (i << fraction) + window[i]`, as i32: how many of the first `len` T are ≤ `units`; and whether one of
    /// these `window`s is `i16::MIN`. `fraction` is at most 24, and `len` at most [`WINDOW`].
    fn count_thresholds(self, window: &[i16; WINDOW], fraction: u32, len: u32, units: i32) -> (u32, bool);
}

impl Simd {
    /// The best that this processor has.
    pub(super) fn detect() -> Simd {
        Self::available().last().copied().unwrap_or(Simd(Width::Scalar))
    }

    /// What this processor has, the best last.
    pub(super) fn available() -> Vec<Simd> {
        let mut all = vec![Simd(Width::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            let bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2");
            let bits = bits && is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("lzcnt");
            if bits && is_x86_feature_detected!("avx2") {
                all.push(Simd(Width::Avx2));
            }
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if bits && wide && is_x86_feature_detected!("avx512vl") {
                all.push(Simd(Width::Avx512));
            }
        }
        all
    }

    /// Whether several numbers are compared at once.
    pub(super) fn has_vectors(self) -> bool {
        self.0 != Width::Scalar
    }

    /// The instructions' name.
    pub(super) fn name(self) -> &'static str {
        match self.0 {
            Width::Scalar => "scalar",
            Width::Avx2 => "AVX2",
            Width::Avx512 => "AVX-512",
        }
    }

    /// Runs a search with these instructions.
    #[inline]
    pub(super) fn run<S: Search>(self, search: S) -> S::Found {
        match self.0 {
            // SAFETY: `available` has seen that the processor has these instructions; nothing else makes such a value.
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => unsafe { x86::run_avx512(search) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => unsafe { x86::run_avx2(search) },
            _ => search.run(Scalar),
        }
    }
}

/// Plain Rust.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scalar;

impl Kernel for Scalar {
    #[inline(always)]
    fn count_le(self, line: &Line, x: i64) -> usize {
        line.0.iter().map(|number| usize::from(*number <= x)).sum()
    }

    #[inline(always)]
    fn equal(self, line: &Line, x: i64) -> u32 {
        line.0.iter().rev().fold(0, |mask, number| mask << 1 | u32::from(*number == x))
    }

    #[inline(always)]
    fn count_thresholds(self, window: &[i16; WINDOW], fraction: u32, len: u32, units: i32) -> (u32, bool) {
        let (mut reached, mut marked) = (0, false);
        for (place, residual) in (0..len).zip(window) {
            let threshold = (place << fraction).cast_signed() + i32::from(*residual);
            reached += u32::from(threshold <= units);
            marked |= *residual == i16::MIN;
        }
        (reached, marked)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, Line, Search, WINDOW};
    use std::arch::x86_64::*;

    /// A proof that the processor has AVX-512 F, BW and VL. See the module's invariant.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Avx512(());

    /// A proof that the processor has AVX2. See the module's invariant.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Avx2(());

    /// # Safety
    /// The processor must have these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi1,bmi2,popcnt,lzcnt")]
    pub(super) unsafe fn run_avx512<S: Search>(search: S) -> S::Found {
        search.run(Avx512(()))
    }

    /// # Safety
    /// The processor must have these instructions.
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    pub(super) unsafe fn run_avx2<S: Search>(search: S) -> S::Found {
        search.run(Avx2(()))
    }

    /// The lowest `len` bits.
    #[inline(always)]
    fn first_bits(len: u32) -> u32 {
        (1 << len) - 1
    }

    impl Kernel for Avx512 {
        #[inline(always)]
        fn count_le(self, line: &Line, x: i64) -> usize {
            // SAFETY: `self` proves the instructions; a `Line` is 64 bytes, aligned to 64.
            let mask = unsafe {
                let numbers = _mm512_load_si512(line.0.as_ptr().cast());
                _mm512_cmple_epi64_mask(numbers, _mm512_set1_epi64(x))
            };
            mask.count_ones() as usize
        }

        #[inline(always)]
        fn equal(self, line: &Line, x: i64) -> u32 {
            // SAFETY: as above.
            let mask = unsafe {
                let numbers = _mm512_load_si512(line.0.as_ptr().cast());
                _mm512_cmpeq_epi64_mask(numbers, _mm512_set1_epi64(x))
            };
            u32::from(mask)
        }

        #[inline(always)]
        fn count_thresholds(self, window: &[i16; WINDOW], fraction: u32, len: u32, units: i32) -> (u32, bool) {
            // SAFETY: `self` proves the instructions; the window is 32 bytes, read without alignment.
            let (reached, marked) = unsafe {
                let residuals = _mm256_loadu_si256(window.as_ptr().cast());
                let ramp = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let places = _mm512_sllv_epi32(ramp, _mm512_set1_epi32(fraction.cast_signed()));
                let thresholds = _mm512_add_epi32(places, _mm512_cvtepi16_epi32(residuals));
                let reached = _mm512_cmple_epi32_mask(thresholds, _mm512_set1_epi32(units));
                (reached, _mm256_cmpeq_epi16_mask(residuals, _mm256_set1_epi16(i16::MIN)))
            };
            let first = first_bits(len);
            ((u32::from(reached) & first).count_ones(), u32::from(marked) & first != 0)
        }
    }

    impl Kernel for Avx2 {
        #[inline(always)]
        fn count_le(self, line: &Line, x: i64) -> usize {
            // SAFETY: `self` proves the instructions; a `Line` is two aligned halves of 32 bytes.
            let greater = unsafe {
                let (low, high) = halves(line);
                let x = _mm256_set1_epi64x(x);
                let low = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(low, x)));
                let high = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(high, x)));
                low | high << 4
            };
            super::LINE - greater.count_ones() as usize
        }

        #[inline(always)]
        fn equal(self, line: &Line, x: i64) -> u32 {
            // SAFETY: as above.
            let equal = unsafe {
                let (low, high) = halves(line);
                let x = _mm256_set1_epi64x(x);
                let low = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(low, x)));
                let high = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(high, x)));
                low | high << 4
            };
            equal.cast_unsigned()
        }

        #[inline(always)]
        fn count_thresholds(self, window: &[i16; WINDOW], fraction: u32, len: u32, units: i32) -> (u32, bool) {
            // SAFETY: `self` proves the instructions; the window is 32 bytes, read without alignment.
            let (beyond, marked) = unsafe {
                let residuals = _mm256_loadu_si256(window.as_ptr().cast());
                let shift = _mm_cvtsi32_si128(fraction.cast_signed());
                let units = _mm256_set1_epi32(units);
                let over = |ramp: __m256i, residuals: __m128i| {
                    let thresholds = _mm256_add_epi32(_mm256_sll_epi32(ramp, shift), _mm256_cvtepi16_epi32(residuals));
                    _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(thresholds, units))).cast_unsigned()
                };
                let low = over(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_castsi256_si128(residuals));
                let upper = _mm256_extracti128_si256::<1>(residuals);
                let high = over(_mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15), upper);
                let marked = _mm256_movemask_epi8(_mm256_cmpeq_epi16(residuals, _mm256_set1_epi16(i16::MIN)));
                (low | high << 8, marked.cast_unsigned())
            };
            // A mark is two bits of the mask of bytes.
            let marks = if len == 16 { u32::MAX } else { first_bits(2 * len) };
            ((!beyond & first_bits(len)).count_ones(), marked & marks != 0)
        }
    }

    /// # Safety
    /// The processor must have AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn halves(line: &Line) -> (__m256i, __m256i) {
        let start = line.0.as_ptr();
        // SAFETY: a `Line` is 64 bytes, aligned to 64.
        unsafe { (_mm256_load_si256(start.cast()), _mm256_load_si256(start.add(4).cast())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::Rng;

    /// All three comparisons.
    struct All<'a>(&'a Line, i64, &'a [i16; WINDOW], u32, u32, i32);

    impl Search for All<'_> {
        type Found = (usize, u32, (u32, bool));

        #[inline(always)]
        fn run<K: Kernel>(self, kernel: K) -> Self::Found {
            let All(line, x, window, fraction, len, units) = self;
            (kernel.count_le(line, x), kernel.equal(line, x), kernel.count_thresholds(window, fraction, len, units))
        }
    }

    #[test]
    fn every_kernel_finds_what_plain_rust_finds() {
        let mut rng = Rng(11);
        println!("{:?}", Simd::available());
        for round in 0..200_000_u32 {
            let spread = rng.below(64);
            let mut line = Line([0; LINE]);
            line.0.iter_mut().for_each(|number| *number = (rng.next() as i64) >> spread);
            line.0.sort_unstable();
            if round % 4 == 0 {
                line.0[7] = i64::MAX;
                line.0[0] = i64::MIN;
            }
            let x = if rng.below(2) == 0 { *rng.pick(&line.0) } else { (rng.next() as i64) >> spread };
            let mut window = [0; WINDOW];
            window.iter_mut().for_each(|residual| *residual = rng.next() as i16 >> rng.below(16));
            if round % 3 == 0 {
                window[rng.below(16) as usize] = i16::MIN;
            }
            let (fraction, len) = (9 + rng.below(7) as u32, rng.below(17) as u32);
            let on_the_spot = (rng.below(16) as i32) << fraction;
            let units = on_the_spot + i32::from(*rng.pick(&window)) + rng.below(3) as i32 - 1;
            let all = || All(&line, x, &window, fraction, len, units);
            let expected = (
                line.0.iter().filter(|number| **number <= x).count(),
                (0..8).map(|place| u32::from(line.0[place] == x) << place).sum(),
                (0..len as usize).fold((0, false), |(reached, marked), place| {
                    let threshold = ((place as i32) << fraction) + i32::from(window[place]);
                    (reached + u32::from(threshold <= units), marked || window[place] == i16::MIN)
                }),
            );
            for simd in Simd::available() {
                assert_eq!(simd.run(all()), expected, "round {round}, {}", simd.name());
            }
        }
    }
}
