//! Scenarios played on a PostgreSQL 15.18 with psql sessions; what it did is what is asserted.

use super::Grant::{Granted, Queued, Refused};
use super::*;

const T: Tag = Tag::Relation(16389);
const U: Tag = Tag::Relation(16394);

fn ask(table: &mut LockTable, pid: Pid, tag: Tag, mode: Mode) -> Grant {
    table.lock(pid, tag, mode, Hold::Transaction, Patience::Queue)
}

fn now(table: &mut LockTable, pid: Pid, tag: Tag, mode: Mode) -> Grant {
    table.lock(pid, tag, mode, Hold::Transaction, Patience::NoWait)
}

fn session(table: &mut LockTable, pid: Pid, tag: Tag, mode: Mode) -> Grant {
    table.lock(pid, tag, mode, Hold::Session, Patience::Queue)
}

fn detail(edges: &[Edge]) -> String {
    let lines: Vec<String> = edges.iter().map(Edge::to_string).collect();
    lines.join("\n")
}

/// The table of <https://www.postgresql.org/docs/15/explicit-locking.html#TABLE-LOCK-COMPATIBILITY>.
#[test]
fn modes_conflict_as_documented() {
    let documented = [
        "       x", "      xx", "    xxxx", "   xxxxx", "  xx xxx", "  xxxxxx", " xxxxxxx",
        "xxxxxxxx",
    ];
    for (mode, row) in Mode::ALL.into_iter().zip(documented) {
        let ours = Mode::ALL.map(|other| if mode.conflicts(other) { 'x' } else { ' ' });
        assert_eq!(String::from_iter(ours), row, "{mode}");
    }
}

/// A reader holds the table, ALTER waits, two more readers wait behind it: `{reader}`, `{alter}`, `{alter}`. The ALTER
/// gave up on its lock_timeout and both readers went on in the same moment.
#[test]
fn readers_wait_behind_a_waiting_alter() {
    let mut table = LockTable::new();
    assert_eq!(ask(&mut table, 1, T, Mode::AccessShare), Granted);
    assert_eq!(ask(&mut table, 2, T, Mode::AccessExclusive), Queued);
    assert_eq!(ask(&mut table, 3, T, Mode::AccessShare), Queued);
    assert_eq!(ask(&mut table, 4, T, Mode::AccessShare), Queued);
    assert_eq!(
        [2, 3, 4].map(|pid| table.blocking(pid)),
        [vec![1], vec![2], vec![2]]
    );
    assert_eq!(table.waiting_for(3), Some((T, Mode::AccessShare)));
    assert_eq!(now(&mut table, 5, T, Mode::AccessShare), Refused);
    table.give_up(2);
    assert_eq!(table.take_granted(), [3, 4]);
    assert_eq!(table.take_granted(), []);
    assert_eq!(table.waiting_for(2), None);
}

/// A holds ACCESS SHARE, B waits for ACCESS EXCLUSIVE; A's LOCK … IN ROW EXCLUSIVE MODE returned at once.
#[test]
fn a_holder_overtakes_who_waits_for_it() {
    let mut table = LockTable::new();
    ask(&mut table, 1, T, Mode::AccessShare);
    assert_eq!(ask(&mut table, 2, T, Mode::AccessExclusive), Queued);
    assert_eq!(ask(&mut table, 1, T, Mode::RowExclusive), Granted);
    // By the source of 15: with NOWAIT the queue is not looked at more closely; since 17 it is.
    assert_eq!(now(&mut table, 1, T, Mode::RowShare), Refused);
    let mut table = LockTable::for_version(17);
    ask(&mut table, 1, T, Mode::AccessShare);
    ask(&mut table, 2, T, Mode::AccessExclusive);
    assert_eq!(now(&mut table, 1, T, Mode::RowShare), Granted);
}

/// Two sessions hold SHARE and both ask for EXCLUSIVE: the second one failed at once, not after deadlock_timeout, and the
/// first went on when the second had rolled back.
#[test]
fn two_upgrades_are_a_deadlock_at_once() {
    let mut table = LockTable::new();
    ask(&mut table, 2565, T, Mode::Share);
    ask(&mut table, 2575, T, Mode::Share);
    assert_eq!(ask(&mut table, 2565, T, Mode::Exclusive), Queued);
    let Grant::Deadlock(edges) = ask(&mut table, 2575, T, Mode::Exclusive) else {
        panic!("no deadlock");
    };
    assert_eq!(
        detail(&*edges),
        "Process 2575 waits for ExclusiveLock on relation 16389 of database 5; blocked by process 2565.\n\
         Process 2565 waits for ExclusiveLock on relation 16389 of database 5; blocked by process 2575."
    );
    assert_eq!(table.waiting_for(2575), None);
    table.release_transaction(2575);
    assert_eq!(table.take_granted(), [2565]);
}

/// Observed for two tables, for two rows, and for advisory locks; the victim was the one whose check came first.
#[test]
fn a_deadlock_is_described_from_its_victim_on() {
    let mut table = LockTable::new();
    ask(&mut table, 2565, T, Mode::Exclusive);
    ask(&mut table, 2575, U, Mode::Exclusive);
    ask(&mut table, 2565, U, Mode::Exclusive);
    assert_eq!(table.deadlock(2565), None);
    ask(&mut table, 2575, T, Mode::Exclusive);
    assert_eq!(
        detail(&table.deadlock(2565).expect("a cycle")),
        "Process 2565 waits for ExclusiveLock on relation 16394 of database 5; blocked by process 2575.\n\
         Process 2575 waits for ExclusiveLock on relation 16389 of database 5; blocked by process 2565."
    );
    table.release_all(2565);
    assert_eq!(table.take_granted(), [2575]);

    let edge = |mode, tag| Edge {
        waiter: 1,
        mode,
        tag,
        blocker: 2,
    };
    for (edge, on) in [
        (
            edge(Mode::Share, Tag::Transaction(742)),
            "ShareLock on transaction 742",
        ),
        (
            edge(Mode::Exclusive, Tag::AdvisoryPair(-3, 7)),
            "ExclusiveLock on advisory lock [5,4294967293,7,2]",
        ),
        (
            edge(Mode::Exclusive, Tag::AdvisoryBig(-1)),
            "ExclusiveLock on advisory lock [5,4294967295,4294967295,1]",
        ),
        (
            edge(Mode::Exclusive, Tag::Tuple(16389, 1)),
            "ExclusiveLock on tuple (0,2) of relation 16389 of database 5",
        ),
    ] {
        assert_eq!(
            edge.to_string(),
            format!("Process 1 waits for {on}; blocked by process 2.")
        );
    }
}

/// A reads T, B waits to alter T, C (which altered U) waits to read T behind B, A waits to read U. That is a cycle by the
/// order of the queue only: A's check let C pass B, and `pg_blocking_pids` of B became `{A,C}`.
#[test]
fn a_soft_deadlock_is_resolved_by_rearranging_the_queue() {
    let (a, b, c) = (2565, 2575, 2590);
    let mut table = LockTable::new();
    ask(&mut table, a, T, Mode::AccessShare);
    ask(&mut table, c, U, Mode::AccessExclusive);
    ask(&mut table, b, T, Mode::AccessExclusive);
    ask(&mut table, c, T, Mode::AccessShare);
    ask(&mut table, a, U, Mode::AccessShare);
    assert_eq!(
        [a, b, c].map(|pid| table.blocking(pid)),
        [vec![c], vec![a], vec![b]]
    );
    assert_eq!(table.deadlock(a), None);
    assert_eq!(table.take_granted(), [c]);
    assert_eq!([a, b].map(|pid| table.blocking(pid)), [vec![c], vec![a, c]]);
}

/// Session and transaction locks on one key are one row of pg_locks; two session locks want two unlocks, the transaction's
/// own ends with it; a third unlock is false.
#[test]
fn advisory_locks_are_counted_by_duration() {
    let mut table = LockTable::new();
    let key = Tag::AdvisoryBig(1);
    session(&mut table, 1, key, Mode::Exclusive);
    ask(&mut table, 1, key, Mode::Exclusive);
    session(&mut table, 1, key, Mode::Exclusive);
    assert_eq!(table.rows().len(), 1);
    assert_eq!(table.held(1).count(), 2);
    table.release_transaction(1);
    let unlock = |table: &mut LockTable| table.unlock(1, key, Mode::Exclusive, Hold::Session);
    assert_eq!(table.session_advisory(1), 1);
    assert_eq!(
        [unlock(&mut table), unlock(&mut table), unlock(&mut table)],
        [true, true, false]
    );
    assert_eq!(table.rows(), []);
}

/// A and B share key 2, C wants it exclusively: `pg_try_advisory_lock_shared` was false for D and true for B, which had it
/// already. A's request for the exclusive lock went before C's and was granted when B unlocked.
#[test]
fn shared_advisory_locks_queue_like_others() {
    let (a, b, c, d) = (2565, 2575, 2590, 2593);
    let mut table = LockTable::new();
    let key = Tag::AdvisoryBig(2);
    session(&mut table, a, key, Mode::Share);
    session(&mut table, b, key, Mode::Share);
    assert_eq!(session(&mut table, c, key, Mode::Exclusive), Queued);
    assert_eq!(now(&mut table, d, key, Mode::Share), Refused);
    assert_eq!(
        table.lock(b, key, Mode::Share, Hold::Session, Patience::NoWait),
        Granted
    );
    assert_eq!(table.blocking(c), [a, b]);
    assert_eq!(session(&mut table, a, key, Mode::Exclusive), Queued);
    assert_eq!(
        (table.blocking(a), table.blocking(c)),
        (vec![b], vec![a, b])
    );
    table.release_session_advisory(b);
    assert_eq!(table.take_granted(), [a]);
    let rows: Vec<_> = table
        .rows()
        .iter()
        .map(|row| (row.pid, row.mode, row.granted))
        .collect();
    assert_eq!(
        rows,
        [
            (a, Mode::Share, true),
            (a, Mode::Exclusive, true),
            (c, Mode::Exclusive, false)
        ]
    );
    table.release_session_advisory(a);
    assert_eq!(table.take_granted(), [c]);
}

/// After ROLLBACK TO: the lock from before the savepoint was still there, although taken again after it, and the session's
/// advisory lock, too; the table and the transaction's advisory lock were free.
#[test]
fn rollback_to_a_savepoint_releases_what_came_after_it() {
    let mut table = LockTable::new();
    ask(&mut table, 1, U, Mode::Share);
    let savepoint = table.mark(1);
    ask(&mut table, 1, T, Mode::Exclusive);
    ask(&mut table, 1, U, Mode::Share);
    ask(&mut table, 1, Tag::AdvisoryBig(9), Mode::Exclusive);
    session(&mut table, 1, Tag::AdvisoryBig(10), Mode::Exclusive);
    ask(&mut table, 1, Tag::Transaction(7), Mode::Exclusive);
    table.keep(1, Tag::Transaction(7), Mode::Exclusive);
    assert_eq!(ask(&mut table, 2, T, Mode::Share), Queued);
    table.release_since(1, savepoint);
    assert_eq!(table.take_granted(), [2]);
    let held: Vec<Tag> = table.held(1).map(|(tag, ..)| tag).collect();
    assert_eq!(held, [U, Tag::AdvisoryBig(10), Tag::Transaction(7)]);
}

#[test]
fn a_repeated_request_after_a_wait_counts_once() {
    let mut table = LockTable::new();
    session(&mut table, 1, T, Mode::Exclusive);
    assert_eq!(session(&mut table, 2, T, Mode::Exclusive), Queued);
    assert_eq!(session(&mut table, 2, T, Mode::Exclusive), Queued);
    table.release_all(1);
    assert_eq!(session(&mut table, 2, T, Mode::Exclusive), Granted);
    assert!(table.unlock(2, T, Mode::Exclusive, Hold::Session));
    assert!(!table.unlock(2, T, Mode::Exclusive, Hold::Session));
}

/// Not a test of speed, but the steady state keeps no trace of what was locked.
#[test]
fn nothing_is_left_of_released_locks() {
    let mut table = LockTable::new();
    for round in 0..1000 {
        for pid in 1..=3 {
            ask(&mut table, pid, Tag::Transaction(round), Mode::Share);
        }
        for pid in 1..=3 {
            table.release_transaction(pid);
        }
    }
    assert_eq!(table.sizes(), (1, 0));
}

/// Measures the path of a `SELECT`: `cargo test --release -p poolproof-sim --lib -- --ignored uncontended --nocapture`.
#[test]
#[ignore = "prints a time, which depends on the machine"]
fn uncontended_lock_and_release() {
    let mut table = LockTable::new();
    for pid in 1..100 {
        session(&mut table, pid, U, Mode::AccessShare);
    }
    let rounds = 10_000_000;
    let start = std::time::Instant::now();
    for round in 0..rounds {
        let pid = 1 + round % 99;
        assert_eq!(ask(&mut table, pid, T, Mode::AccessShare), Granted);
        table.release_transaction(pid);
    }
    println!("{} ns", start.elapsed().as_nanos() / rounds as u128);
}
