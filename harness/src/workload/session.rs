//! A thread's session: SQLAlchemy's `scoped_session`, a registry with one session for each thread.
//!
//! Modelled: the session takes its connection at the first statement and begins a transaction there; `commit` and
//! `rollback` end the transaction and return the connection; what is not ended stays with the *thread* when the actor's
//! task is over, and the thread's next task finds it. A failed flush rolls the transaction back and leaves a session that
//! refuses all work with SQLAlchemy's `PendingRollbackError`, without asking the server, until it is rolled back or
//! removed. Threads are the workers of a closed loop; any other actor is a thread of its own, which ends with it, and its
//! session with it. Left out: objects and their states, savepoints, autoflush: what a session sends is what the scenario
//! says.

use std::sync::Arc;

use super::actor::{Actor, Failed, Grip, How, StepResult};
use super::program::Effect;
use crate::trace::What;

/// What a thread's session keeps between two tasks.
pub(super) struct Session {
    pub(super) grip: Option<Grip>,
    pub(super) in_transaction: bool,
    pub(super) refuses: Option<Arc<str>>,
}

/// An actor's use of its thread's session.
#[derive(Default)]
pub(super) struct InSession {
    /// The text with which it refuses work.
    refuses: Option<Arc<str>>,
}

const PENDING_ROLLBACK: &str = "This Session's transaction has been rolled back due to a previous exception during \
    flush. To begin a new transaction with this Session, first issue Session.rollback(). Original exception was: ";

impl Actor {
    /// From here on the actor works in its thread's session.
    pub(super) fn enter_session(&mut self) -> StepResult {
        if self.session.is_some() {
            return Ok(());
        }
        if self.grip.is_some() {
            return Err(Failed);
        }
        let kept = self.thread.and_then(|thread| self.process.take_session(thread));
        let mut session = InSession::default();
        if let Some(Session { grip, in_transaction, refuses }) = kept {
            if let Some(grip) = &grip {
                self.traffic.recorder.record(What::Resumed { actor: self.id, conn: grip.conn });
            }
            self.grip = grip;
            self.in_transaction = in_transaction;
            session.refuses = refuses;
        }
        self.session = Some(session);
        Ok(())
    }

    /// A statement, in the session.
    pub(super) async fn in_session(&mut self, text: Arc<str>, how: How, effect: Effect) -> StepResult {
        let rolls_back = text.trim_start().get(..8).is_some_and(|word| word.eq_ignore_ascii_case("rollback"));
        if let Some(session) = &mut self.session {
            if rolls_back {
                session.refuses = None;
            } else if let Some(message) = session.refuses.clone() {
                self.raise("PendingRollbackError", message);
                return Err(Failed);
            }
        }
        if effect == Effect::Ends {
            let sent = if self.in_transaction { self.send(text, how, effect).await.map(drop) } else { Ok(()) };
            self.give_back().await;
            return sent.map_err(|_| Failed);
        }
        self.begin_in_session().await?;
        if effect == Effect::Begins {
            return Ok(());
        }
        self.ask(text, how, effect).await
    }

    /// The connection, and the transaction on it.
    async fn begin_in_session(&mut self) -> StepResult {
        if self.grip.is_none() {
            self.acquire(None).await?;
        }
        if !self.in_transaction {
            let begin = Arc::clone(&self.traffic.begin);
            self.send(begin, How::Simple, Effect::Begins).await.map_err(|_| Failed)?;
        }
        Ok(())
    }

    /// Sends a statement as the session's flush.
    pub(super) async fn flush(&mut self, text: Arc<str>) -> StepResult {
        let Some(session) = &self.session else { return Err(Failed) };
        if let Some(message) = session.refuses.clone() {
            self.raise("PendingRollbackError", message);
            return Err(Failed);
        }
        self.begin_in_session().await?;
        let Err(refusal) = self.send(text, How::Simple, Effect::Keeps).await else { return Ok(()) };
        self.roll_back().await;
        if let Some(session) = &mut self.session {
            session.refuses = Some(format!("{PENDING_ROLLBACK}{}", refusal.message).into());
        }
        Err(Failed)
    }

    /// Rolls the session back, returns its connection, and forgets it.
    pub(super) async fn remove_session(&mut self) -> StepResult {
        if self.session.take().is_none() {
            // Nobody used it: `remove()` of an empty registry does nothing, but one may be there from an earlier task.
            self.enter_session()?;
            self.session = None;
        }
        self.roll_back().await;
        self.give_back().await;
        Ok(())
    }

    /// The actor ends: its thread keeps what the session has.
    pub(super) fn leave_session(&mut self) {
        let (Some(session), Some(thread)) = (self.session.take(), self.thread) else { return };
        if self.process.is_killed() || (self.grip.is_none() && session.refuses.is_none()) {
            return;
        }
        let grip = self.grip.take();
        if let Some(grip) = &grip {
            self.traffic.recorder.record(What::Kept { actor: self.id, conn: grip.conn });
        }
        let in_transaction = std::mem::take(&mut self.in_transaction);
        self.process.keep_session(thread, Session { grip, in_transaction, refuses: session.refuses });
    }
}
