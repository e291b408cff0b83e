/*!
Rows too many for memory: gathered within a budget, sorted, and staged as runs that nobody sees before their commit.

A staged row's sequence number is not known yet; in its place stands what the row *expects* of the row that is there
already: 0 nothing, [`EXPECT_ABSENT`] that there is none, [`EXPECT_ERASED`] that the transaction itself has put none since it
deleted the key with a range, any other number that it is the version with that number. The manifest gives all rows of the run their real number when it is published.

[`Stager::settle`] turns what was gathered into the final runs: it merges them where they overlap, and holds every row
against the table by one walk over both in key order, only where their key ranges meet, or by lookups where few rows
meet many. The table's gate must be closed meanwhile.
*/

use crate::compaction::output::{Manner, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::io::thread;
use crate::key::{Key, KeyRange};
use crate::memory::{MemoryUse, Reservation};
use crate::run::{RunBatch, RunSchema};
use crate::scan::expiry::Expiry;
use crate::scan::merge::{EXPECT_ABSENT, EXPECT_ERASED, Merge, RowStream, Ties};
use crate::scan::plan::{Edge, Span};
use crate::scan::rows::{filter, seq_of};
use crate::scan::source::{Columns, MemStream, RunReading, RunStream};
use crate::scan::tree::{Mem, RunRef, Source, Tree};
use crate::scan::{Layer, LayerScan, point, split};
use crate::txn::incoming::Incoming;
use crate::txn::sort::{Doubles, Expects, Part, Rows};
use crate::txn::store::Store;
use crate::types::{Seq, TableDef};
use arrow::array::{BooleanArray, BooleanBufferBuilder};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A walk over the table costs about as much for each of its rows as a lookup costs for so many.
const ROWS_PER_LOOKUP: u64 = 16;

/// Memory for rows that are gathered and sorted, however little there is.
const STAGE_BYTES_MIN: usize = 2 << 20;

/// What is done about rows that meet another with the same key, in the load or in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// As the rows expect.
    Expect,
    /// An error.
    Refuse,
    /// The row that is there already stays.
    Skip,
    /// The later row counts.
    Replace,
}

/// What holding rows against a table came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) stored: u64,
    pub(crate) skipped: u64,
    pub(crate) replaced: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.stored += other.stored;
        self.skipped += other.skipped;
        self.replaced += other.replaced;
    }
}

/// The error of a row that is there already.
pub(crate) fn duplicate_row(table: &TableDef, key: &[u8]) -> Error {
    let message = format!("table {} has a row with this key already", table.name);
    Error::new(ErrorKind::DuplicateKey, message).about_row(table.id, key)
}

/// The error of a row that is not as it was read.
pub(crate) fn changed_row(table: &TableDef, key: &[u8]) -> Error {
    let message = format!("a row of table {} changed since it was read", table.name);
    Error::new(ErrorKind::WriteConflict, message).about_row(table.id, key)
}

/// An error about a doubled key, said of its table.
fn of_table(error: Error, table: &TableDef) -> Error {
    match error.row() {
        Some(row) if error.kind() == ErrorKind::DuplicateKey => {
            let message = format!("two rows for table {} have the same key", table.name);
            Error::new(ErrorKind::DuplicateKey, message).about_row(table.id, &row.key)
        }
        _ => error,
    }
}

/// A table's rows, asked for by ascending keys.
#[derive(Debug)]
enum TableSide {
    Nothing,
    Walk { rows: Box<LayerScan>, batch: Option<Box<RunBatch>>, at: usize },
    Lookups(Arc<Tree>, Option<Expiry>),
}

impl TableSide {
    /// The table's rows in `span`, to be held against about `asked` rows.
    fn new(tree: &Arc<Tree>, span: &Span, asked: u64, expiry: Option<Expiry>) -> Result<TableSide> {
        let range = span.range();
        let mut layers: Vec<Layer> = tree.sources().map(|source| Layer { source, at: Seq::MAX }).collect();
        layers.retain(|layer| match &layer.source {
            Source::Mem(mem) => !mem.table.is_empty(),
            Source::Run(run) => run.overlaps(span),
            Source::Erased(erased) => erased.span.overlaps(span),
        });
        if layers.is_empty() {
            return Ok(TableSide::Nothing);
        }
        if asked.saturating_mul(ROWS_PER_LOOKUP) < split::estimate(&layers, &range)? {
            return Ok(TableSide::Lookups(Arc::clone(tree), expiry));
        }
        let columns = Columns::none(&tree.schema);
        let rows = LayerScan::new(layers, &[range], columns, Vec::new(), true).expiring(expiry);
        Ok(TableSide::Walk { rows: Box::new(rows), batch: None, at: 0 })
    }

    fn is_nothing(&self) -> bool {
        matches!(self, TableSide::Nothing)
    }

    /// The number of the row with this key, if there is one. Keys must ascend from call to call.
    fn find(&mut self, key: &[u8]) -> Result<Option<Seq>> {
        match self {
            TableSide::Nothing => Ok(None),
            TableSide::Lookups(tree, expiry) => match point::find(&[], tree, key, Seq::MAX)? {
                Some(place) if place.is_live(&tree.schema, expiry.as_ref())? => Ok(Some(place.seq())),
                _ => Ok(None),
            },
            TableSide::Walk { rows, batch, at } => loop {
                if batch.as_ref().is_none_or(|batch| *at >= batch.len()) {
                    *batch = rows.next()?.map(Box::new);
                    *at = 0;
                    if batch.is_none() {
                        *self = TableSide::Nothing;
                        return Ok(None);
                    }
                }
                let Some(now) = batch else { return Ok(None) };
                if now.keys.last().is_some_and(|last| last < key) {
                    *at = now.len();
                    continue;
                }
                while *at < now.len() && now.keys.get(*at) < key {
                    *at += 1;
                }
                let found = *at < now.len() && now.keys.get(*at) == key;
                return Ok(found.then(|| seq_of(now, *at)));
            },
        }
    }
}

/// Rows held against the table on their way.
#[derive(Debug)]
struct Checked {
    rows: Box<dyn RowStream>,
    side: TableSide,
    rule: Rule,
    /// Whether any row expects something.
    expects: bool,
    table: Arc<TableDef>,
    tally: Tally,
}

impl Checked {
    /// Whether the row stays.
    fn check(&mut self, key: &[u8], expects: Seq) -> Result<bool> {
        if self.rule == Rule::Expect && (expects == 0 || expects == EXPECT_ERASED) {
            return Ok(true);
        }
        let found = self.side.find(key)?;
        match self.rule {
            Rule::Expect if expects == EXPECT_ABSENT => match found {
                Some(_) => Err(duplicate_row(&self.table, key)),
                None => Ok(true),
            },
            Rule::Expect if found != Some(expects) => Err(changed_row(&self.table, key)),
            Rule::Expect => Ok(true),
            Rule::Refuse if found.is_some() => Err(duplicate_row(&self.table, key)),
            Rule::Skip if found.is_some() => {
                self.tally.skipped += 1;
                Ok(false)
            }
            Rule::Replace if found.is_some() => {
                self.tally.replaced += 1;
                Ok(true)
            }
            Rule::Refuse | Rule::Skip | Rule::Replace => Ok(true),
        }
    }

    /// Whether no row can fail, so that they need not be looked at.
    fn is_idle(&self) -> bool {
        match self.rule {
            // Where the table has no row, one that is expected is missing.
            Rule::Expect => !self.expects,
            Rule::Refuse | Rule::Skip | Rule::Replace => self.side.is_nothing(),
        }
    }
}

impl RowStream for Checked {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        while let Some(batch) = self.rows.next().map_err(|error| of_table(error, &self.table))? {
            if self.is_idle() {
                self.tally.stored += u64::try_from(batch.len()).unwrap_or(0);
                return Ok(Some(batch));
            }
            let mut keep = BooleanBufferBuilder::new(batch.len());
            let mut kept = 0;
            for row in 0..batch.len() {
                let stays = self.check(batch.keys.get(row), seq_of(&batch, row))?;
                keep.append(stays);
                kept += usize::from(stays);
            }
            self.tally.stored += u64::try_from(kept).unwrap_or(0);
            if kept == batch.len() {
                return Ok(Some(batch));
            }
            if kept > 0 {
                return filter(&batch, &BooleanArray::new(keep.finish(), None)).map(Some);
            }
        }
        Ok(None)
    }
}

/// Runs tasks side by side, the last one on this thread.
fn in_parallel(mut tasks: Vec<Task>) -> Result<Vec<Done>> {
    let own = tasks.pop();
    let mut others = Vec::with_capacity(tasks.len());
    for task in tasks {
        others.push(thread::spawn("omendb-load", task)?);
    }
    let own = own.map(|task| task());
    // All are waited for before an error is given, so that none works on behind the caller's back.
    let mut results: Vec<Result<Done>> =
        others.into_iter().map(|other| other.join().and_then(|result| result)).collect();
    results.extend(own);
    results.into_iter().collect()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stager {
    store: Arc<Store>,
    table: Arc<TableDef>,
    schema: Arc<RunSchema>,
    /// Which of the table's rows are there no more, for the transaction.
    expiry: Option<Expiry>,
    doubles: Doubles,
    /// Taken with the first rows.
    memory: Option<Reservation>,
    budget: usize,
    rows: Rows,
    /// Oldest first.
    runs: Vec<Arc<RunRef>>,
    /// Rows that gave way to another of the same load.
    lost: u64,
    expects: bool,
    manner: Manner,
    /// Rows could not be staged, and are nowhere: the transaction must not go on without them.
    failed: Option<(ErrorKind, String)>,
}

impl Stager {
    pub(crate) fn new(
        store: &Arc<Store>,
        table: &Arc<TableDef>,
        schema: &Arc<RunSchema>,
        expiry: Option<Expiry>,
        doubles: Doubles,
        budget: usize,
    ) -> Self {
        Stager {
            store: Arc::clone(store),
            table: Arc::clone(table),
            schema: Arc::clone(schema),
            expiry,
            doubles,
            memory: None,
            budget,
            rows: Rows::default(),
            runs: Vec::new(),
            lost: 0,
            expects: false,
            manner: store.manner_of_loads(table),
            failed: None,
        }
    }

    /// Takes rows; stages what was gathered when it passes the budget.
    pub(crate) fn push(&mut self, incoming: Incoming, delete: bool, expects: Expects) -> Result<()> {
        self.check_whole()?;
        self.expects = self.expects || !matches!(expects, Expects::All(0));
        self.rows.push(incoming.keys, incoming.columns, delete, expects);
        if self.memory.is_none() {
            // Gathered rows and their sorted copies.
            let wanted = self.budget.saturating_mul(2);
            self.memory = Some(self.store.memory.reserve_up_to(MemoryUse::Writes, wanted, STAGE_BYTES_MIN));
        }
        let granted = self.memory.as_ref().map_or(0, Reservation::bytes) / 2;
        if self.rows.bytes() < granted {
            return Ok(());
        }
        self.spill()
    }

    /// Takes the rows of a memtable, newer than all before, with what they expect.
    pub(crate) fn adopt_mem(&mut self, mem: &Arc<Mem>, expects: BTreeMap<Key, Seq>) -> Result<()> {
        self.expects = self.expects || !expects.is_empty();
        self.spill()?;
        let columns = Columns::all(&self.schema);
        let rows = MemStream::new(mem, &KeyRange::all(), Seq::MAX, &columns, false);
        let mut expecting = Expecting { rows, expects };
        let shape = Shape { fixed_seq: None, ..self.shape() };
        self.runs.extend(self.store.output.write(&self.schema, &mut expecting, shape)?);
        Ok(())
    }

    /// Takes runs whose rows are older than all.
    pub(crate) fn put_before(&mut self, runs: Vec<Arc<RunRef>>) {
        self.runs.splice(0..0, runs);
    }

    /// What was staged, oldest first.
    pub(crate) fn runs(&self) -> &[Arc<RunRef>] {
        &self.runs
    }

    fn shape(&self) -> Shape {
        // Rows of a transaction carry expectations; those of a load need no number at all.
        let fixed_seq = (self.doubles != Doubles::Fold).then_some(0);
        Shape { fixed_seq, ..Shape::of_level(0, self.manner) }
    }

    /// That no rows were lost on their way.
    fn check_whole(&self) -> Result<()> {
        let Some((kind, cause)) = &self.failed else { return Ok(()) };
        Err(Error::new(
            *kind,
            format!("rows of this transaction could not be staged ({cause}); it can only be rolled back"),
        ))
    }

    /// Stages what was gathered. After an error the stager is of no use.
    pub(crate) fn spill(&mut self) -> Result<()> {
        self.check_whole()?;
        let done = self.try_spill();
        if let Err(error) = &done {
            self.failed = Some((error.kind(), error.to_string()));
        }
        done
    }

    fn try_spill(&mut self) -> Result<()> {
        let parts = std::mem::take(&mut self.rows).sorted(self.doubles, self.store.limits.threads);
        let parts = parts.map_err(|error| of_table(error, &self.table))?;
        let shape = self.shape();
        let mut tasks: Vec<Task> = Vec::new();
        for part in parts {
            let (store, schema) = (Arc::clone(&self.store), Arc::clone(&self.schema));
            tasks.push(Box::new(move || {
                let (mut rows, lost) = part.stream()?;
                Ok((store.output.write(&schema, rows.as_mut(), shape)?, Tally::default(), lost))
            }));
        }
        for (runs, _, lost) in in_parallel(tasks).map_err(|error| of_table(error, &self.table))? {
            self.runs.extend(runs);
            self.lost += lost;
        }
        Ok(())
    }

    /// The final runs, with keys that do not overlap, held against `tree`.
    pub(crate) fn settle(mut self, tree: &Arc<Tree>, rule: Rule) -> Result<(Vec<Arc<RunRef>>, Tally)> {
        self.check_whole()?;
        let (runs, mut tally) = if self.runs.is_empty() {
            self.settle_rows(tree, rule)?
        } else {
            self.spill()?;
            match self.is_disjoint() {
                true => self.settle_disjoint(tree, rule)?,
                false => self.settle_overlapping(tree, rule)?,
            }
        };
        match rule {
            Rule::Skip => tally.skipped += self.lost,
            Rule::Replace => tally.replaced += self.lost,
            Rule::Expect | Rule::Refuse => {}
        }
        Ok((runs, tally))
    }

    fn checked(
        &self,
        rows: Box<dyn RowStream>,
        tree: &Arc<Tree>,
        span: &Span,
        asked: u64,
        rule: Rule,
    ) -> Result<Checked> {
        let nothing = rule == Rule::Expect && !self.expects;
        let side = if nothing { TableSide::Nothing } else { TableSide::new(tree, span, asked, self.expiry)? };
        let table = Arc::clone(&self.table);
        Ok(Checked { rows, side, rule, expects: self.expects, table, tally: Tally::default() })
    }

    /// Everything is still in memory: sorted, checked and written once.
    fn settle_rows(&mut self, tree: &Arc<Tree>, rule: Rule) -> Result<(Vec<Arc<RunRef>>, Tally)> {
        let parts = std::mem::take(&mut self.rows).sorted(self.doubles, self.store.limits.threads);
        let mut tasks: Vec<Task> = Vec::new();
        for part in parts.map_err(|error| of_table(error, &self.table))? {
            tasks.push(self.part_task(part, Arc::clone(tree), rule));
        }
        self.collect(tasks)
    }

    fn part_task(&self, part: Part, tree: Arc<Tree>, rule: Rule) -> Task {
        let this = self.handle();
        Box::new(move || {
            let Some((first, last, rows)) = part.extent() else { return Ok((Vec::new(), Tally::default(), 0)) };
            let span = Span::closed(&first, &last);
            let (rows_stream, lost) = part.stream().map_err(|error| of_table(error, &this.table))?;
            let asked = u64::try_from(rows).unwrap_or(u64::MAX);
            let checked = this.checked(rows_stream, &tree, &span, asked, rule)?;
            this.write(checked, lost)
        })
    }

    /// This without its rows, for a task of its own.
    fn handle(&self) -> Stager {
        let mut handle = Stager::new(&self.store, &self.table, &self.schema, self.expiry, self.doubles, self.budget);
        handle.expects = self.expects;
        handle
    }

    fn write(&self, mut checked: Checked, lost: u64) -> Result<Done> {
        let shape = Shape { fixed_seq: Some(0), ..self.shape() };
        let runs = self.store.output.write(&self.schema, &mut checked, shape)?;
        Ok((runs, checked.tally, lost))
    }

    fn collect(&mut self, tasks: Vec<Task>) -> Result<(Vec<Arc<RunRef>>, Tally)> {
        let (mut all, mut tally) = (Vec::new(), Tally::default());
        for (runs, part, lost) in in_parallel(tasks)? {
            all.extend(runs);
            tally.add(part);
            self.lost += lost;
        }
        Ok((all, tally))
    }

    fn is_disjoint(&self) -> bool {
        let mut spans: Vec<Span> = self.runs.iter().map(|run| run.span()).collect();
        spans.sort_by(|a, b| a.from.cmp(&b.from));
        spans.windows(2).all(|pair| matches!(pair, [a, b] if a.to <= b.from))
    }

    fn read(&self, run: &Arc<RunRef>, range: KeyRange, columns: &Columns) -> Box<dyn RowStream> {
        let reading = RunReading { with_keys: true, drop_tombstones: false, predicates: &[], filter: &[] };
        Box::new(RunStream::new(run, range, columns, reading))
    }

    /// Staged runs that do not overlap are the final ones; they are only held against the table.
    fn settle_disjoint(&mut self, tree: &Arc<Tree>, rule: Rule) -> Result<(Vec<Arc<RunRef>>, Tally)> {
        let (mut all, mut tally) = (Vec::new(), Tally::default());
        for run in std::mem::take(&mut self.runs) {
            let keys_only = Columns::none(&self.schema);
            let rows = self.read(&run, KeyRange::all(), &keys_only);
            let mut checked = self.checked(rows, tree, &run.span(), run.rows(), rule)?;
            if checked.is_idle() {
                tally.stored += run.rows();
                all.push(run);
            } else if rule == Rule::Skip {
                let columns = Columns::all(&self.schema);
                checked.rows = self.read(&run, KeyRange::all(), &columns);
                let (runs, part, _) = self.write(checked, 0)?;
                all.extend(runs);
                tally.add(part);
            } else {
                while checked.next()?.is_some() {}
                tally.add(checked.tally);
                all.push(run);
            }
        }
        Ok((all, tally))
    }

    /// Staged runs that overlap are merged.
    fn settle_overlapping(&mut self, tree: &Arc<Tree>, rule: Rule) -> Result<(Vec<Arc<RunRef>>, Tally)> {
        let layer = |run: &Arc<RunRef>| Layer { source: Source::Run(Arc::clone(run)), at: Seq::MAX };
        let layers: Vec<Layer> = self.runs.iter().map(layer).collect();
        let ranges = split::split(&layers, &KeyRange::all(), self.store.limits.threads.clamp(1, 2))?;
        let mut tasks: Vec<Task> = Vec::new();
        for range in ranges {
            let (this, tree, runs) = (self.handle(), Arc::clone(tree), self.runs.clone());
            tasks.push(Box::new(move || this.merge(&runs, &range, &tree, rule)));
        }
        let merged = self.collect(tasks)?;
        self.runs.clear();
        Ok(merged)
    }

    fn merge(&self, runs: &[Arc<RunRef>], range: &KeyRange, tree: &Arc<Tree>, rule: Rule) -> Result<Done> {
        let columns = Columns::all(&self.schema);
        let span = Span::of(range);
        let mut streams: Vec<Box<dyn RowStream>> = Vec::new();
        for run in runs.iter().filter(|run| run.overlaps(&span)) {
            streams.push(self.read(run, range.clone(), &columns));
        }
        let ties = match self.doubles {
            Doubles::Refuse => Ties::Refuse,
            Doubles::First | Doubles::Last => Ties::Newest,
            Doubles::Fold => Ties::Fold,
        };
        // The merge lets its first stream win: the newest, but where the first row of a key counts.
        if self.doubles != Doubles::First {
            streams.reverse();
        }
        let asked: u64 = runs.iter().map(|run| run.rows()).sum();
        let hull = hull(runs).intersect(&span);
        let merge = Counting { merge: Merge::new(streams, false, ties, false), lost: Arc::default() };
        let lost = Arc::clone(&merge.lost);
        let checked = self.checked(Box::new(merge), tree, &hull, asked, rule)?;
        let (runs, tally, _) = self.write(checked, 0)?;
        Ok((runs, tally, lost.load(Ordering::Acquire)))
    }
}

/// Runs, what holding rows against the table came to, and how many rows gave way to another of the same load.
type Done = (Vec<Arc<RunRef>>, Tally, u64);

type Task = Box<dyn FnOnce() -> Result<Done> + Send>;

/// The keys from the first to the last of all runs.
fn hull(runs: &[Arc<RunRef>]) -> Span {
    let from = runs.iter().map(|run| run.span().from).min().unwrap_or(Edge::Start);
    let to = runs.iter().map(|run| run.span().to).max().unwrap_or(Edge::End);
    Span { from, to }
}

/// A merge that tells how many rows gave way, also when it is out of reach.
#[derive(Debug)]
struct Counting {
    merge: Merge,
    lost: Arc<AtomicU64>,
}

impl RowStream for Counting {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        let next = self.merge.next();
        self.lost.store(self.merge.hidden, Ordering::Release);
        next
    }
}

/// Rows of a memtable with what they expect in place of their numbers.
#[derive(Debug)]
struct Expecting {
    rows: MemStream,
    expects: BTreeMap<Key, Seq>,
}

impl RowStream for Expecting {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        let Some(mut batch) = self.rows.next()? else { return Ok(None) };
        for (seq, key) in batch.seqs.iter_mut().zip(batch.keys.iter()) {
            *seq = self.expects.get(key).copied().unwrap_or(0);
        }
        Ok(Some(batch))
    }
}
