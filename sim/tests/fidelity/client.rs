//! The one raw client: a socket, what arrived on it, and what is still owed to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use postgres_protocol::authentication::sasl::{self, ScramSha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::message::{self, Reply};

/// What a client met.
#[derive(Debug, Clone)]
pub(crate) enum Arrived {
    Message(Reply),
    /// One byte that answers an SSLRequest or a GSSENCRequest.
    Refusal(u8),
    /// An ErrorResponse as protocols 1 and 2 had it.
    OldError(String),
    /// The end of the stream. Bytes of a message that was cut short are counted.
    Fin { half: usize },
    /// The connection failed.
    Failed(io::ErrorKind),
    /// A write failed.
    WriteFailed(io::ErrorKind),
}

pub(crate) struct Client<S> {
    /// None once it was closed by this side.
    pub(crate) socket: Option<S>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The other side's end was seen, or the connection failed.
    pub(crate) ended: bool,
    pub(crate) reads: bool,
    /// ReadyForQuery messages that are to come.
    pub(crate) owed_ready: usize,
    /// Something else is to come: at least one message.
    pub(crate) owed_any: bool,
    /// One-byte answers that are to come.
    owed_bytes: usize,
    pub(crate) key: Option<(i32, i32)>,
    password: Option<String>,
    scram: Option<ScramSha256>,
    /// Its startup packet was of protocol 1 or 2.
    old: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(socket: S, password: Option<String>) -> Client<S> {
        Client {
            socket: Some(socket),
            input: Vec::new(),
            output: Vec::new(),
            ended: false,
            reads: true,
            owed_ready: 0,
            owed_any: false,
            owed_bytes: 0,
            key: None,
            password,
            scram: None,
            old: false,
        }
    }

    /// Whether something is still to come, as far as one can tell from outside.
    pub(crate) fn waits(&self) -> bool {
        self.socket.is_some() && !self.ended && self.reads && (self.owed_ready > 0 || self.owed_any || self.owed_bytes > 0)
    }

    /// Takes note of what these words send, and gives its bytes to the socket as soon as it takes them.
    pub(crate) fn send(&mut self, words: &[String]) -> Result<(), String> {
        self.output.extend(message::encode(words)?);
        match words[0].as_str() {
            "Startup" => {
                self.owed_ready = 1;
                self.old = words[1].starts_with('1') || words[1].starts_with('2');
            }
            "Q" | "Sync" | "FunctionCall" => self.owed_ready += 1,
            "Flush" | "Password" | "Terminate" => self.owed_any = true,
            "SSLRequest" | "GSSENCRequest" => self.owed_bytes += 1,
            _ => {}
        }
        Ok(())
    }

    /// As [`Client::send`], of bytes that nothing is known of.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }

    /// Writes and reads what can be done at once.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        self.poll_write(cx, &mut arrived);
        while self.reads && !self.ended {
            let Some(socket) = self.socket.as_mut() else { break };
            let mut room = [0; 4096];
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(socket).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    self.ended = true;
                    if self.old && !self.input.is_empty() {
                        arrived.push(Arrived::OldError(String::from_utf8_lossy(&self.input).replace('\0', "\\0")));
                        self.input.clear();
                    }
                    arrived.push(Arrived::Fin { half: self.input.len() });
                }
                Poll::Ready(Ok(())) => {
                    self.input.extend(buffer.filled());
                    self.cut(&mut arrived);
                }
                Poll::Ready(Err(error)) => {
                    self.ended = true;
                    arrived.push(Arrived::Failed(error.kind()));
                }
            }
            // What SCRAM answers.
            self.poll_write(cx, &mut arrived);
        }
        arrived
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, arrived: &mut Vec<Arrived>) {
        while !self.output.is_empty() {
            let Some(socket) = self.socket.as_mut() else { return };
            match Pin::new(socket).poll_write(cx, &self.output) {
                Poll::Pending => return,
                Poll::Ready(Ok(written)) => drop(self.output.drain(..written)),
                Poll::Ready(Err(error)) => {
                    self.output.clear();
                    arrived.push(Arrived::WriteFailed(error.kind()));
                }
            }
        }
    }

    fn cut(&mut self, arrived: &mut Vec<Arrived>) {
        while self.owed_bytes > 0 && !self.input.is_empty() {
            self.owed_bytes -= 1;
            // An ErrorResponse instead.
            if self.input[0] != b'E' {
                arrived.push(Arrived::Refusal(self.input.remove(0)));
            }
        }
        if self.old {
            return;
        }
        while let Some(reply) = message::cut(&mut self.input) {
            self.owed_any = false;
            match reply.kind {
                b'Z' => self.owed_ready = self.owed_ready.saturating_sub(1),
                b'K' => self.key = reply.key(),
                b'R' => self.authenticate(&reply.body),
                _ => {}
            }
            arrived.push(Arrived::Message(reply));
        }
    }

    /// Goes on with SCRAM, when there is a password to do it with.
    fn authenticate(&mut self, body: &[u8]) {
        let Some(password) = &self.password else { return };
        match body {
            [0, 0, 0, 10, ..] => {
                let scram = ScramSha256::new(password.as_bytes(), sasl::ChannelBinding::unsupported());
                let first = scram.message();
                let length = u32::try_from(first.len()).expect("short").to_be_bytes();
                let body = [sasl::SCRAM_SHA_256.as_bytes(), b"\0", &length, first].concat();
                self.output.extend(message::message(b'p', &body));
                self.scram = Some(scram);
            }
            [0, 0, 0, 11, challenge @ ..] => {
                if let Some(scram) = &mut self.scram
                    && scram.update(challenge).is_ok()
                {
                    self.output.extend(message::message(b'p', scram.message()));
                }
            }
            _ => {}
        }
    }
}
