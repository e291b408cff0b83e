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

/// In the order in which they are tried.
const CAMPAIGNS: [&str; 4] = ["crash", "fault", "simulation", "conflicts"];

/// A bug that makes a campaign hang is found, too: by its taking so many times longer than without any bug.
const PATIENCE: u32 = 8;

/// For the campaigns without any bug, on however slow a machine.
const PATIENCE_WITHOUT: Duration = Duration::from_secs(1800);

/// The campaign that is tried first: the one that is known to find the bug, where it is not the first of them.
fn likely(mutant: Mutant) -> &'static str {
    use Mutant::*;
    match mutant {
        ShortWriteIgnored | ShortReadIgnored | WatermarkIgnored => "fault",
        RecoveredLogNotHardened | RecoveredManifestNotHardened => "fault",
        SnapshotOffByOne | VisibleBeforeDurable | DropRunChecksum | ErrorTakenForTheEnd => "simulation",
        ConflictMissed | LogPoisonForgotten | ExpiredBelowMerge => "simulation",
        RangeConflictMissed => "conflicts",
        _ => "crash",
    }
}

/// The part of the fault campaign that is run for the bug in place of every fifth call of all of it: few calls show this one.
fn part(mutant: Option<Mutant>) -> Option<&'static str> {
    (mutant == Some(Mutant::RecoveredManifestNotHardened)).then_some("loads/1/Io/once")
}

/// Whether a small form of the campaign fails with this bug, and what it says.
fn killed_by(campaign: &str, mutant: Option<Mutant>, patience: Duration) -> Option<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("{campaign}::"), "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
    command
        .env("OMENDB_CAMPAIGN_THREADS", "1")
        .env("OMENDB_CRASH_STATES", "1")
        .env("OMENDB_CRASH_SUBSETS", "6")
        .env("OMENDB_CRASH_SEED", "3");
    command.env("OMENDB_FAULT_EVERY", "5").env("OMENDB_SIM_SEEDS", "40").env("OMENDB_SIM_TWICE", "1000");
    command.env_remove("OMENDB_CRASH_REPLAY").env_remove("OMENDB_FAULT_REPLAY").env_remove("OMENDB_SIM_SEED");
    if let Some(part) = part(mutant) {
        command.env("OMENDB_FAULT_EVERY", "1").env("OMENDB_FAULT_ONLY", part);
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
        assert_eq!(killed_by(campaign, None, PATIENCE_WITHOUT), None, "{campaign} without any bug");
        writeln!(std::io::stderr(), "{campaign} without any bug: {:.0} s", began.elapsed().as_secs_f64()).unwrap();
        (campaign, began.elapsed() * PATIENCE)
    });
    let patience_for = |name| patience.iter().find(|(campaign, _)| *campaign == name).unwrap().1;
    let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..crate::setting("OMENDB_CAMPAIGN_THREADS", 2) {
            scope.spawn(|| {
                crate::stay_on_one_processor();
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let others = CAMPAIGNS.into_iter().filter(|name| *name != likely(*mutant));
                    let mut order = std::iter::once(likely(*mutant)).chain(others);
                    let killer =
                        order.find_map(|name| Some((name, killed_by(name, Some(*mutant), patience_for(name))?)));
                    match killer {
                        Some((campaign, what)) => {
                            writeln!(std::io::stderr(), "{mutant:?}: killed by {campaign}: {what}").unwrap();
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
