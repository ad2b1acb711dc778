//! What no wire shows, asked of the server itself: who waits for whose lock, and which backends live on unseen.
//!
//! The samples come on a connection of their own, beside the proxy. A sample is older than what the tap saw meanwhile, so it counts for a
//! session only if the tap saw nothing of it between question and answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use poolproof_sim::postgres::event::{BackendState, Pid};

use super::Proxy;
use super::desk::{Desk, Session};
use super::tap::Tap;

/// A superuser's look at a server, past the proxy.
#[async_trait]
pub trait Asks: Send + Sync + 'static {
    /// Runs one statement and gives its rows as text, NULL as `None`.
    ///
    /// # Errors
    /// Why there is no answer, as a sentence.
    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String>;
}

/// The client backends: pid, state, `wait_event_type`, `pg_blocking_pids`, and the lock that is waited for, in the words of the
/// server's log (`DescribeLockTag` in lmgr.c).
pub const ACTIVITY: &str = "\
SELECT a.pid, a.state, a.wait_event_type, \
       CASE WHEN a.wait_event_type = 'Lock' THEN array_to_string(pg_blocking_pids(a.pid), ',') END, \
       CASE WHEN a.wait_event_type = 'Lock' THEN ( \
         SELECT l.mode || ' on ' || CASE l.locktype \
           WHEN 'relation' THEN format('relation %s of database %s', l.relation, l.database) \
           WHEN 'extend' THEN format('extension of relation %s of database %s', l.relation, l.database) \
           WHEN 'page' THEN format('page %s of relation %s of database %s', l.page, l.relation, l.database) \
           WHEN 'tuple' THEN format('tuple (%s,%s) of relation %s of database %s', l.page, l.tuple, l.relation, l.database) \
           WHEN 'transactionid' THEN format('transaction %s', l.transactionid) \
           WHEN 'virtualxid' THEN format('virtual transaction %s', l.virtualxid) \
           WHEN 'object' THEN format('object %s of class %s of database %s', l.objid, l.classid, l.database) \
           WHEN 'advisory' THEN format('advisory lock [%s,%s,%s,%s]', l.database, l.classid, l.objid, l.objsubid) \
           ELSE l.locktype END \
         FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted LIMIT 1) END \
FROM pg_stat_activity a WHERE a.backend_type = 'client backend'";

/// A row of [`ACTIVITY`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    state: Option<BackendState>,
    /// Who holds the lock that it waits for, and which that is.
    waits: Option<(Vec<Pid>, String)>,
}

/// Samples one server.
pub struct Sampler {
    desk: Arc<Desk>,
    server: String,
    asks: Arc<dyn Asks>,
    /// Sessions that the last sample missed, and what the tap had seen of them then.
    missing: BTreeMap<Pid, u64>,
}

impl Sampler {
    /// Of the upstream of this name.
    #[must_use]
    pub fn new(proxy: &Proxy, server: &str, asks: Arc<dyn Asks>) -> Sampler {
        let desk = Arc::clone(&proxy.shared.desk);
        desk.is_sampled(server);
        Sampler { desk, server: server.to_owned(), asks, missing: BTreeMap::new() }
    }

    /// Samples for ever.
    pub async fn run(mut self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A server that is down answers nothing; its sessions' ends are seen on the wire.
            let _ = self.sample().await;
        }
    }

    /// Takes one sample, and tells what comes of it.
    ///
    /// # Errors
    /// Why the server did not answer, or what is wrong with its answer.
    pub async fn sample(&mut self) -> Result<(), String> {
        let before: Vec<(Pid, Arc<Session>, u64)> = self
            .desk
            .sessions_of(&self.server)
            .into_iter()
            .map(|(pid, session)| {
                let seen = session.look(Tap::seen);
                (pid, session, seen)
            })
            .collect();
        if before.is_empty() {
            return Ok(());
        }
        let answer = self.asks.query(ACTIVITY).await?;
        let mut rows = answer.iter().map(|row| read(row)).collect::<Result<BTreeMap<Pid, Row>, String>>()?;
        let missed = std::mem::take(&mut self.missing);
        for (pid, session, seen) in before {
            let unseen = session.unseen().is_some();
            if !unseen && session.look(Tap::seen) != seen {
                continue;
            }
            match rows.remove(&pid) {
                Some(row) => apply(&session, row, unseen, seen),
                // A backend's end is on its way to the tap, or nobody will ever tell.
                None if unseen || missed.get(&pid) == Some(&seen) => session.found_gone(),
                None => drop(self.missing.insert(pid, seen)),
            }
        }
        Ok(())
    }
}

fn apply(session: &Arc<Session>, row: Row, unseen: bool, seen: u64) {
    session.see(|tap, out| {
        if !unseen && tap.seen() != seen {
            return;
        }
        if let Some(state) = row.state.filter(|_| unseen) {
            tap.state_from_elsewhere(state, out);
        }
        match row.waits {
            Some((by, on)) => tap.block(by, on, out),
            None => tap.unblock(out),
        }
    });
}

fn read(row: &[Option<String>]) -> Result<(Pid, Row), String> {
    let [pid, state, wait, by, on] = row else { return Err(format!("{} columns instead of 5", row.len())) };
    let pid = pid.as_deref().and_then(|pid| pid.parse().ok()).ok_or_else(|| format!("no process id: {pid:?}"))?;
    let state = match state.as_deref() {
        Some("active" | "fastpath function call") => Some(BackendState::Active),
        Some("idle") => Some(BackendState::Idle),
        Some("idle in transaction") => Some(BackendState::IdleInTransaction),
        Some("idle in transaction (aborted)") => Some(BackendState::IdleInTransactionAborted),
        _ => None,
    };
    let mut by: Vec<Pid> = by.as_deref().unwrap_or_default().split(',').filter_map(|pid| pid.parse().ok()).collect();
    by.sort_unstable();
    by.dedup();
    let waits = match (wait.as_deref(), on) {
        // Granted between the look at the activity and that at the locks.
        (Some("Lock"), None) => None,
        (Some("Lock"), Some(on)) => Some((by, on.clone())),
        _ => None,
    };
    Ok((pid, Row { state, waits }))
}
