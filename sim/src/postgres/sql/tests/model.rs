//! Random histories against naive models.

use proptest::prelude::*;

use super::{Lab, Now, TransactionStatus};
use std::collections::BTreeMap;

/// What a session may do.
#[derive(Debug, Clone)]
enum Op {
    Begin,
    Commit,
    Rollback,
    Savepoint(u8),
    Release(u8),
    RollbackTo(u8),
    Put(i64),
    Add(i64),
    Remove(i64),
    Fail,
    Truncate,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Begin),
        2 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        2 => (0..3u8).prop_map(Op::Savepoint),
        1 => (0..3u8).prop_map(Op::Release),
        2 => (0..3u8).prop_map(Op::RollbackTo),
        5 => (0..4i64).prop_map(Op::Put),
        5 => (0..4i64).prop_map(Op::Add),
        3 => (0..4i64).prop_map(Op::Remove),
        1 => Just(Op::Fail),
        1 => Just(Op::Truncate),
    ]
}

type Rows = BTreeMap<i64, i64>;

/// One session on a table of its own: a transaction is a copy of the table, a savepoint another.
#[derive(Debug, Default)]
struct Model {
    committed: Rows,
    block: Option<Rows>,
    failed: bool,
    savepoints: Vec<(u8, Rows)>,
}

impl Model {
    fn end(&mut self, commit: bool) {
        let rows = self.block.take();
        if let (Some(rows), true) = (rows, commit && !self.failed) {
            self.committed = rows;
        }
        self.failed = false;
        self.savepoints.clear();
    }

    /// Gives whether the statement succeeds.
    fn run(&mut self, op: &Op) -> bool {
        if self.failed && !matches!(op, Op::Commit | Op::Rollback | Op::RollbackTo(_)) {
            return false;
        }
        let ok = match op {
            Op::Begin => {
                if self.block.is_none() {
                    self.block = Some(self.committed.clone());
                }
                true
            }
            Op::Commit => {
                self.end(true);
                true
            }
            Op::Rollback => {
                self.end(false);
                true
            }
            Op::Savepoint(name) => match &self.block {
                Some(rows) => {
                    self.savepoints.push((*name, rows.clone()));
                    true
                }
                None => false,
            },
            Op::Release(name) => match self.savepoints.iter().rposition(|(other, _)| other == name) {
                Some(at) => {
                    self.savepoints.truncate(at);
                    true
                }
                None => false,
            },
            Op::RollbackTo(name) => match self.savepoints.iter().rposition(|(other, _)| other == name) {
                Some(at) => {
                    self.savepoints.truncate(at + 1);
                    self.block = Some(self.savepoints[at].1.clone());
                    self.failed = false;
                    true
                }
                None => false,
            },
            Op::Put(key) => {
                let rows = self.block.as_mut().unwrap_or(&mut self.committed);
                let free = !rows.contains_key(key);
                if free {
                    rows.insert(*key, 0);
                }
                free
            }
            Op::Add(key) => {
                let rows = self.block.as_mut().unwrap_or(&mut self.committed);
                if let Some(value) = rows.get_mut(key) {
                    *value += 1;
                }
                true
            }
            Op::Remove(key) => {
                self.block.as_mut().unwrap_or(&mut self.committed).remove(key);
                true
            }
            Op::Truncate => {
                self.block.as_mut().unwrap_or(&mut self.committed).clear();
                true
            }
            Op::Fail => false,
        };
        if !ok && self.block.is_some() {
            self.failed = true;
        }
        ok
    }
}

fn sql(op: &Op, table: &str) -> String {
    match op {
        Op::Begin => "BEGIN".to_owned(),
        Op::Commit => "COMMIT".to_owned(),
        Op::Rollback => "ROLLBACK".to_owned(),
        Op::Savepoint(name) => format!("SAVEPOINT s{name}"),
        Op::Release(name) => format!("RELEASE s{name}"),
        Op::RollbackTo(name) => format!("ROLLBACK TO s{name}"),
        Op::Put(key) => format!("INSERT INTO {table} VALUES ({key}, 0)"),
        Op::Add(key) => format!("UPDATE {table} SET v = v + 1 WHERE id = {key}"),
        Op::Remove(key) => format!("DELETE FROM {table} WHERE id = {key}"),
        Op::Fail => "SELECT 1/0".to_owned(),
        Op::Truncate => format!("TRUNCATE {table}"),
    }
}

fn rows(lab: &mut Lab, session: usize, table: &str) -> Rows {
    let cells = lab.cells(session, &format!("SELECT id || ',' || v FROM {table}"));
    cells
        .iter()
        .map(|cell| {
            let (id, v) = cell.split_once(',').unwrap();
            (id.parse().unwrap(), v.parse().unwrap())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn transactions_do_what_copies_of_the_table_do(history in prop::collection::vec((0..2usize, op()), 1..60)) {
        let mut lab = Lab::new();
        let tables = ["a", "b"];
        for table in tables {
            lab.run(9, &format!("CREATE TABLE {table} (id int PRIMARY KEY, v int)"));
        }
        let mut models = [Model::default(), Model::default()];
        for (session, op) in &history {
            let model = &mut models[*session];
            let expected = model.run(op);
            let lines = lab.run(*session, &sql(op, tables[*session]));
            let failed = lines.iter().any(|line| line.starts_with("ERROR"));
            prop_assert_eq!(!failed, expected, "{:?}: {:?}", op, lines);
            let status = match (&model.block, model.failed) {
                (None, _) => TransactionStatus::Idle,
                (Some(_), false) => TransactionStatus::InTransaction,
                (Some(_), true) => TransactionStatus::Failed,
            };
            prop_assert_eq!(lab.sessions[session].status(), status);
            let (committed, own, failed) = (model.committed.clone(), model.block.clone(), model.failed);
            if !failed {
                let seen = rows(&mut lab, *session, tables[*session]);
                prop_assert_eq!(&seen, own.as_ref().unwrap_or(&committed));
            }
            if !matches!(op, Op::Truncate) && !history.iter().any(|(_, op)| matches!(op, Op::Truncate)) {
                let seen = rows(&mut lab, 8, tables[*session]);
                prop_assert_eq!(&seen, &committed);
            }
        }
        for session in 0..2 {
            lab.run(session, "ROLLBACK");
            let seen = rows(&mut lab, session, tables[session]);
            prop_assert_eq!(&seen, &models[session].committed);
        }
        prop_assert!(lab.engine.locks().rows().is_empty());
        let live: usize = models.iter().map(|model| model.committed.len()).sum();
        prop_assert_eq!(lab.engine.row_versions(), live);
    }

    /// Transfers between accounts by three sessions, a statement at a time in random order: whoever waits is resumed when
    /// its lock is granted, a deadlock is broken when its waiter's turn comes; no money is made or lost.
    #[test]
    fn transfers_keep_the_sum(schedule in prop::collection::vec((0..3usize, 0..4i64, 0..4i64, 0..3u8), 1..120)) {
        let mut lab = Lab::new();
        lab.run(9, "CREATE TABLE acc (id int PRIMARY KEY, v int NOT NULL)");
        lab.run(9, "INSERT INTO acc SELECT g, 100 FROM generate_series(0, 3) g");
        let mut todo: [Vec<String>; 3] = Default::default();
        for (session, from, to, how) in schedule {
            let pid = 100 + i32::try_from(session).unwrap();
            if lab.running.contains_key(&session) {
                // It waits: look for a deadlock, as its timer would.
                if lab.engine.locks_mut().deadlock(pid).is_some() {
                    lab.running.remove(&session);
                    lab.engine.give_up_wait(pid);
                    lab.engine.abort(lab.sessions.get_mut(&session).unwrap());
                    todo[session] = vec!["ROLLBACK".to_owned()];
                }
                lab.settle();
                continue;
            }
            if todo[session].is_empty() {
                let add = |id: i64, by: i64| format!("UPDATE acc SET v = v + {by} WHERE id = {id}");
                let steps = match how {
                    0 => vec!["BEGIN".to_owned(), add(from, -1), add(to, 1), "COMMIT".to_owned()],
                    1 => vec![
                        "BEGIN".to_owned(),
                        format!("SELECT v FROM acc WHERE id = {to} FOR UPDATE"),
                        add(from, -1),
                        "SAVEPOINT s".to_owned(),
                        add(from, 50),
                        "ROLLBACK TO s".to_owned(),
                        add(to, 1),
                        "COMMIT".to_owned(),
                    ],
                    _ => vec![format!(
                        "UPDATE acc SET v = v - CASE id WHEN {from} THEN 1 ELSE 0 END + CASE id WHEN {to} THEN 1 ELSE 0 END"
                    )],
                };
                todo[session] = steps.into_iter().rev().collect();
            }
            let next = todo[session].pop().unwrap();
            let now = lab.send(session, &next);
            if let Now::Done(lines) = now {
                prop_assert!(!lines.iter().any(|line| line.starts_with("ERROR")), "{}: {:?}", next, lines);
            }
            for (_, now) in lab.settle() {
                if let Now::Done(lines) = now {
                    prop_assert!(!lines.iter().any(|line| line.starts_with("ERROR")), "{:?}", lines);
                }
            }
        }
        for session in 0..3 {
            if lab.running.remove(&session).is_some() {
                lab.engine.give_up_wait(100 + i32::try_from(session).unwrap());
                lab.engine.abort(lab.sessions.get_mut(&session).unwrap());
                lab.settle();
            }
            lab.send(session, "ROLLBACK");
            lab.settle();
        }
        prop_assert_eq!(lab.cells(9, "SELECT sum(v) FROM acc"), ["400"]);
        prop_assert_eq!(lab.engine.row_versions(), 4);
        prop_assert!(lab.engine.locks().rows().is_empty());
    }
}

#[test]
fn a_waiting_statement_is_told_apart_from_a_finished_one() {
    let mut lab = Lab::new();
    lab.run(0, "SELECT pg_advisory_lock(1)");
    assert_eq!(lab.send(1, "SELECT pg_advisory_lock(1)"), Now::Waits);
}
