//! What a superuser sees of the others: their rows of `pg_stat_activity` and of `pg_locks`.
//!
//! Of the locks those count that a client's statements wait for: on tables, rows, transactions and advisory ones. Those on
//! indexes, on the catalogues and on other objects (`object`, `extend`) are left out: the simulated server has none.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::Names;

pub(crate) const SNAPSHOT_SQL: &str = "\
    SELECT pid, state, wait_event_type, wait_event FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid(); \
    SELECT pid, locktype, mode, granted, relation, page, tuple, transactionid, classid, objid, objsubid FROM pg_locks \
    WHERE pid <> pg_backend_pid(); \
    SELECT oid, relname, relkind FROM pg_class WHERE relnamespace = 2200 OR relnamespace > 16000; \
    SELECT oid, datname FROM pg_database";

/// The first object id that is not the system's.
pub(crate) const FIRST_NORMAL_OID: i64 = 16384;

#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    backends: BTreeMap<String, Backend>,
    /// Each as often as it is held.
    locks: BTreeMap<String, usize>,
    /// What was told of it so far.
    told: BTreeSet<String>,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Snapshot) -> bool {
        (&self.backends, &self.locks) == (&other.backends, &other.locks)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Backend {
    state: Option<String>,
    wait: Option<(String, String)>,
}

type Row = Vec<Option<String>>;

impl Snapshot {
    /// From the answers to [`SNAPSHOT_SQL`].
    pub(crate) fn read(sets: &[Vec<Row>], names: &mut Names) -> Result<Snapshot, String> {
        let [activity, locks, relations, databases] = sets else {
            return Err(format!("four results are expected, not {}", sets.len()));
        };
        let number = |row: &Row, at: usize| row[at].as_deref().and_then(|text| text.parse::<i64>().ok());
        let text = |row: &Row, at: usize| row[at].clone().unwrap_or_default();
        let mut indexes = BTreeSet::new();
        for row in relations {
            names.know_relation(number(row, 0).unwrap_or(0), &text(row, 1));
            if row[2].as_deref() == Some("i") {
                indexes.insert(number(row, 0));
            }
        }
        for row in databases {
            names.know_database(number(row, 0).unwrap_or(0), &text(row, 1));
        }
        let client = |row: &Row, names: &Names| names.client(number(row, 0).unwrap_or(0)).map(str::to_owned);
        let mut snapshot = Snapshot::default();
        for row in activity {
            if let Some(client) = client(row, names) {
                let wait = row[2].clone().map(|kind| (kind, text(row, 3)));
                snapshot.backends.insert(client, Backend { state: row[1].clone(), wait });
            }
        }
        // Whose transactions they are must be known before they are named.
        for row in locks.iter().filter(|row| row[1].as_deref() == Some("transactionid") && text(row, 2) == "ExclusiveLock") {
            if let (Some(client), Some(xid)) = (client(row, names), number(row, 7)) {
                names.know_transaction(xid, &client);
            }
        }
        for row in locks {
            let Some(client) = client(row, names) else { continue };
            let relation = number(row, 4);
            if relation.is_some_and(|oid| oid < FIRST_NORMAL_OID) || (relation.is_some() && indexes.contains(&relation)) {
                continue;
            }
            let relation = relation.map_or(String::new(), |oid| names.relation(oid));
            let what = match row[1].as_deref().unwrap_or_default() {
                "relation" => format!("relation {relation}"),
                "tuple" => format!("tuple ({},{}) of relation {relation}", text(row, 5), text(row, 6)),
                "transactionid" => format!("transaction of {}", names.transaction(number(row, 7).unwrap_or(0))),
                "virtualxid" => "a virtual transaction".to_owned(),
                "advisory" => format!("advisory lock [{},{},{}]", text(row, 8), text(row, 9), text(row, 10)),
                _ => continue,
            };
            let holds = if row[3].as_deref() == Some("t") { "holds" } else { "waits for" };
            *snapshot.locks.entry(format!("{client} {holds} {} on {what}", text(row, 2))).or_default() += 1;
        }
        Ok(snapshot)
    }

    /// Takes a newer one's place; what was told stays told.
    pub(crate) fn replace(&mut self, newer: Snapshot) {
        let told = std::mem::take(&mut self.told);
        *self = Snapshot { told, ..newer };
    }

    /// A backend is at work, and waits for nothing.
    pub(crate) fn is_busy(&self) -> bool {
        let busy = |backend: &Backend| backend.state.as_deref().is_none_or(|state| state == "active") && backend.wait.is_none();
        self.backends.values().any(busy)
    }

    /// The client's statement waits for a lock, for time, or for the client to read.
    pub(crate) fn is_blocked(&self, client: &str) -> bool {
        let wait = self.backends.get(client).and_then(|backend| backend.wait.as_ref());
        wait.is_some_and(|(kind, event)| ["Lock", "Timeout"].contains(&kind.as_str()) || event == "ClientWrite")
    }

    /// Lines on what changed since the last call.
    pub(crate) fn news(&mut self) -> Vec<String> {
        let mut now = BTreeSet::new();
        for (client, backend) in &self.backends {
            let state = backend.state.as_deref().unwrap_or("without a state");
            now.insert(match &backend.wait {
                Some((kind, event)) => format!("{client} is {state} ({kind}: {event})"),
                None => format!("{client} is {state}"),
            });
        }
        for (lock, times) in &self.locks {
            now.insert(if *times == 1 { lock.clone() } else { format!("{lock}, {times} times") });
        }
        let mut news: Vec<String> = now.difference(&self.told).cloned().collect();
        news.extend(self.told.difference(&now).filter(|line| line.contains(" holds ") || line.contains(" waits for ")).map(|line| format!("no more: {line}")));
        let named = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
        let had: BTreeSet<String> = self.told.iter().filter(|line| line.contains(" is ")).map(named).collect();
        news.extend(had.iter().filter(|client| !self.backends.contains_key(*client)).map(|client| format!("{client} has no backend any more")));
        self.told = now;
        news
    }
}
