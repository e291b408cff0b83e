/*!
TSBS's devops queries on processor metrics: their texts, and what they must answer, computed from the hosts' values without the database.

The texts are those that TSBS has for TimescaleDB, with `date_trunc` for `time_bucket` and the host's name in the one table for its
table of tags.
*/

use super::hosts::{DAY_SECONDS, Hosts, METRICS, STEP_SECONDS, STEPS, moment, name, steps};
use crate::workloads::answer::{Cell, Expected};
use omendb_engine::io::random::Random;
use std::collections::BTreeMap;

/// The table that is asked.
pub(super) const TABLE: &str = "bench_devops";

/// More than so much of `usage_user` is a high load.
const HIGH: f64 = 90.0;

/// Minutes that `groupby-orderby-limit` wants.
const MINUTES: u64 = 5;

const HOUR: u64 = 3600;
const MINUTE: u64 = 60;

/// What a query asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The highest values of the first metrics in each minute, of some hosts together.
    SingleGroupBy { metrics: usize, hosts: u64, hours: u64 },
    /// The highest values of all metrics in each of eight hours, of some hosts together.
    CpuMaxAll { hosts: u64 },
    /// The means of the first metrics in each of twelve hours, of each host.
    DoubleGroupBy { metrics: usize },
    /// The reports of a high load in twelve hours, of one host or all.
    HighCpu { all: bool },
    /// The last report of each host.
    LastPoint,
    /// The highest load of all hosts in each of the last minutes before a moment.
    GroupByOrderByLimit,
}

/// The queries under TSBS's names.
pub(super) const QUERIES: [(&str, Kind); 15] = [
    ("single-groupby-1-1-1", Kind::SingleGroupBy { metrics: 1, hosts: 1, hours: 1 }),
    ("single-groupby-1-1-12", Kind::SingleGroupBy { metrics: 1, hosts: 1, hours: 12 }),
    ("single-groupby-1-8-1", Kind::SingleGroupBy { metrics: 1, hosts: 8, hours: 1 }),
    ("single-groupby-5-1-1", Kind::SingleGroupBy { metrics: 5, hosts: 1, hours: 1 }),
    ("single-groupby-5-1-12", Kind::SingleGroupBy { metrics: 5, hosts: 1, hours: 12 }),
    ("single-groupby-5-8-1", Kind::SingleGroupBy { metrics: 5, hosts: 8, hours: 1 }),
    ("cpu-max-all-1", Kind::CpuMaxAll { hosts: 1 }),
    ("cpu-max-all-8", Kind::CpuMaxAll { hosts: 8 }),
    ("double-groupby-1", Kind::DoubleGroupBy { metrics: 1 }),
    ("double-groupby-5", Kind::DoubleGroupBy { metrics: 5 }),
    ("double-groupby-all", Kind::DoubleGroupBy { metrics: METRICS.len() }),
    ("high-cpu-1", Kind::HighCpu { all: false }),
    ("high-cpu-all", Kind::HighCpu { all: true }),
    ("lastpoint", Kind::LastPoint),
    ("groupby-orderby-limit", Kind::GroupByOrderByLimit),
];

/// A query with its hosts and its time.
#[derive(Debug, Clone)]
pub(super) struct Query {
    kind: Kind,
    /// Sorted; all hosts where none is named.
    hosts: Vec<u64>,
    /// Seconds of the day, without the last.
    from: u64,
    to: u64,
}

impl Query {
    /// One of a kind, with random hosts and a random time.
    pub(super) fn draw(kind: Kind, hosts: &Hosts, random: &mut Random) -> Query {
        let (wanted, hours) = match kind {
            Kind::SingleGroupBy { hosts, hours, .. } => (hosts, hours),
            Kind::CpuMaxAll { hosts } => (hosts, 8),
            Kind::DoubleGroupBy { .. } => (0, 12),
            Kind::HighCpu { all } => (if all { 0 } else { 1 }, 12),
            Kind::LastPoint | Kind::GroupByOrderByLimit => (0, 0),
        };
        let mut chosen = Vec::new();
        while chosen.len() < usize::try_from(wanted.min(hosts.count)).unwrap_or(0) {
            let host = random.below(hosts.count);
            if !chosen.contains(&host) {
                chosen.push(host);
            }
        }
        chosen.sort_unstable();
        let (from, to) = match kind {
            Kind::LastPoint => (0, DAY_SECONDS),
            // At least the first hour is before that.
            Kind::GroupByOrderByLimit => (0, HOUR + random.below(DAY_SECONDS - HOUR)),
            _ => {
                let from = random.below(DAY_SECONDS - hours * HOUR + 1);
                (from, from + hours * HOUR)
            }
        };
        Query { kind, hosts: chosen, from, to }
    }

    /// As it is asked.
    pub(super) fn sql(&self) -> String {
        let each = |function: &str, metrics: usize| {
            let column = |metric: &str| format!("{function}({metric}) AS {function}_{metric}");
            METRICS.iter().take(metrics).map(|metric| column(metric)).collect::<Vec<_>>().join(", ")
        };
        let names: Vec<String> = self.hosts.iter().map(|host| format!("'{}'", name(*host))).collect();
        let hosts = match names.is_empty() {
            true => String::new(),
            false => format!("hostname IN ({}) AND ", names.join(", ")),
        };
        let time = format!("ts >= '{}' AND ts < '{}'", moment(self.from), moment(self.to));
        match self.kind {
            Kind::SingleGroupBy { metrics, .. } => format!(
                "SELECT date_trunc('minute', ts) AS minute, {} FROM {TABLE} WHERE {hosts}{time} GROUP BY minute ORDER BY minute",
                each("max", metrics)
            ),
            Kind::CpuMaxAll { .. } => format!(
                "SELECT date_trunc('hour', ts) AS hour, {} FROM {TABLE} WHERE {hosts}{time} GROUP BY hour ORDER BY hour",
                each("max", METRICS.len())
            ),
            Kind::DoubleGroupBy { metrics } => format!(
                "SELECT date_trunc('hour', ts) AS hour, hostname, {} FROM {TABLE} WHERE {time} GROUP BY hour, hostname \
                 ORDER BY hour, hostname",
                each("avg", metrics)
            ),
            Kind::HighCpu { .. } => format!("SELECT * FROM {TABLE} WHERE {hosts}usage_user > {HIGH:.1} AND {time}"),
            Kind::LastPoint => format!("SELECT DISTINCT ON (hostname) * FROM {TABLE} ORDER BY hostname, ts DESC"),
            Kind::GroupByOrderByLimit => format!(
                "SELECT date_trunc('minute', ts) AS minute, max(usage_user) FROM {TABLE} WHERE ts < '{}' GROUP BY minute \
                 ORDER BY minute DESC LIMIT {MINUTES}",
                moment(self.to)
            ),
        }
    }

    /// Puts rows of an answer that was asked for in no order into the one of host and time.
    pub(super) fn in_order(&self, mut answer: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
        if matches!(self.kind, Kind::HighCpu { .. }) {
            answer.sort_by_key(|row| row.iter().take(2).map(text).collect::<Vec<_>>());
        }
        answer
    }

    /// What it must answer.
    pub(super) fn expected(&self, all: &Hosts) -> Expected {
        let (rows, order) = match self.kind {
            Kind::SingleGroupBy { metrics, .. } => (self.highest(all, metrics, MINUTE), vec![0]),
            Kind::CpuMaxAll { .. } => (self.highest(all, METRICS.len(), HOUR), vec![0]),
            Kind::DoubleGroupBy { metrics } => (self.means(all, metrics), vec![0, 1]),
            Kind::HighCpu { .. } => {
                let high = |host, step: &u64| all.value(host, 0, *step) > HIGH;
                let of_host = |host| {
                    steps(self.from, self.to).filter(move |step| high(host, step)).map(move |s| report(all, host, s))
                };
                (self.in_order(self.hosts(all).into_iter().flat_map(of_host).collect()), vec![0, 1])
            }
            Kind::LastPoint => {
                let mut rows: Vec<_> = (0..all.count).map(|host| report(all, host, STEPS - 1)).collect();
                rows.sort_by_key(|row| row.first().map(text));
                (rows, vec![0])
            }
            Kind::GroupByOrderByLimit => {
                // The last minute has a report at its begin, unless nothing of the minute is before the moment.
                let last_step = self.to.div_ceil(STEP_SECONDS).saturating_sub(1);
                let last_minute = last_step * STEP_SECONDS / MINUTE;
                let from = (last_minute + 1).saturating_sub(MINUTES) * MINUTE;
                let mut rows = Query { from, ..self.clone() }.highest(all, 1, MINUTE);
                rows.reverse();
                (rows, vec![0])
            }
        };
        Expected { rows, order, limit: None, units: 1 }
    }

    fn hosts(&self, all: &Hosts) -> Vec<u64> {
        if self.hosts.is_empty() { (0..all.count).collect() } else { self.hosts.clone() }
    }

    /// The highest value of each metric in each stretch of so many seconds.
    fn highest(&self, all: &Hosts, metrics: usize, seconds: u64) -> Vec<Vec<Cell>> {
        let mut stretches: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for host in self.hosts(all) {
            for step in steps(self.from, self.to) {
                let highest = stretches.entry(step * STEP_SECONDS / seconds).or_insert_with(|| vec![f64::MIN; metrics]);
                for (metric, highest) in highest.iter_mut().enumerate() {
                    *highest = highest.max(all.value(host, metric, step));
                }
            }
        }
        let row = |(stretch, values): (u64, Vec<f64>)| {
            std::iter::once(Cell::Text(moment(stretch * seconds))).chain(values.into_iter().map(Cell::Float)).collect()
        };
        stretches.into_iter().map(row).collect()
    }

    /// The mean of each metric in each hour of each host.
    fn means(&self, all: &Hosts, metrics: usize) -> Vec<Vec<Cell>> {
        let mut groups: BTreeMap<(u64, String), (Vec<f64>, u64)> = BTreeMap::new();
        for host in self.hosts(all) {
            for step in steps(self.from, self.to) {
                let key = (step * STEP_SECONDS / HOUR, name(host));
                let (sums, count) = groups.entry(key).or_insert_with(|| (vec![0.0; metrics], 0));
                *count += 1;
                for (metric, sum) in sums.iter_mut().enumerate() {
                    *sum += all.value(host, metric, step);
                }
            }
        }
        let row = |((hour, host), (sums, count)): ((u64, String), (Vec<f64>, u64))| {
            let means = sums.into_iter().map(|sum| Cell::Float(sum / count as f64));
            [Cell::Text(moment(hour * HOUR)), Cell::Text(host)].into_iter().chain(means).collect()
        };
        groups.into_iter().map(row).collect()
    }
}

/// A whole row.
fn report(all: &Hosts, host: u64, step: u64) -> Vec<Cell> {
    let values = (0..METRICS.len()).map(|metric| Cell::Float(all.value(host, metric, step)));
    [Cell::Text(name(host)), Cell::Text(moment(step * STEP_SECONDS))].into_iter().chain(values).collect()
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_written_as_tsbs_has_them() {
        let query = |kind, hosts: &[u64], from, to| Query { kind, hosts: hosts.to_vec(), from, to }.sql();
        assert_eq!(
            query(Kind::SingleGroupBy { metrics: 1, hosts: 2, hours: 1 }, &[3, 11], 60, 3660),
            "SELECT date_trunc('minute', ts) AS minute, max(usage_user) AS max_usage_user FROM bench_devops \
             WHERE hostname IN ('host_3', 'host_11') AND ts >= '2016-01-01T00:01:00' AND ts < '2016-01-01T01:01:00' \
             GROUP BY minute ORDER BY minute"
        );
        assert_eq!(
            query(Kind::HighCpu { all: true }, &[], 0, 43_200),
            "SELECT * FROM bench_devops WHERE usage_user > 90.0 AND ts >= '2016-01-01T00:00:00' AND ts < '2016-01-01T12:00:00'"
        );
    }

    #[test]
    fn what_is_drawn_lies_within_the_day_and_has_as_many_hosts_as_its_name_says() {
        let (hosts, mut random) = (Hosts { seed: 1, count: 9 }, Random::new(5));
        for (name, kind) in QUERIES {
            for _ in 0..50 {
                let query = Query::draw(kind, &hosts, &mut random);
                assert!(query.from < query.to && query.to <= DAY_SECONDS, "{name} {query:?}");
                let wanted = match kind {
                    Kind::SingleGroupBy { hosts, .. } | Kind::CpuMaxAll { hosts } => hosts,
                    Kind::HighCpu { all: false } => 1,
                    _ => 0,
                };
                assert_eq!(u64::try_from(query.hosts.len()), Ok(wanted), "{name}");
                assert!(query.hosts.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }

    #[test]
    fn the_last_minutes_before_a_moment_are_those_that_have_reports() {
        let all = Hosts { seed: 1, count: 2 };
        let at = |to| Query { kind: Kind::GroupByOrderByLimit, hosts: Vec::new(), from: 0, to }.expected(&all);
        let minutes = |to| at(to).rows.iter().map(|row| text(&row[0])[11..16].to_owned()).collect::<Vec<_>>();
        // At a minute's very begin nothing of the minute is before it.
        assert_eq!(minutes(3600), ["00:59", "00:58", "00:57", "00:56", "00:55"]);
        assert_eq!(minutes(3601), ["01:00", "00:59", "00:58", "00:57", "00:56"]);
        let highest = (0..2).map(|host| all.value(host, 0, 360)).fold(0.0, f64::max);
        assert_eq!(at(3601).rows[0][1], Cell::Float(highest));
    }
}
