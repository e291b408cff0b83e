/*!
What filters say about keys and about columns.

A conjunction of filters is turned into *boxes*: each box bounds some of the key's columns, by single values or by an
interval, and a row passes when it lies in one of the boxes. A box whose first columns are single values and whose next
one is an interval is a set of key ranges, exactly: `run_id = 5 AND step BETWEEN 10 AND 20`, `(a, b) = (1, 2) OR a = 7`.
A filter is `exact` when all that it bounds went into the ranges, so that nobody needs to look at it again.

Besides, every comparison of a column with a constant becomes a predicate. A filter that predicates say whole, and that the engine can tell
row by row ([`decides`]), is filtered there, exactly; of others the predicates serve zone maps, and DataFusion filters what comes.

Only constants of the column's own type are looked at: DataFusion has put casts where they belong by the time filters
arrive here, and undone them on columns where it can.
*/

use super::key_range;
use crate::error::Result;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use omendb_engine::key::{KeyRange, KeySchema};
use omendb_engine::run::{ColumnPredicate, CompareOp, Test, decides};
use omendb_engine::types::{ColumnDef, ColumnId, ColumnType, TableDef, Value};
use std::cmp::Ordering;
use std::ops::Bound;

/// Boxes that filters may make; with more, the filter that makes them is left to DataFusion.
const BOXES_MAX: usize = 4096;

/// Ranges that one scan may have, for the same reason.
const RANGES_MAX: usize = 16 * 1024;

/// What a conjunction of filters says.
#[derive(Debug, Default)]
pub(crate) struct Analysis {
    /// No row passes.
    pub(crate) is_empty: bool,
    /// The ranges that keys lie in, sorted and disjoint; none means all keys.
    pub(crate) ranges: Vec<KeyRange>,
    /// Whether every range is one key.
    pub(crate) points: bool,
    /// Predicates for zone maps alone.
    pub(crate) predicates: Vec<ColumnPredicate>,
    /// Predicates that the engine is to filter by.
    pub(crate) filter: Vec<ColumnPredicate>,
    /// For each filter, whether ranges or `filter` say all that it says.
    pub(crate) exact: Vec<bool>,
    /// For each filter, whether anything came of it.
    pub(crate) useful: Vec<bool>,
    /// Key columns that have one value in all ranges.
    pub(crate) constants: Vec<ColumnId>,
    /// The key part for people: `run_id=5, step=10..20`.
    pub(crate) description: String,
}

/// What a filter says about one column of the key.
#[derive(Debug, Clone, PartialEq)]
enum Domain {
    All,
    /// Sorted, without repetitions.
    Points(Vec<Value>),
    Interval(Bound<Value>, Bound<Value>),
}

/// Bounds on the key's columns, one domain each.
type KeyBox = Vec<Domain>;

/// Analyzes the filters of a scan, which must all hold.
pub(crate) fn analyze(table: &TableDef, filters: &[&Expr]) -> Result<Analysis> {
    let key = Key::of(table);
    let mut boxes: Vec<KeyBox> = vec![vec![Domain::All; key.columns.len()]];
    // For each filter, the key columns it bounds, if boxes say all of it.
    let mut bounded: Vec<Option<Vec<usize>>> = Vec::with_capacity(filters.len());
    let mut analysis = Analysis { exact: vec![false; filters.len()], ..Analysis::default() };
    // Its predicates, and whether they say all of it.
    let mut tested: Vec<(Vec<ColumnPredicate>, bool)> = Vec::with_capacity(filters.len());
    for filter in filters {
        let mut tests = Vec::new();
        let whole = predicates(table, filter, &mut tests);
        let mut useful = !tests.is_empty();
        let said = key.boxes(filter).filter(|of_filter| of_filter.len().saturating_mul(boxes.len()) <= BOXES_MAX);
        bounded.push(said.map(|of_filter| {
            boxes = product(&boxes, &of_filter);
            useful = true;
            bounds_of(&of_filter)
        }));
        let whole = whole && useful && tests.iter().all(|test| is_decided(table, test));
        tested.push((tests, whole));
        analysis.useful.push(useful);
    }
    if boxes.is_empty() {
        analysis.is_empty = true;
        return Ok(analysis);
    }
    let covered = key.ranges(table, &boxes, &mut analysis)?;
    for ((exact, bounded), (tests, whole)) in analysis.exact.iter_mut().zip(bounded).zip(tested) {
        *exact = bounded.is_some_and(|columns| columns.iter().all(|column| *column < covered));
        match *exact || !whole {
            true => analysis.predicates.extend(tests),
            false => {
                analysis.filter.extend(tests);
                *exact = true;
            }
        }
    }
    analysis.constants = key.constants(&boxes, covered);
    analysis.description = key.describe(&boxes, covered);
    Ok(analysis)
}

/// Whether the engine tells rows by a predicate as DataFusion would. A list of floats was made short by an order in which zeros are one.
fn is_decided(table: &TableDef, predicate: &ColumnPredicate) -> bool {
    let Some(column) = table.column_by_id(predicate.column) else { return false };
    let floats = matches!(column.ty, ColumnType::Float32 | ColumnType::Float64);
    decides(&predicate.test, column.ty) && !(floats && matches!(predicate.test, Test::In(_)))
}

/// The key's columns.
struct Key<'a> {
    columns: Vec<&'a ColumnDef>,
}

impl<'a> Key<'a> {
    fn of(table: &'a TableDef) -> Key<'a> {
        Key { columns: table.key.iter().filter_map(|id| table.column_by_id(*id)).collect() }
    }

    /// The boxes of a filter; `None` when boxes cannot say it.
    fn boxes(&self, filter: &Expr) -> Option<Vec<KeyBox>> {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                let (left, right) = (self.boxes(left)?, self.boxes(right)?);
                (left.len().saturating_mul(right.len()) <= BOXES_MAX).then(|| product(&left, &right))
            }
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                let mut all = Vec::new();
                for part in disjuncts(filter) {
                    all.extend(self.boxes(part)?);
                    if all.len() > BOXES_MAX {
                        return None;
                    }
                }
                Some(all)
            }
            _ => {
                let (name, domain) = domain(filter, |name| self.columns.iter().copied().find(|c| c.name == name))?;
                let column = self.columns.iter().position(|c| c.name == name)?;
                let mut one: KeyBox = vec![Domain::All; self.columns.len()];
                *one.get_mut(column)? = domain;
                Some(vec![one])
            }
        }
    }

    /// Puts the boxes' ranges into the analysis; gives how many of the key's columns they cover.
    fn ranges(&self, table: &TableDef, boxes: &[KeyBox], analysis: &mut Analysis) -> Result<usize> {
        let mut covered = boxes.iter().map(covered_by).min().unwrap_or(0);
        // With fewer columns covered there are fewer ranges.
        while covered > 0 && count_ranges(boxes, covered) > RANGES_MAX {
            covered -= 1;
        }
        if covered == 0 {
            return Ok(0);
        }
        let keys = KeySchema::of(table)?;
        let mut ranges = Vec::new();
        for one in boxes {
            push_ranges(&keys, one, covered, &mut Vec::new(), &mut ranges)?;
        }
        let is_point = |b: &KeyBox| b.iter().take(covered).all(|d| matches!(d, Domain::Points(_)));
        analysis.points = covered == self.columns.len() && boxes.iter().all(is_point);
        analysis.ranges = merged(ranges);
        analysis.is_empty = analysis.ranges.is_empty();
        Ok(covered)
    }

    fn constants(&self, boxes: &[KeyBox], covered: usize) -> Vec<ColumnId> {
        let of = |column: usize| -> Option<&Value> {
            let mut only = None;
            for one in boxes {
                match one.get(column) {
                    Some(Domain::Points(points))
                        if points.len() == 1 && only.is_none_or(|o| Some(o) == points.first()) =>
                    {
                        only = points.first();
                    }
                    _ => return None,
                }
            }
            only
        };
        self.columns.iter().enumerate().take(covered).filter(|(i, _)| of(*i).is_some()).map(|(_, c)| c.id).collect()
    }

    fn describe(&self, boxes: &[KeyBox], covered: usize) -> String {
        let [one] = boxes else { return format!("{} alternatives", boxes.len()) };
        let parts = self.columns.iter().zip(one).take(covered).map(|(column, domain)| {
            let name = &column.name;
            match domain {
                Domain::All => name.clone(),
                Domain::Points(points) => match points.as_slice() {
                    [point] => format!("{name}={}", shown(point)),
                    points => format!("{name} in {} values", points.len()),
                },
                Domain::Interval(lower, upper) => {
                    let lower = match lower {
                        Bound::Unbounded => String::new(),
                        Bound::Included(v) => format!("{}<=", shown(v)),
                        Bound::Excluded(v) => format!("{}<", shown(v)),
                    };
                    let upper = match upper {
                        Bound::Unbounded => String::new(),
                        Bound::Included(v) => format!("<={}", shown(v)),
                        Bound::Excluded(v) => format!("<{}", shown(v)),
                    };
                    format!("{lower}{name}{upper}")
                }
            }
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// A value for people, in EXPLAIN.
pub(crate) fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 40;
    match value {
        Value::Null => "NULL".into(),
        Value::Boolean(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float32(f) => f.to_string(),
        Value::Float64(f) => f.to_string(),
        Value::Decimal(d) => d.to_string(),
        Value::Text(s) => format!("'{}'", s.chars().take(CHARS_MAX).collect::<String>()),
        Value::Uuid(u) => uuid::Uuid::from_bytes(*u).to_string(),
        other => format!("{other:?}").chars().take(CHARS_MAX).collect(),
    }
}

/// The parts of a chain of ORs, however deep to the left.
fn disjuncts(expr: &Expr) -> Vec<&Expr> {
    let mut parts = Vec::new();
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                open.extend([left.as_ref(), right.as_ref()])
            }
            other => parts.push(other),
        }
    }
    parts
}

/// How many of the first columns a box says in ranges: single values, and an interval behind them.
fn covered_by(one: &KeyBox) -> usize {
    let points = one.iter().take_while(|d| matches!(d, Domain::Points(_))).count();
    points + usize::from(matches!(one.get(points), Some(Domain::Interval(..))))
}

fn count_ranges(boxes: &[KeyBox], covered: usize) -> usize {
    let of = |one: &KeyBox| {
        one.iter().take(covered).fold(1_usize, |count, domain| match domain {
            Domain::Points(points) => count.saturating_mul(points.len()),
            _ => count,
        })
    };
    boxes.iter().map(of).fold(0, usize::saturating_add)
}

fn push_ranges(
    keys: &KeySchema,
    one: &KeyBox,
    covered: usize,
    prefix: &mut Vec<Value>,
    out: &mut Vec<KeyRange>,
) -> Result<()> {
    let domain = match prefix.len() < covered {
        true => one.get(prefix.len()),
        false => None,
    };
    match domain {
        None | Some(Domain::All) if prefix.len() == keys.columns().len() => {
            out.push(KeyRange::point(keys.encode(prefix)?));
        }
        None | Some(Domain::All) => out.push(key_range(keys, prefix, Bound::Unbounded, Bound::Unbounded)?),
        Some(Domain::Interval(lower, upper)) => out.push(key_range(keys, prefix, lower.as_ref(), upper.as_ref())?),
        Some(Domain::Points(points)) => {
            for point in points {
                prefix.push(point.clone());
                push_ranges(keys, one, covered, prefix, out)?;
                prefix.pop();
            }
        }
    }
    Ok(())
}

/// Where a range begins, in an order: the byte string, and whether it is itself in.
fn start_of(range: &KeyRange) -> (&[u8], bool) {
    match &range.start {
        Bound::Unbounded => (&[], false),
        Bound::Included(key) => (key.as_ref(), false),
        Bound::Excluded(key) => (key.as_ref(), true),
    }
}

/// Compares the ends of two ranges.
fn later_end(a: &Bound<omendb_engine::key::Key>, b: &Bound<omendb_engine::key::Key>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Greater,
        (_, Bound::Unbounded) => Ordering::Less,
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => a.cmp(b),
        (Bound::Included(a), Bound::Excluded(b)) => a.cmp(b).then(Ordering::Greater),
        (Bound::Excluded(a), Bound::Included(b)) => a.cmp(b).then(Ordering::Less),
    }
}

/// The same keys in sorted, disjoint ranges, without empty ones.
fn merged(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.retain(|range| !is_empty(range));
    ranges.sort_by(|a, b| start_of(a).cmp(&start_of(b)));
    let mut out: Vec<KeyRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if touches(&last.end, &range.start) => {
                if later_end(&range.end, &last.end) == Ordering::Greater {
                    last.end = range.end;
                }
            }
            _ => out.push(range),
        }
    }
    out
}

/// Whether no key can lie in a range.
pub(crate) fn is_empty(range: &KeyRange) -> bool {
    match (&range.start, &range.end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end) | Bound::Included(end)) => start >= end,
    }
}

/// Whether a range that begins at `start` overlaps, or goes on from, one that ends at `end`.
fn touches(end: &Bound<omendb_engine::key::Key>, start: &Bound<omendb_engine::key::Key>) -> bool {
    match (end, start) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Excluded(end), Bound::Excluded(start)) => start < end,
        (Bound::Included(end) | Bound::Excluded(end), Bound::Included(start) | Bound::Excluded(start)) => start <= end,
    }
}

fn product(a: &[KeyBox], b: &[KeyBox]) -> Vec<KeyBox> {
    let mut out = Vec::new();
    for a in a {
        for b in b {
            let both: Option<KeyBox> = a.iter().zip(b).map(|(a, b)| intersect(a, b)).collect();
            out.extend(both);
        }
    }
    out
}

/// Key columns that any of the boxes bounds.
fn bounds_of(boxes: &[KeyBox]) -> Vec<usize> {
    let columns = boxes.first().map_or(0, Vec::len);
    (0..columns).filter(|i| boxes.iter().any(|b| b.get(*i) != Some(&Domain::All))).collect()
}

/// What lies in both; `None` for nothing.
fn intersect(a: &Domain, b: &Domain) -> Option<Domain> {
    let domain = match (a, b) {
        (Domain::All, other) | (other, Domain::All) => other.clone(),
        (Domain::Points(points), other) | (other, Domain::Points(points)) => {
            Domain::Points(points.iter().filter(|p| contains(other, p)).cloned().collect())
        }
        (Domain::Interval(l1, u1), Domain::Interval(l2, u2)) => {
            Domain::Interval(tighter(l1, l2, Ordering::Greater), tighter(u1, u2, Ordering::Less))
        }
    };
    let is_empty = match &domain {
        Domain::All => false,
        Domain::Points(points) => points.is_empty(),
        Domain::Interval(Bound::Included(l), Bound::Included(u)) => compare(l, u) == Ordering::Greater,
        Domain::Interval(Bound::Unbounded, _) | Domain::Interval(_, Bound::Unbounded) => false,
        Domain::Interval(Bound::Included(l) | Bound::Excluded(l), Bound::Included(u) | Bound::Excluded(u)) => {
            compare(l, u) != Ordering::Less
        }
    };
    (!is_empty).then_some(domain)
}

fn tighter(a: &Bound<Value>, b: &Bound<Value>, wanted: Ordering) -> Bound<Value> {
    match (a, b) {
        (Bound::Unbounded, other) | (other, Bound::Unbounded) => other.clone(),
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => match compare(x, y) {
            Ordering::Equal if matches!(a, Bound::Excluded(_)) => a.clone(),
            Ordering::Equal => b.clone(),
            order if order == wanted => a.clone(),
            _ => b.clone(),
        },
    }
}

fn contains(domain: &Domain, value: &Value) -> bool {
    match domain {
        Domain::All => true,
        Domain::Points(points) => points.iter().any(|p| compare(p, value) == Ordering::Equal),
        Domain::Interval(lower, upper) => {
            let above = match lower {
                Bound::Unbounded => true,
                Bound::Included(l) => compare(value, l) != Ordering::Less,
                Bound::Excluded(l) => compare(value, l) == Ordering::Greater,
            };
            let below = match upper {
                Bound::Unbounded => true,
                Bound::Included(u) => compare(value, u) != Ordering::Greater,
                Bound::Excluded(u) => compare(value, u) == Ordering::Less,
            };
            above && below
        }
    }
}

/// The order of two values of one column, as keys have it: −0 = 0, NaN last.
fn compare(a: &Value, b: &Value) -> Ordering {
    let float = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float32(a), Value::Float32(b)) => float(f64::from(*a), f64::from(*b)),
        (Value::Float64(a), Value::Float64(b)) => float(*a, *b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        // Values of one column are of one kind.
        _ => Ordering::Equal,
    }
}

/// What a simple filter says about one column that `find` knows.
fn domain<'a>(filter: &Expr, find: impl Fn(&str) -> Option<&'a ColumnDef>) -> Option<(String, Domain)> {
    let found = |expr: &Expr| match expr {
        Expr::Column(column) => find(&column.name),
        _ => None,
    };
    let points = |column: &ColumnDef, mut values: Vec<Value>| {
        values.sort_by(compare);
        values.dedup_by(|a, b| compare(a, b) == Ordering::Equal);
        (column.name.clone(), Domain::Points(values))
    };
    match filter {
        Expr::BinaryExpr(_) => {
            let (column, op, value) = comparison(filter, found)?;
            Some(match op {
                CompareOp::Eq => points(column, vec![value]),
                CompareOp::Lt => (column.name.clone(), Domain::Interval(Bound::Unbounded, Bound::Excluded(value))),
                CompareOp::LtEq => (column.name.clone(), Domain::Interval(Bound::Unbounded, Bound::Included(value))),
                CompareOp::Gt => (column.name.clone(), Domain::Interval(Bound::Excluded(value), Bound::Unbounded)),
                CompareOp::GtEq => (column.name.clone(), Domain::Interval(Bound::Included(value), Bound::Unbounded)),
            })
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let column = found(expr)?;
            let (low, high) = (literal(low, column.ty)?, literal(high, column.ty)?);
            Some((column.name.clone(), Domain::Interval(Bound::Included(low), Bound::Included(high))))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let column = found(expr)?;
            let values = list.iter().map(|e| literal(e, column.ty)).collect::<Option<Vec<_>>>()?;
            Some(points(column, values))
        }
        Expr::Column(_) => {
            let column = found(filter).filter(|c| c.ty == ColumnType::Boolean)?;
            Some(points(column, vec![Value::Boolean(true)]))
        }
        Expr::Not(inner) => {
            let column = found(inner).filter(|c| c.ty == ColumnType::Boolean)?;
            Some(points(column, vec![Value::Boolean(false)]))
        }
        _ => None,
    }
}

/// `column op constant`, or the other way round.
fn comparison<'a>(
    filter: &Expr,
    found: impl Fn(&Expr) -> Option<&'a ColumnDef>,
) -> Option<(&'a ColumnDef, CompareOp, Value)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (column, op, other) = match found(left) {
        Some(column) => (column, *op, right),
        None => (found(right)?, op.swap()?, left),
    };
    let op = match op {
        Operator::Eq => CompareOp::Eq,
        Operator::Lt => CompareOp::Lt,
        Operator::LtEq => CompareOp::LtEq,
        Operator::Gt => CompareOp::Gt,
        Operator::GtEq => CompareOp::GtEq,
        _ => return None,
    };
    Some((column, op, literal(other, column.ty)?))
}

fn literal(expr: &Expr, ty: ColumnType) -> Option<Value> {
    match expr {
        Expr::Literal(value, _) => value_of(value, ty),
        _ => None,
    }
}

/// A constant as the engine's value of a column of this type; `None` when it is NULL or of another type, or when the
/// engine's order of it is not DataFusion's.
pub(crate) fn value_of(value: &ScalarValue, ty: ColumnType) -> Option<Value> {
    use ScalarValue as S;
    Some(match (ty, value) {
        (ColumnType::Boolean, S::Boolean(Some(v))) => Value::Boolean(*v),
        (ColumnType::Int16, S::Int16(Some(v))) => Value::Int((*v).into()),
        (ColumnType::Int32, S::Int32(Some(v))) => Value::Int((*v).into()),
        (ColumnType::Int64, S::Int64(Some(v))) => Value::Int(*v),
        (ColumnType::Float32, S::Float32(Some(v))) if !v.is_nan() => Value::Float32(*v),
        (ColumnType::Float64, S::Float64(Some(v))) if !v.is_nan() => Value::Float64(*v),
        (ColumnType::Decimal { scale, .. }, S::Decimal128(Some(v), _, s)) if *s == scale => Value::Decimal(*v),
        (ColumnType::Text, S::Utf8(Some(v)) | S::Utf8View(Some(v)) | S::LargeUtf8(Some(v))) => Value::Text(v.clone()),
        (ColumnType::Bytes, S::Binary(Some(v)) | S::BinaryView(Some(v)) | S::LargeBinary(Some(v))) => {
            Value::Bytes(v.clone())
        }
        (ColumnType::Date, S::Date32(Some(v))) => Value::Int((*v).into()),
        (ColumnType::Time, S::Time64Microsecond(Some(v))) => Value::Int(*v),
        (ColumnType::Timestamp, S::TimestampMicrosecond(Some(v), None)) => Value::Int(*v),
        (ColumnType::TimestampTz, S::TimestampMicrosecond(Some(v), Some(_))) => Value::Int(*v),
        (ColumnType::Uuid, S::Utf8(Some(v)) | S::Utf8View(Some(v)) | S::LargeUtf8(Some(v))) => {
            // DataFusion compares the text: another spelling of a UUID is another text.
            let id = uuid::Uuid::try_parse(v).ok()?;
            Value::Uuid((id.hyphenated().to_string() == *v).then(|| id.into_bytes())?)
        }
        _ => return None,
    })
}

/// The constant that a stored value is.
pub(crate) fn scalar_of(value: &Value, ty: ColumnType) -> Option<ScalarValue> {
    let time = |tz: bool, v: i64| ScalarValue::TimestampMicrosecond(Some(v), tz.then(|| "UTC".into()));
    Some(match (ty, value) {
        (_, Value::Null) => ScalarValue::try_from(&arrow_of(ty)).ok()?,
        (ColumnType::Int16, Value::Int(v)) => ScalarValue::Int16(Some(i16::try_from(*v).ok()?)),
        (ColumnType::Int32, Value::Int(v)) => ScalarValue::Int32(Some(i32::try_from(*v).ok()?)),
        (ColumnType::Int64, Value::Int(v)) => ScalarValue::Int64(Some(*v)),
        (ColumnType::Date, Value::Int(v)) => ScalarValue::Date32(Some(i32::try_from(*v).ok()?)),
        (ColumnType::Time, Value::Int(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (ColumnType::Timestamp, Value::Int(v)) => time(false, *v),
        (ColumnType::TimestampTz, Value::Int(v)) => time(true, *v),
        (ColumnType::Boolean, Value::Boolean(v)) => ScalarValue::Boolean(Some(*v)),
        (ColumnType::Float32, Value::Float32(v)) => ScalarValue::Float32(Some(*v)),
        (ColumnType::Float64, Value::Float64(v)) => ScalarValue::Float64(Some(*v)),
        (ColumnType::Decimal { precision, scale }, Value::Decimal(v)) => {
            ScalarValue::Decimal128(Some(*v), precision, scale)
        }
        (ColumnType::Text | ColumnType::Json, Value::Text(v)) => ScalarValue::Utf8View(Some(v.clone())),
        (ColumnType::Bytes, Value::Bytes(v)) => ScalarValue::Binary(Some(v.clone())),
        (ColumnType::Interval, Value::Interval(v)) => ScalarValue::IntervalMonthDayNano(Some(*v)),
        (ColumnType::Uuid, Value::Uuid(v)) => ScalarValue::Utf8View(Some(uuid::Uuid::from_bytes(*v).to_string())),
        _ => return None,
    })
}

fn arrow_of(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Uuid => DataType::Utf8View,
        ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => other.arrow(),
    }
}

/// What must hold of single columns for a row to pass; gives whether that is all that must.
fn predicates(table: &TableDef, filter: &Expr, out: &mut Vec<ColumnPredicate>) -> bool {
    let found = |expr: &Expr| match expr {
        Expr::Column(column) => table.column(&column.name).filter(|c| c.ty != ColumnType::Interval),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let left = predicates(table, left, out);
            predicates(table, right, out) && left
        }
        Expr::IsNull(inner) => {
            let column = found(inner);
            out.extend(column.map(|c| ColumnPredicate { column: c.id, test: Test::IsNull }));
            column.is_some()
        }
        Expr::IsNotNull(inner) => {
            let column = found(inner);
            out.extend(column.map(|c| ColumnPredicate { column: c.id, test: Test::IsNotNull }));
            column.is_some()
        }
        Expr::Like(like) if !like.negated && !like.case_insensitive => {
            if let Some(column) = found(&like.expr)
                && let Some(Value::Text(pattern)) = literal(&like.pattern, ColumnType::Text)
                && column.ty == ColumnType::Text
                && like.escape_char.is_none()
            {
                prefix_predicates(column.id, &pattern, out);
            }
            false
        }
        other => {
            let Some((name, domain)) = domain(other, |name| table.column(name)) else { return false };
            let Some(column) = table.column(&name) else { return false };
            let mut push = |test| out.push(ColumnPredicate { column: column.id, test });
            match domain {
                Domain::All => {}
                Domain::Points(points) => match <[Value; 1]>::try_from(points) {
                    Ok([point]) => push(Test::Compare(CompareOp::Eq, point)),
                    Err(points) => push(Test::In(points)),
                },
                Domain::Interval(lower, upper) => {
                    match lower {
                        Bound::Unbounded => {}
                        Bound::Included(v) => push(Test::Compare(CompareOp::GtEq, v)),
                        Bound::Excluded(v) => push(Test::Compare(CompareOp::Gt, v)),
                    }
                    match upper {
                        Bound::Unbounded => {}
                        Bound::Included(v) => push(Test::Compare(CompareOp::LtEq, v)),
                        Bound::Excluded(v) => push(Test::Compare(CompareOp::Lt, v)),
                    }
                }
            }
            true
        }
    }
}

/// `LIKE 'abc%'`: not before `abc`, and before `abd`.
fn prefix_predicates(column: ColumnId, pattern: &str, out: &mut Vec<ColumnPredicate>) {
    let prefix: String = pattern.chars().take_while(|c| !matches!(c, '%' | '_' | '\\')).collect();
    let Some(last) = prefix.chars().last() else { return };
    let start = Value::Text(prefix.clone());
    out.push(ColumnPredicate { column, test: Test::Compare(CompareOp::GtEq, start) });
    let next = u32::from(last).checked_add(1).and_then(char::from_u32);
    if let (Some(next), Some(head)) = (next, prefix.strip_suffix(last)) {
        let end = Value::Text(format!("{head}{next}"));
        out.push(ColumnPredicate { column, test: Test::Compare(CompareOp::Lt, end) });
    }
}

/// What predicates test, for people.
pub(crate) fn describe(table: &TableDef, predicates: &[ColumnPredicate]) -> String {
    let of = |predicate: &ColumnPredicate| {
        let name = table.column_by_id(predicate.column).map_or("?", |c| c.name.as_str());
        match &predicate.test {
            Test::IsNull => format!("{name} IS NULL"),
            Test::IsNotNull => format!("{name} IS NOT NULL"),
            Test::In(values) => format!("{name} IN {} values", values.len()),
            Test::NullOrAtLeast(value) => format!("{name} IS NULL OR {name} >= {}", shown(value)),
            Test::Compare(op, value) => {
                let op = match op {
                    CompareOp::Eq => "=",
                    CompareOp::Lt => "<",
                    CompareOp::LtEq => "<=",
                    CompareOp::Gt => ">",
                    CompareOp::GtEq => ">=",
                };
                format!("{name} {op} {}", shown(value))
            }
        }
    };
    predicates.iter().map(of).collect::<Vec<_>>().join(", ")
}
