//! Reads one session's two byte streams, and tells what the simulated server would tell of it.
//!
//! A pure machine: bytes in, events out. Requests are kept in the order in which they were forwarded, and the server's answers
//! work them off, so that a pipeline's statements begin and end in the server's order, not in the client's.
//!
//! What the wire doesn't show, and how it is told instead:
//!
//! - A process id comes with BackendKeyData. `Forked` is told then, not at the fork; a startup that fails before tells
//!   `Refused` without a pid, and one that ends without a word tells nothing.
//! - Whether a transaction wrote: a command tag that writes, with a count other than 0, or a utility command, also one that
//!   found nothing to do. Writes by functions, by CREATE TABLE AS and by a WITH, which both report a SELECT, and by row locks are
//!   not seen, nor those of a statement that then failed. `xid` is 0, PostgreSQL's invalid transaction id.
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

mod answers;

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

    /// Its leftovers. None once the server has said its last word: nothing runs any more, though the process takes a moment,
    /// and on a busy machine a while, until it has exited and its socket is closed.
    pub(super) fn report(&self) -> Option<SessionReport> {
        self.last_words.is_none().then(|| self.leftovers.report(self.state))
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
                Some(portal) if is_empty(&portal.text) => return,
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
        parsed.or_else(|| self.statements.get(bound)).filter(|text| !is_empty(text)).cloned()
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

/// Whether a text holds no statement.
fn is_empty(text: &str) -> bool {
    effects(text).is_empty()
}
