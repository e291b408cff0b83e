/*!
Which sources hold which keys: the plan of a scan.

Every source (a memtable, a run) covers one interval of keys. The intervals' edges cut the keys into *stretches*, each
covered by the same sources from end to end. A stretch that one source covers needs no merge, and there alone, or in a
stretch's oldest source, may slices be left out by their zone maps: leaving out a newer version would bring back an older
one.

The plan knows edges only, nothing of rows.
*/

use crate::key::{Key, KeyRange};
use std::ops::Bound;

/// A place between keys: before or after one, or at either end of everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge {
    /// Before all keys.
    Start,
    /// Just before the key (`false`), or just after it (`true`).
    At(Key, bool),
    /// After all keys.
    End,
}

/// The keys between two edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Edge,
    pub(crate) to: Edge,
}

impl Span {
    /// All keys from `first` to `last`, both included.
    pub(crate) fn closed(first: &[u8], last: &[u8]) -> Span {
        Span { from: Edge::At(first.into(), false), to: Edge::At(last.into(), true) }
    }

    /// The keys of `range`.
    pub(crate) fn of(range: &KeyRange) -> Span {
        let from = match &range.start {
            Bound::Unbounded => Edge::Start,
            Bound::Included(key) => Edge::At(key.clone(), false),
            Bound::Excluded(key) => Edge::At(key.clone(), true),
        };
        let to = match &range.end {
            Bound::Unbounded => Edge::End,
            Bound::Included(key) => Edge::At(key.clone(), true),
            Bound::Excluded(key) => Edge::At(key.clone(), false),
        };
        Span { from, to }
    }

    /// As a range of keys.
    pub(crate) fn range(&self) -> KeyRange {
        let start = match &self.from {
            Edge::Start => Bound::Unbounded,
            Edge::At(key, false) => Bound::Included(key.clone()),
            Edge::At(key, true) => Bound::Excluded(key.clone()),
            Edge::End => return KeyRange::empty(),
        };
        let end = match &self.to {
            Edge::Start => return KeyRange::empty(),
            Edge::At(key, false) => Bound::Excluded(key.clone()),
            Edge::At(key, true) => Bound::Included(key.clone()),
            Edge::End => Bound::Unbounded,
        };
        KeyRange { start, end }
    }

    /// Whether it holds no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// The keys of both.
    pub(crate) fn intersect(&self, other: &Span) -> Span {
        Span { from: (&self.from).max(&other.from).clone(), to: (&self.to).min(&other.to).clone() }
    }

    /// Whether some key may lie in both.
    pub(crate) fn overlaps(&self, other: &Span) -> bool {
        (&self.from).max(&other.from) < (&self.to).min(&other.to)
    }

    /// Whether some key from `first` to `last`, both included, may lie in it.
    pub(crate) fn overlaps_keys(&self, first: &[u8], last: &[u8]) -> bool {
        let begins = match &self.from {
            Edge::Start => true,
            Edge::At(from, false) => from.as_bytes() <= last,
            Edge::At(from, true) => from.as_bytes() < last,
            Edge::End => false,
        };
        let goes_on = match &self.to {
            Edge::Start => false,
            Edge::At(to, false) => first < to.as_bytes(),
            Edge::At(to, true) => first <= to.as_bytes(),
            Edge::End => true,
        };
        begins && goes_on && first <= last && !self.is_empty()
    }

    /// Whether `key` lies in it.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let begun = match &self.from {
            Edge::Start => true,
            Edge::At(from, false) => from.as_bytes() <= key,
            Edge::At(from, true) => from.as_bytes() < key,
            Edge::End => false,
        };
        begun
            && match &self.to {
                Edge::Start => false,
                Edge::At(to, false) => key < to.as_bytes(),
                Edge::At(to, true) => key <= to.as_bytes(),
                Edge::End => true,
            }
    }

    /// What of it does not lie in `other`: the part before, and the part behind.
    pub(crate) fn without(&self, other: &Span) -> impl Iterator<Item = Span> + use<> {
        let parts = if self.overlaps(other) {
            let before = Span { from: self.from.clone(), to: (&self.to).min(&other.from).clone() };
            let behind = Span { from: (&self.from).max(&other.to).clone(), to: self.to.clone() };
            [Some(before), Some(behind)]
        } else {
            [Some(self.clone()), None]
        };
        parts.into_iter().flatten().filter(|part| !part.is_empty())
    }
}

/// What of `spans` lies in none of `others`, in their order.
pub(crate) fn outside<'a>(spans: Vec<Span>, others: impl IntoIterator<Item = &'a Span>) -> Vec<Span> {
    others.into_iter().fold(spans, |left, other| match left.iter().any(|span| span.overlaps(other)) {
        true => left.iter().flat_map(|span| span.without(other)).collect(),
        false => left,
    })
}

/// The keys of all `spans`, in order, with as few spans as there can be.
pub(crate) fn union(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut sorted: Vec<Span> = spans.into_iter().collect();
    sorted.sort_by(|a, b| a.from.cmp(&b.from));
    let mut out: Vec<Span> = Vec::new();
    for span in sorted {
        match out.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.clone().max(span.to),
            _ => out.push(span),
        }
    }
    out
}

/// Keys that the same sources cover from end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) span: Span,
    /// Places in the list of sources, ascending: newest first.
    pub(crate) sources: Vec<usize>,
}

/// Cuts what `spans` cover into stretches, in key order, and clips them to `ranges` (sorted and disjoint; none means
/// everything). Keys that nothing covers are in no stretch.
pub(crate) fn stretches(spans: &[Span], ranges: &[KeyRange]) -> Vec<Stretch> {
    let whole = cover(spans);
    if ranges.is_empty() {
        return whole;
    }
    let mut clipped = Vec::new();
    for range in ranges {
        let wanted = Span::of(range);
        let first = whole.partition_point(|stretch| stretch.span.to <= wanted.from);
        for stretch in whole.iter().skip(first) {
            let span = stretch.span.intersect(&wanted);
            if span.is_empty() {
                break;
            }
            clipped.push(Stretch { span, sources: stretch.sources.clone() });
        }
    }
    clipped
}

/// A sweep over all edges with the set of sources that are open.
fn cover(spans: &[Span]) -> Vec<Stretch> {
    let mut edges: Vec<(&Edge, bool, usize)> = Vec::with_capacity(spans.len() * 2);
    for (place, span) in spans.iter().enumerate().filter(|(_, span)| !span.is_empty()) {
        edges.push((&span.from, true, place));
        edges.push((&span.to, false, place));
    }
    edges.sort();
    let mut open: Vec<usize> = Vec::new();
    let mut out: Vec<Stretch> = Vec::new();
    let mut from: Option<&Edge> = None;
    for (edge, opens, place) in edges {
        if let Some(from) = from
            && from < edge
            && !open.is_empty()
        {
            out.push(Stretch { span: Span { from: from.clone(), to: edge.clone() }, sources: open.clone() });
        }
        from = Some(edge);
        let at = open.partition_point(|other| *other < place);
        if opens {
            open.insert(at, place);
        } else if open.get(at) == Some(&place) {
            open.remove(at);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(first: u8, last: u8) -> Span {
        Span::closed(&[first], &[last])
    }

    fn sources_of(stretches: &[Stretch], key: u8) -> Vec<usize> {
        let found: Vec<_> = stretches.iter().filter(|s| s.span.range().contains(&[key])).collect();
        assert!(found.len() <= 1, "stretches overlap at {key}");
        found.first().map(|s| s.sources.clone()).unwrap_or_default()
    }

    #[test]
    fn every_key_lies_in_one_stretch_with_all_sources_that_cover_it() {
        let spans = [closed(5, 9), closed(1, 6), closed(9, 9), closed(20, 30), closed(7, 3)];
        let all = stretches(&spans, &[]);
        for key in 0..40 {
            let want: Vec<_> =
                spans.iter().enumerate().filter(|(_, s)| s.range().contains(&[key])).map(|(i, _)| i).collect();
            assert_eq!(sources_of(&all, key), want, "key {key}");
        }
    }

    #[test]
    fn what_is_left_of_a_span_is_what_the_others_do_not_hold() {
        let all = Span { from: Edge::Start, to: Edge::End };
        let open = Span { from: Edge::At((&[20][..]).into(), true), to: Edge::At((&[25][..]).into(), false) };
        for whole in [all, closed(3, 90), open.clone(), closed(40, 40)] {
            let others = [closed(5, 9), closed(9, 12), open.clone(), closed(40, 40), closed(60, 50), closed(80, 200)];
            let left = outside(vec![whole.clone()], &others);
            for key in 0..=255 {
                let want = whole.contains(&[key]) && !others.iter().any(|other| other.contains(&[key]));
                assert_eq!(left.iter().filter(|span| span.contains(&[key])).count(), usize::from(want), "key {key}");
                assert_eq!(whole.contains(&[key]), whole.range().contains(&[key]), "key {key}");
            }
        }
    }

    #[test]
    fn spans_overlap_where_they_share_a_key() {
        let edge = |n: u64| match n {
            0 => Edge::Start,
            15 => Edge::End,
            n => Edge::At((&[n as u8 / 2 * 2][..]).into(), n % 2 == 1),
        };
        for a in (0..16).flat_map(|from| (0..16).map(move |to| Span { from: edge(from), to: edge(to) })) {
            for (first, last) in (0..16).flat_map(|first| (0..16).map(move |last| (first, last))) {
                let b = closed(first, last);
                assert_eq!(a.overlaps(&b), !a.intersect(&b).is_empty(), "{a:?} {b:?}");
                assert_eq!(a.overlaps_keys(&[first], &[last]), a.overlaps(&b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn spans_that_touch_are_one() {
        let after = Span { from: Edge::At((&[9][..]).into(), true), to: Edge::At((&[12][..]).into(), false) };
        let spans = [closed(20, 30), after, closed(5, 9), closed(6, 7), closed(25, 40), closed(13, 14)];
        let all = union(spans.clone());
        for key in 0..=255 {
            let want = spans.iter().any(|span| span.contains(&[key]));
            assert_eq!(all.iter().filter(|span| span.contains(&[key])).count(), usize::from(want), "key {key}");
        }
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn ranges_clip_and_keep_the_order() {
        let spans = [closed(0, 100), closed(50, 60)];
        let range =
            |a: u8, b: u8| KeyRange { start: Bound::Included(vec![a].into()), end: Bound::Excluded(vec![b].into()) };
        let some = stretches(&spans, &[range(10, 12), range(49, 55), range(99, 200)]);
        for key in 0..=255 {
            let inside = (10..12).contains(&key) || (49..55).contains(&key) || (99..=100).contains(&key);
            let want = if !inside {
                vec![]
            } else if (50..=60).contains(&key) {
                vec![0, 1]
            } else {
                vec![0]
            };
            assert_eq!(sources_of(&some, key), want, "key {key}");
        }
        assert!(some.windows(2).all(|pair| pair[0].span.to <= pair[1].span.from));
    }
}
