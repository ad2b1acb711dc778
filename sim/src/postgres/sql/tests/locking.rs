//! Who waits for whom, and what becomes of it.

use super::{Lab, Now};

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.run(0, "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)");
    lab.run(0, "INSERT INTO t SELECT g, 0 FROM generate_series(1, 5) g");
    lab
}

/// What a query that waited came to.
fn done(now: &Now) -> Vec<String> {
    match now {
        Now::Done(lines) => lines.clone(),
        Now::Waits => panic!("it waits"),
    }
}

#[test]
fn an_update_waits_for_the_row_and_sees_the_committed_value() {
    let mut lab = lab();
    lab.run(1, "BEGIN");
    lab.run(1, "UPDATE t SET v = v + 1 WHERE id = 1");
    assert_eq!(lab.send(2, "UPDATE t SET v = v + 10 WHERE id = 1 RETURNING v"), Now::Waits);
    assert_eq!(lab.engine.locks().blocking(102), [101]);
    // Readers do not wait, and see nothing yet.
    assert_eq!(lab.cells(0, "SELECT v FROM t WHERE id = 1"), ["0"]);
    lab.run(1, "COMMIT");
    let settled = lab.settle();
    assert_eq!(settled.len(), 1);
    assert_eq!(done(&settled[0].1), ["(v:int4)", ": 11", "UPDATE 1", "I"]);
    assert!(lab.engine.locks().rows().is_empty());
}

#[test]
fn after_a_rollback_the_old_value_counts() {
    let mut lab = lab();
    lab.run(1, "BEGIN");
    lab.run(1, "UPDATE t SET v = v + 1 WHERE id = 1");
    assert_eq!(lab.send(2, "UPDATE t SET v = v + 10 WHERE id = 1 RETURNING v"), Now::Waits);
    lab.run(1, "ROLLBACK");
    assert_eq!(done(&lab.settle()[0].1), ["(v:int4)", ": 10", "UPDATE 1", "I"]);
}

#[test]
fn a_row_that_no_longer_passes_where_is_left_alone() {
    let mut lab = lab();
    lab.run(1, "BEGIN");
    lab.run(1, "UPDATE t SET v = 7 WHERE id = 1");
    assert_eq!(lab.send(2, "UPDATE t SET v = 9 WHERE v = 0"), Now::Waits);
    assert_eq!(lab.send(3, "DELETE FROM t WHERE id = 1"), Now::Waits);
    lab.run(1, "COMMIT");
    let settled = lab.settle();
    assert_eq!(done(&settled[0].1), ["UPDATE 4", "I"]);
    assert_eq!(done(&settled[1].1), ["DELETE 1", "I"]);
}

#[test]
fn waiters_for_a_row_queue_in_order() {
    let mut lab = lab();
    lab.run(1, "BEGIN; UPDATE t SET v = 1 WHERE id = 1");
    for session in 2..6 {
        lab.run(session, "BEGIN");
        assert_eq!(lab.send(session, "UPDATE t SET v = v * 10 + 1 WHERE id = 1"), Now::Waits);
    }
    for session in 1..6 {
        lab.run(session, "COMMIT");
        let next = lab.settle();
        if session < 5 {
            // The first in the queue is done; the one behind it now waits for it.
            assert_eq!(next[0], (session + 1, Now::Done(vec!["UPDATE 1".to_owned(), "T".to_owned()])));
            assert!(next[1..].iter().all(|(_, now)| *now == Now::Waits));
        }
    }
    assert_eq!(lab.cells(0, "SELECT v FROM t WHERE id = 1"), ["11111"]);
    assert!(lab.engine.locks().rows().is_empty());
}

#[test]
fn a_duplicate_key_waits_for_the_inserter() {
    for (end, answer) in [
        (
            "COMMIT",
            "ERROR 23505: duplicate key value violates unique constraint \"t_pkey\" | Key (id)=(9) already exists.",
        ),
        ("ROLLBACK", "INSERT 0 1"),
    ] {
        let mut lab = lab();
        lab.run(1, "BEGIN; INSERT INTO t VALUES (9, 1)");
        assert_eq!(lab.send(2, "INSERT INTO t VALUES (9, 2)"), Now::Waits);
        assert_eq!(lab.send(3, "INSERT INTO t VALUES (9, 3) ON CONFLICT DO NOTHING"), Now::Waits);
        lab.run(1, end);
        let settled = lab.settle();
        assert_eq!(done(&settled[0].1)[0], answer);
        assert_eq!(done(&settled[1].1)[0], "INSERT 0 0");
    }
}

#[test]
fn a_key_freed_by_a_running_delete_is_waited_for() {
    let mut lab = lab();
    lab.run(1, "BEGIN; DELETE FROM t WHERE id = 1");
    assert_eq!(lab.send(2, "INSERT INTO t VALUES (1, 5)"), Now::Waits);
    lab.run(1, "COMMIT");
    assert_eq!(done(&lab.settle()[0].1), ["INSERT 0 1", "I"]);
}

#[test]
fn an_upsert_waits_and_then_updates() {
    let mut lab = lab();
    let upsert = "INSERT INTO t VALUES (9, 1) ON CONFLICT (id) DO UPDATE SET v = t.v + excluded.v RETURNING v";
    lab.run(1, "BEGIN");
    lab.run(1, upsert);
    assert_eq!(lab.send(2, upsert), Now::Waits);
    lab.run(1, "COMMIT");
    assert_eq!(done(&lab.settle()[0].1), ["(v:int4)", ": 2", "INSERT 0 1", "I"]);
}

#[test]
fn nowait_and_skip_locked() {
    let mut lab = lab();
    lab.run(1, "BEGIN; SELECT * FROM t WHERE id = 2 FOR UPDATE");
    assert_eq!(
        lab.run(2, "SELECT id FROM t WHERE id = 2 FOR UPDATE NOWAIT"),
        ["ERROR 55P03: could not obtain lock on row in relation \"t\""]
    );
    assert_eq!(lab.cells(2, "SELECT id FROM t ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 2"), ["1", "3"]);
    // Key share goes along with an update that keeps the key, and not with FOR UPDATE.
    assert_eq!(lab.cells(2, "SELECT id FROM t WHERE id = 2 FOR KEY SHARE SKIP LOCKED"), [""; 0]);
    lab.run(1, "ROLLBACK");
    lab.run(1, "BEGIN; UPDATE t SET v = 1 WHERE id = 2");
    assert_eq!(lab.cells(2, "SELECT id FROM t WHERE id = 2 FOR KEY SHARE SKIP LOCKED"), ["2"]);
}

#[test]
fn a_rollback_to_a_savepoint_lets_waiters_go_on() {
    let mut lab = lab();
    lab.run(1, "BEGIN");
    lab.run(1, "UPDATE t SET v = 1 WHERE id = 1");
    lab.run(1, "SAVEPOINT a");
    lab.run(1, "UPDATE t SET v = 1 WHERE id = 2");
    assert_eq!(lab.send(2, "UPDATE t SET v = 2 WHERE id = 2"), Now::Waits);
    assert_eq!(lab.send(3, "UPDATE t SET v = 3 WHERE id = 1"), Now::Waits);
    lab.run(1, "ROLLBACK TO a");
    let settled = lab.settle();
    assert_eq!(settled, [(2, Now::Done(vec!["UPDATE 1".to_owned(), "I".to_owned()]))]);
    lab.run(1, "COMMIT");
    assert_eq!(lab.settle().len(), 1);
    assert_eq!(lab.cells(0, "SELECT v FROM t ORDER BY id LIMIT 2"), ["3", "2"]);
}

#[test]
fn a_table_lock_queues_readers_behind_a_waiting_alter() {
    let mut lab = lab();
    lab.run(1, "BEGIN; SELECT * FROM t");
    assert_eq!(lab.send(2, "ALTER TABLE t ADD COLUMN w int DEFAULT 4"), Now::Waits);
    assert_eq!(lab.send(3, "SELECT * FROM t WHERE id = 1"), Now::Waits);
    lab.run(1, "COMMIT");
    let settled = lab.settle();
    assert_eq!(done(&settled[0].1), ["ALTER TABLE", "I"]);
    assert_eq!(done(&settled[1].1), ["(id:int4, v:int4, w:int4)", ": 1|0|4", "SELECT 1", "I"]);
}

#[test]
fn a_cancelled_waiter_leaves_nothing_behind() {
    let mut lab = lab();
    lab.run(1, "BEGIN; UPDATE t SET v = 1 WHERE id = 1");
    assert_eq!(lab.send(2, "UPDATE t SET v = 2"), Now::Waits);
    assert_eq!(lab.send(3, "UPDATE t SET v = 3 WHERE id = 1"), Now::Waits);
    lab.running.remove(&2);
    lab.engine.give_up_wait(102);
    lab.engine.abort(lab.sessions.get_mut(&2).unwrap());
    assert_eq!(lab.settle(), [(3, Now::Waits)]);
    assert!(!lab.engine.locks().rows().iter().any(|row| row.pid == 102));
    lab.run(1, "COMMIT");
    assert_eq!(done(&lab.settle()[0].1), ["UPDATE 1", "I"]);
    assert!(lab.engine.locks().rows().is_empty());
}

#[test]
fn repeatable_read_fails_where_read_committed_goes_on() {
    let mut lab = lab();
    lab.run(1, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t");
    lab.run(2, "UPDATE t SET v = 1 WHERE id = 1");
    lab.run(2, "INSERT INTO t VALUES (6, 0)");
    assert_eq!(lab.cells(1, "SELECT count(*) FROM t WHERE v = 0"), ["5"]);
    assert_eq!(
        lab.run(1, "UPDATE t SET v = 2 WHERE id = 1"),
        ["ERROR 40001: could not serialize access due to concurrent update"]
    );
    lab.run(1, "ROLLBACK");
    assert_eq!(lab.cells(1, "SELECT count(*) FROM t WHERE v = 0"), ["5"]);
}

#[test]
fn advisory_locks_wait_and_are_not_taken_twice() {
    let mut lab = lab();
    lab.run(1, "SELECT pg_advisory_lock(2)");
    assert_eq!(lab.send(2, "SELECT pg_advisory_lock(1), pg_advisory_lock(2)"), Now::Waits);
    lab.run(1, "SELECT pg_advisory_unlock(2)");
    assert_eq!(lab.settle().len(), 1);
    assert_eq!(lab.run(2, "SELECT pg_advisory_unlock(1), pg_advisory_unlock(2)")[1], ": t|t");
    assert!(lab.engine.locks().rows().is_empty());
    let report = lab.sessions[&2].report(crate::postgres::event::BackendState::Idle, Vec::new());
    assert_eq!(report.advisory_locks, 0);
}

#[test]
fn two_shares_upgraded_are_a_deadlock() {
    let mut lab = lab();
    lab.run(1, "BEGIN; UPDATE t SET v = 1 WHERE id = 1");
    lab.run(2, "BEGIN; UPDATE t SET v = 1 WHERE id = 2");
    assert_eq!(lab.send(1, "UPDATE t SET v = 1 WHERE id = 2"), Now::Waits);
    assert_eq!(lab.send(2, "UPDATE t SET v = 1 WHERE id = 1"), Now::Waits);
    let edges = lab.engine.locks_mut().deadlock(101).unwrap();
    assert_eq!(edges.len(), 2);
    lab.running.remove(&1);
    lab.engine.give_up_wait(101);
    lab.engine.abort(lab.sessions.get_mut(&1).unwrap());
    assert_eq!(done(&lab.settle()[0].1), ["UPDATE 1", "T"]);
}

#[test]
fn notifications_come_at_commit() {
    let mut lab = lab();
    lab.run(1, "LISTEN ch");
    lab.run(2, "BEGIN; NOTIFY ch, 'a'; NOTIFY ch, 'a'; NOTIFY ch, 'b'");
    assert!(lab.engine.take_notifications().is_empty());
    lab.run(2, "COMMIT");
    let payloads: Vec<String> = lab.engine.take_notifications().into_iter().map(|n| n.payload).collect();
    assert_eq!(payloads, ["a", "b"]);
    lab.run(2, "BEGIN; NOTIFY ch; ROLLBACK");
    assert!(lab.engine.take_notifications().is_empty());
}

#[test]
fn a_crash_keeps_what_was_committed() {
    let mut lab = lab();
    lab.run(0, "CREATE UNLOGGED TABLE u (a int)");
    lab.run(0, "INSERT INTO u VALUES (1)");
    lab.run(1, "BEGIN; UPDATE t SET v = 1; CREATE TABLE n (a int); CREATE TEMP TABLE x (a int)");
    lab.run(2, "BEGIN; ALTER TABLE u ADD COLUMN b int");
    lab.engine.crash();
    lab.sessions.clear();
    assert_eq!(lab.cells(0, "SELECT sum(v) FROM t"), ["0"]);
    assert_eq!(lab.cells(0, "SELECT count(*) FROM u"), ["0"]);
    assert_eq!(lab.cells(0, "SELECT relname FROM pg_class WHERE relkind = 'r' ORDER BY 1"), ["t", "u"]);
    assert_eq!(lab.engine.row_versions(), 5);
}

#[test]
fn dead_versions_do_not_pile_up() {
    let mut lab = lab();
    for _ in 0..1000 {
        lab.run(0, "UPDATE t SET v = v + 1 WHERE id = 1");
        lab.run(0, "INSERT INTO t VALUES (10, 0)");
        lab.run(0, "DELETE FROM t WHERE id = 10");
    }
    assert_eq!(lab.engine.row_versions(), 5);
    // A repeatable-read snapshot keeps them, as long as it lives.
    lab.run(1, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t");
    for _ in 0..10 {
        lab.run(0, "UPDATE t SET v = v + 1 WHERE id = 1");
    }
    assert_eq!(lab.engine.row_versions(), 15);
    assert_eq!(lab.cells(1, "SELECT v FROM t WHERE id = 1"), ["1000"]);
    lab.run(1, "COMMIT");
    assert_eq!(lab.engine.row_versions(), 5);
}

#[test]
fn a_cost_is_slept_once_and_nothing_is_done_twice() {
    let mut lab = lab();
    let before = *lab.host.elapsed.borrow();
    lab.run(0, "UPDATE t SET v = v + 1 /* slow */");
    assert_eq!((*lab.host.elapsed.borrow() - before).as_millis(), 25);
    assert_eq!(lab.cells(0, "SELECT sum(v) FROM t"), ["5"]);
    let before = *lab.host.elapsed.borrow();
    lab.run(0, "SELECT pg_sleep(0.5), pg_sleep(1)");
    assert_eq!((*lab.host.elapsed.borrow() - before).as_millis(), 1500);
}

#[test]
fn a_standby_refuses_writes() {
    let mut lab = lab();
    lab.host.standby = true;
    assert_eq!(
        lab.run(1, "INSERT INTO t VALUES (7, 7)"),
        ["ERROR 25006: cannot execute INSERT in a read-only transaction"]
    );
    assert_eq!(lab.cells(1, "SELECT count(*) FROM t"), ["5"]);
}
