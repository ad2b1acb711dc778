//! What a server is doing, as its log and its process tell.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::postgres::event::Lifecycle;
use tokio::sync::{broadcast, watch};

use super::error::ServerError;
use super::log::Entry;

/// So many lines of the log are kept for what is said when a start fails.
const KEPT: usize = 12;
/// So many lines may a follower of the log be behind.
const BEHIND: usize = 4096;

/// One server's life.
pub(super) struct Life {
    lifecycle: watch::Sender<Lifecycle>,
    changes: broadcast::Sender<Lifecycle>,
    /// Whether there is a process, and how the last one ended.
    process: watch::Sender<Process>,
    /// Whether it is a standby.
    in_recovery: watch::Sender<bool>,
    log: broadcast::Sender<Entry>,
    last: Mutex<VecDeque<String>>,
    hot_standby: bool,
}

/// The server's process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Process {
    /// There is one.
    Lives,
    /// There is none; how it ended.
    Ended(String),
}

impl Life {
    /// Of a server that is down. Without `hot_standby` a standby runs when its data are consistent.
    pub(super) fn new(hot_standby: bool) -> Life {
        Life {
            lifecycle: watch::Sender::new(Lifecycle::Down),
            changes: broadcast::Sender::new(BEHIND),
            process: watch::Sender::new(Process::Ended("it was not started".to_owned())),
            in_recovery: watch::Sender::new(false),
            log: broadcast::Sender::new(BEHIND),
            last: Mutex::default(),
            hot_standby,
        }
    }

    pub(super) fn lifecycle(&self) -> Lifecycle {
        *self.lifecycle.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Lifecycle> {
        self.lifecycle.subscribe()
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Lifecycle> {
        self.changes.subscribe()
    }

    pub(super) fn in_recovery(&self) -> watch::Receiver<bool> {
        self.in_recovery.subscribe()
    }

    pub(super) fn follow_log(&self) -> broadcast::Receiver<Entry> {
        self.log.subscribe()
    }

    pub(super) fn enter(&self, next: Lifecycle) {
        self.lifecycle.send_if_modified(|now| {
            let changes = std::mem::replace(now, next) != next;
            if changes {
                // Under the watch's lock, so that the order is the same. An error says that nobody follows.
                let _ = self.changes.send(next);
            }
            changes
        });
    }

    /// A process was started.
    pub(super) fn started(&self) {
        self.last.lock().clear();
        self.process.send_replace(Process::Lives);
    }

    /// The process and all its children are gone.
    pub(super) fn ended(&self, how: String) {
        // In this order: who waits for the end of the process finds it down.
        self.enter(Lifecycle::Down);
        self.process.send_replace(Process::Ended(how));
    }

    /// A line of the log.
    pub(super) fn line(&self, line: &str) {
        let entry = Entry::parse(line);
        {
            let mut last = self.last.lock();
            if last.len() == KEPT {
                last.pop_front();
            }
            last.push_back(
                entry
                    .as_ref()
                    .map_or_else(|| line.trim().to_owned(), |entry| format!("{}: {}", entry.severity, entry.message)),
            );
        }
        let Some(entry) = entry else { return };
        if let Some(next) = entry.lifecycle(self.lifecycle(), self.hot_standby) {
            self.enter(next);
        }
        if let Some(next) = entry.in_recovery() {
            self.in_recovery.send_if_modified(|now| std::mem::replace(now, next) != next);
        }
        // An error says that nobody follows.
        let _ = self.log.send(entry);
    }

    /// Until it takes sessions. Error: it ended, or it takes longer than `limit`.
    pub(super) async fn running(&self, limit: Duration) -> Result<(), ServerError> {
        let (mut lifecycle, mut process) = (self.lifecycle.subscribe(), self.process.subscribe());
        let running = async {
            loop {
                if *lifecycle.borrow_and_update() == Lifecycle::Running {
                    return Ok(());
                }
                if let Process::Ended(how) = &*process.borrow_and_update() {
                    return Err(ServerError::Failed(format!("the server does not run: {how}{}", self.last_words())));
                }
                tokio::select! {
                    _ = lifecycle.changed() => {}
                    _ = process.changed() => {}
                }
            }
        };
        tokio::time::timeout(limit, running).await.unwrap_or_else(|_| {
            let (now, last) = (self.lifecycle().as_str(), self.last_words());
            Err(ServerError::Failed(format!("after {} s the server is {now}{last}", limit.as_secs())))
        })
    }

    /// Until there is no process of it.
    pub(super) async fn down(&self) {
        let mut process = self.process.subscribe();
        // It can't be closed: this has the other end.
        let _ = process.wait_for(|process| matches!(process, Process::Ended(_))).await;
    }

    fn last_words(&self) -> String {
        let last = self.last.lock();
        let words: Vec<&str> = last.iter().map(String::as_str).filter(|words| !words.is_empty()).collect();
        if words.is_empty() { String::new() } else { format!("; its log ends with: {}", words.join(" / ")) }
    }
}
