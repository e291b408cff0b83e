/*!
`\index T`: how the learned index of each of a table's runs did.

A run's index finds the slice of a key. A *model* predicts it with straight lines; its *error bound* is how many slices
the lines may be off, its *residuals* are how many they are off: the plot shows a sample of them, along the run.
*/

use super::sheet::Sheet;
use super::words::Arguments;
use super::{describe, print};
use crate::render::{Format, as_u64};
use crate::shell::{Shell, Step};
use omendb_sql::engine::db::RunStats;

/// Columns and rows of the plot. Rows are odd in number, so that one of them is zero.
const PLOT_WIDTH: usize = 64;
const PLOT_HEIGHT: usize = 9;

/// Runs whose residuals are plotted: the largest.
const PLOTS_MAX: usize = 3;

/// The command.
pub(super) fn show(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let place = arguments.place;
    let name = arguments.one(shell, "a table")?;
    let table = describe::table(shell, &name, place)?;
    let (stats, mut runs) = describe::told(shell, place, |db| Ok((db.table_stats(&table)?, db.run_stats(&table)?)))?;
    let for_people = shell.view.format == Format::Table;
    if runs.is_empty() && for_people {
        let text = format!("table \"{}\" has no run yet: {}\n", table.name, describe::rows_in_memory(&stats));
        return print(shell, place, &text);
    }
    sheet(&runs).show(shell, place)?;
    if for_people {
        runs.sort_by_key(|run| std::cmp::Reverse(run.rows));
        let has_plot = |run: &&RunStats| has_model(run) && !run.residuals.is_empty();
        let plots: String = runs.iter().filter(has_plot).take(PLOTS_MAX).map(plot).collect();
        let text =
            if runs.iter().any(has_model) { plots } else { "No run has a model: fences find slices exactly.\n".into() };
        print(shell, place, &text)?;
    }
    Ok(())
}

/// Whether a run's index predicts; one of fences looks up, and has neither segments nor an error bound.
fn has_model(run: &RunStats) -> bool {
    run.index_segments > 0
}

fn sheet(runs: &[RunStats]) -> Sheet {
    let count = |of: &dyn Fn(&RunStats) -> u64| runs.iter().map(of).collect::<Vec<_>>();
    let of_model =
        |of: &dyn Fn(&RunStats) -> u64| runs.iter().map(|run| has_model(run).then(|| of(run))).collect::<Vec<_>>();
    let ratio = |of: &dyn Fn(&RunStats) -> (u64, u64)| runs.iter().map(of).collect::<Vec<_>>();
    Sheet::default()
        .count("run", count(&|r| r.id))
        .count("level", count(&|r| r.level.into()))
        .count("rows", count(&|r| r.rows))
        .count("tombstones", count(&|r| r.tombstones))
        .ratio("bytes/row", ratio(&|r| (r.bytes, r.rows)))
        .count("slices", count(&|r| r.slices))
        .text("index", runs.iter().map(|r| Some(r.index_kind.clone())))
        .maybe_count("segments", of_model(&|r| r.index_segments))
        .maybe_count("exceptions", of_model(&|r| r.index_exceptions))
        .maybe_count("error bound", of_model(&|r| r.index_epsilon))
        .ratio("index bytes/slice", ratio(&|r| (r.index_bytes, r.slices)))
        .ratio("index bytes/row", ratio(&|r| (r.index_bytes, r.rows)))
}

/// A scatter of the residuals: the run from left to right, how far the model is off from bottom to top.
fn plot(run: &RunStats) -> String {
    let farthest = run.residuals.iter().map(|r| r.unsigned_abs()).max().unwrap_or(0);
    let top = i64::from(farthest.max(1));
    let half = i64::try_from(PLOT_HEIGHT / 2).unwrap_or(1);
    let width = run.residuals.len().min(PLOT_WIDTH);
    let mut lines = vec![vec![' '; width]; PLOT_HEIGHT];
    for (at, residual) in run.residuals.iter().enumerate() {
        let column = at * width / run.residuals.len().max(1);
        // Rounded away from zero, so that only what is exact lies on the middle line.
        let scaled = i64::from(*residual) * half;
        let step = (scaled.abs() + top - 1) / top * scaled.signum();
        let line = usize::try_from(half - step).unwrap_or(0);
        if let Some(cell) = lines.get_mut(line).and_then(|line| line.get_mut(column)) {
            *cell = '•';
        }
    }
    let exact = run.residuals.iter().filter(|r| **r == 0).count();
    let mut out = format!(
        "\nRun {}: residuals in slices, {} samples, {} exact, at most {farthest} off\n",
        run.id,
        as_u64(run.residuals.len()),
        exact
    );
    let margin = format!("{top:+}").len();
    for (row, line) in lines.iter().enumerate() {
        let label = match row {
            0 => format!("{top:+}"),
            _ if row + 1 == PLOT_HEIGHT => format!("{:+}", -top),
            _ if row == PLOT_HEIGHT / 2 => "0".to_owned(),
            _ => String::new(),
        };
        let line: String = line.iter().collect();
        out.push_str(format!("{label:>margin$} ┤{line}").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_are_plotted_around_zero() {
        let run = RunStats { id: 7, residuals: vec![0, 2, -2, 0, 1], ..RunStats::default() };
        let text = plot(&run);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "Run 7: residuals in slices, 5 samples, 2 exact, at most 2 off");
        assert_eq!(lines[2], "+2 ┤ •");
        assert_eq!(lines[4], "   ┤    •");
        assert_eq!(lines[6], " 0 ┤•  •");
        assert_eq!(lines[10], "-2 ┤  •");
    }

    #[test]
    fn extreme_residuals_do_no_harm() {
        for residuals in [vec![i32::MIN, i32::MAX], vec![0], vec![1; 1000]] {
            plot(&RunStats { residuals, ..RunStats::default() });
        }
    }
}
