//! The lock table: who holds what, who waits behind whom, and who is woken by a release.
//!
//! The rules are those of lock.c and proc.c; where PostgreSQL leaves an order to its hash tables (in which order the
//! locks of an ending transaction are released), the order here is that of acquisition.
//!
//! A `SELECT` takes and releases one weak lock, so that path is short: a lookup of the session, one of the object, and no
//! allocation once both have been used before.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{Edge, Grant, Hold, LockRow, Mode, Patience, Tag};
use crate::postgres::event::Pid;

/// As many objects are kept in the index, used or not, before relations are forgotten, too.
const MOST_KEPT: usize = 1024;

/// A point in a transaction, for [`LockTable::release_since`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// The heavyweight locks of one server.
#[derive(Debug, Clone)]
pub struct LockTable {
    objects: Vec<Object>,
    free_objects: Vec<usize>,
    object_index: HashMap<Tag, usize, BuildHasherDefault<FixedHasher>>,
    sessions: Vec<Session>,
    free_sessions: Vec<usize>,
    session_index: HashMap<Pid, usize, BuildHasherDefault<FixedHasher>>,
    granted: Vec<Pid>,
    /// Counts acquisitions, so that a [`Mark`] tells the earlier from the later ones.
    clock: u64,
    /// Whether a request that need not wait in the end is granted although it said NOWAIT (PostgreSQL 17).
    nowait_overtakes: bool,
}

/// A lockable object that someone holds or waits for (`LOCK`).
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) tag: Tag,
    /// Who holds it or waits for it, in the order of their first request (`PROCLOCK`).
    pub(super) claims: Vec<Claim>,
    /// How many sessions hold each mode.
    granted: [u32; 8],
    granted_mask: u8,
    pub(super) queue: Vec<Waiter>,
}

/// One session's share in an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) pid: Pid,
    /// The modes it holds; none while it waits for its first.
    pub(super) held: u8,
}

/// A request in an object's queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) pid: Pid,
    pub(super) mode: Mode,
    hold: Hold,
}

/// One backend (`PGPROC`).
#[derive(Debug, Default, Clone)]
struct Session {
    pid: Pid,
    /// In the order of acquisition.
    held: Vec<Held>,
    /// The object in whose queue it is.
    waiting: Option<usize>,
    /// A grant from the queue that was not asked for again yet: the next such request does not count a second time.
    pickup: Option<(Tag, Mode, Hold)>,
}

/// A lock in one mode, held by one session (`LOCALLOCK`).
#[derive(Debug, Clone, Copy)]
struct Held {
    object: usize,
    tag: Tag,
    mode: Mode,
    /// How often it was taken to the end of the transaction.
    transaction: u32,
    /// How often it was taken to the end of the session.
    session: u32,
    /// When `transaction` last left zero.
    since: u64,
}

impl Default for LockTable {
    fn default() -> Self {
        LockTable::new()
    }
}

impl LockTable {
    /// An empty table with the rules of PostgreSQL 15.
    #[must_use]
    pub fn new() -> Self {
        LockTable::for_version(15)
    }

    /// An empty table with the rules of a major version.
    ///
    /// Up to 16 a NOWAIT request is refused when a waiter's request conflicts with it, even if the session may overtake
    /// that waiter because of what it holds already; since 17 it is granted then.
    #[must_use]
    pub fn for_version(major: u32) -> Self {
        LockTable {
            objects: Vec::new(),
            free_objects: Vec::new(),
            object_index: HashMap::default(),
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            session_index: HashMap::default(),
            granted: Vec::new(),
            clock: 1,
            nowait_overtakes: major >= 17,
        }
    }

    /// Asks for a lock. Locks are re-entrant and counted: each `Granted` wants an `unlock` of its own, unless the end of
    /// the transaction or session takes care of it.
    ///
    /// After [`Grant::Queued`] the same request may be repeated at any time: it answers `Queued` as long as the session
    /// waits, and once the lock was granted from the queue the first repetition answers `Granted` without counting a
    /// second time. So a statement that is executed again from its start after a wait ends up with one lock.
    ///
    /// # Panics
    ///
    /// When `pid` waits for another lock: a backend waits for one lock at a time.
    pub fn lock(&mut self, pid: Pid, tag: Tag, mode: Mode, hold: Hold, patience: Patience) -> Grant {
        let session = self.session(pid);
        let state = &mut self.sessions[session];
        if let Some(object) = state.waiting {
            let object = &self.objects[object];
            assert!(
                object.tag == tag && object.waiter(pid).is_some_and(|w| w.mode == mode),
                "backend {pid} asks for {mode} on {tag} while it waits for {}",
                object.tag
            );
            return Grant::Queued;
        }
        let picked_up = state.pickup.take() == Some((tag, mode, hold));

        // What does the session hold of this object?
        let mut known = None;
        for held in state.held.iter_mut().rev() {
            if held.tag == tag {
                if held.mode == mode {
                    if !picked_up {
                        held.count(hold, &mut self.clock);
                    }
                    return Grant::Granted;
                }
                known = Some(held.object);
            }
        }

        let object = known.unwrap_or_else(|| self.object(tag));
        let entry = &self.objects[object];
        if mode.conflict_mask() & (entry.granted_mask | entry.wait_mask()) != 0 {
            let own = if known.is_some() { entry.own(pid) } else { 0 };
            let in_the_way = mode.conflict_mask() & entry.wait_mask() != 0 || entry.held_by_others(mode, own);
            if in_the_way {
                return self.wait_or_overtake(object, session, mode, hold, patience, own);
            }
        }
        self.grant(object, session, mode, hold);
        Grant::Granted
    }

    /// `ProcSleep`: finds the place in the queue, which may turn out to be no wait at all, or a deadlock.
    fn wait_or_overtake(
        &mut self,
        object: usize,
        session: usize,
        mode: Mode,
        hold: Hold,
        patience: Patience,
        own: u8,
    ) -> Grant {
        let pid = self.sessions[session].pid;
        if patience == Patience::NoWait && !self.nowait_overtakes {
            self.forget_if_unused(object);
            return Grant::Refused;
        }
        let entry = &self.objects[object];
        let mut place = entry.queue.len();
        let mut ahead = 0;
        for (index, waiter) in entry.queue.iter().enumerate() {
            if waiter.mode.conflict_mask() & own == 0 {
                ahead |= waiter.mode.bit();
                continue;
            }
            // It must wait for me, so I go first, unless I must wait for it, too.
            if mode.conflict_mask() & entry.own(waiter.pid) != 0 {
                if patience == Patience::NoWait {
                    return Grant::Refused;
                }
                let tag = entry.tag;
                return Grant::Deadlock(Box::new([
                    Edge { waiter: pid, mode, tag, blocker: waiter.pid },
                    Edge { waiter: waiter.pid, mode: waiter.mode, tag, blocker: pid },
                ]));
            }
            if mode.conflict_mask() & ahead == 0 && !entry.held_by_others(mode, own) {
                self.grant(object, session, mode, hold);
                return Grant::Granted;
            }
            place = index;
            break;
        }
        if patience == Patience::NoWait {
            self.forget_if_unused(object);
            return Grant::Refused;
        }
        let entry = &mut self.objects[object];
        if own == 0 {
            entry.claims.push(Claim { pid, held: 0 });
        }
        entry.queue.insert(place, Waiter { pid, mode, hold });
        self.sessions[session].waiting = Some(object);
        Grant::Queued
    }

    /// What the session waits for.
    #[must_use]
    pub fn waiting_for(&self, pid: Pid) -> Option<(Tag, Mode)> {
        let (object, waiter) = self.wait_of(pid)?;
        Some((object.tag, waiter.mode))
    }

    /// Leaves the queue, if in one: on a timeout, a cancel or a deadlock. Others may be granted what they wait for.
    pub fn give_up(&mut self, pid: Pid) {
        let Some(&session) = self.session_index.get(&pid) else {
            return;
        };
        let Some(object) = self.sessions[session].waiting.take() else {
            return;
        };
        let entry = &mut self.objects[object];
        entry.queue.retain(|waiter| waiter.pid != pid);
        entry.claims.retain(|claim| claim.pid != pid || claim.held != 0);
        self.wake(object);
        self.forget_if_unused(object);
    }

    /// Gives back one acquisition. False when `pid` does not hold the lock in this mode for this long; PostgreSQL then
    /// warns "you don't own a lock of type …".
    pub fn unlock(&mut self, pid: Pid, tag: Tag, mode: Mode, hold: Hold) -> bool {
        let Some(&session) = self.session_index.get(&pid) else {
            return false;
        };
        let state = &mut self.sessions[session];
        state.pickup = None;
        let Some(index) = state.held.iter().rposition(|held| held.tag == tag && held.mode == mode) else {
            return false;
        };
        let held = &mut state.held[index];
        let count = match hold {
            Hold::Transaction => &mut held.transaction,
            Hold::Session => &mut held.session,
        };
        if *count == 0 {
            return false;
        }
        *count -= 1;
        if held.transaction == 0 && held.session == 0 {
            let held = state.held.remove(index);
            self.ungrant(pid, held);
        }
        true
    }

    /// The end of a transaction, by COMMIT or ROLLBACK: everything taken with [`Hold::Transaction`] is released, and the
    /// queue is left. Advisory locks go last.
    pub fn release_transaction(&mut self, pid: Pid) {
        self.release_since(pid, Mark(0));
    }

    /// The moment of a SAVEPOINT.
    #[must_use]
    pub fn mark(&self, _pid: Pid) -> Mark {
        Mark(self.clock)
    }

    /// ROLLBACK TO SAVEPOINT: releases what was first taken in this transaction after `mark`.
    pub fn release_since(&mut self, pid: Pid, mark: Mark) {
        let Some(&session) = self.session_index.get(&pid) else {
            return;
        };
        if self.sessions[session].waiting.is_some() {
            self.give_up(pid);
        }
        let state = &mut self.sessions[session];
        state.pickup = None;
        if state.held.is_empty() {
            return;
        }
        // Taken out and put back, because the releases wake other sessions. Nobody gives `pid` a lock meanwhile.
        let mut held = std::mem::take(&mut state.held);
        for advisory in [false, true] {
            held.retain_mut(|held| {
                if held.tag.is_advisory() == advisory && held.transaction > 0 && held.since >= mark.0 {
                    held.transaction = 0;
                    if held.session == 0 {
                        self.ungrant(pid, *held);
                        return false;
                    }
                }
                true
            });
            if held.is_empty() {
                break;
            }
        }
        self.sessions[session].held = held;
    }

    /// Makes a lock survive a ROLLBACK TO a savepoint it was taken after. PostgreSQL does this for the id of the top-level
    /// transaction when the first write happens inside a savepoint.
    pub fn keep(&mut self, pid: Pid, tag: Tag, mode: Mode) {
        if let Some(&session) = self.session_index.get(&pid) {
            for held in &mut self.sessions[session].held {
                if held.tag == tag && held.mode == mode {
                    held.since = 0;
                }
            }
        }
    }

    /// `pg_advisory_unlock_all`, and DISCARD ALL: the session-level advisory locks, however often taken.
    pub fn release_session_advisory(&mut self, pid: Pid) {
        let Some(&session) = self.session_index.get(&pid) else {
            return;
        };
        let state = &mut self.sessions[session];
        state.pickup = None;
        let mut held = std::mem::take(&mut state.held);
        held.retain_mut(|held| {
            if held.tag.is_advisory() && held.session > 0 {
                held.session = 0;
                if held.transaction == 0 {
                    self.ungrant(pid, *held);
                    return false;
                }
            }
            true
        });
        self.sessions[session].held = held;
    }

    /// The backend is gone: it leaves its queue, everything is released, and it is no longer reported as granted.
    pub fn release_all(&mut self, pid: Pid) {
        self.give_up(pid);
        let Some(session) = self.session_index.remove(&pid) else {
            return;
        };
        let state = &mut self.sessions[session];
        state.pickup = None;
        let mut held = std::mem::take(&mut state.held);
        for advisory in [false, true] {
            for held in held.iter().filter(|held| held.tag.is_advisory() == advisory) {
                self.ungrant(pid, *held);
            }
        }
        held.clear();
        self.sessions[session].held = held;
        self.free_sessions.push(session);
        self.granted.retain(|granted| *granted != pid);
    }

    /// The sessions whose wait ended by a grant since the last call, in the order of the grants.
    pub fn take_granted(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.granted)
    }

    /// `pg_blocking_pids`: who holds what `pid` waits for in a conflicting mode, and who waits for it ahead of `pid` with
    /// a conflicting request. Ascending; empty when `pid` does not wait.
    #[must_use]
    pub fn blocking(&self, pid: Pid) -> Vec<Pid> {
        let Some((object, waiter)) = self.wait_of(pid) else {
            return Vec::new();
        };
        let conflicts = waiter.mode.conflict_mask();
        let holders =
            object.claims.iter().filter(|claim| claim.pid != pid && claim.held & conflicts != 0).map(|claim| claim.pid);
        let ahead = object
            .queue
            .iter()
            .take_while(|other| other.pid != pid)
            .filter(|other| other.mode.bit() & conflicts != 0)
            .map(|other| other.pid);
        let mut blocking: Vec<Pid> = holders.chain(ahead).collect();
        blocking.sort_unstable();
        blocking.dedup();
        blocking
    }

    /// The deadlock check of one waiter (`DeadLockCheck`): is `pid` in a cycle of waits now?
    ///
    /// A cycle that exists only because of the order of a queue is no deadlock: the queue is rearranged, and those who
    /// can go on are granted their locks. Of a real one the edges are returned, in the order of the error's DETAIL,
    /// beginning with `pid`; the caller then lets `pid` [give up](LockTable::give_up) and abort.
    pub fn deadlock(&mut self, pid: Pid) -> Option<Vec<Edge>> {
        match super::deadlock::check(self, pid) {
            super::deadlock::Outcome::Hard(edges) => Some(edges),
            super::deadlock::Outcome::Rearranged(orders) => {
                for (object, order) in orders {
                    let queue = &mut self.objects[object].queue;
                    let place = |waiter: &Waiter| order.iter().position(|pid| *pid == waiter.pid);
                    queue.sort_by_key(place);
                    self.wake(object);
                }
                None
            }
        }
    }

    /// `pg_locks`, ordered by object, session and mode.
    #[must_use]
    pub fn rows(&self) -> Vec<LockRow> {
        let mut rows = Vec::new();
        for object in &self.objects {
            let row = |pid, mode, granted| LockRow { tag: object.tag, pid, mode, granted };
            for claim in &object.claims {
                let held = Mode::ALL.into_iter().filter(|m| claim.held & m.bit() != 0);
                rows.extend(held.map(|mode| row(claim.pid, mode, true)));
            }
            rows.extend(object.queue.iter().map(|w| row(w.pid, w.mode, false)));
        }
        rows.sort_unstable();
        rows
    }

    /// The locks that a session holds, in the order of acquisition; a lock taken for both durations appears twice.
    pub fn held(&self, pid: Pid) -> impl Iterator<Item = (Tag, Mode, Hold)> + '_ {
        let session = self.session_index.get(&pid);
        let held = session.map_or(&[][..], |&session| &self.sessions[session].held);
        held.iter().flat_map(|held| {
            let transaction = (held.transaction > 0).then_some((held.tag, held.mode, Hold::Transaction));
            let session = (held.session > 0).then_some((held.tag, held.mode, Hold::Session));
            transaction.into_iter().chain(session)
        })
    }

    /// Whether a session holds a lock in this mode, for whatever time.
    #[must_use]
    pub fn holds(&self, pid: Pid, tag: Tag, mode: Mode) -> bool {
        self.held(pid).any(|(t, m, _)| t == tag && m == mode)
    }

    /// How many session-level advisory locks a session holds, as rows of `pg_locks` (a lock taken twice counts once).
    #[must_use]
    pub fn session_advisory(&self, pid: Pid) -> u32 {
        let held = self.held(pid);
        let count = held.filter(|(tag, _, hold)| tag.is_advisory() && *hold == Hold::Session).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The queue entry of a waiting session, and the object it waits for.
    fn wait_of(&self, pid: Pid) -> Option<(&Object, Waiter)> {
        let (_, object) = self.awaited(pid)?;
        Some((object, object.waiter(pid)?))
    }

    /// The object that a session waits for, and its index.
    pub(super) fn awaited(&self, pid: Pid) -> Option<(usize, &Object)> {
        let session = *self.session_index.get(&pid)?;
        let index = self.sessions[session].waiting?;
        Some((index, &self.objects[index]))
    }

    pub(super) fn object_at(&self, index: usize) -> &Object {
        &self.objects[index]
    }

    fn session(&mut self, pid: Pid) -> usize {
        if let Some(&session) = self.session_index.get(&pid) {
            return session;
        }
        let session = self.free_sessions.pop().unwrap_or_else(|| {
            self.sessions.push(Session::default());
            self.sessions.len() - 1
        });
        self.sessions[session].pid = pid;
        self.session_index.insert(pid, session);
        session
    }

    fn object(&mut self, tag: Tag) -> usize {
        if let Some(&object) = self.object_index.get(&tag) {
            return object;
        }
        let object = self.free_objects.pop().unwrap_or_else(|| {
            self.objects.push(Object { tag, claims: Vec::new(), granted: [0; 8], granted_mask: 0, queue: Vec::new() });
            self.objects.len() - 1
        });
        self.objects[object].tag = tag;
        self.object_index.insert(tag, object);
        object
    }

    /// Gives the entry of an object back that nobody holds or waits for. Relations keep theirs, as they will be locked
    /// again, unless there are very many.
    fn forget_if_unused(&mut self, object: usize) {
        let entry = &self.objects[object];
        let keep = matches!(entry.tag, Tag::Relation(_)) && self.object_index.len() <= MOST_KEPT;
        if entry.claims.is_empty() && entry.queue.is_empty() && !keep {
            self.object_index.remove(&entry.tag);
            self.free_objects.push(object);
        }
    }

    /// Enters a lock that the session does not hold yet in this mode.
    fn grant(&mut self, object: usize, session: usize, mode: Mode, hold: Hold) {
        let entry = &mut self.objects[object];
        let state = &mut self.sessions[session];
        entry.granted[mode as usize] += 1;
        entry.granted_mask |= mode.bit();
        match entry.claims.iter_mut().find(|claim| claim.pid == state.pid) {
            Some(claim) => claim.held |= mode.bit(),
            None => entry.claims.push(Claim { pid: state.pid, held: mode.bit() }),
        }
        let mut held = Held { object, tag: entry.tag, mode, transaction: 0, session: 0, since: 0 };
        held.count(hold, &mut self.clock);
        state.held.push(held);
    }

    /// Takes a lock, already gone from the session's list, out of the object, and wakes whom that lets go on.
    fn ungrant(&mut self, pid: Pid, held: Held) {
        let entry = &mut self.objects[held.object];
        let bit = held.mode.bit();
        entry.granted[held.mode as usize] -= 1;
        if entry.granted[held.mode as usize] == 0 {
            entry.granted_mask &= !bit;
        }
        let claim = entry.claims.iter().position(|claim| claim.pid == pid);
        let claim = claim.expect("who holds a lock has a claim to its object");
        entry.claims[claim].held &= !bit;
        if entry.claims[claim].held == 0 && entry.waiter(pid).is_none() {
            entry.claims.remove(claim);
        }
        // Only a waiter that conflicts with what was released can be better off now.
        if held.mode.conflict_mask() & entry.wait_mask() != 0 {
            self.wake(held.object);
        }
        self.forget_if_unused(held.object);
    }

    /// `ProcLockWakeup`: walks the queue and grants what conflicts neither with held locks nor with a request that stays
    /// ahead in the queue.
    fn wake(&mut self, object: usize) {
        let mut ahead = 0;
        let mut index = 0;
        while let Some(&Waiter { pid, mode, hold }) = self.objects[object].queue.get(index) {
            let entry = &mut self.objects[object];
            if mode.conflict_mask() & ahead != 0 || entry.held_by_others(mode, entry.own(pid)) {
                ahead |= mode.bit();
                index += 1;
                continue;
            }
            entry.queue.remove(index);
            let tag = entry.tag;
            let session = self.session(pid);
            self.sessions[session].waiting = None;
            self.sessions[session].pickup = Some((tag, mode, hold));
            self.grant(object, session, mode, hold);
            self.granted.push(pid);
        }
    }
}

#[cfg(test)]
impl LockTable {
    /// Objects known, and objects in use.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.objects.len(), self.object_index.len())
    }

    pub(super) fn granted_so_far(&self) -> &[Pid] {
        &self.granted
    }

    /// The waiters of all queues, one queue after the other.
    pub(super) fn queue_order(&self) -> Vec<Pid> {
        let waiters = self.objects.iter().flat_map(|object| &object.queue);
        waiters.map(|waiter| waiter.pid).collect()
    }
}

impl Object {
    fn waiter(&self, pid: Pid) -> Option<Waiter> {
        self.queue.iter().copied().find(|waiter| waiter.pid == pid)
    }

    /// The modes that waiters ask for.
    fn wait_mask(&self) -> u8 {
        self.queue.iter().fold(0, |mask, w| mask | w.mode.bit())
    }

    /// The modes that `pid` holds.
    fn own(&self, pid: Pid) -> u8 {
        let claim = self.claims.iter().find(|claim| claim.pid == pid);
        claim.map_or(0, |claim| claim.held)
    }

    /// Whether someone other than the holder of `own` holds a mode that conflicts with `mode` (`LockCheckConflicts`).
    fn held_by_others(&self, mode: Mode, own: u8) -> bool {
        let conflicts = mode.conflict_mask() & self.granted_mask;
        conflicts != 0
            && Mode::ALL.into_iter().any(|held| {
                let mine = u32::from(own & held.bit() != 0);
                conflicts & held.bit() != 0 && self.granted[held as usize] > mine
            })
    }
}

impl Held {
    fn count(&mut self, hold: Hold, clock: &mut u64) {
        match hold {
            Hold::Session => self.session += 1,
            Hold::Transaction => {
                if self.transaction == 0 {
                    self.since = *clock;
                    *clock += 1;
                }
                self.transaction += 1;
            }
        }
    }
}

/// A fast hash without a random key: the order of the maps is never looked at, and their keys are the simulator's own.
#[derive(Debug, Default, Clone)]
pub(in crate::postgres) struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_i32(&mut self, word: i32) {
        self.write_u64(u64::from(word as u32));
    }

    fn write_i64(&mut self, word: i64) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}
