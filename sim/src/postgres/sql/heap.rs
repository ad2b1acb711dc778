//! Rows and their versions, the locks on rows, and indexes.
//!
//! A row keeps its [`TupleId`] over all its versions. Which version a statement sees is decided by commit numbers: the
//! cluster counts commits, a version carries the number of the commit that made it and of the one that ended it, and a snapshot
//! is the count at its time. While a transaction runs its marks are pending and name its backend; at commit they get
//! their number, at rollback they are removed. So there is no commit log to keep, and old versions are dropped as soon as no
//! snapshot is older than the commit that ended them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::event::Pid;
use super::super::locks::{TupleId, Xid};
use super::value::Value;

/// The number of a commit. A snapshot is such a number: it sees commits up to it.
pub(super) type CommitNumber = u64;

/// A mark on a version: made or ended by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stamp {
    /// By a transaction that runs; `command` counts its statements.
    Pending { pid: Pid, xid: Xid, command: u32 },
    /// By this commit.
    Committed(CommitNumber),
}

impl Stamp {
    fn visible(self, view: View) -> bool {
        match self {
            Stamp::Pending { pid, command, .. } => pid == view.pid && command < view.command,
            Stamp::Committed(number) => number <= view.snapshot,
        }
    }
}

/// What a statement sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub(super) snapshot: CommitNumber,
    pub(super) pid: Pid,
    /// The number of the statement in its transaction: it sees what earlier ones wrote.
    pub(super) command: u32,
}

/// One version of a row.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) values: Arc<[Value]>,
    pub(super) made: Stamp,
    pub(super) ended: Option<Stamp>,
}

impl Version {
    pub(super) fn visible(&self, view: View) -> bool {
        self.made.visible(view) && !self.ended.is_some_and(|ended| ended.visible(view))
    }
}

/// Strengths of row locks, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowLock {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

impl RowLock {
    /// <https://www.postgresql.org/docs/15/explicit-locking.html#ROW-LOCK-COMPATIBILITY>
    pub(super) fn conflicts(self, other: RowLock) -> bool {
        match (self, other) {
            (RowLock::KeyShare, other) | (other, RowLock::KeyShare) => other == RowLock::Update,
            (RowLock::Share, RowLock::Share) => false,
            _ => true,
        }
    }
}

/// A running transaction's lock on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Locker {
    pub(super) pid: Pid,
    pub(super) xid: Xid,
    pub(super) strength: RowLock,
}

/// A row: its versions, oldest first, never empty; and who locks it.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) versions: Vec<Version>,
    pub(super) lockers: Vec<Locker>,
}

impl Row {
    pub(super) fn newest(&self) -> &Version {
        self.versions.last().expect("a row has a version")
    }

    pub(super) fn visible(&self, view: View) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.visible(view))
    }
}

/// An index key; one column needs no allocation.
#[derive(Debug, Clone)]
pub(super) enum Key {
    One(Value),
    Many(Box<[Value]>),
}

impl Key {
    fn parts(&self) -> &[Value] {
        match self {
            Key::One(value) => std::slice::from_ref(value),
            Key::Many(values) => values,
        }
    }

    pub(super) fn has_null(&self) -> bool {
        self.parts().iter().any(Value::is_null)
    }

    pub(super) fn from_values(mut values: Vec<Value>) -> Key {
        if values.len() == 1 { Key::One(values.remove(0)) } else { Key::Many(values.into()) }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        if let (Key::One(a), Key::One(b)) = (self, other) {
            return a.order(b);
        }
        let (a, b) = (self.parts(), other.parts());
        for (x, y) in a.iter().zip(b) {
            let order = x.order(y);
            if order.is_ne() {
                return order;
            }
        }
        a.len().cmp(&b.len())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

/// The rows under one key: nearly always one.
#[derive(Debug, Clone)]
enum Entry {
    One(TupleId),
    Many(Vec<TupleId>),
}

/// The ordered entries of an index.
#[derive(Debug, Clone, Default)]
pub(super) struct IndexData {
    entries: BTreeMap<Key, Entry>,
}

impl IndexData {
    pub(super) fn insert(&mut self, key: Key, tuple: TupleId) {
        match self.entries.entry(key) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry::One(tuple));
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Entry::One(one) if *one == tuple => {}
                Entry::One(one) => {
                    let mut both = vec![*one, tuple];
                    both.sort_unstable();
                    occupied.insert(Entry::Many(both));
                }
                Entry::Many(many) => {
                    if let Err(at) = many.binary_search(&tuple) {
                        many.insert(at, tuple);
                    }
                }
            },
        }
    }

    fn remove(&mut self, key: &Key, tuple: TupleId) {
        let empty = match self.entries.get_mut(key) {
            Some(Entry::One(one)) => *one == tuple,
            Some(Entry::Many(many)) => {
                if let Ok(at) = many.binary_search(&tuple) {
                    many.remove(at);
                }
                many.is_empty()
            }
            None => false,
        };
        if empty {
            self.entries.remove(key);
        }
    }

    /// The rows that have, or had, this key.
    pub(super) fn get(&self, key: &Key) -> &[TupleId] {
        match self.entries.get(key) {
            Some(Entry::One(one)) => std::slice::from_ref(one),
            Some(Entry::Many(many)) => many,
            None => &[],
        }
    }
}

/// The rows of one table with its indexes' entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Heap {
    rows: BTreeMap<TupleId, Row>,
    next: TupleId,
    /// By position in the table's list of indexes: the columns and the entries.
    pub(super) indexes: Vec<(Arc<[usize]>, IndexData)>,
    versions: usize,
}

pub(super) fn key_of(columns: &[usize], values: &[Value]) -> Key {
    let part = |column: &usize| values.get(*column).cloned().unwrap_or(Value::Null);
    match columns {
        [one] => Key::One(part(one)),
        many => Key::Many(many.iter().map(part).collect()),
    }
}

impl Heap {
    /// The same without rows; row numbers go on.
    pub(super) fn emptied(&self) -> Heap {
        let indexes = self.indexes.iter().map(|(columns, _)| (columns.clone(), IndexData::default())).collect();
        Heap { rows: BTreeMap::new(), next: self.next, indexes, versions: 0 }
    }

    pub(super) fn version_count(&self) -> usize {
        self.versions
    }

    pub(super) fn row(&self, tuple: TupleId) -> Option<&Row> {
        self.rows.get(&tuple)
    }

    pub(super) fn row_mut(&mut self, tuple: TupleId) -> Option<&mut Row> {
        self.rows.get_mut(&tuple)
    }

    /// All rows in the order in which they were inserted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TupleId, &Row)> {
        self.rows.iter().map(|(tuple, row)| (*tuple, row))
    }

    pub(super) fn add_index(&mut self, columns: Arc<[usize]>) {
        let mut data = IndexData::default();
        for (tuple, row) in &self.rows {
            for version in &row.versions {
                data.insert(key_of(&columns, &version.values), *tuple);
            }
        }
        self.indexes.push((columns, data));
    }

    fn index_version(&mut self, tuple: TupleId, values: &[Value]) {
        for (columns, data) in &mut self.indexes {
            data.insert(key_of(columns, values), tuple);
        }
    }

    pub(super) fn insert(&mut self, values: Arc<[Value]>, made: Stamp) -> TupleId {
        let tuple = self.next;
        self.next += 1;
        self.index_version(tuple, &values);
        self.rows.insert(tuple, Row { versions: vec![Version { values, made, ended: None }], lockers: Vec::new() });
        self.versions += 1;
        tuple
    }

    /// The place that the next new row gets.
    pub(super) fn next_id(&self) -> TupleId {
        self.next
    }

    pub(super) fn update(&mut self, tuple: TupleId, values: Arc<[Value]>, stamp: Stamp) {
        let row = self.rows.get_mut(&tuple).expect("a locked row exists");
        let before = &row.newest().values;
        for (columns, data) in &mut self.indexes {
            // An unchanged key has its entry.
            let key = key_of(columns, &values);
            if key != key_of(columns, before) {
                data.insert(key, tuple);
            }
        }
        row.versions.last_mut().expect("a row has a version").ended = Some(stamp);
        row.versions.push(Version { values, made: stamp, ended: None });
        self.versions += 1;
    }

    pub(super) fn delete(&mut self, tuple: TupleId, stamp: Stamp) {
        let row = self.rows.get_mut(&tuple).expect("a locked row exists");
        row.versions.last_mut().expect("a row has a version").ended = Some(stamp);
    }

    /// Takes back the newest version: an INSERT's or an UPDATE's.
    pub(super) fn undo_version(&mut self, tuple: TupleId) {
        let Some(row) = self.rows.get_mut(&tuple) else {
            return;
        };
        let Some(version) = row.versions.pop() else {
            return;
        };
        self.versions -= 1;
        if let Some(before) = row.versions.last_mut() {
            before.ended = None;
        }
        self.unindex(tuple, &version.values);
    }

    pub(super) fn undo_delete(&mut self, tuple: TupleId) {
        if let Some(version) = self.rows.get_mut(&tuple).and_then(|row| row.versions.last_mut()) {
            version.ended = None;
        }
    }

    /// Removes the index entries of a version that was taken out, unless another version of the row has the same key.
    fn unindex(&mut self, tuple: TupleId, values: &[Value]) {
        let row = self.rows.get(&tuple);
        for (columns, data) in &mut self.indexes {
            let key = key_of(columns, values);
            let kept = row.is_some_and(|row| row.versions.iter().any(|v| key_of(columns, &v.values) == key));
            if !kept {
                data.remove(&key, tuple);
            }
        }
        if self.rows.get(&tuple).is_some_and(|row| row.versions.is_empty() && row.lockers.is_empty()) {
            self.rows.remove(&tuple);
        }
    }

    pub(super) fn unlock(&mut self, tuple: TupleId, xid: Xid) {
        if let Some(row) = self.rows.get_mut(&tuple) {
            row.lockers.retain(|locker| locker.xid != xid);
            if row.versions.is_empty() && row.lockers.is_empty() {
                self.rows.remove(&tuple);
            }
        }
    }

    /// Removes a row whose versions and locks are all taken back.
    pub(super) fn forget_if_empty(&mut self, tuple: TupleId) {
        if self.rows.get(&tuple).is_some_and(|row| row.versions.is_empty() && row.lockers.is_empty()) {
            self.rows.remove(&tuple);
        }
    }

    /// Gives this transaction's marks on the row their number.
    pub(super) fn commit(&mut self, tuple: TupleId, by: Pid, number: CommitNumber) {
        let Some(row) = self.rows.get_mut(&tuple) else {
            return;
        };
        for version in &mut row.versions {
            if matches!(version.made, Stamp::Pending { pid, .. } if pid == by) {
                version.made = Stamp::Committed(number);
            }
            if matches!(version.ended, Some(Stamp::Pending { pid, .. }) if pid == by) {
                version.ended = Some(Stamp::Committed(number));
            }
        }
    }

    /// Drops versions that ended at or before `horizon`. Gives whether dead versions remain.
    pub(super) fn prune(&mut self, tuple: TupleId, horizon: CommitNumber) -> bool {
        let Some(row) = self.rows.get_mut(&tuple) else {
            return false;
        };
        let dead = |version: &Version| matches!(version.ended, Some(Stamp::Committed(number)) if number <= horizon);
        let mut removed = Vec::new();
        row.versions.retain(|version| {
            if dead(version) {
                removed.push(version.values.clone());
                return false;
            }
            true
        });
        self.versions -= removed.len();
        let remain = row.versions.iter().any(|version| matches!(version.ended, Some(Stamp::Committed(_))));
        for values in removed {
            self.unindex(tuple, &values);
        }
        remain
    }
}
