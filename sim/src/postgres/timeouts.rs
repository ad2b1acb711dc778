//! What ends a wait early: `statement_timeout`, `lock_timeout`, `transaction_timeout`, the deadlock check, a cancel
//! request, and `client_connection_check_interval`.
//! <https://www.postgresql.org/docs/15/runtime-config-client.html#GUC-STATEMENT-TIMEOUT>
//!
//! A statement that doesn't wait meets none of them. `statement_timeout` counts from the first message of a statement
//! (Parse, Bind or Execute) to the end of its Execute; when it is due between two messages the next one fails. The
//! deadlock check runs once a wait, `deadlock_timeout` after it began.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::activity::Signals;
use super::error::{PgError, SqlState};
use super::event::{Gone, ServerEvent};
use super::link::Socket;
use super::locks::{Edge, Tag};
use super::session::{Connection, End, Stop, ended_by};
use super::settings::Timeouts;

/// What a statement waits for, and since when.
struct Wait {
    began: Instant,
    /// For a lock: when to look for a deadlock, if that is still to be done, and when `lock_timeout` is due.
    lock: Option<LockWait>,
    /// For time: when it is over.
    over: Option<Instant>,
    /// When to look next whether the client is still there.
    check_client: Option<Instant>,
}

struct LockWait {
    deadlock_check: Option<Instant>,
    timeout: Option<Instant>,
}

/// How a wait went on.
enum Woken {
    Granted,
    Over,
    CheckDeadlock,
}

/// 57014 for a cancel request.
pub(super) fn cancelled() -> PgError {
    PgError::error(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}

fn statement_timed_out() -> PgError {
    PgError::error(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout")
}

impl<S: Socket> Connection<S> {
    /// The settings changed, or the session begins.
    pub(super) fn adopt_timeouts(&mut self, timeouts: Timeouts) {
        let keepalive = |of: &Timeouts| (of.keepalives_idle, of.keepalives_interval, of.keepalives_count, of.tcp_user);
        if keepalive(&timeouts) != keepalive(&self.timeouts) {
            let seconds = |time: Option<Duration>| time.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(0));
            let ms = timeouts.tcp_user.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
            self.link.socket.set_keepalive(
                seconds(timeouts.keepalives_idle),
                seconds(timeouts.keepalives_interval),
                timeouts.keepalives_count.unwrap_or(0),
                ms,
            );
        }
        self.timeouts = timeouts;
    }

    /// `statement_timeout` counts from here.
    pub(super) fn restart_statement_timeout(&mut self) {
        self.statement_deadline = self.timeouts.statement.map(|after| Instant::now() + after);
    }

    /// `statement_timeout` counts from here, unless it does already. Error: 57014, when it is due.
    pub(super) fn check_statement_timeout(&mut self) -> Result<(), PgError> {
        match self.statement_deadline {
            None => self.restart_statement_timeout(),
            Some(deadline) if deadline <= Instant::now() => return Err(statement_timed_out()),
            Some(_) => (),
        }
        Ok(())
    }

    /// 57014, if `statement_timeout` is due.
    pub(super) fn check_statement_deadline(&self) -> Result<(), PgError> {
        match self.statement_deadline {
            Some(deadline) if deadline <= Instant::now() => Err(statement_timed_out()),
            _ => Ok(()),
        }
    }

    /// Waits until the lock that the engine queued this backend for is granted.
    pub(super) async fn wait_for_lock(&mut self) -> Result<(), Stop> {
        let pid = self.backend.pid;
        let (by, on, event) = self.engine(|engine, _, _| {
            let locks = engine.locks();
            let (tag, mode) = locks.waiting_for(pid).expect("the engine queued this backend");
            (locks.blocking(pid), format!("{mode} on {tag}"), wait_event(tag))
        })?;
        {
            let mut activity = self.backend.activity.lock();
            activity.blocked = true;
            activity.wait = Some(("Lock", event));
        }
        self.shared.emit(ServerEvent::Blocked { pid, by, on });
        let began = Instant::now();
        let wait = Wait {
            began,
            lock: Some(LockWait {
                deadlock_check: Some(began + self.timeouts.deadlock),
                timeout: self.timeouts.lock.map(|after| began + after),
            }),
            over: None,
            check_client: None,
        };
        let mut result = self.wait(wait).await;
        self.backend.activity.lock().wait = None;
        if let Err(Stop::Error(error) | Stop::End(End::Fatal(error))) = &mut result {
            let (context, position) =
                self.engine(|engine, session, _| (engine.wait_context(session), engine.wait_position(session)))?;
            error.context = context;
            // `pcb_error_callback` leaves the position out of cancellations.
            error.position = position.filter(|_| error.code != SqlState::QUERY_CANCELED);
        }
        if matches!(result, Err(Stop::Error(_))) {
            self.engine(|engine, _, _| engine.give_up_wait(pid))?;
            self.shared.clone().unblocked(&self.backend);
        }
        // Granted and cancelled at once: the grant must not be taken for the next wait's.
        self.backend.take(Signals::GRANTED);
        result
    }

    /// Waits for this time. Only these signals, which end the session, end it early.
    pub(super) async fn pause(&mut self, time: Duration, by: Signals) -> Result<(), End> {
        let until = Instant::now() + time;
        poll_fn(|cx| {
            self.backend.register(cx.waker());
            let pending = self.backend.pending();
            if let Some(end) = ended_by(pending).filter(|_| pending.has(by)) {
                return Poll::Ready(Err(end));
            }
            ready!(self.timer.poll(cx, until));
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Lets time pass, with the locks that are held.
    pub(super) async fn sleep(&mut self, time: Duration, event: (&'static str, &'static str)) -> Result<(), Stop> {
        self.backend.activity.lock().wait = Some(event);
        let began = Instant::now();
        let result = self.wait(Wait { began, lock: None, over: Some(began + time), check_client: None }).await;
        self.backend.activity.lock().wait = None;
        result
    }

    async fn wait(&mut self, mut wait: Wait) -> Result<(), Stop> {
        if self.link.is_due() {
            self.send().await?;
        }
        wait.check_client = self.timeouts.client_connection_check.map(|every| wait.began + every);
        loop {
            match self.wait_once(&mut wait).await? {
                Woken::Granted | Woken::Over => return Ok(()),
                Woken::CheckDeadlock => {
                    let pid = self.backend.pid;
                    let edges = self.engine(|engine, _, _| engine.locks_mut().deadlock(pid))?;
                    if let Some(edges) = edges {
                        return Err(deadlock_detected(&edges).into());
                    }
                }
            }
        }
    }

    async fn wait_once(&mut self, wait: &mut Wait) -> Result<Woken, Stop> {
        let deadlines = [
            self.statement_deadline,
            self.transaction_deadline(),
            wait.over,
            wait.check_client,
            wait.lock.as_ref().and_then(|lock| lock.deadlock_check),
            wait.lock.as_ref().and_then(|lock| lock.timeout),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let interesting = wait.lock.is_some();
        poll_fn(|cx| {
            self.backend.register(cx.waker());
            let pending = self.backend.pending();
            if pending.has(Signals::END)
                || pending.has(Signals::CANCEL)
                || (interesting && pending.has(Signals::GRANTED))
            {
                return Poll::Ready(());
            }
            match deadline {
                None => Poll::Pending,
                Some(deadline) => self.timer.poll(cx, deadline),
            }
        })
        .await;

        let pending = self.backend.pending();
        if let Some(end) = ended_by(pending) {
            return Err(end.into());
        }
        if interesting && self.backend.take(Signals::GRANTED) {
            return Ok(Woken::Granted);
        }
        let now = Instant::now();
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let mut lock_timeout = None;
        if let Some(lock) = &mut wait.lock {
            if due(lock.deadlock_check) {
                lock.deadlock_check = None;
                return Ok(Woken::CheckDeadlock);
            }
            lock_timeout = lock.timeout;
        }
        // Of two timeouts that are due the earlier one is reported, of a tie lock_timeout.
        if due(lock_timeout) && self.statement_deadline.is_none_or(|other| lock_timeout <= Some(other)) {
            let message = "canceling statement due to lock timeout";
            return Err(PgError::error(SqlState::LOCK_NOT_AVAILABLE, message).into());
        }
        if due(self.statement_deadline) {
            self.backend.take(Signals::CANCEL);
            return Err(statement_timed_out().into());
        }
        if self.backend.take(Signals::CANCEL) {
            return Err(cancelled().into());
        }
        if due(self.transaction_deadline()) {
            let message = "terminating connection due to transaction timeout";
            return Err(PgError::fatal(SqlState::TRANSACTION_TIMEOUT, message).into());
        }
        if due(wait.check_client) {
            wait.check_client = self.timeouts.client_connection_check.map(|every| now + every);
            if poll_fn(|cx| Poll::Ready(self.link.socket.poll_hangup(cx).is_ready())).await {
                return Err(End::Silent(Gone::ClientClosed).into());
            }
        }
        if due(wait.over) {
            return Ok(Woken::Over);
        }
        Box::pin(self.wait_once(wait)).await
    }
}

/// `pg_stat_activity.wait_event` of a wait for a lock.
fn wait_event(tag: Tag) -> &'static str {
    match tag {
        Tag::Relation(_) => "relation",
        Tag::Tuple(..) => "tuple",
        Tag::Transaction(_) => "transactionid",
        Tag::AdvisoryBig(_) | Tag::AdvisoryPair(..) => "advisory",
    }
}

fn deadlock_detected(edges: &[Edge]) -> PgError {
    let lines: Vec<String> = edges.iter().map(ToString::to_string).collect();
    PgError::error(SqlState::DEADLOCK_DETECTED, "deadlock detected")
        .detail(lines.join("\n"))
        .hint("See server log for query details.")
}
