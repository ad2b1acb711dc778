//! Reads one session's two byte streams, and tells what the simulated server would tell of it.
//!
//! A pure machine: bytes in, events out. Requests are kept in the order in which they were forwarded, and the server's answers
//! work them off, so that a pipeline's statements begin and end in the server's order, not in the client's.
//!
//! What the wire doesn't show, and how it is told instead:
//!
//! - A process id comes with BackendKeyData. `Forked` is told then, not at the fork; a startup that fails before tells
//!   `Refused` without a pid, and one that ends without a word tells nothing.
//! - Whether a transaction wrote: a command tag that writes, with a count other than 0, or a utility command. Writes by functions,
//!   by CREATE TABLE AS and by a WITH, which both report a SELECT, and by row locks are not seen, nor those of a statement that
//!   then failed. `xid` is 0, PostgreSQL's invalid transaction id.
//! - A batch is answered when it is flushed, mostly at its Sync. An Execute is told with the first message of its batch, so that it is
//!   known while it runs; one whose Bind or Parse then fails is told as a statement that failed.
//! - The end of a simple query of several statements is its ReadyForQuery.
//! - A session that is encrypted (TLS, GSS) shows nothing but its end.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{BackendState, Gone, Pid, ServerEvent, SessionReport};

use super::effect::{Effect, effects};
use super::leftovers::Leftovers;
use super::wire::{self, Cutter, First};

/// A transaction id that nobody knows: `InvalidTransactionId`.
const UNKNOWN_XID: u64 = 0;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The startup packet has not come.
    First,
    /// Asked for encryption; one byte of an answer is due.
    Encryption,
    /// A startup packet was sent.
    Startup,
    /// BackendKeyData has come.
    Session,
    /// Nothing can be read any more: encrypted, or a CancelRequest.
    Opaque,
    /// The end was told.
    Over,
}

/// What a client asked for, in the order in which the server answers.
#[derive(Debug)]
enum Request {
    Query(Arc<str>),
    Parse { name: String, text: Arc<str> },
    Bind { portal: String, statement: String },
    Describe,
    Execute { portal: String },
    Close { kind: u8, name: String },
    Sync,
    FunctionCall,
}

/// A portal's statement, and whether its Execute was told.
#[derive(Debug)]
struct Portal {
    text: Arc<str>,
    begun: bool,
}

/// One session as the wire shows it.
#[derive(Debug)]
pub(super) struct Tap {
    peer: SocketAddr,
    phase: Phase,
    first: Vec<u8>,
    from_client: Cutter,
    from_server: Cutter,
    pid: Option<Pid>,
    state: BackendState,
    queue: VecDeque<Request>,
    /// The first of the queue is what the server is at.
    begun: bool,
    /// A statement was told and has not ended.
    announced: bool,
    /// What the statements of the request will leave behind, those that are done taken off.
    effects: VecDeque<Effect>,
    several: bool,
    /// The last tag of a simple query of several statements.
    tag: Option<Arc<str>>,
    /// The first byte of the last row's first column.
    result: Option<u8>,
    /// In COPY FROM STDIN.
    copying: bool,
    /// The statement copied in.
    copied_in: bool,
    /// Between BEGIN and its end.
    in_block: bool,
    /// Something was written that is neither committed nor rolled back.
    wrote: bool,
    /// It waits for a lock.
    blocked: bool,
    /// The end that the server announced.
    last_words: Option<Gone>,
    /// Terminate was forwarded.
    terminated: bool,
    /// The client's FIN was forwarded.
    closed: bool,
    statements: BTreeMap<String, Arc<str>>,
    portals: BTreeMap<String, Portal>,
    leftovers: Leftovers,
    /// Counts what was seen, so that a look from elsewhere can tell whether it is stale.
    seen: u64,
}

impl Tap {
    /// Of a connection that the server sees coming from `peer`.
    pub(super) fn new(peer: SocketAddr) -> Tap {
        Tap {
            peer,
            phase: Phase::First,
            first: Vec::new(),
            from_client: Cutter::default(),
            from_server: Cutter::default(),
            pid: None,
            state: BackendState::Starting,
            queue: VecDeque::new(),
            begun: false,
            announced: false,
            effects: VecDeque::new(),
            several: false,
            tag: None,
            result: None,
            copying: false,
            copied_in: false,
            in_block: false,
            wrote: false,
            blocked: false,
            last_words: None,
            terminated: false,
            closed: false,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            leftovers: Leftovers::default(),
            seen: 0,
        }
    }

    /// Its process id, from BackendKeyData to its end.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.pid.filter(|_| self.phase != Phase::Over)
    }

    /// How much was seen of it.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// What it does.
    pub(super) fn state(&self) -> BackendState {
        self.state
    }

    /// Its leftovers.
    pub(super) fn report(&self) -> SessionReport {
        self.leftovers.report(self.state)
    }

    /// The client's bytes, about to be forwarded.
    pub(super) fn client(&mut self, mut bytes: &[u8], out: &mut Vec<ServerEvent>) {
        self.seen += 1;
        if matches!(self.phase, Phase::First | Phase::Encryption) {
            self.first.extend_from_slice(bytes);
            bytes = &[];
            // A client that waits for no answer to its request for encryption would be refused.
            while self.phase == Phase::First
                && let Some(first) = wire::first_packet(&mut self.first)
            {
                self.phase = match first {
                    First::Encryption => Phase::Encryption,
                    First::Cancel => Phase::Opaque,
                    First::Startup => Phase::Startup,
                };
            }
        }
        let early = if self.phase == Phase::Startup { std::mem::take(&mut self.first) } else { Vec::new() };
        if !matches!(self.phase, Phase::Startup | Phase::Session) {
            return;
        }
        let mut cutter = std::mem::take(&mut self.from_client);
        cutter.feed(&early, |kind, body| self.request(kind, body));
        cutter.feed(bytes, |kind, body| self.request(kind, body));
        self.from_client = cutter;
        self.advance(out);
    }

    /// The client's FIN is about to be forwarded.
    pub(super) fn client_closed(&mut self) {
        self.seen += 1;
        self.closed = true;
    }

    /// One message of the client.
    fn request(&mut self, kind: u8, body: &[u8]) {
        let request = match kind {
            b'Q' => Request::Query(wire::text(body).0.into()),
            b'P' => {
                let (name, rest) = wire::text(body);
                Request::Parse { name, text: wire::text(rest).0.into() }
            }
            b'B' => {
                let (portal, rest) = wire::text(body);
                Request::Bind { portal, statement: wire::text(rest).0 }
            }
            b'D' => Request::Describe,
            b'E' => Request::Execute { portal: wire::text(body).0 },
            b'C' => match body {
                [kind, rest @ ..] => Request::Close { kind: *kind, name: wire::text(rest).0 },
                [] => return,
            },
            // Ignored by a server that copies in.
            b'S' if self.copying => return,
            b'S' => Request::Sync,
            b'F' => Request::FunctionCall,
            b'c' | b'f' => {
                self.copying = false;
                return;
            }
            b'X' => {
                self.terminated = true;
                return;
            }
            // Passwords, CopyData, Flush.
            _ => return,
        };
        self.queue.push_back(request);
    }

    /// Begins what is first in the queue.
    fn advance(&mut self, out: &mut Vec<ServerEvent>) {
        if self.begun || self.phase != Phase::Session || self.state == BackendState::Starting {
            return;
        }
        let Some(request) = self.queue.front() else { return };
        self.begun = true;
        let told = match request {
            Request::Query(text) => {
                let text = Arc::clone(text);
                self.effects = effects(&text).into();
                self.several = self.effects.len() > 1;
                self.tag = None;
                (!self.effects.is_empty()).then_some(text)
            }
            Request::Execute { portal } => match self.portals.get_mut(portal) {
                Some(portal) if portal.text.trim().is_empty() => return,
                Some(portal) => {
                    self.effects = effects(&portal.text).into();
                    self.several = false;
                    (!std::mem::replace(&mut portal.begun, true)).then(|| Arc::clone(&portal.text))
                }
                None => return,
            },
            Request::Parse { .. } | Request::Bind { .. } => self.execute_ahead(),
            Request::Describe | Request::Close { .. } | Request::Sync | Request::FunctionCall => return,
        };
        self.result = None;
        self.become_(BackendState::Active, out);
        if let (Some(text), Some(pid), false) = (told, self.pid, self.announced) {
            self.announced = true;
            out.push(ServerEvent::Statement { pid, text });
        }
    }

    /// The text of the Execute that the server goes on to when it is done with what is in front, without waiting for anybody.
    fn execute_ahead(&self) -> Option<Arc<str>> {
        let at = self.queue.iter().position(|request| {
            matches!(request, Request::Execute { .. } | Request::Query(_) | Request::Sync | Request::FunctionCall)
        })?;
        let Some(Request::Execute { portal }) = self.queue.get(at) else { return None };
        // What is bound and parsed on the way counts; the last of it.
        let before = || self.queue.iter().take(at).rev();
        let bound = before().find_map(|request| match request {
            Request::Bind { portal: bound, statement } if bound == portal => Some(statement),
            _ => None,
        })?;
        let parsed = before().find_map(|request| match request {
            Request::Parse { name, text } if name == bound => Some(text),
            _ => None,
        });
        parsed.or_else(|| self.statements.get(bound)).filter(|text| !text.trim().is_empty()).cloned()
    }

    fn become_(&mut self, state: BackendState, out: &mut Vec<ServerEvent>) {
        if let Some(pid) = self.pid
            && self.state != state
        {
            if state != BackendState::Active {
                self.unblock(out);
            }
            self.state = state;
            out.push(ServerEvent::State { pid, state });
        }
    }

    /// The server's bytes, about to be forwarded.
    pub(super) fn server(&mut self, mut bytes: &[u8], out: &mut Vec<ServerEvent>) {
        self.seen += 1;
        while self.phase == Phase::Encryption
            && let [answer, rest @ ..] = bytes
        {
            bytes = rest;
            // An error, of a server that knows no such request, ends the connection.
            self.phase = if *answer == b'N' { Phase::First } else { Phase::Opaque };
        }
        if matches!(self.phase, Phase::Opaque | Phase::Over) {
            return;
        }
        let mut cutter = std::mem::take(&mut self.from_server);
        cutter.feed(bytes, |kind, body| self.answer(kind, body, out));
        self.from_server = cutter;
    }

    /// One message of the server.
    fn answer(&mut self, kind: u8, body: &[u8], out: &mut Vec<ServerEvent>) {
        match kind {
            b'K' => {
                self.pid = wire::number(body);
                self.phase = Phase::Session;
                if let Some(pid) = self.pid {
                    out.push(ServerEvent::Forked { pid, peer: self.peer });
                }
            }
            b'S' => {
                let (name, rest) = wire::text(body);
                self.leftovers.parameter(name, wire::text(rest).0, self.state == BackendState::Starting);
            }
            b'N' => {
                let (severity, code) = wire::report(body);
                if severity == "WARNING" && (code == SqlState::ADMIN_SHUTDOWN || code == SqlState::CRASH_SHUTDOWN) {
                    self.last_words = Some(Gone::Crash(code));
                    self.end_statement(Err(code), out);
                }
            }
            b'E' => self.error(body, out),
            b'Z' => self.ready(body.first().copied(), out),
            b'D' => self.result = wire::first_column(body),
            b'G' | b'W' => {
                (self.copying, self.copied_in) = (true, true);
                // Those that came before the server began to copy are ignored.
                self.queue.retain(|request| !matches!(request, Request::Sync));
            }
            b'1' | b'2' | b'3' | b'T' | b'n' | b'I' | b's' | b'C' => self.completed(kind, body, out),
            // Authentication, ParameterDescription, CopyData and its like, NotificationResponse, FunctionCallResponse.
            _ => {}
        }
    }

    /// An answer that completes a request, or a statement of it.
    fn completed(&mut self, kind: u8, body: &[u8], out: &mut Vec<ServerEvent>) {
        match (self.queue.front(), kind) {
            (Some(Request::Parse { name, text }), b'1') => {
                self.leftovers.parsed(name);
                self.statements.insert(name.clone(), Arc::clone(text));
            }
            (Some(Request::Bind { portal, statement }), b'2') => {
                self.leftovers.bound(portal);
                let text = self.statements.get(statement).cloned().unwrap_or_default();
                self.portals.insert(portal.clone(), Portal { text, begun: false });
            }
            (Some(Request::Close { kind, name }), b'3') => {
                self.leftovers.closed(*kind, name);
                match kind {
                    b'S' => drop(self.statements.remove(name)),
                    _ => drop(self.portals.remove(name)),
                }
            }
            (Some(Request::Describe), b'T' | b'n') => {}
            (Some(Request::Execute { .. }), b'I') => {}
            (Some(Request::Execute { .. }), b's') => self.end_statement(Ok("PortalSuspended".into()), out),
            (Some(Request::Execute { .. }), b'C') => {
                let tag: Arc<str> = wire::text(body).0.into();
                self.statement_done(&tag, out);
                self.end_statement(Ok(tag), out);
            }
            (Some(Request::Query(_)), b'C') => {
                let tag: Arc<str> = wire::text(body).0.into();
                self.statement_done(&tag, out);
                if self.several {
                    self.tag = Some(tag);
                } else {
                    self.end_transaction_unless_in_block(out);
                    self.end_statement(Ok(tag), out);
                }
                return;
            }
            // A simple query's RowDescription, or what this tap does not understand.
            _ => return,
        }
        self.queue.pop_front();
        self.begun = false;
        self.advance(out);
    }

    /// A statement succeeded: its tag and its text tell what it did.
    fn statement_done(&mut self, tag: &str, out: &mut Vec<ServerEvent>) {
        let effect = self.effects.pop_front().unwrap_or(Effect::Nothing);
        let to_savepoint = matches!(effect, Effect::RollbackTo(_));
        if effect == Effect::DiscardAll || effect == Effect::DeallocateAll {
            self.statements.retain(|name, _| name.is_empty());
        }
        self.leftovers.done(effect, self.result.take());
        match tag {
            "BEGIN" | "START TRANSACTION" => self.in_block = true,
            "COMMIT" => self.end_transaction(true, out),
            "ROLLBACK" if !to_savepoint => self.end_transaction(false, out),
            "PREPARE TRANSACTION" => {
                // Its fate is another session's.
                self.wrote = false;
                self.end_transaction(true, out);
            }
            _ => self.wrote |= writes(tag, self.copied_in),
        }
        self.copied_in = false;
    }

    fn end_transaction(&mut self, committed: bool, out: &mut Vec<ServerEvent>) {
        self.in_block = false;
        self.leftovers.end_transaction(committed);
        self.portals.clear();
        self.settle_writes(committed, out);
    }

    fn settle_writes(&mut self, committed: bool, out: &mut Vec<ServerEvent>) {
        self.unblock(out);
        if std::mem::take(&mut self.wrote)
            && let Some(pid) = self.pid
        {
            let xid = UNKNOWN_XID;
            out.push(if committed {
                ServerEvent::Committed { pid, xid }
            } else {
                ServerEvent::RolledBack { pid, xid }
            });
        }
    }

    fn end_transaction_unless_in_block(&mut self, out: &mut Vec<ServerEvent>) {
        if !self.in_block {
            self.end_transaction(true, out);
        }
    }

    fn end_statement(&mut self, result: Result<Arc<str>, SqlState>, out: &mut Vec<ServerEvent>) {
        if let Some(pid) = self.pid
            && std::mem::take(&mut self.announced)
        {
            self.unblock(out);
            out.push(ServerEvent::StatementEnd { pid, result });
        }
    }

    fn error(&mut self, body: &[u8], out: &mut Vec<ServerEvent>) {
        let (severity, code) = wire::report(body);
        let fatal = matches!(severity.as_str(), "FATAL" | "PANIC");
        if self.state == BackendState::Starting {
            // Between StartupMessage and ReadyForQuery every error ends the startup.
            self.phase = Phase::Over;
            out.push(ServerEvent::Refused { pid: self.pid, peer: self.peer, code });
            return;
        }
        self.end_statement(Err(code), out);
        if fatal {
            self.last_words = Some(Gone::Fatal(code));
            return;
        }
        self.copying = false;
        self.tag = None;
        if !self.in_block {
            self.end_transaction(false, out);
        } else if !self.leftovers.has_savepoint() {
            self.settle_writes(false, out);
        }
        if !matches!(self.queue.front(), Some(Request::Query(_) | Request::FunctionCall)) {
            // The rest of the batch is not looked at.
            while self.queue.front().is_some_and(|request| !matches!(request, Request::Sync)) {
                self.queue.pop_front();
            }
        }
        // What is in front now was not begun, unless it is the query that failed; either way only ReadyForQuery is due.
        self.begun = true;
    }

    /// ReadyForQuery.
    fn ready(&mut self, status: Option<u8>, out: &mut Vec<ServerEvent>) {
        let starting = self.state == BackendState::Starting;
        let state = match status {
            Some(b'T') => BackendState::IdleInTransaction,
            Some(b'E') => BackendState::IdleInTransactionAborted,
            _ => BackendState::Idle,
        };
        self.copying = false;
        if state == BackendState::Idle {
            self.end_transaction(true, out);
        }
        self.in_block = state != BackendState::Idle;
        if let Some(tag) = self.tag.take() {
            self.end_statement(Ok(tag), out);
        }
        // A batch whose answers were not understood ends here all the same.
        while !starting
            && let Some(request) = self.queue.pop_front()
            && !matches!(request, Request::Query(_) | Request::Sync | Request::FunctionCall)
        {}
        self.begun = false;
        self.become_(state, out);
        self.advance(out);
    }

    /// A look from elsewhere found it waiting for a lock.
    pub(super) fn block(&mut self, by: Vec<Pid>, on: String, out: &mut Vec<ServerEvent>) {
        if let Some(pid) = self.pid()
            && self.state == BackendState::Active
            && !std::mem::replace(&mut self.blocked, true)
        {
            out.push(ServerEvent::Blocked { pid, by, on });
        }
    }

    /// It waits for a lock no more.
    pub(super) fn unblock(&mut self, out: &mut Vec<ServerEvent>) {
        if let Some(pid) = self.pid
            && std::mem::take(&mut self.blocked)
        {
            out.push(ServerEvent::Unblocked { pid });
        }
    }

    /// Where its bytes can't be seen any more, `pg_stat_activity` tells its state.
    pub(super) fn state_from_elsewhere(&mut self, state: BackendState, out: &mut Vec<ServerEvent>) {
        if state != BackendState::Active {
            self.end_statement(Err(SqlState::CONNECTION_FAILURE), out);
        }
        self.become_(state, out);
    }

    /// What the end will be, if the server's end of the socket closed now and nothing else is known of it.
    pub(super) fn known_end(&self) -> Option<Gone> {
        let by_client = if self.terminated {
            Some(Gone::Terminate)
        } else if self.closed {
            Some(Gone::ClientClosed)
        } else {
            None
        };
        self.last_words.clone().or(by_client)
    }

    /// The backend is gone.
    pub(super) fn end(&mut self, reason: Gone, out: &mut Vec<ServerEvent>) {
        let was = std::mem::replace(&mut self.phase, Phase::Over);
        let Some(pid) = self.pid.filter(|_| was == Phase::Session) else { return };
        self.end_statement(Err(SqlState::ADMIN_SHUTDOWN), out);
        self.unblock(out);
        self.settle_writes(false, out);
        out.push(ServerEvent::Gone { pid, reason });
    }
}

/// Whether a command of this tag wrote something. COPY TO and COPY FROM have the same.
fn writes(tag: &str, copied_in: bool) -> bool {
    let (first, last) = (tag.split(' ').next().unwrap_or_default(), tag.rsplit(' ').next().unwrap_or_default());
    match first {
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" => last != "0",
        "COPY" => copied_in && last != "0",
        // Of CREATE TABLE AS, too.
        "SELECT" | "FETCH" | "MOVE" => false,
        // These change the session or look at it.
        "SET" | "RESET" | "SHOW" | "DISCARD" | "LISTEN" | "UNLISTEN" | "NOTIFY" | "PREPARE" | "DEALLOCATE"
        | "DECLARE" | "CLOSE" | "SAVEPOINT" | "RELEASE" | "ROLLBACK" | "LOCK" | "EXPLAIN" | "LOAD" | "CHECKPOINT"
        | "VACUUM" | "DO" | "CALL" => false,
        _ => true,
    }
}
