//! A session's leftovers as far as the wire tells: what would surprise its next user.
//!
//! Known are the effects of successful statements ([`super::effect`]), the names of Parse, Bind and Close, and the settings that
//! the server reports by ParameterStatus, whose values are compared with those at the session's start. A setting that is not
//! reported counts as left over once it was SET, also to the value that it had. Advisory locks are told apart by the text of their
//! keys: those whose key is a parameter count as one.

use std::collections::{BTreeMap, BTreeSet};

use poolproof_sim::postgres::event::{BackendState, SessionReport};

use super::effect::Effect;

/// What a transaction's rollback takes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Transactional {
    settings: BTreeSet<String>,
    /// Those of SET LOCAL.
    local: BTreeSet<String>,
    temporary: BTreeSet<String>,
    channels: BTreeSet<String>,
    /// LISTEN (true) and UNLISTEN take effect at the commit; UNLISTEN without a name is that of all.
    listens: Vec<(bool, Option<String>)>,
}

/// The leftovers of one session.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    now: Transactional,
    /// As it was when the transaction began; `None` while nothing of it has changed.
    before: Option<Transactional>,
    savepoints: Vec<(String, Transactional)>,
    /// Settings that the server reports, by their names in lower case.
    reported: BTreeMap<String, Reported>,
    prepared: BTreeSet<String>,
    portals: BTreeMap<String, Portal>,
    /// How often each is held.
    advisory: BTreeMap<String, u32>,
}

/// A setting as the server reports it.
#[derive(Debug)]
struct Reported {
    name: String,
    /// Its value when the session began.
    start: String,
    now: String,
}

/// A portal of the extended protocol, or a cursor.
#[derive(Debug, Clone, Copy)]
struct Portal {
    /// WITH HOLD
    hold: bool,
    /// Of the transaction that goes on.
    fresh: bool,
}

/// Settings that RESET ALL leaves alone.
const ROLES: [&str; 2] = ["role", "session_authorization"];

impl Leftovers {
    /// The server reported a setting's value; `starting` before the first ReadyForQuery.
    pub(super) fn parameter(&mut self, name: String, value: String, starting: bool) {
        let key = name.to_lowercase();
        let known =
            self.reported.entry(key).or_insert_with(|| Reported { name, start: value.clone(), now: String::new() });
        if starting {
            known.start.clone_from(&value);
        }
        known.now = value;
    }

    /// Parse succeeded.
    pub(super) fn parsed(&mut self, name: &str) {
        if !name.is_empty() {
            self.prepared.insert(name.to_owned());
        }
    }

    /// Bind succeeded.
    pub(super) fn bound(&mut self, portal: &str) {
        if !portal.is_empty() {
            self.portals.insert(portal.to_owned(), Portal { hold: false, fresh: true });
        }
    }

    /// Close succeeded, of a statement (`S`) or of a portal (`P`).
    pub(super) fn closed(&mut self, kind: u8, name: &str) {
        match kind {
            b'S' => drop(self.prepared.remove(name)),
            _ => drop(self.portals.remove(name)),
        }
    }

    /// A statement succeeded. `result` is the first byte of its last row's first column.
    pub(super) fn done(&mut self, effect: Effect, result: Option<u8>) {
        // `t` in text, 1 in binary.
        let is_true = matches!(result, Some(b't' | 1));
        match effect {
            Effect::Nothing => {}
            Effect::Set(name) => {
                self.change().local.remove(&name);
                self.now.settings.insert(name);
            }
            Effect::SetLocal(name) => drop(self.change().local.insert(name)),
            Effect::Reset(name) => {
                self.change().local.remove(&name);
                self.now.settings.remove(&name);
            }
            Effect::ResetAll => {
                let is_role = |name: &String| ROLES.contains(&name.as_str());
                self.change().local.retain(is_role);
                self.now.settings.retain(is_role);
            }
            Effect::DiscardAll => {
                // Not allowed in a transaction: nothing takes it back.
                *self = Leftovers { reported: std::mem::take(&mut self.reported), ..Leftovers::default() };
            }
            Effect::DiscardTemporary => self.change().temporary.clear(),
            Effect::Listen(channel) => self.change().listens.push((true, Some(channel))),
            Effect::Unlisten(channel) => self.change().listens.push((false, Some(channel))),
            Effect::UnlistenAll => self.change().listens.push((false, None)),
            Effect::Prepare(name) => drop(self.prepared.insert(name)),
            Effect::Deallocate(name) => drop(self.prepared.remove(&name)),
            Effect::DeallocateAll => self.prepared.clear(),
            Effect::CreateTemporary(name) => drop(self.change().temporary.insert(name)),
            Effect::DropTables(names) => self.change().temporary.retain(|name| !names.contains(name)),
            Effect::Declare { name, hold } => drop(self.portals.insert(name, Portal { hold, fresh: true })),
            Effect::Close(name) => drop(self.portals.remove(&name)),
            Effect::CloseAll => self.portals.clear(),
            Effect::Savepoint(name) => self.savepoints.push((name, self.now.clone())),
            Effect::Release(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(known, _)| *known == name) {
                    self.savepoints.truncate(at);
                }
            }
            Effect::RollbackTo(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(known, _)| *known == name) {
                    self.now.clone_from(&self.savepoints[at].1);
                    self.savepoints.truncate(at + 1);
                }
            }
            Effect::AdvisoryLock { key, tried } if !tried || is_true => *self.advisory.entry(key).or_default() += 1,
            Effect::AdvisoryLock { .. } => {}
            Effect::AdvisoryUnlock(key) => {
                if let Some(held) = self.advisory.get_mut(&key).filter(|_| is_true) {
                    *held -= 1;
                    self.advisory.retain(|_, held| *held > 0);
                }
            }
            Effect::AdvisoryUnlockAll => self.advisory.clear(),
        }
    }

    fn change(&mut self) -> &mut Transactional {
        if self.before.is_none() {
            self.before = Some(self.now.clone());
        }
        &mut self.now
    }

    /// Whether the transaction has a savepoint.
    pub(super) fn has_savepoint(&self) -> bool {
        !self.savepoints.is_empty()
    }

    /// A statement of a transaction block failed: what came after its last savepoint, or all of it, is undone at once.
    pub(super) fn fail(&mut self) {
        match self.savepoints.last() {
            Some((_, savepoint)) => self.now.clone_from(savepoint),
            None => self.now = self.before.take().unwrap_or_else(|| std::mem::take(&mut self.now)),
        }
    }

    /// The transaction is over.
    pub(super) fn end_transaction(&mut self, committed: bool) {
        if let Some(before) = self.before.take()
            && !committed
        {
            self.now = before;
        }
        for (listen, channel) in std::mem::take(&mut self.now.listens) {
            match (listen, channel) {
                (true, Some(channel)) => drop(self.now.channels.insert(channel)),
                (_, Some(channel)) => drop(self.now.channels.remove(&channel)),
                (_, None) => self.now.channels.clear(),
            }
        }
        self.now.local.clear();
        self.savepoints.clear();
        self.portals.retain(|_, portal| portal.hold && (committed || !portal.fresh));
        self.portals.values_mut().for_each(|portal| portal.fresh = false);
    }

    /// The leftovers now.
    pub(super) fn report(&self, state: BackendState) -> SessionReport {
        let mut settings: Vec<String> = self
            .now
            .settings
            .union(&self.now.local)
            .filter(|name| !self.reported.contains_key(*name))
            .cloned()
            .collect();
        // The role is told by its own name, and changes what is reported of it.
        let of_a_role = |name: &str| {
            name == "is_superuser"
                && ROLES.iter().any(|role| self.now.settings.contains(*role) || self.now.local.contains(*role))
        };
        settings.extend(
            self.reported
                .iter()
                .filter(|(name, of)| of.start != of.now && !of_a_role(name))
                .map(|(_, of)| of.name.clone()),
        );
        settings.sort();
        SessionReport {
            state,
            settings,
            prepared: self.prepared.iter().cloned().collect(),
            temporary_tables: self.now.temporary.iter().cloned().collect(),
            channels: self.now.channels.iter().cloned().collect(),
            advisory_locks: u32::try_from(self.advisory.len()).unwrap_or(u32::MAX),
            portals: self.portals.keys().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(leftovers: &Leftovers) -> Vec<String> {
        leftovers.report(BackendState::Idle).settings
    }

    #[test]
    fn a_rollback_takes_back_what_is_transactional() {
        let mut left = Leftovers::default();
        left.done(Effect::Set("work_mem".into()), None);
        left.end_transaction(true);
        left.done(Effect::ResetAll, None);
        left.done(Effect::Listen("jobs".into()), None);
        left.done(Effect::Prepare("q".into()), None);
        left.done(Effect::AdvisoryLock { key: "1".into(), tried: false }, None);
        left.end_transaction(false);
        let report = left.report(BackendState::Idle);
        assert_eq!((report.settings, report.channels), (vec!["work_mem".to_owned()], Vec::new()));
        assert_eq!((report.prepared, report.advisory_locks), (vec!["q".to_owned()], 1));
    }

    #[test]
    fn a_savepoint_takes_back_what_came_after_it() {
        let mut left = Leftovers::default();
        left.done(Effect::Set("a".into()), None);
        left.done(Effect::Savepoint("s".into()), None);
        left.done(Effect::Set("b".into()), None);
        left.done(Effect::RollbackTo("s".into()), None);
        left.end_transaction(true);
        assert_eq!(settings(&left), ["a"]);
    }

    #[test]
    fn a_reported_setting_counts_by_its_value() {
        let mut left = Leftovers::default();
        left.parameter("TimeZone".into(), "UTC".into(), true);
        left.done(Effect::Set("timezone".into()), None);
        assert_eq!(settings(&left), Vec::<String>::new(), "set to what it was");
        left.parameter("TimeZone".into(), "CET".into(), false);
        assert_eq!(settings(&left), ["TimeZone"]);
    }

    #[test]
    fn a_lock_that_was_not_got_is_none() {
        let mut left = Leftovers::default();
        let tried = |key: &str| Effect::AdvisoryLock { key: key.to_owned(), tried: true };
        left.done(tried("1"), Some(b'f'));
        left.done(tried("2"), Some(b't'));
        left.done(tried("2"), Some(1));
        left.done(Effect::AdvisoryUnlock("2".to_owned()), Some(0));
        left.done(Effect::AdvisoryUnlock("2".to_owned()), Some(1));
        assert_eq!(left.report(BackendState::Idle).advisory_locks, 1);
    }
}
