//! One backend's life, from its fork to its end: the loop over the client's messages (`PostgresMain`).
//!
//! | file | story |
//! | --- | --- |
//! | `startup` | the first packet, authentication, the limits, the session's settings |
//! | `query` | a simple query; how any statement runs, waits and ends |
//! | `extended` | Parse, Bind, Describe, Execute, Close |
//! | `timeouts` | what ends a wait early |
//! | `cancel` | CancelRequest |
//!
//! A backend looks at its signals where a real one does: when it waits for the client, for a lock or for time, and
//! between the end of a statement and CommandComplete. While it executes without waiting it can't be interrupted, nor
//! does it notice that its client is gone.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::activity::{Backend, Signals};
use super::error::{PgError, Severity, SqlState};
use super::event::{BackendState, Gone, ServerEvent};
use super::extended::Portals;
use super::link::{Link, Socket, Timer};
use super::server::{Settled, Shared};
use super::settings::Timeouts;
use super::sql::{Engine, Host, Session};
use super::startup::Started;
use super::transaction::TransactionStatus;
use super::wire::{self, Broken, Frame, Frontend};

/// How a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client is told by an ErrorResponse.
    Fatal(PgError),
    /// The client is told by a NoticeResponse.
    Quit(PgError),
    /// Without a word.
    Silent(Gone),
}

/// Why a message's processing stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The statement failed; the session goes on.
    Error(PgError),
    /// The session ends.
    End(End),
}

impl From<PgError> for Stop {
    fn from(error: PgError) -> Stop {
        match error.severity {
            Severity::Fatal | Severity::Panic => Stop::End(End::Fatal(error)),
            _ => Stop::Error(error),
        }
    }
}

impl From<End> for Stop {
    fn from(end: End) -> Stop {
        Stop::End(end)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Silent(match error.kind() {
            io::ErrorKind::UnexpectedEof => Gone::ClientClosed,
            kind => Gone::SocketError(kind),
        })
    }
}

/// Where in the protocol the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// ReadyForQuery was sent and nothing came since.
    Ready,
    /// Between the first message of an extended query and its Sync.
    Batch,
    /// An error occurred in the batch: all is discarded up to Sync.
    Skipping,
}

/// A backend with its client.
pub(super) struct Connection<S: Socket> {
    pub(super) shared: Arc<Shared>,
    pub(super) backend: Arc<Backend>,
    pub(super) link: Link<S>,
    pub(super) timer: Timer,
    pub(super) turn: Turn,
    /// How far the startup got, and so who must be told of the end.
    pub(super) started: Started,
    pub(super) portals: Portals,
    /// The transaction status after the last call of the engine.
    pub(super) status: TransactionStatus,
    /// What `pg_stat_activity` shows of the transaction: start and id.
    transaction: (Option<Duration>, Option<u64>),
    /// Whether a setting may have changed since they were last looked at.
    settings_changed: bool,
    pub(super) timeouts: Timeouts,
    /// When `statement_timeout` is due, counted from the first message of a statement.
    pub(super) statement_deadline: Option<Instant>,
    /// When `transaction_timeout` is due.
    transaction_deadline: Option<Instant>,
    /// When one of the idle timeouts is due.
    idle_deadline: Option<Instant>,
    /// A statement that was announced to the observer and has not ended.
    announced: bool,
    /// The server was a standby when the session began.
    pub(super) began_in_recovery: bool,
    /// Whether an Execute has run since the last Sync.
    pub(super) pipelining: bool,
    /// The client's startup packet was of protocol 2 or 1, which knows no error fields.
    pub(super) speaks_version_2: bool,
    left: bool,
}

impl<S: Socket> Connection<S> {
    pub(super) fn new(shared: Arc<Shared>, backend: Arc<Backend>, socket: S) -> Connection<S> {
        Connection {
            shared,
            backend,
            link: Link::new(socket),
            timer: Timer::default(),
            turn: Turn::Ready,
            started: Started::Nothing,
            portals: Portals::default(),
            status: TransactionStatus::Idle,
            transaction: (None, None),
            settings_changed: true,
            timeouts: Timeouts::default(),
            statement_deadline: None,
            transaction_deadline: None,
            idle_deadline: None,
            announced: false,
            began_in_recovery: false,
            pipelining: false,
            speaks_version_2: false,
            left: false,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let end = match self.start().await {
            Ok(()) => self.session().await,
            Err(end) => end,
        };
        let gone = self.say_goodbye(end).await;
        self.leave(gone);
        // The FIN comes after the slot is free, as the kernel closes the socket of a process that has ended.
        if self.backend.pending().has(Signals::KILL) {
            return;
        }
        let _ = self.link.socket.shutdown().await;
    }

    /// Tells the client why, if it is to be told, and says what the observer gets.
    async fn say_goodbye(&mut self, end: End) -> Gone {
        let (error, gone) = match end {
            End::Silent(gone) => {
                // What was to be sent before the end was sent before the end; it only waits here for its turn.
                if gone == Gone::Terminate && self.link.is_due() {
                    let _ = self.send().await;
                }
                return gone;
            }
            End::Fatal(error) => {
                let gone = Gone::Fatal(error.code);
                (error, gone)
            }
            End::Quit(error) => {
                let gone = Gone::Crash(error.code);
                (error, gone)
            }
        };
        self.announce_end(Err(error.code));
        match self.speaks_version_2 {
            true => wire::report_version_2(&mut self.link.output, &error),
            false => wire::report(&mut self.link.output, &error),
        }
        self.link.flush();
        match self.send().await {
            Ok(()) => gone,
            // Killed, or the socket broke, while the last words were on their way.
            Err(End::Silent(other)) => other,
            Err(_) => gone,
        }
    }

    fn leave(&mut self, gone: Gone) {
        self.left = true;
        self.announce_end(Err(SqlState::ADMIN_SHUTDOWN));
        let reason = match self.started {
            Started::Slot => Some(gone),
            Started::Nothing | Started::Refused => None,
        };
        self.shared.leave(&self.backend, reason);
    }

    /// The loop over messages, up to the end.
    async fn session(&mut self) -> End {
        loop {
            let frame = match Frame::cut(&mut self.link.input) {
                Ok(Some(frame)) => frame,
                Ok(None) => match self.receive().await {
                    Ok(()) => continue,
                    Err(end) => return end,
                },
                Err(Broken::UnknownMessage(kind)) => {
                    return End::Fatal(PgError::fatal(
                        SqlState::PROTOCOL_VIOLATION,
                        format!("invalid frontend message type {kind}"),
                    ));
                }
                // "invalid message length" goes to the log, and the client is treated as gone.
                Err(Broken::Length) => return End::Silent(Gone::ClientClosed),
            };
            if self.turn == Turn::Skipping && !matches!(frame.kind, b'S' | b'X') {
                continue;
            }
            let kind = frame.kind;
            match self.message(frame).await {
                Ok(()) => (),
                Err(Stop::End(end)) => return end,
                Err(Stop::Error(error)) => {
                    if let Err(end) = self.fail(kind, &error) {
                        return end;
                    }
                }
            }
        }
    }

    async fn message(&mut self, frame: Frame) -> Result<(), Stop> {
        if self.turn == Turn::Ready {
            self.idle_deadline = None;
        }
        if self.backend.pending().has(Signals::CONFIG) {
            self.reload()?;
        }
        // Set before the message is looked at: a malformed one spoils its batch too.
        if matches!(frame.kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H') {
            self.turn = Turn::Batch;
        }
        if matches!(frame.kind, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C') {
            self.allocate()?;
        }
        match frame.decode()? {
            Frontend::Query(query) => {
                self.turn = Turn::Ready;
                self.simple_query(query).await?;
                self.ready()?;
            }
            Frontend::Parse(parse) => self.parse(parse).await?,
            Frontend::Bind(bind) => self.bind(bind).await?,
            Frontend::Describe(describe) => self.describe(&describe).await?,
            Frontend::Execute(execute) => self.execute(execute).await?,
            Frontend::Close(close) => self.close(close)?,
            Frontend::Flush => self.link.flush(),
            Frontend::Sync => {
                self.turn = Turn::Ready;
                self.check_statement_timeout()?;
                self.commit()?;
                self.ready()?;
            }
            Frontend::Terminate => return Err(End::Silent(Gone::Terminate).into()),
            Frontend::FunctionCall => {
                self.turn = Turn::Ready;
                self.refuse_in_failed(false)?;
                self.engine(|engine, session, host| {
                    engine.statement_begin(host, session, super::sql::Framing::Single)
                })?;
                return Err(PgError::unsupported("the FunctionCall message").into());
            }
            Frontend::Copy => (),
        }
        Ok(())
    }

    /// Whether there is memory for what comes next.
    pub(super) fn allocate(&self) -> Result<(), PgError> {
        match self.backend.take(Signals::OUT_OF_MEMORY) {
            true => Err(PgError::error(SqlState::OUT_OF_MEMORY, "out of memory")
                .detail("Failed on request of size 8192 in memory context \"MessageContext\".")),
            false => Ok(()),
        }
    }

    /// After an ERROR: the client is told, the transaction aborted; a batch is skipped to its Sync.
    fn fail(&mut self, kind: u8, error: &PgError) -> Result<(), End> {
        self.announce_end(Err(error.code));
        wire::report(&mut self.link.output, error);
        // `send_message_to_frontend` flushes, so that a client learns of an error whatever happens next.
        self.link.flush();
        self.engine(|engine, session, _| engine.abort(session))?;
        self.portals.fail(self.status == TransactionStatus::Idle);
        self.statement_deadline = None;
        if self.turn == Turn::Batch {
            self.turn = Turn::Skipping;
            return Ok(());
        }
        debug_assert!(matches!(kind, b'Q' | b'S' | b'F'), "only these end with ReadyForQuery");
        self.ready()
    }

    /// ReadyForQuery, and what is told before it.
    pub(super) fn ready(&mut self) -> Result<(), End> {
        let state = match self.status {
            TransactionStatus::Idle => BackendState::Idle,
            TransactionStatus::InTransaction => BackendState::IdleInTransaction,
            TransactionStatus::Failed => BackendState::IdleInTransactionAborted,
        };
        if state == BackendState::Idle {
            self.portals.end_transaction();
            self.deliver_notifications();
        }
        self.portals.publish(&self.backend);
        self.set_state(state, None);
        self.pipelining = false;
        self.statement_deadline = None;
        if self.began_in_recovery && !self.shared.in_recovery.load(Ordering::Acquire) {
            self.engine(|engine, session, _| engine.end_recovery(session))?;
            self.settings_changed = true;
        }
        if self.settings_changed || self.backend.pending() != Signals::NONE {
            self.report_settings()?;
        }
        self.idle_deadline = match state {
            BackendState::Idle => self.timeouts.idle_session,
            _ => self.timeouts.idle_in_transaction,
        }
        .map(|after| Instant::now() + after);
        wire::ready(&mut self.link.output, self.status);
        self.link.flush();
        Ok(())
    }

    /// The configuration was reloaded: it holds from the next message on. Clients are told at ReadyForQuery.
    fn reload(&mut self) -> Result<(), End> {
        self.backend.take(Signals::CONFIG);
        let timeouts = self.engine(|engine, session, _| {
            engine.reload_session(session);
            *session.settings_mut().timeouts()
        })?;
        self.settings_changed = true;
        self.adopt_timeouts(timeouts);
        Ok(())
    }

    /// ParameterStatus of all that changed, and the session's timeouts as they are now.
    fn report_settings(&mut self) -> Result<(), End> {
        let (reported, timeouts) = self.engine(|_, session, _| {
            let settings = session.settings_mut();
            (settings.take_reported(), *settings.timeouts())
        })?;
        self.settings_changed = false;
        for (name, value) in reported {
            if &*name == "application_name" {
                self.backend.activity.lock().application_name.clone_from(&value);
            }
            wire::parameter_status(&mut self.link.output, &name, &value);
        }
        self.adopt_timeouts(timeouts);
        Ok(())
    }

    /// Tells the client of the notifications that arrived, outside transactions only.
    fn deliver_notifications(&mut self) -> bool {
        if !self.backend.take(Signals::NOTIFY) {
            return false;
        }
        let arrived = std::mem::take(&mut *self.backend.inbox.lock());
        for notification in arrived {
            wire::notification(&mut self.link.output, notification);
        }
        true
    }

    /// Calls the engine with this session. Error: the session was lost in a crash meanwhile.
    pub(super) fn engine<R>(&mut self, call: impl FnOnce(&mut Engine, &mut Session, &dyn Host) -> R) -> Result<R, End> {
        self.engine_and_output(|engine, session, host, _| call(engine, session, host))
    }

    /// As [`Connection::engine`], with the output buffer at hand.
    pub(super) fn engine_and_output<R>(
        &mut self,
        call: impl FnOnce(&mut Engine, &mut Session, &dyn Host, &mut Answer<'_, S>) -> R,
    ) -> Result<R, End> {
        let cluster = self.shared.cluster.read();
        let mut engine = cluster.engine.lock();
        let mut slot = self.backend.session.lock();
        let Some(session) = slot.as_mut() else {
            return Err(ended_by(self.backend.pending()).unwrap_or(End::Silent(Gone::Killed)));
        };
        let mut answer = Answer { link: &mut self.link, backend: &self.backend };
        let result = call(&mut engine, session, &*self.shared, &mut answer);
        self.status = session.status();
        let changed = session.settings_mut().take_changed();
        let timeouts = changed.then(|| *session.settings_mut().timeouts());
        self.settings_changed |= changed;
        let transaction = (session.transaction_start(), session.xid());
        let settled = Settled::of(&mut engine);
        drop(slot);
        drop(engine);
        if self.transaction != transaction {
            if self.transaction.0 != transaction.0 {
                let timeout = self.timeouts.transaction.filter(|_| transaction.0.is_some());
                self.transaction_deadline = timeout.map(|after| Instant::now() + after);
            }
            self.transaction = transaction;
            let mut activity = self.backend.activity.lock();
            (activity.transaction_start, activity.xid) = transaction;
        }
        let owned = (!settled.is_empty()).then(|| Arc::clone(&cluster));
        drop(cluster);
        // A timeout that a statement sets holds for the next one, of the same query text too.
        if let Some(timeouts) = timeouts {
            self.adopt_timeouts(timeouts);
        }
        if let Some(cluster) = owned {
            self.shared.pass_on(&cluster, settled);
        }
        Ok(result)
    }

    /// Ends an implicit transaction. An error has rolled it back.
    pub(super) fn commit(&mut self) -> Result<(), Stop> {
        self.engine(|engine, session, host| engine.commit_implicit(host, session))??;
        if self.status == TransactionStatus::Idle {
            self.portals.end_transaction();
        }
        Ok(())
    }

    /// Shows a new state in `pg_stat_activity`; `query` is what an active one runs.
    pub(super) fn set_state(&mut self, state: BackendState, query: Option<&Arc<str>>) {
        let now = self.shared.elapsed();
        let changed = {
            let mut activity = self.backend.activity.lock();
            if let Some(query) = query {
                activity.query = query.clone();
                activity.query_start = Some(now);
            }
            let changed = activity.state != state;
            activity.state = state;
            activity.state_change = Some(now);
            activity.wait = match state {
                BackendState::Active => None,
                _ => Some(("Client", "ClientRead")),
            };
            changed
        };
        if changed && self.shared.is_observed() {
            self.shared.emit(ServerEvent::State { pid: self.backend.pid, state });
        }
    }

    /// Tells the observer that a statement begins.
    pub(super) fn announce(&mut self, text: &Arc<str>) {
        if self.shared.wants_statements() {
            self.announced = true;
            self.shared.emit(ServerEvent::Statement { pid: self.backend.pid, text: text.clone() });
        }
    }

    /// Tells the observer that the announced statement, if there is one, has ended.
    pub(super) fn announce_end(&mut self, result: Result<Arc<str>, SqlState>) {
        if std::mem::take(&mut self.announced) {
            self.shared.emit(ServerEvent::StatementEnd { pid: self.backend.pid, result });
        }
    }

    /// Waits for the client to send something. Between a batch's messages no timeout but `transaction_timeout` fires,
    /// notifications wait, and a cancel request has nothing to cancel.
    async fn receive(&mut self) -> Result<(), End> {
        if self.link.is_due() {
            self.send().await?;
        }
        let idle = self.turn == Turn::Ready;
        if !idle {
            self.backend.activity.lock().wait = Some(("Client", "ClientRead"));
        }
        loop {
            let deadline = match self.idle_deadline.filter(|_| idle) {
                None => self.transaction_deadline,
                Some(idle) => Some(self.transaction_deadline.map_or(idle, |other| other.min(idle))),
            };
            let listening = idle && self.status == TransactionStatus::Idle;
            let woken = poll_fn(|cx| {
                self.backend.register(cx.waker());
                let pending = self.backend.pending();
                if pending.has(Signals::CANCEL) {
                    self.backend.take(Signals::CANCEL);
                }
                if let Some(end) = ended_by(pending) {
                    return Poll::Ready(Err(end));
                }
                if listening && pending.has(Signals::NOTIFY) {
                    return Poll::Ready(Ok(Woken::Notified));
                }
                if let Poll::Ready(received) = self.link.poll_receive(cx) {
                    return Poll::Ready(match received {
                        Ok(0) => Err(End::Silent(Gone::ClientClosed)),
                        Ok(_) => Ok(Woken::Received),
                        Err(error) => Err(error.into()),
                    });
                }
                match deadline {
                    None => Poll::Pending,
                    Some(deadline) => {
                        ready!(self.timer.poll(cx, deadline));
                        Poll::Ready(Ok(Woken::Late))
                    }
                }
            })
            .await?;
            match woken {
                Woken::Received => return Ok(()),
                Woken::Notified => {
                    self.deliver_notifications();
                    self.link.flush();
                    self.send().await?;
                }
                Woken::Late => return Err(self.idle_timeout()),
            }
        }
    }

    /// Which timeout ended a wait for the client.
    fn idle_timeout(&self) -> End {
        let now = Instant::now();
        let (code, message) = if self.idle_deadline.is_none_or(|deadline| deadline > now) {
            (SqlState::TRANSACTION_TIMEOUT, "terminating connection due to transaction timeout")
        } else if self.status == TransactionStatus::Idle {
            (SqlState::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout")
        } else {
            (SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, "terminating connection due to idle-in-transaction timeout")
        };
        End::Fatal(PgError::fatal(code, message))
    }

    /// Sends what is due. While the client does not read, only the end of the session interrupts this, and without a
    /// word: `ProcessClientWriteInterrupt`.
    pub(super) async fn send(&mut self) -> Result<(), End> {
        let mut before = None;
        let sent = poll_fn(|cx| {
            if let Poll::Ready(sent) = self.link.poll_send(cx) {
                return Poll::Ready(sent.map_err(End::from));
            }
            if before.is_none() {
                before = Some(self.backend.activity.lock().wait.replace(("Client", "ClientWrite")));
            }
            self.backend.register(cx.waker());
            let pending = self.backend.pending();
            match ended_by(pending) {
                Some(End::Fatal(error)) => Poll::Ready(Err(End::Silent(Gone::Fatal(error.code)))),
                Some(End::Quit(error)) => Poll::Ready(Err(End::Silent(Gone::Crash(error.code)))),
                Some(end) => Poll::Ready(Err(end)),
                None => Poll::Pending,
            }
        })
        .await;
        if let Some(wait) = before {
            self.backend.activity.lock().wait = wait;
        }
        sent
    }

    /// When `transaction_timeout` is due.
    pub(super) fn transaction_deadline(&self) -> Option<Instant> {
        self.transaction_deadline
    }
}

/// What a call of the engine may write its answer to.
pub(super) struct Answer<'c, S> {
    pub(super) link: &'c mut Link<S>,
    pub(super) backend: &'c Backend,
}

/// What ended a wait for the client.
enum Woken {
    Received,
    Notified,
    Late,
}

/// How the pending signals end a session, if they do. The strongest counts.
pub(super) fn ended_by(pending: Signals) -> Option<End> {
    if !pending.has(Signals::END) {
        return None;
    }
    Some(if pending.has(Signals::KILL) {
        End::Silent(Gone::Killed)
    } else if pending.has(Signals::QUIT_CRASH) {
        End::Quit(
            PgError::warning(
                SqlState::CRASH_SHUTDOWN,
                "terminating connection because of crash of another server process",
            )
            .detail(
                "The postmaster has commanded this server process to roll back the current transaction and exit, \
                 because another server process exited abnormally and possibly corrupted shared memory.",
            )
            .hint("In a moment you should be able to reconnect to the database and repeat your command."),
        )
    } else if pending.has(Signals::QUIT_STOP) {
        End::Quit(PgError::warning(
            SqlState::ADMIN_SHUTDOWN,
            "terminating connection due to immediate shutdown command",
        ))
    } else {
        End::Fatal(PgError::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"))
    })
}

impl<S: Socket> Drop for Connection<S> {
    fn drop(&mut self) {
        // The task was dropped; after a panic the engine may be half-way, so it is left alone.
        if !self.left && !std::thread::panicking() {
            self.leave(Gone::Killed);
        }
    }
}
