/*!
What SET changes and SHOW tells.

Every setting has a row in [`DEFINITIONS`]; one that is not there is an error (42704), and so is a value that it does
not take (22023): nothing is accepted and ignored. Settings that clients send as a matter of course but that have one
value here (DateStyle, client_encoding, …) take that value only.
*/

use crate::error::{Result, SqlError, nearest, state};
use std::collections::BTreeMap;
use std::time::Duration;

/// What kind of values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Any text.
    Text,
    /// One of these, compared without case; the first is how it is shown.
    OneOf(&'static [&'static str]),
    /// on or off.
    Switch,
    /// A duration in milliseconds, or with a unit; 0 means none.
    Duration,
    /// An amount of memory in kB, or with a unit.
    Bytes { min: u64 },
    /// A whole number in a range.
    Integer { min: u64, max: u64 },
    /// Shown, never set.
    ReadOnly,
}

struct Definition {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    about: &'static str,
}

const fn define(name: &'static str, default: &'static str, kind: Kind, about: &'static str) -> Definition {
    Definition { name, default, kind, about }
}

const UTF8: &[&str] = &["UTF8", "UTF-8", "unicode"];
const UTC: &[&str] = &["UTC", "Etc/UTC", "GMT", "Zulu", "0", "+00", "+00:00"];
const ON: &[&str] = &["on", "true", "1", "yes"];
const OFF: &[&str] = &["off", "false", "0", "no"];

/// Every setting, by name.
const DEFINITIONS: &[Definition] = &[
    define("application_name", "", Kind::Text, "The name of the program that uses the session."),
    define("bytea_output", "hex", Kind::OneOf(&["hex"]), "How bytea is written."),
    define("client_encoding", "UTF8", Kind::OneOf(UTF8), "The encoding of statements and results."),
    define(
        "client_min_messages",
        "notice",
        Kind::OneOf(&["notice", "warning", "error", "log", "info"]),
        "Which messages the client is sent.",
    ),
    define("datestyle", "ISO, MDY", Kind::OneOf(&["ISO, MDY", "ISO"]), "How dates are written."),
    define("default_transaction_isolation", "read committed", Kind::OneOf(&["read committed"]), "The isolation level."),
    define("enable_group_seek", "on", Kind::Switch, "Whether first and last rows of groups may be found by seeks."),
    define("enable_slice_aggregate", "on", Kind::Switch, "Whether slice statistics may answer aggregates."),
    define(
        "extra_float_digits",
        "1",
        Kind::OneOf(&["1", "2", "3"]),
        "Floats are written so that they read back exactly.",
    ),
    define("integer_datetimes", "on", Kind::ReadOnly, "Times are whole microseconds."),
    define("intervalstyle", "postgres", Kind::OneOf(&["postgres"]), "How intervals are written."),
    define("lock_timeout", "0", Kind::OneOf(&["0"]), "Statements do not wait for locks."),
    define("row_security", "on", Kind::OneOf(ON), "There are no row security policies."),
    define("search_path", "public", Kind::OneOf(&["public", "\"$user\", public"]), "There is one schema."),
    define("server_encoding", "UTF8", Kind::ReadOnly, "The encoding of stored text."),
    define("server_version", "16.0 (OmenDB)", Kind::ReadOnly, "Which PostgreSQL the dialect follows."),
    define("server_version_num", "160000", Kind::ReadOnly, "The same as a number."),
    define("standard_conforming_strings", "on", Kind::OneOf(ON), "Backslashes in '…' are ordinary characters."),
    define("statement_timeout", "0", Kind::Duration, "A statement that runs longer is stopped; 0 means never."),
    define("synchronize_seqscans", "off", Kind::OneOf(OFF), "Scans start at the beginning of a table."),
    define("threads", "0", Kind::Integer { min: 0, max: 1024 }, "Parts that a query is cut into; 0 means one a core."),
    define("timezone", "UTC", Kind::OneOf(UTC), "The time zone of timestamps with time zone."),
    define("transaction_isolation", "read committed", Kind::OneOf(&["read committed"]), "The isolation level."),
    define(
        "work_mem",
        "1GB",
        Kind::Bytes { min: 1 << 20 },
        "Memory that a statement may take before it spills to disk or fails.",
    ),
];

/// The settings of one session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    changed: BTreeMap<&'static str, String>,
}

/// One line of SHOW ALL.
pub(crate) struct Shown {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) about: &'static str,
}

impl Settings {
    /// The value of a setting, as SHOW writes it; `None` for a name that is no setting.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        find(name).ok().map(|d| self.value(d).to_owned())
    }

    /// The same for SHOW.
    ///
    /// # Errors
    /// 42704 for a name that is no setting.
    pub(crate) fn show(&self, name: &str) -> Result<(&'static str, String)> {
        find(name).map(|d| (d.name, self.value(d).to_owned()))
    }

    /// Every setting, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = Shown> + '_ {
        DEFINITIONS.iter().map(|d| Shown { name: d.name, value: self.value(d).to_owned(), about: d.about })
    }

    /// Gives a setting a value.
    ///
    /// # Errors
    /// 42704 for a name that is no setting, 22023 for a value that it does not take, 55P02 for one that cannot be set.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let definition = find(name)?;
        let value = accept(definition, value)?;
        self.changed.insert(definition.name, value);
        Ok(())
    }

    /// Gives a setting its default back.
    ///
    /// # Errors
    /// 42704 for a name that is no setting.
    pub(crate) fn reset(&mut self, name: &str) -> Result<()> {
        self.changed.remove(find(name)?.name);
        Ok(())
    }

    /// Gives every setting its default back.
    pub(crate) fn reset_all(&mut self) {
        self.changed.clear();
    }

    /// How long a statement may run; `None` for as long as it likes.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        let millis = self.get("statement_timeout").and_then(|v| millis_of(&v)).unwrap_or(0);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Bytes that a statement may take.
    pub(crate) fn work_mem_bytes(&self) -> usize {
        let bytes = self.get("work_mem").and_then(|v| bytes_of(&v)).unwrap_or(1 << 30);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Parts that a query is cut into; `None` for one a core.
    pub(crate) fn threads(&self) -> Option<usize> {
        self.get("threads").and_then(|v| v.parse().ok()).filter(|threads| *threads > 0)
    }

    /// Whether slice statistics may answer aggregates.
    pub(crate) fn slice_aggregate(&self) -> bool {
        self.get("enable_slice_aggregate").is_none_or(|v| v == "on")
    }

    /// Whether first and last rows of groups may be found by seeks.
    pub(crate) fn group_seek(&self) -> bool {
        self.get("enable_group_seek").is_none_or(|v| v == "on")
    }

    fn value(&self, definition: &Definition) -> &str {
        self.changed.get(definition.name).map_or(definition.default, String::as_str)
    }
}

fn find(name: &str) -> Result<&'static Definition> {
    let lower = name.to_lowercase();
    DEFINITIONS.iter().find(|d| d.name == lower).ok_or_else(|| {
        let error = SqlError::new(state::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
        match nearest(&lower, DEFINITIONS.iter().map(|d| d.name)) {
            Some(near) => error.with_hint(format!("Did you mean the setting \"{near}\"?")),
            None => error,
        }
    })
}

/// The value as it is kept and shown.
fn accept(definition: &Definition, value: &str) -> Result<String> {
    let name = definition.name;
    let wrong = |takes: String| {
        SqlError::new(state::INVALID_PARAMETER_VALUE, format!("invalid value for parameter \"{name}\": \"{value}\""))
            .with_hint(takes)
    };
    match definition.kind {
        Kind::Text => Ok(value.to_owned()),
        Kind::ReadOnly => {
            Err(SqlError::new(state::CANT_CHANGE_RUNTIME_PARAM, format!("parameter \"{name}\" cannot be changed")))
        }
        Kind::OneOf(values) => {
            let known = values.iter().any(|v| v.eq_ignore_ascii_case(value));
            let free_choice = matches!(name, "client_min_messages" | "extra_float_digits");
            match (known, free_choice) {
                (true, true) => Ok(value.to_lowercase()),
                (true, false) => Ok(definition.default.to_owned()),
                (false, _) => Err(wrong(format!("It takes {}.", values.join(", ")))),
            }
        }
        Kind::Switch => {
            let is = |values: &[&str]| values.iter().any(|v| v.eq_ignore_ascii_case(value));
            match (is(ON), is(OFF)) {
                (true, _) => Ok("on".into()),
                (_, true) => Ok("off".into()),
                _ => Err(wrong("It takes on and off.".into())),
            }
        }
        Kind::Duration => {
            let millis = millis_of(value).ok_or_else(|| wrong("Valid units are us, ms, s, min, h and d.".into()))?;
            Ok(shown_millis(millis))
        }
        Kind::Bytes { min } => {
            let bytes = bytes_of(value).ok_or_else(|| wrong("Valid units are B, kB, MB, GB and TB.".into()))?;
            match bytes >= min {
                true => Ok(shown_bytes(bytes)),
                false => Err(wrong(format!("The least is {}.", shown_bytes(min)))),
            }
        }
        Kind::Integer { min, max } => match value.parse::<u64>() {
            Ok(n) if (min..=max).contains(&n) => Ok(n.to_string()),
            _ => Err(wrong(format!("It takes whole numbers from {min} to {max}."))),
        },
    }
}

/// A number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

fn millis_of(text: &str) -> Option<u64> {
    let (n, unit) = number_and_unit(text)?;
    match unit {
        "" | "ms" => Some(n),
        "us" => Some(n.div_ceil(1000)),
        "s" => n.checked_mul(1000),
        "min" => n.checked_mul(60_000),
        "h" => n.checked_mul(3_600_000),
        "d" => n.checked_mul(86_400_000),
        _ => None,
    }
}

fn shown_millis(millis: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    match units.iter().find(|(size, _)| millis > 0 && millis.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", millis / size),
        None if millis == 0 => "0".into(),
        None => format!("{millis}ms"),
    }
}

fn bytes_of(text: &str) -> Option<u64> {
    let (n, unit) = number_and_unit(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "b" => 0,
        "" | "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        _ => return None,
    };
    n.checked_mul(1 << shift)
}

fn shown_bytes(bytes: u64) -> String {
    let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "kB")];
    match units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<String, &'static str> {
        let mut settings = Settings::default();
        settings.set(name, value).map_err(|e| e.sqlstate())?;
        Ok(settings.get(name).unwrap())
    }

    #[test]
    fn values_are_shown_as_postgresql_shows_them() {
        assert_eq!(set("statement_timeout", "1500").as_deref(), Ok("1500ms"));
        assert_eq!(set("statement_timeout", "30000").as_deref(), Ok("30s"));
        assert_eq!(set("STATEMENT_TIMEOUT", "2min").as_deref(), Ok("2min"));
        assert_eq!(set("work_mem", "65536").as_deref(), Ok("64MB"));
        assert_eq!(set("work_mem", "2GB").as_deref(), Ok("2GB"));
        assert_eq!(set("TimeZone", "utc").as_deref(), Ok("UTC"));
        assert_eq!(set("application_name", "x").as_deref(), Ok("x"));
        assert_eq!(set("enable_slice_aggregate", "FALSE").as_deref(), Ok("off"));
    }

    #[test]
    fn nothing_is_accepted_and_ignored() {
        assert_eq!(set("frobnicate", "1"), Err("42704"));
        assert_eq!(set("timezone", "Europe/Berlin"), Err("22023"));
        assert_eq!(set("server_version", "1"), Err("55P02"));
        assert_eq!(set("work_mem", "12"), Err("22023"));
        assert_eq!(set("statement_timeout", "soon"), Err("22023"));
        assert_eq!(set("enable_slice_aggregate", "perhaps"), Err("22023"));
    }

    #[test]
    fn every_default_is_accepted() {
        for d in DEFINITIONS.iter().filter(|d| d.kind != Kind::ReadOnly) {
            assert_eq!(set(d.name, d.default).as_deref(), Ok(d.default), "{}", d.name);
        }
    }
}
