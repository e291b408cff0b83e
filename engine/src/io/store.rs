/*!
A file tree in memory, which may keep track of what is durable.

The [`super::memory`] back end uses it plain. The simulator's disk has it *tracked*: every directory has its entries as
programs see them (live) and as they would be after losing power (durable), and between the two a list of pending
operations, each of which is durable or lost as a whole — a rename never leaves both names or neither. The bytes of
files are kept the same way by [`content`]. [`Store::crash`] makes a new store of what survived.

```text
    live entries    = durable entries + all pending operations, in order
    after a crash   = durable entries + any subset of them, in order
```

Paths are taken from one root, whether they begin with a slash or not; `.` and `..` are resolved by their text. There
are no links and no permissions.
*/
#![expect(
    clippy::disallowed_types,
    reason = "locks that are never held across a point, so no simulation needs to schedule them"
)]

mod content;

pub(super) use content::Survival;

use super::random::{Random, mix};
use super::{DirEntry, EntryKind, OpenMode};
use content::Content;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error as Cause, ErrorKind};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The causes are the operating system's own, so that the back ends put paths and verbs around them in one way.
type Result<T, E = Cause> = std::result::Result<T, E>;

/// Bytes of the largest file, as on most file systems.
const FILE_BYTES_MAX: u64 = 1 << 43;

/// A file tree.
#[derive(Debug)]
pub(super) struct Store {
    tracked: bool,
    tree: Mutex<Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    dirs: BTreeMap<DirId, Dir>,
    ids: u64,
    /// What directories do not durably know yet, oldest first. Always empty in an untracked store.
    pending: Vec<Operation>,
    /// The ids of locked files.
    locked: BTreeSet<u64>,
}

type DirId = u64;

const ROOT: DirId = 0;

#[derive(Debug, Default)]
struct Dir {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Dir(DirId),
    File(Arc<FileNode>),
}

/// A file, whether or not it has a name still.
#[derive(Debug)]
pub(super) struct FileNode {
    id: u64,
    /// Shared with forks until one of them writes.
    content: RwLock<Arc<Content>>,
}

/// Changes of entries that are durable together or not at all.
type Operation = Vec<Change>;

/// `name` in `dir` now stands for `node`, or for nothing.
#[derive(Debug, Clone)]
struct Change {
    dir: DirId,
    name: String,
    node: Option<Node>,
}

impl Store {
    /// An empty tree; `tracked` ones know what is durable.
    pub(super) fn new(tracked: bool) -> Self {
        let mut tree = Tree::default();
        tree.dirs.insert(ROOT, Dir::default());
        Store { tracked, tree: Mutex::new(tree) }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<FileNode>> {
        let mut tree = self.tree();
        let (dir, name) = tree.parent(path)?;
        match (tree.entry(dir, &name), mode) {
            (Some(Node::Dir(_)), _) => Err(ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
            (Some(Node::File(file)), _) => Ok(file),
            (None, OpenMode::Read | OpenMode::ReadWrite) => Err(ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let content = RwLock::new(Arc::new(Content::new(self.tracked)));
                let file = Arc::new(FileNode { id: tree.next_id(), content });
                self.apply(&mut tree, vec![Change { dir, name, node: Some(Node::File(Arc::clone(&file))) }]);
                Ok(file)
            }
        }
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut tree = self.tree();
        let mut dir = ROOT;
        for name in names(path) {
            dir = match tree.entry(dir, &name) {
                Some(Node::Dir(child)) => child,
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => {
                    let child = tree.next_id();
                    tree.dirs.insert(child, Dir::default());
                    self.apply(&mut tree, vec![Change { dir, name, node: Some(Node::Dir(child)) }]);
                    child
                }
            };
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let tree = self.tree();
        let dir = tree.dir(path)?;
        let entries = tree.dirs.get(&dir).map(|dir| dir.live.iter()).into_iter().flatten();
        let describe = |(name, node): (&String, &Node)| {
            let (kind, len) = match node {
                Node::Dir(_) => (EntryKind::Dir, 0),
                Node::File(file) => (EntryKind::File, file.len()),
            };
            DirEntry { name: name.clone(), kind, len }
        };
        Ok(entries.map(describe).collect())
    }

    pub(super) fn exists(&self, path: &Path) -> Option<EntryKind> {
        match self.tree().find(path)? {
            Node::Dir(_) => Some(EntryKind::Dir),
            Node::File(_) => Some(EntryKind::File),
        }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut tree = self.tree();
        let node = tree.find(from).ok_or(ErrorKind::NotFound)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (tree.parent(from)?, tree.parent(to)?);
        if (from_dir, &from_name) == (to_dir, &to_name) {
            return Ok(());
        }
        match (&node, tree.entry(to_dir, &to_name)) {
            (Node::Dir(_), Some(Node::File(_))) => return Err(ErrorKind::NotADirectory.into()),
            (Node::File(_), Some(Node::Dir(_))) => return Err(ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::Dir(there))) if !tree.is_empty(there) => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            (Node::Dir(_), None) if names(to).starts_with(&names(from)) => return Err(ErrorKind::InvalidInput.into()),
            _ => {}
        }
        let gone = Change { dir: from_dir, name: from_name, node: None };
        self.apply(&mut tree, vec![gone, Change { dir: to_dir, name: to_name, node: Some(node) }]);
        Ok(())
    }

    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        let mut tree = self.tree();
        match tree.find(path) {
            None => return Err(ErrorKind::NotFound.into()),
            Some(Node::Dir(_)) => return Err(ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) => {}
        }
        let (dir, name) = tree.parent(path)?;
        self.apply(&mut tree, vec![Change { dir, name, node: None }]);
        Ok(())
    }

    pub(super) fn remove_dir_all(&self, path: &Path) -> Result<()> {
        let mut tree = self.tree();
        let top = tree.dir(path)?;
        let (dir, name) = tree.parent(path)?;
        let mut below = vec![top];
        let mut seen = 0;
        while let Some(parent) = below.get(seen).copied() {
            below.extend(tree.children(parent));
            seen += 1;
        }
        for parent in below.into_iter().rev() {
            let names = tree.dirs.get(&parent).map(|dir| dir.live.keys().cloned().collect::<Vec<_>>());
            for name in names.unwrap_or_default() {
                self.apply(&mut tree, vec![Change { dir: parent, name, node: None }]);
            }
            if !self.tracked {
                tree.dirs.remove(&parent);
            }
        }
        self.apply(&mut tree, vec![Change { dir, name, node: None }]);
        Ok(())
    }

    /// Makes all pending operations on the directory's entries durable, with what they build on.
    pub(super) fn sync_dir(&self, path: &Path) -> Result<()> {
        self.settle_dir(path, &mut Survival::AllKept)
    }

    /// A directory's sync that failed: any of the pending operations are durable, the others never will be, but for
    /// directories that were made: those are durable, since they could not be made again.
    pub(super) fn fail_sync_dir(&self, path: &Path, random: &mut Random) -> Result<()> {
        self.settle_dir(path, &mut Survival::random(random.next_u64()))
    }

    fn settle_dir(&self, path: &Path, survival: &mut Survival) -> Result<()> {
        let mut tree = self.tree();
        let dir = tree.dir(path)?;
        // An operation that spans two directories takes along what came before it to the same names.
        let mut names = BTreeSet::new();
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for operation in std::mem::take(&mut tree.pending).into_iter().rev() {
            let concerned = |change: &Change| change.dir == dir || names.contains(&(change.dir, change.name.clone()));
            if operation.iter().any(concerned) {
                names.extend(operation.iter().map(|change| (change.dir, change.name.clone())));
                now.push(operation);
            } else {
                later.push(operation);
            }
        }
        later.reverse();
        tree.pending = later;
        let makes_dir =
            |operation: &Operation| operation.iter().any(|change| matches!(change.node, Some(Node::Dir(_))));
        let mut durable = |operation: &Operation| survival.keeps() || makes_dir(operation);
        for change in now.into_iter().rev().filter(|operation| durable(operation)).flatten() {
            tree.set_durable(change);
        }
        Ok(())
    }

    /// Takes the lock on the file and writes `process_id` into it, or gives the holder's id.
    pub(super) fn lock(&self, path: &Path, process_id: u32) -> Result<Result<Arc<FileNode>, Option<u32>>> {
        let file = self.open(path, OpenMode::Create)?;
        if !self.tree().locked.insert(file.id) {
            return Ok(Err(file.process_id()));
        }
        file.set_len(0)?;
        file.write(0, format!("{process_id}\n").as_bytes())?;
        Ok(Ok(file))
    }

    /// Takes the lock on a file that is there, as it is, or gives the holder's id; `None` where there is no file.
    pub(super) fn lock_existing(&self, path: &Path) -> Result<Option<Result<Arc<FileNode>, Option<u32>>>> {
        let file = match self.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        match self.tree().locked.insert(file.id) {
            true => Ok(Some(Ok(file))),
            false => Ok(Some(Err(file.process_id()))),
        }
    }

    pub(super) fn unlock(&self, file: &FileNode) {
        self.tree().locked.remove(&file.id);
    }

    /// What there is after losing power now: the durable state and what `survival` grants of the pending one. The
    /// store itself goes on as if nothing had happened.
    pub(super) fn crash(&self, survival: &mut Survival) -> Store {
        let tree = self.tree();
        let mut dirs: BTreeMap<DirId, BTreeMap<String, Node>> =
            tree.dirs.iter().map(|(id, dir)| (*id, dir.durable.clone())).collect();
        for change in tree.pending.iter().filter(|_| survival.keeps()).flatten() {
            if let Some(entries) = dirs.get_mut(&change.dir) {
                set(entries, change.name.clone(), change.node.clone());
            }
        }
        let mut files = BTreeMap::new();
        let mut survived = Tree { ids: tree.ids, ..Tree::default() };
        let mut reached = vec![ROOT];
        while let Some(id) = reached.pop() {
            let mut entries = dirs.remove(&id).unwrap_or_default();
            for node in entries.values_mut() {
                match node {
                    Node::Dir(child) => reached.push(*child),
                    Node::File(file) => {
                        let copy = files.entry(file.id).or_insert_with(|| Arc::new(file.crash(survival)));
                        *file = Arc::clone(copy);
                    }
                }
            }
            survived.dirs.insert(id, Dir { live: entries.clone(), durable: entries });
        }
        Store { tracked: self.tracked, tree: Mutex::new(survived) }
    }

    /// The same tree, with all that is pending, on its own from now on. It has no locks.
    pub(super) fn fork(&self) -> Store {
        let tree = self.tree();
        let mut files: BTreeMap<u64, Arc<FileNode>> = BTreeMap::new();
        let mut copy = |node: &Node| match node {
            Node::Dir(id) => Node::Dir(*id),
            Node::File(file) => Node::File(Arc::clone(files.entry(file.id).or_insert_with(|| Arc::new(file.fork())))),
        };
        let mut dirs = BTreeMap::new();
        for (id, dir) in &tree.dirs {
            let live = dir.live.iter().map(|(name, node)| (name.clone(), copy(node))).collect();
            let durable = dir.durable.iter().map(|(name, node)| (name.clone(), copy(node))).collect();
            dirs.insert(*id, Dir { live, durable });
        }
        let mut pending = Vec::with_capacity(tree.pending.len());
        for operation in &tree.pending {
            let change = |change: &Change| Change {
                dir: change.dir,
                name: change.name.clone(),
                node: change.node.as_ref().map(&mut copy),
            };
            pending.push(operation.iter().map(change).collect());
        }
        let forked = Tree { dirs, ids: tree.ids, pending, locked: BTreeSet::new() };
        Store { tracked: self.tracked, tree: Mutex::new(forked) }
    }

    /// Bytes of all files that have a name.
    pub(super) fn bytes(&self) -> u64 {
        let tree = self.tree();
        let files = tree.dirs.values().flat_map(|dir| dir.live.values()).filter_map(|node| match node {
            Node::File(file) => Some(file.len()),
            Node::Dir(_) => None,
        });
        files.sum()
    }

    /// A hash of all names and bytes that programs see.
    pub(super) fn fingerprint(&self) -> u64 {
        let tree = self.tree();
        let mut hash = 0;
        for (id, dir) in &tree.dirs {
            for (name, node) in &dir.live {
                let content = match node {
                    Node::Dir(child) => mix(*child),
                    Node::File(file) => file.content().fingerprint(),
                };
                let name = name.bytes().fold(mix(*id), |hash, byte| mix(hash ^ u64::from(byte)));
                hash = mix(hash ^ name).wrapping_add(content);
            }
        }
        hash
    }

    fn apply(&self, tree: &mut Tree, operation: Operation) {
        for change in &operation {
            if let Some(dir) = tree.dirs.get_mut(&change.dir) {
                set(&mut dir.live, change.name.clone(), change.node.clone());
            }
        }
        if self.tracked {
            tree.pending.push(operation);
        }
    }
}

impl Tree {
    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn entry(&self, dir: DirId, name: &str) -> Option<Node> {
        self.dirs.get(&dir)?.live.get(name).cloned()
    }

    fn find(&self, path: &Path) -> Option<Node> {
        let mut node = Node::Dir(ROOT);
        for name in names(path) {
            let Node::Dir(dir) = node else { return None };
            node = self.entry(dir, &name)?;
        }
        Some(node)
    }

    fn dir(&self, path: &Path) -> Result<DirId> {
        match self.find(path) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The directory that holds the last name of `path`, and that name.
    fn parent(&self, path: &Path) -> Result<(DirId, String)> {
        let mut names = names(path);
        let name = names.pop().ok_or(ErrorKind::IsADirectory)?;
        let mut dir = ROOT;
        for name in names {
            dir = match self.entry(dir, &name) {
                Some(Node::Dir(child)) => child,
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => return Err(ErrorKind::NotFound.into()),
            };
        }
        Ok((dir, name))
    }

    fn is_empty(&self, dir: DirId) -> bool {
        self.dirs.get(&dir).is_none_or(|dir| dir.live.is_empty())
    }

    fn children(&self, dir: DirId) -> Vec<DirId> {
        let nodes = self.dirs.get(&dir).map(|dir| dir.live.values()).into_iter().flatten();
        let child = |node: &Node| match node {
            Node::Dir(child) => Some(*child),
            Node::File(_) => None,
        };
        nodes.filter_map(child).collect()
    }

    fn set_durable(&mut self, change: Change) {
        if let Some(dir) = self.dirs.get_mut(&change.dir) {
            set(&mut dir.durable, change.name, change.node);
        }
    }
}

impl FileNode {
    fn content(&self) -> std::sync::RwLockReadGuard<'_, Arc<Content>> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(Arc::make_mut(&mut self.content.write().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(super) fn len(&self) -> u64 {
        self.content().len()
    }

    /// Fills the front of `to`; how many bytes there were.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> usize {
        self.content().read(offset, to)
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = u64::try_from(bytes.len()).ok().and_then(|len| offset.checked_add(len));
        bounded(end.unwrap_or(u64::MAX))?;
        self.change(|content| content.write(offset, bytes));
        Ok(())
    }

    pub(super) fn set_len(&self, len: u64) -> Result<()> {
        bounded(len)?;
        self.change(|content| content.set_len(len));
        Ok(())
    }

    /// Lengthens to `len` with zeros that count as written.
    pub(super) fn allocate(&self, len: u64) -> Result<()> {
        bounded(len)?;
        self.change(|content| content.allocate(len));
        Ok(())
    }

    pub(super) fn sync(&self) {
        self.change(Content::sync);
    }

    /// A sync that failed: any part of what was pending is durable, the rest never will be.
    pub(super) fn fail_sync(&self, random: &mut Random) {
        self.change(|content| content.fail_sync(random));
    }

    /// The process id that a lock file holds.
    fn process_id(&self) -> Option<u32> {
        let mut text = [0; 16];
        let read = self.read(0, &mut text);
        text.get(..read).and_then(|text| std::str::from_utf8(text).ok())?.trim().parse().ok()
    }

    fn crash(&self, survival: &mut Survival) -> FileNode {
        FileNode { id: self.id, content: RwLock::new(Arc::new(self.content().crash(survival))) }
    }

    fn fork(&self) -> FileNode {
        FileNode { id: self.id, content: RwLock::new(Arc::clone(&self.content())) }
    }
}

fn bounded(len: u64) -> Result<()> {
    if len > FILE_BYTES_MAX {
        return Err(Cause::from(ErrorKind::FileTooLarge));
    }
    Ok(())
}

fn set(entries: &mut BTreeMap<String, Node>, name: String, node: Option<Node>) {
    match node {
        Some(node) => entries.insert(name, node),
        None => entries.remove(&name),
    };
}

/// The names on the way from the root to `path`.
fn names(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    names
}
