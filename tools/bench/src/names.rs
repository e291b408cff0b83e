/*!
"Did you mean": the name that is nearest to one that is not there.
*/

/// The nearest of `names`, where it is near enough to be a slip of the hand.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), other);
    let near = names.map(|other| (distance(other), other)).min_by_key(|(distance, _)| *distance)?;
    (near.0 <= 1 + name.chars().count() / 4).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found_and_others_are_not() {
        let names = ["metrics", "durable-commit"];
        assert_eq!(nearest("metric", names.into_iter()), Some("metrics"));
        assert_eq!(nearest("durable_commit", names.into_iter()), Some("durable-commit"));
        assert_eq!(nearest("tpch", names.into_iter()), None);
    }
}
