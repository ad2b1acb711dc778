//! From the first packet to the first ReadyForQuery.
//!
//! The order of checks is PostgreSQL's: the packet itself, the server's state, a free slot, authentication, then role,
//! reserved slots, database and limits, then the settings of the packet. Up to the end of authentication the backend
//! dies without a word, whatever kills it: `authentication_timeout`, a stop, a termination. Left out: TLS and GSS
//! encryption (refused with `N`), replication connections (0A000).

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};

use bytes::Buf;
use pgwire::messages::startup::Authentication;
use tokio::time::Instant;

use super::activity::Signals;
use super::config::Auth;
use super::error::{PgError, SqlState};
use super::event::{Gone, ServerEvent};
use super::link::Socket;
use super::scram;
use super::session::{Connection, End, ended_by};
use super::sql::SessionOptions;
use super::wire::{self, First, Frame};

/// How far a startup got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    /// A process, of which nobody has been told.
    Nothing,
    /// It holds a slot.
    Slot,
    /// It was refused; the observer knows.
    Refused,
}

/// `NAMEDATALEN - 1`: names of roles and databases are cut here.
const NAME_LENGTH: usize = 63;

/// What a StartupMessage asks for.
struct Request {
    user: String,
    database: String,
    settings: Vec<(String, String)>,
}

impl<S: Socket> Connection<S> {
    /// The whole startup. Errors: how the connection ends instead of becoming a session.
    pub(super) async fn start(&mut self) -> Result<(), End> {
        let deadline = Instant::now() + self.shared.settings.lock().authentication_timeout();
        let request = match self.first_packet(deadline).await {
            Ok(request) => request,
            Err(end) => return Err(self.refused(end, true)),
        };
        let taken = self.shared.accepts().and_then(|()| {
            let mut registry = self.shared.registry.lock();
            registry.take_slot(&self.shared.config, &self.backend)
        });
        if let Err(error) = taken {
            return Err(self.refused(End::Fatal(error), true));
        }
        self.started = Started::Slot;
        self.shared.emit(ServerEvent::Forked { pid: self.backend.pid, peer: self.backend.peer });
        match self.initialise(request, deadline).await {
            Ok(()) => Ok(()),
            Err(end) => Err(self.refused(end, false)),
        }
    }

    /// Tells the observer of a refusal: a FATAL that is not a signal's.
    fn refused(&mut self, end: End, without_slot: bool) -> End {
        if let End::Fatal(error) = &end
            && ended_by(self.backend.pending()).is_none()
        {
            self.started = Started::Refused;
            self.shared.emit(ServerEvent::Refused {
                pid: (!without_slot).then_some(self.backend.pid),
                peer: self.backend.peer,
                code: error.code,
            });
        }
        end
    }

    /// `ProcessStartupPacket`
    async fn first_packet(&mut self, deadline: Instant) -> Result<Request, End> {
        let (mut ssl_done, mut gss_done) = (false, false);
        loop {
            let first = match wire::cut_first(&mut self.link.input) {
                Ok(Some(first)) => first,
                Ok(None) => {
                    self.receive_or_die(deadline).await?;
                    continue;
                }
                Err(wire::BadPacket) => return Err(End::Silent(Gone::ClientClosed)),
            };
            let encryption = match first {
                First::Ssl if !ssl_done => {
                    ssl_done = true;
                    "SSL"
                }
                First::Gss if !gss_done => {
                    gss_done = true;
                    "GSSAPI encryption"
                }
                First::Ssl => return Err(unsupported_version(1234, 5679)),
                First::Gss => return Err(unsupported_version(1234, 5680)),
                First::Cancel { pid, secret } => {
                    self.shared.cancel_request(pid, secret);
                    return Err(End::Silent(Gone::ClientClosed));
                }
                First::Startup { major, minor, parameters } => return self.startup_message(major, minor, &parameters),
            };
            self.link.output.extend_from_slice(b"N");
            self.link.flush();
            if !self.link.input.is_empty() {
                return Err(End::Fatal(
                    PgError::fatal(
                        SqlState::PROTOCOL_VIOLATION,
                        format!("received unencrypted data after {encryption} request"),
                    )
                    .detail(
                        "This could be either a client-software bug or evidence of an attempted man-in-the-middle \
                         attack.",
                    ),
                ));
            }
            self.send().await?;
        }
    }

    fn startup_message(&mut self, major: u16, minor: u16, parameters: &[u8]) -> Result<Request, End> {
        if major != 3 {
            self.speaks_version_2 = major < 3;
            return Err(unsupported_version(major, minor));
        }
        let mut request = Request { user: String::new(), database: String::new(), settings: Vec::new() };
        let mut unsupported = Vec::new();
        for (name, value) in wire::startup_parameters(parameters).map_err(End::Fatal)? {
            match name.as_str() {
                "user" => request.user = cut_name(value),
                "database" => request.database = cut_name(value),
                "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                    return Err(End::Fatal(PgError::unsupported("replication connections").into_fatal()));
                }
                "replication" => (),
                _ if name.starts_with("_pq_.") => unsupported.push(name),
                _ => request.settings.push((name, value)),
            }
        }
        if minor > 0 || !unsupported.is_empty() {
            wire::negotiate(&mut self.link.output, unsupported);
        }
        if request.user.is_empty() {
            return Err(End::Fatal(PgError::fatal(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                "no PostgreSQL user name specified in startup packet",
            )));
        }
        if request.database.is_empty() {
            request.database.clone_from(&request.user);
        }
        Ok(request)
    }

    /// `InitPostgres`: the backend has its slot.
    async fn initialise(&mut self, request: Request, deadline: Instant) -> Result<(), End> {
        let fork_time = self.shared.config.fork_time;
        if !fork_time.is_zero() {
            self.pause(fork_time, Signals::END).await.map_err(without_a_word)?;
        }
        if self.shared.config.auth == Auth::ScramSha256 {
            self.scram(&request.user, deadline).await?;
        }
        self.allocate().map_err(|error| End::Fatal(error.into_fatal()))?;
        wire::authentication_ok(&mut self.link.output);
        {
            let shared = self.shared.clone();
            let limit = {
                let cluster = shared.cluster.read();
                let engine = cluster.engine.lock();
                engine.role(&request.user).and_then(|role| u32::try_from(role.connection_limit).ok())
            };
            let registry = shared.registry.lock();
            let (config, backend) = (&shared.config, &self.backend);
            let superuser = registry.admit_role(config, backend, &request.user, limit).map_err(End::Fatal)?;
            registry.admit_database(config, backend, superuser, &request.database).map_err(End::Fatal)?;
        }
        self.open_session(request)?;
        let in_recovery = self.shared.in_recovery.load(Ordering::Acquire);
        self.began_in_recovery = in_recovery;
        let (settings, timeouts) = self.engine(|engine, session, _| {
            if in_recovery {
                engine.begin_in_recovery(session);
            }
            let settings = session.settings_mut();
            (settings.report_all(), *settings.timeouts())
        })?;
        for (name, value) in settings {
            if &*name == "application_name" {
                self.backend.activity.lock().application_name.clone_from(&value);
            }
            wire::parameter_status(&mut self.link.output, &name, &value);
        }
        self.adopt_timeouts(timeouts);
        wire::backend_key(&mut self.link.output, self.backend.pid, self.backend.secret);
        self.ready()
    }

    fn open_session(&mut self, request: Request) -> Result<(), End> {
        let shared = self.shared.clone();
        let cluster = shared.cluster.read();
        let mut engine = cluster.engine.lock();
        // A crash takes all sessions away with the engine locked: it must not miss this one.
        if let Some(end) = ended_by(self.backend.pending()) {
            return Err(end);
        }
        let session = engine
            .open_session(SessionOptions {
                pid: self.backend.pid,
                user: request.user,
                database: request.database,
                settings: request.settings,
            })
            .map_err(|error| End::Fatal(error.into_fatal()))?;
        *self.backend.session.lock() = Some(session);
        Ok(())
    }

    async fn scram(&mut self, user: &str, deadline: Instant) -> Result<(), End> {
        let violation = |message: &'static str| End::Fatal(PgError::fatal(SqlState::PROTOCOL_VIOLATION, message));
        let exchange = self.shared.scram_exchange(user);

        let mechanisms = vec![scram::MECHANISM.to_owned()];
        wire::authentication(&mut self.link.output, Authentication::SASL(mechanisms));
        let mut initial = self.password_message(deadline).await?;
        let Some(end) = initial.iter().position(|byte| *byte == 0) else {
            return Err(violation("invalid string in message"));
        };
        if &initial[..end] != scram::MECHANISM.as_bytes() {
            return Err(violation("client selected an invalid SASL authentication mechanism"));
        }
        initial.advance(end + 1);
        if initial.len() < 4 {
            return Err(violation("insufficient data left in message"));
        }
        let length = initial.get_i32();
        if usize::try_from(length).ok() != Some(initial.len()) {
            return Err(violation("invalid message format"));
        }
        let (challenge, proof) = exchange.client_first(&initial).map_err(End::Fatal)?;
        wire::authentication(&mut self.link.output, Authentication::SASLContinue(challenge.into()));
        let answer = self.password_message(deadline).await?;
        let signature = proof.client_final(&answer).map_err(End::Fatal)?;
        wire::authentication(&mut self.link.output, Authentication::SASLFinal(signature.into()));
        Ok(())
    }

    async fn password_message(&mut self, deadline: Instant) -> Result<bytes::BytesMut, End> {
        self.link.flush();
        self.send().await?;
        loop {
            match Frame::cut_password(&mut self.link.input) {
                Ok(Some(frame)) if frame.kind == b'p' => return Ok(frame.into_body()),
                Ok(Some(frame)) => {
                    return Err(End::Fatal(PgError::fatal(
                        SqlState::PROTOCOL_VIOLATION,
                        format!("expected SASL response, got message type {}", frame.kind),
                    )));
                }
                Ok(None) => self.receive_or_die(deadline).await?,
                Err(_) => return Err(End::Silent(Gone::ClientClosed)),
            }
        }
    }

    /// Waits for bytes of a client that is not authenticated.
    async fn receive_or_die(&mut self, deadline: Instant) -> Result<(), End> {
        poll_fn(|cx| {
            self.backend.register(cx.waker());
            if let Some(end) = ended_by(self.backend.pending()) {
                return Poll::Ready(Err(without_a_word(end)));
            }
            if let Poll::Ready(received) = self.link.poll_receive(cx) {
                return Poll::Ready(match received {
                    Ok(0) => Err(End::Silent(Gone::ClientClosed)),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.into()),
                });
            }
            ready!(self.timer.poll(cx, deadline));
            // "canceling authentication due to timeout" goes to the log only.
            Poll::Ready(Err(End::Silent(Gone::Fatal(SqlState::QUERY_CANCELED))))
        })
        .await
    }
}

/// Before the end of authentication nothing is said to a client.
fn without_a_word(end: End) -> End {
    match end {
        End::Fatal(error) => End::Silent(Gone::Fatal(error.code)),
        End::Quit(error) => End::Silent(Gone::Crash(error.code)),
        End::Silent(gone) => End::Silent(gone),
    }
}

fn unsupported_version(major: u16, minor: u16) -> End {
    End::Fatal(PgError::fatal(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"),
    ))
}

fn cut_name(mut name: String) -> String {
    if name.len() > NAME_LENGTH {
        let mut end = NAME_LENGTH;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}
