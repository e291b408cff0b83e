/*!
Seeded bugs, for the test of the tests: with the feature `mutants`, the environment variable `OMENDB_MUTANT` names one that is
then on, and the campaigns must fail. Without the feature, as in every release, [`mutant!`] is the constant `false`.

docs/testing.md lists what kills each.
*/

/// Whether the bug of this name is on.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::Mutant::$name.is_on()
    };
}

/// No bug is.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

#[cfg(feature = "mutants")]
pub use listed::Mutant;

#[cfg(feature = "mutants")]
mod listed {
    use std::sync::OnceLock;

    /// A seeded bug.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Mutant {
        /// A log sync is left out.
        SkipLogSync,
        /// A commit is acknowledged before its record is durable.
        AcknowledgedBeforeDurable,
        /// A commit is seen by others before its record is durable.
        VisibleBeforeDurable,
        /// A frame's watermark covers what is not synced yet.
        WatermarkTooHigh,
        /// A segment is begun before the one before it is durable.
        SegmentBegunUnsynced,
        /// The directory is not synced for a new segment.
        SkipSegmentDirSync,
        /// A released segment gets its new number with its old header.
        ReusedHeaderKept,
        /// A frame's checksum is not looked at.
        DropLogChecksum,
        /// Replay ends with the first segment.
        ReplayStopsEarly,
        /// Watermarks prove nothing: damage is cut like a torn tail.
        WatermarkIgnored,
        /// That the log was durable up to somewhere proves nothing: an end that is missing is taken for the end.
        EndOfLogForgotten,
        /// A record that was cut in half goes on in the next open's segment.
        CutTailRevived,
        /// What recovery read is not written again.
        RecoveredLogNotHardened,
        /// The log takes records after a failed sync.
        LogPoisonForgotten,
        /// A flush releases log that other memtables need.
        LogReleasedEarly,
        /// An edit is not synced.
        SkipManifestSync,
        /// A new manifest file is not synced.
        SkipNewManifestSync,
        /// The directory is not synced for a new manifest file.
        SkipManifestDirSync,
        /// CURRENT is not synced before its rename.
        SkipCurrentSync,
        /// The rename of CURRENT is not synced.
        SkipCurrentDirSync,
        /// The manifest that was read is not written again.
        RecoveredManifestNotHardened,
        /// An edit's checksum is not looked at.
        DropManifestChecksum,
        /// A run is published unsynced.
        SkipRunSync,
        /// The directory is not synced for a new run.
        SkipRunDirSync,
        /// A run's checksums are not looked at.
        DropRunChecksum,
        /// A filter is built without the first key of each of its blocks.
        FilterForgetsAKey,
        /// Row ids of published runs are not noted.
        RowIdsForgotten,
        /// Runs are published before the commits that precede them are durable.
        LoadBeforeLog,
        /// Commits between check and number are not looked at.
        ConflictMissed,
        /// Whoever deletes a range does not look at what others have committed to it.
        RangeConflictMissed,
        /// Rows that have expired are left out before versions are merged.
        ExpiredBelowMerge,
        /// A scan sees one commit too many.
        SnapshotOffByOne,
        /// A flush drops tombstones that older runs need.
        TombstoneDroppedEarly,
        /// A flush does not write down the memtable's deleted ranges.
        ErasedRangeForgottenAtFlush,
        /// A deleted range hides newer rows, too.
        ErasedRangeAppliedToNewer,
        /// A deleted range stays as it is when newer rows come to lie behind it.
        ErasedRangeNotCut,
        /// A merge takes a failed source for an exhausted one.
        ErrorTakenForTheEnd,
        /// A short write is taken for a whole one.
        ShortWriteIgnored,
        /// A short read is taken for the end of the file.
        ShortReadIgnored,
    }

    impl Mutant {
        /// All of them.
        pub const ALL: &[Mutant] = &[
            Mutant::SkipLogSync,
            Mutant::AcknowledgedBeforeDurable,
            Mutant::VisibleBeforeDurable,
            Mutant::WatermarkTooHigh,
            Mutant::SegmentBegunUnsynced,
            Mutant::SkipSegmentDirSync,
            Mutant::ReusedHeaderKept,
            Mutant::DropLogChecksum,
            Mutant::ReplayStopsEarly,
            Mutant::WatermarkIgnored,
            Mutant::EndOfLogForgotten,
            Mutant::CutTailRevived,
            Mutant::RecoveredLogNotHardened,
            Mutant::LogPoisonForgotten,
            Mutant::LogReleasedEarly,
            Mutant::SkipManifestSync,
            Mutant::SkipNewManifestSync,
            Mutant::SkipManifestDirSync,
            Mutant::SkipCurrentSync,
            Mutant::SkipCurrentDirSync,
            Mutant::RecoveredManifestNotHardened,
            Mutant::DropManifestChecksum,
            Mutant::SkipRunSync,
            Mutant::SkipRunDirSync,
            Mutant::DropRunChecksum,
            Mutant::FilterForgetsAKey,
            Mutant::RowIdsForgotten,
            Mutant::LoadBeforeLog,
            Mutant::ConflictMissed,
            Mutant::RangeConflictMissed,
            Mutant::ExpiredBelowMerge,
            Mutant::SnapshotOffByOne,
            Mutant::TombstoneDroppedEarly,
            Mutant::ErasedRangeForgottenAtFlush,
            Mutant::ErasedRangeAppliedToNewer,
            Mutant::ErasedRangeNotCut,
            Mutant::ErrorTakenForTheEnd,
            Mutant::ShortWriteIgnored,
            Mutant::ShortReadIgnored,
        ];

        /// Whether `OMENDB_MUTANT` names it.
        #[expect(clippy::disallowed_methods, reason = "the initialiser takes no lock")]
        pub(crate) fn is_on(self) -> bool {
            static ON: OnceLock<Option<Mutant>> = OnceLock::new();
            let chosen = ON.get_or_init(|| {
                let name = std::env::var("OMENDB_MUTANT").ok()?;
                Mutant::ALL.iter().copied().find(|mutant| format!("{mutant:?}") == name)
            });
            *chosen == Some(self)
        }
    }
}
