/*!
The micro-benchmarks of two revisions, built side by side and run in turns: which figures differ, and by how much.

```text
    cargo run --release -- HEAD~1 HEAD [rounds=7] [only=encoding/decode] [dir=PATH]
```

A revision is whatever git takes for one, or `.`, the files as they are. Each is checked out and built beneath `dir` (by default
beside this program), which stays, so that the next comparison compiles little. Then processes of the two take turns, each round
beginning with the other one, so that what else a machine does falls on both. What counts is the ratio of the medians *within* a
round: its median over the rounds, its least and its greatest. A figure is called slower or faster where all rounds agree and the median
is off by a hundredth or more; on a shared machine that happens by chance to one in 2^(rounds - 1), so seven are the default.
*/

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Nanoseconds by the benchmark's name.
type Figures = BTreeMap<String, f64>;

/// A difference that is worth a word.
const WORTH: f64 = 0.01;

struct Settings {
    revisions: [String; 2],
    rounds: usize,
    only: Option<String>,
    dir: Option<PathBuf>,
}

impl Settings {
    fn of_arguments() -> Result<Settings> {
        let mut revisions = Vec::new();
        let (mut rounds, mut only, mut dir) = (7, None, None);
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some(("rounds", number)) => rounds = number.parse()?,
                Some(("only", part)) => only = Some(part.to_owned()),
                Some(("dir", path)) => dir = Some(path.into()),
                Some(_) => return Err(format!("unknown argument {argument:?}").into()),
                None => revisions.push(argument),
            }
        }
        let revisions = <[String; 2]>::try_from(revisions).map_err(|_| "two revisions: an old one and a new one")?;
        if rounds == 0 {
            return Err("at least one round".into());
        }
        Ok(Settings { revisions, rounds, only, dir })
    }
}

/// What a command prints. Errors: where it fails, with what it says of that.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    Ok(output(Command::new("git").arg("-C").arg(dir).args(arguments))?.trim().to_owned())
}

/// Checks a revision out, if it is not the files as they are, builds its benchmark, and gives the program.
fn build(revision: &str, side: &str, dir: &Path) -> Result<PathBuf> {
    let here = PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"])?);
    let tree = if revision == "." {
        here
    } else {
        let commit = git(&here, &["rev-parse", "--verify", &format!("{revision}^{{commit}}")])?;
        let tree = dir.join(side);
        if tree.exists() {
            git(&tree, &["checkout", "--quiet", "--detach", &commit])?;
        } else {
            git(&here, &["worktree", "prune"])?;
            git(&here, &["worktree", "add", "--quiet", "--detach", &tree.to_string_lossy(), &commit])?;
        }
        tree
    };
    eprintln!("building {revision}");
    let arguments = ["bench", "--locked", "--bench", "micro", "--no-run", "--message-format=json"];
    let mut cargo = Command::new("cargo");
    cargo
        .args(arguments)
        .current_dir(tree.join("benches/micro"))
        .env("CARGO_TARGET_DIR", dir.join(format!("target-{side}")));
    let messages = output(&mut cargo)?;
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")? == "micro" && message.pointer("/target/kind/0")? == "bench";
        message.get("executable")?.as_str().filter(|_| is_it).map(PathBuf::from)
    });
    program.ok_or_else(|| format!("{revision}: cargo names no program of its micro-benchmarks").into())
}

/// Runs a program once, and gives its medians.
fn run(program: &Path, only: Option<&str>, dir: &Path) -> Result<Figures> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let mut command = Command::new(program);
    command.args(["--bench", "--noplot", "--warm-up-time", "0.3", "--measurement-time", "1", "--sample-size", "20"]);
    command.args(only).env("CRITERION_HOME", dir);
    output(&mut command)?;
    let mut figures = Figures::new();
    collect(dir, &mut figures)?;
    if figures.is_empty() {
        return Err(format!("{command:?} measured nothing").into());
    }
    Ok(figures)
}

/// The medians that Criterion has left beneath `dir`.
fn collect(dir: &Path, figures: &mut Figures) -> Result<()> {
    let json = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_str(&fs::read_to_string(path)?)?) };
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if !path.ends_with("new") {
            collect(&path, figures)?;
            continue;
        }
        let (name, estimates) = (json(path.join("benchmark.json"))?, json(path.join("estimates.json"))?);
        let name = name.get("full_id").and_then(Value::as_str).ok_or("a benchmark without a name")?.to_owned();
        let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64).ok_or("no median")?;
        figures.insert(name, median);
    }
    Ok(())
}

/// Median, least and greatest.
fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    Some([*values.get(values.len() / 2)?, *values.first()?, *values.last()?])
}

fn verdict([median, least, greatest]: [f64; 3]) -> &'static str {
    if least > 1.0 && median >= 1.0 + WORTH {
        "slower"
    } else if greatest < 1.0 && median <= 1.0 - WORTH {
        "faster"
    } else {
        ""
    }
}

fn main() -> Result<()> {
    let settings = Settings::of_arguments()?;
    let dir = match settings.dir {
        Some(dir) => dir,
        None => std::env::current_exe()?.parent().ok_or("no build directory")?.join("revisions"),
    };
    fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let [old, new] = &settings.revisions;
    let programs = [build(old, "old", &dir)?, build(new, "new", &dir)?];
    let mut rounds: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        let mut sides = [0, 1];
        if round % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            if let (Some(program), Some(figures)) = (programs.get(side), rounds.get_mut(side)) {
                figures.push(run(program, settings.only.as_deref(), &dir.join("figures"))?);
            }
        }
    }
    let [olds, news] = rounds;
    println!("| benchmark | {old}, ns | {new}, ns | ratio (least to greatest of {} rounds) | |", settings.rounds);
    println!("|---|---|---|---|---|");
    for name in olds.iter().chain(&news).flat_map(Figures::keys).collect::<std::collections::BTreeSet<_>>() {
        let of = |side: &[Figures]| side.iter().filter_map(|figures| figures.get(name).copied()).collect::<Vec<f64>>();
        let (old, new) = (of(&olds), of(&news));
        let ratios = old.iter().zip(&new).map(|(old, new)| new / old).collect();
        match (spread(old), spread(new), spread(ratios)) {
            (Some([old, ..]), Some([new, ..]), Some(ratio)) => {
                let [median, least, greatest] = ratio;
                println!(
                    "| {name} | {old:.0} | {new:.0} | {median:.3} ({least:.3}–{greatest:.3}) | {} |",
                    verdict(ratio)
                );
            }
            (old, new, _) => println!("| {name} | {} | {} | – | |", known(old), known(new)),
        }
    }
    Ok(())
}

/// A median that only one of the two revisions may have.
fn known(spread: Option<[f64; 3]>) -> String {
    spread.map_or_else(|| "–".to_owned(), |[median, ..]| format!("{median:.0}"))
}
