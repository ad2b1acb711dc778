//! The server's half of a session: its answers work off what the client asked for.

use std::sync::Arc;

use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{BackendState, Gone, ServerEvent};

use super::super::effect::Effect;
use super::super::wire;
use super::{Phase, Portal, Request, Tap};

/// A transaction id that nobody knows: `InvalidTransactionId`.
const UNKNOWN_XID: u64 = 0;

impl Tap {
    /// The server's bytes, about to be forwarded.
    pub(in super::super) fn server(&mut self, mut bytes: &[u8], out: &mut Vec<ServerEvent>) {
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

    pub(super) fn settle_writes(&mut self, committed: bool, out: &mut Vec<ServerEvent>) {
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

    pub(super) fn end_statement(&mut self, result: Result<Arc<str>, SqlState>, out: &mut Vec<ServerEvent>) {
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
        } else {
            self.leftovers.fail();
            if !self.leftovers.has_savepoint() {
                self.settle_writes(false, out);
            }
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
