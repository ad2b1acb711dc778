//! A raw protocol client that says exactly what it is told to, and a server under it in virtual time.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::postgres::event::{Lifecycle, Observer, ServerEvent};
use poolproof_sim::postgres::{Config, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

/// All events, in order.
#[derive(Default)]
pub(crate) struct Events(Mutex<Vec<ServerEvent>>);

impl Observer for Events {
    fn server_event(&self, _: &str, event: ServerEvent) {
        self.0.lock().push(event);
    }
}

impl Events {
    pub(crate) fn take(&self) -> Vec<ServerEvent> {
        std::mem::take(&mut self.0.lock())
    }
}

/// A server that takes sessions, and its events from then on.
pub(crate) async fn server(config: Config) -> (Server, Arc<Events>) {
    let events = Arc::new(Events::default());
    let server = Server::new(config, Some(events.clone())).expect("the configuration is good");
    server.start();
    let mut lifecycle = server.lifecycle_watch();
    lifecycle.wait_for(|now| *now == Lifecycle::Running).await.expect("it starts");
    events.take();
    (server, events)
}

/// No delays, so that a test's times are its own.
pub(crate) fn quick() -> Config {
    Config { startup_time: Duration::ZERO, fork_time: Duration::ZERO, ..Config::default() }
}

pub(crate) fn text(s: &str) -> Vec<u8> {
    [s.as_bytes(), b"\0"].concat()
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(sql))
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[text(name), text(sql), vec![0, 0]].concat())
}

pub(crate) fn bind(
    portal: &str,
    statement: &str,
    formats: &[i16],
    parameters: &[Option<&[u8]>],
    results: &[i16],
) -> Vec<u8> {
    let codes = |codes: &[i16]| {
        let mut out = (codes.len() as u16).to_be_bytes().to_vec();
        out.extend(codes.iter().flat_map(|code| code.to_be_bytes()));
        out
    };
    let mut body = [text(portal), text(statement), codes(formats)].concat();
    body.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                body.extend((bytes.len() as i32).to_be_bytes());
                body.extend(*bytes);
            }
        }
    }
    body.extend(codes(results));
    message(b'B', &body)
}

pub(crate) fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], text(name)].concat())
}

pub(crate) fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], text(name)].concat())
}

pub(crate) fn execute(portal: &str, limit: i32) -> Vec<u8> {
    message(b'E', &[text(portal), limit.to_be_bytes().to_vec()].concat())
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub(crate) fn startup(major: u16, minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = [major.to_be_bytes(), minor.to_be_bytes()].concat();
    for (name, value) in parameters {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    packet(&body)
}

pub(crate) fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&length.to_be_bytes(), body].concat()
}

/// A connection, spoken to byte by byte.
pub(crate) struct Raw<S = DuplexStream> {
    pub(crate) socket: S,
    pub(crate) pid: i32,
    pub(crate) secret: i32,
    input: Vec<u8>,
}

impl Raw {
    /// Connected; nothing sent.
    pub(crate) fn dial(server: &Server) -> Raw {
        let (socket, other) = tokio::io::duplex(1 << 20);
        let server = server.clone();
        let peer: SocketAddr = "10.0.0.9:4000".parse().expect("an address");
        tokio::spawn(async move { server.serve(other, peer).await });
        Raw::over(socket)
    }

    /// Connected, and the startup packet sent.
    pub(crate) async fn begin(server: &Server, parameters: &[(&str, &str)]) -> Raw {
        let mut raw = Raw::dial(server);
        raw.send(&startup(3, 0, parameters)).await;
        raw
    }

    /// A session of `postgres`, a superuser.
    pub(crate) async fn connect(server: &Server) -> Raw {
        Raw::connect_as(server, "postgres").await
    }

    /// A session of this user, in the database `postgres`.
    pub(crate) async fn connect_as(server: &Server, user: &str) -> Raw {
        let mut raw = Raw::begin(server, &[("user", user), ("database", "postgres")]).await;
        let replies = raw.until_ready().await;
        assert_eq!(replies.last().map(String::as_str), Some("Z I"), "{replies:?}");
        raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Over a stream that is connected; nothing sent.
    pub(crate) fn over(socket: S) -> Raw<S> {
        Raw { socket, pid: 0, secret: 0, input: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("the server reads");
    }

    /// Sends a query and gives everything up to ReadyForQuery, or the end.
    pub(crate) async fn query(&mut self, sql: &str) -> Vec<String> {
        self.send(&query(sql)).await;
        self.until_ready().await
    }

    /// Sends messages and gives everything up to ReadyForQuery, or the end.
    pub(crate) async fn exchange(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        self.send(&messages.concat()).await;
        self.until_ready().await
    }

    /// Everything up to ReadyForQuery, or `FIN`.
    pub(crate) async fn until_ready(&mut self) -> Vec<String> {
        let mut replies = Vec::new();
        loop {
            let reply = self.reply().await;
            let over = reply.starts_with("Z ") || reply == "FIN";
            replies.push(reply);
            if over {
                return replies;
            }
        }
    }

    /// Everything up to the end of the stream, which may come in the middle of a message.
    pub(crate) async fn until_end_or_half_a_message(&mut self) -> Vec<String> {
        while let Ok(1..) = self.socket.read_buf(&mut self.input).await {}
        let mut replies = Vec::new();
        while self.input.len() >= 5 {
            let length = u32::from_be_bytes(self.input[1..5].try_into().expect("four")) as usize;
            if self.input.len() <= length {
                break;
            }
            let rest = self.input.split_off(length + 1);
            let message = std::mem::replace(&mut self.input, rest);
            replies.push(self.words(message[0], &message[5..]));
        }
        replies
    }

    /// What arrives within this time.
    pub(crate) async fn within(&mut self, time: Duration) -> Vec<String> {
        let deadline = Instant::now() + time;
        let mut replies = Vec::new();
        while let Ok(reply) = tokio::time::timeout_at(deadline, self.reply()).await {
            let over = reply == "FIN";
            replies.push(reply);
            if over {
                break;
            }
        }
        replies
    }

    /// The next message, in words; `FIN` at the end.
    pub(crate) async fn reply(&mut self) -> String {
        loop {
            if self.input.len() >= 5 {
                let length = u32::from_be_bytes(self.input[1..5].try_into().expect("four")) as usize;
                if self.input.len() > length {
                    let rest = self.input.split_off(length + 1);
                    let message = std::mem::replace(&mut self.input, rest);
                    return self.words(message[0], &message[5..]);
                }
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => {
                    assert!(self.input.is_empty(), "half a message: {:?}", self.input);
                    return "FIN".to_owned();
                }
                Ok(_) => (),
            }
        }
    }

    fn words(&mut self, kind: u8, body: &[u8]) -> String {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', " ").trim().to_owned();
        let kind = char::from(kind);
        match kind {
            'E' | 'N' => {
                let fields: Vec<(char, String)> = body
                    .split(|byte| *byte == 0)
                    .filter(|field| !field.is_empty())
                    .map(|field| (char::from(field[0]), lossy(&field[1..])))
                    .collect();
                let get = |code: char| fields.iter().find(|(c, _)| *c == code).map(|(_, v)| v.clone());
                let mut words = format!(
                    "{kind} {} {} {}",
                    get('S').unwrap_or_default(),
                    get('C').unwrap_or_default(),
                    get('M').unwrap_or_default()
                );
                for code in ['D', 'H', 'W'] {
                    if let Some(value) = get(code) {
                        words += &format!(" | {code}: {value}");
                    }
                }
                words
            }
            'K' => {
                self.pid = i32::from_be_bytes(body[..4].try_into().expect("four"));
                self.secret = i32::from_be_bytes(body[4..8].try_into().expect("four"));
                "K".to_owned()
            }
            'D' => {
                let mut rest = &body[2..];
                let mut values = Vec::new();
                while rest.len() >= 4 {
                    let length = i32::from_be_bytes(rest[..4].try_into().expect("four"));
                    rest = &rest[4..];
                    match usize::try_from(length) {
                        Err(_) => values.push("NULL".to_owned()),
                        Ok(length) => {
                            values.push(rest[..length].escape_ascii().to_string());
                            rest = &rest[length..];
                        }
                    }
                }
                format!("D {}", values.join(","))
            }
            'T' => format!("T {}", u16::from_be_bytes(body[..2].try_into().expect("two"))),
            't' => format!("t {}", u16::from_be_bytes(body[..2].try_into().expect("two"))),
            'A' => format!("A {}", lossy(&body[4..])),
            'R' => format!("R {}", i32::from_be_bytes(body[..4].try_into().expect("four"))),
            'v' => format!("v {body:?}"),
            _ if body.is_empty() => kind.to_string(),
            _ => format!("{kind} {}", lossy(body)),
        }
    }
}

/// Lets every task run that can, without time passing.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
