/*!
Whether the campaigns have teeth: each seeded bug of the engine is switched on in turn, and a small form of the campaigns, in
a process of its own, must fail. docs/testing.md has the list.

    cargo test -p omendb-engine --features mutants --test campaigns teeth -- --nocapture
*/

use omendb_engine::Mutant;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// In the order in which they are tried, after the form that is known to find the bug.
const CAMPAIGNS: [&str; 5] = ["crash", "fault", "simulation", "conflicts", "ranges"];

/// A bug that makes a campaign hang is found, too: by its taking so many times longer than without any bug.
const PATIENCE: u32 = 8;

/// For the campaigns without any bug, on however slow a machine.
const PATIENCE_WITHOUT: Duration = Duration::from_secs(1800);

/// A small form of a campaign, or the part of it that is known to be enough for a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    campaign: &'static str,
    /// A workload of `crash`, or what names of `fault`'s runs begin with, of which then all are run; empty for all of it.
    part: &'static str,
}

const fn all_of(campaign: &'static str) -> Form {
    Form { campaign, part: "" }
}

/// The form that is tried first: the one that is known to find the bug.
fn likely(mutant: Mutant) -> Form {
    use Mutant::*;
    let (campaign, part) = match mutant {
        SkipLogSync | SegmentBegunUnsynced | SkipSegmentDirSync | DropLogChecksum => ("crash", "commits"),
        ReplayStopsEarly | CutTailRevived | LogReleasedEarly | WatermarkTooHigh => ("crash", "commits"),
        SkipManifestSync | SkipCurrentSync | SkipCurrentDirSync => ("crash", "commits"),
        AcknowledgedBeforeDurable | SkipNewManifestSync | SkipManifestDirSync => ("crash", "flush"),
        SkipRunSync | SkipRunDirSync | RowIdsForgotten | ReusedHeaderKept => ("crash", "flush"),
        ErasedRangeForgottenAtFlush | ErasedRangeAppliedToNewer => ("crash", "flush"),
        DropManifestChecksum => ("crash", "ddl"),
        LoadBeforeLog => ("crash", "load"),
        ShortWriteIgnored | ShortReadIgnored => ("fault", "commits/1/Short"),
        WatermarkIgnored => ("fault", "runs/1/Silent(Lost)/once"),
        EndOfLogForgotten => ("fault", "commits/1/Silent(Lost)/sticky"),
        RecoveredLogNotHardened => ("fault", "commits/1/Io/once"),
        RecoveredManifestNotHardened => ("fault", "loads/1/Io/once"),
        SnapshotOffByOne | VisibleBeforeDurable | DropRunChecksum | ErrorTakenForTheEnd => ("simulation", ""),
        ConflictMissed | LogPoisonForgotten | ExpiredBelowMerge | ErasedRangeNotCut => ("simulation", ""),
        FilterForgetsAKey => ("simulation", ""),
        RangeConflictMissed => ("conflicts", ""),
        TombstoneDroppedEarly => ("ranges", ""),
    };
    Form { campaign, part }
}

/// The forms that are tried for a bug, in order.
fn forms(mutant: Mutant) -> impl Iterator<Item = Form> {
    let first = likely(mutant);
    std::iter::once(first).chain(CAMPAIGNS.map(all_of).into_iter().filter(move |form| *form != first))
}

/// Whether a small form of the campaign fails with this bug, and what it says.
fn killed_by(form: Form, mutant: Option<Mutant>, patience: Duration) -> Option<String> {
    let Form { campaign, part } = form;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("{campaign}::"), "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
    command
        .env("OMENDB_CAMPAIGN_THREADS", "1")
        .env("OMENDB_CRASH_STATES", "1")
        .env("OMENDB_CRASH_SUBSETS", "6")
        .env("OMENDB_CRASH_SEED", "3");
    command.env("OMENDB_FAULT_EVERY", "5").env("OMENDB_SIM_SEEDS", "40").env("OMENDB_SIM_TWICE", "1000");
    command.env_remove("OMENDB_CRASH_REPLAY").env_remove("OMENDB_FAULT_REPLAY").env_remove("OMENDB_SIM_SEED");
    command.env_remove("OMENDB_RANGES_SEED").env_remove("OMENDB_RANGES_SEEDS");
    command.env("OMENDB_CRASH_ONLY", if campaign == "crash" { part } else { "" });
    command.env("OMENDB_FAULT_ONLY", if campaign == "fault" { part } else { "" });
    if !part.is_empty() {
        command.env("OMENDB_FAULT_EVERY", "1").env("OMENDB_CRASH_STATES", "4000");
    }
    match mutant {
        Some(mutant) => command.env("OMENDB_MUTANT", format!("{mutant:?}")),
        None => command.env_remove("OMENDB_MUTANT"),
    };
    let dir = std::env::temp_dir().join(format!("omendb-teeth-{}-{mutant:?}-{campaign}", std::process::id()));
    let said = std::fs::File::create(&dir).unwrap();
    let mut child = command.stderr(said).spawn().unwrap();
    let began = Instant::now();
    let success = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.success();
        }
        if began.elapsed() > patience {
            child.kill().unwrap();
            child.wait().unwrap();
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = std::fs::read_to_string(&dir).unwrap_or_default();
    std::fs::remove_file(&dir).unwrap();
    let panic = format!("panicked at engine/tests/campaigns/{campaign}.rs");
    let said = text.lines().skip_while(|line| !line.contains(&panic)).nth(1);
    (!success).then(|| said.unwrap_or("it hangs or ends without a word").to_owned())
}

#[test]
fn every_mutant_is_killed() {
    if std::env::var("OMENDB_MUTANT").is_ok() {
        return;
    }
    let only = std::env::var("OMENDB_TEETH").ok();
    let mutants: Vec<Mutant> = Mutant::ALL
        .iter()
        .copied()
        .filter(|mutant| only.as_ref().is_none_or(|name| *name == format!("{mutant:?}")))
        .collect();
    let patience = CAMPAIGNS.map(|campaign| {
        let began = Instant::now();
        assert_eq!(killed_by(all_of(campaign), None, PATIENCE_WITHOUT), None, "{campaign} without any bug");
        writeln!(std::io::stderr(), "{campaign} without any bug: {:.0} s", began.elapsed().as_secs_f64()).unwrap();
        (campaign, began.elapsed() * PATIENCE)
    });
    // Parts of `fault` have runs that the small form of all of it leaves out.
    let mut parts: Vec<Form> = mutants.iter().map(|mutant| likely(*mutant)).collect();
    parts.retain(|form| form.campaign == "fault");
    parts.sort_by_key(|form| form.part);
    parts.dedup();
    for form in parts {
        assert_eq!(killed_by(form, None, PATIENCE_WITHOUT), None, "{form:?} without any bug");
    }
    let patience_for = |name| patience.iter().find(|(campaign, _)| *campaign == name).unwrap().1;
    let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..crate::setting("OMENDB_CAMPAIGN_THREADS", 2) {
            scope.spawn(|| {
                crate::stay_on_one_processor();
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let began = Instant::now();
                    let killer = forms(*mutant)
                        .find_map(|form| Some((form, killed_by(form, Some(*mutant), patience_for(form.campaign))?)));
                    let seconds = began.elapsed().as_secs_f64();
                    match killer {
                        Some((Form { campaign, .. }, what)) => {
                            writeln!(std::io::stderr(), "{mutant:?}: killed by {campaign} in {seconds:.0} s: {what}")
                                .unwrap();
                        }
                        None => {
                            writeln!(std::io::stderr(), "{mutant:?}: survived").unwrap();
                            survivors.lock().unwrap().push(*mutant);
                        }
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "{survivors:?} survived");
}
