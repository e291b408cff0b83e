/*!
What lookups by key came to in a tree's runs: how many found the key, and how many looked in vain. From that follows whether the tree's
next runs get filters ([`crate::run`]): where absent keys are asked for, and nowhere else.

Upper levels and the last are counted apart. A key that lies in the last level is looked for in every upper run before, in vain, so that
filters there pay for nearly everybody who reads; in the last level they pay only where keys are asked for that nobody has. A probe
that a filter answers counts like any other: what it says is that it was in vain.

Counts begin when the database is opened, and are judged over the last stretch of at least 1,000 probes: the answer follows what the tree is
asked now. Until there is such a stretch there is no answer.
*/

use crate::cache::Counters;
use crate::io::sync::Mutex;
use std::cell::Cell;

/// Probes that say something.
const PROBES_MIN: u64 = 1000;
/// Filters are worth their bytes where at least one probe in so many is in vain.
const VAIN_SHARE: u64 = 10;

/// A part of a tree's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Upper,
    Last,
}

/// How many probes found their key, and how many did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) found: u64,
    pub(crate) vain: u64,
}

/// A part's answer, and what had been counted when it was found.
#[derive(Debug, Clone, Copy, Default)]
struct Judged {
    then: Probed,
    in_vain: Option<bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// Found and in vain, of the upper levels and of the last.
    counts: Counters<4>,
    judged: Mutex<[Judged; 2]>,
}

impl Probes {
    /// Begins to count the probes of one lookup, or of some.
    pub(crate) fn tally(&self) -> Tally<'_> {
        Tally { probes: self, counts: Cell::new([0; 4]) }
    }

    /// What all have come to.
    pub(crate) fn so_far(&self, part: Part) -> Probed {
        let [upper_found, upper_vain, found, vain] = self.counts.sums();
        match part {
            Part::Upper => Probed { found: upper_found, vain: upper_vain },
            Part::Last => Probed { found, vain },
        }
    }

    /// Whether keys are asked for that this part does not have; `None` where too few were asked for.
    pub(crate) fn are_in_vain(&self, part: Part) -> Option<bool> {
        let now = self.so_far(part);
        let mut judged = self.judged.lock();
        let [upper, last] = &mut *judged;
        let judged = match part {
            Part::Upper => upper,
            Part::Last => last,
        };
        let found = now.found.wrapping_sub(judged.then.found);
        let vain = now.vain.wrapping_sub(judged.then.vain);
        let all = found.saturating_add(vain);
        if all >= PROBES_MIN {
            *judged = Judged { then: now, in_vain: Some(vain.saturating_mul(VAIN_SHARE) >= all) };
        }
        judged.in_vain
    }
}

/// Probes that are added when this is dropped, so that a lookup writes to shared memory once.
#[derive(Debug)]
pub(crate) struct Tally<'p> {
    probes: &'p Probes,
    counts: Cell<[u64; 4]>,
}

impl Tally<'_> {
    /// One more probe.
    #[inline]
    pub(crate) fn probe(&self, part: Part, found: bool) {
        self.probes(part, u64::from(found), u64::from(!found));
    }

    /// Some more.
    #[inline]
    pub(crate) fn probes(&self, part: Part, found: u64, vain: u64) {
        let [upper_found, upper_vain, last_found, last_vain] = self.counts.get();
        self.counts.set(match part {
            Part::Upper => [upper_found + found, upper_vain + vain, last_found, last_vain],
            Part::Last => [upper_found, upper_vain, last_found + found, last_vain + vain],
        });
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.probes.counts.add_all(self.counts.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_judged_apart_and_by_what_was_asked_last() {
        let probes = Probes::default();
        assert_eq!(probes.are_in_vain(Part::Upper), None);
        probes.tally().probes(Part::Upper, 899, 100);
        assert_eq!(probes.are_in_vain(Part::Upper), None, "too few");
        probes.tally().probe(Part::Upper, true);
        assert_eq!(probes.are_in_vain(Part::Upper), Some(true));
        assert_eq!(probes.are_in_vain(Part::Last), None);
        probes.tally().probes(Part::Last, 2000, 10);
        assert_eq!(probes.are_in_vain(Part::Last), Some(false));
        probes.tally().probes(Part::Upper, 500, 0);
        assert_eq!(probes.are_in_vain(Part::Upper), Some(true), "until there are enough once more");
        probes.tally().probes(Part::Upper, 500, 0);
        assert_eq!(probes.are_in_vain(Part::Upper), Some(false));
        assert_eq!(probes.so_far(Part::Upper), Probed { found: 1900, vain: 100 });
    }
}
