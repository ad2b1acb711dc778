//! Plays a situation in a world, and writes down what its clients and an observer see.
//!
//! After each step it waits until nothing happens any more: no byte arrives, `pg_stat_activity` and `pg_locks` stay as they
//! are, every backend waits for something, and who has an answer to come is seen to wait for a lock or for time. The observer
//! is a superuser's session, so it takes a slot in both worlds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use crate::client::{Arrived, Client};
use crate::family::Situation;
use crate::message;
use crate::names::Names;
use crate::observe::{SNAPSHOT_SQL, Snapshot};
use crate::script::{Kind, Mode, ServerStep, Step};

/// A server and the way to it.
pub(crate) trait World {
    type Socket: AsyncRead + AsyncWrite + Unpin;

    async fn dial(&mut self) -> io::Result<Self::Socket>;

    /// Closes a socket with a RST.
    fn reset(&self, socket: Self::Socket);

    /// Does what a step does to the server; `pid` is that of the client it names. What it can only do by SQL it gives
    /// back, to be run by a superuser.
    async fn server(&mut self, step: &ServerStep, pid: Option<i64>) -> Result<Vec<String>, String>;

    /// How long nothing may happen until nothing more is expected.
    fn stillness(&self) -> Duration;
}

/// The longest wait for anything.
const LIMIT: Duration = Duration::from_secs(15);
/// After so many times the stillness an answer that does not come is not waited for.
const FALLBACK: u32 = 20;
/// The observer's password, where one is asked for.
pub(crate) const SUPERUSER_PASSWORD: &str = "postgres";

/// What a session of `app` begins with, when it asks for nothing special; told in three words.
const GREETING: [&str; 16] = [
    "AuthenticationOk",
    "ParameterStatus application_name = ",
    "ParameterStatus client_encoding = UTF8",
    "ParameterStatus DateStyle = ISO, MDY",
    "ParameterStatus default_transaction_read_only = off",
    "ParameterStatus in_hot_standby = off",
    "ParameterStatus integer_datetimes = on",
    "ParameterStatus IntervalStyle = postgres",
    "ParameterStatus is_superuser = off",
    "ParameterStatus server_encoding = UTF8",
    "ParameterStatus server_version = 15.x",
    "ParameterStatus session_authorization = app",
    "ParameterStatus standard_conforming_strings = on",
    "ParameterStatus TimeZone = Etc/UTC",
    "BackendKeyData",
    "ReadyForQuery I",
];

pub(crate) struct Player<W: World> {
    pub(crate) world: W,
    clients: BTreeMap<String, Client<W::Socket>>,
    observer: Option<Client<W::Socket>>,
    /// What the observer received since its last question.
    heard: Vec<Arrived>,
    arrived: Vec<(String, Arrived)>,
    /// Whose answers the present step waits for, in the order in which they are to come. They are looked at in this order, so
    /// that of what arrived between two looks it is the one that is told.
    awaited: Vec<String>,
    names: Names,
    snapshot: Snapshot,
    transcript: String,
}

/// Plays a situation. Gives what was seen; or, as an error, why it could not be played.
pub(crate) async fn play<W: World>(world: W, situation: &Situation) -> (Result<String, String>, W) {
    let mut player = Player {
        world,
        clients: BTreeMap::new(),
        observer: None,
        heard: Vec::new(),
        arrived: Vec::new(),
        awaited: Vec::new(),
        names: Names::new(),
        snapshot: Snapshot::default(),
        transcript: String::new(),
    };
    let mut played = player.watch().await;
    for step in &situation.steps {
        if played.is_ok() {
            played = player.step(step).await.map_err(|error| format!("{}: {error}", step.line));
        }
    }
    let seen = std::mem::take(&mut player.transcript);
    (played.map(|()| seen), player.world)
}

impl<W: World> Player<W> {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        self.awaited.clear();
        match &step.kind {
            Kind::Connect { client, options } => self.connect(client, options).await?,
            Kind::Dial(client) => self.dial(client, None).await?,
            Kind::Send { client, actions } => self.send(client, actions)?,
            Kind::Vanish(client) => self.client(client)?.socket = None,
            Kind::Reset(client) => {
                let socket = self.client(client)?.socket.take();
                self.world.reset(socket.ok_or("it has no socket any more")?);
            }
            Kind::Shutdown(client) => {
                let socket = self.client(client)?.socket.as_mut().ok_or("it has no socket any more")?;
                let done = poll_fn(|cx| Pin::new(&mut *socket).poll_shutdown(cx)).await;
                done.map_err(|error| error.to_string())?;
            }
            Kind::StopReading(client) => self.client(client)?.reads = false,
            Kind::GoOnReading(client) => self.client(client)?.reads = true,
            Kind::Cancel { of, wrong_key } => self.cancel(of, *wrong_key).await?,
            Kind::Await(names) => {
                self.awaited.clone_from(names);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.wait_for(&names).await?;
            }
            Kind::Sleep(time) => {
                let until = Instant::now() + *time;
                while Instant::now() < until {
                    self.pump(until).await;
                }
            }
            Kind::Server(what) => self.server(what).await?,
        }
        self.settle().await?;
        self.tell(step);
        Ok(())
    }

    fn client(&mut self, name: &str) -> Result<&mut Client<W::Socket>, String> {
        self.clients.get_mut(name).ok_or_else(|| format!("there is no client {name}"))
    }

    async fn dial(&mut self, name: &str, password: Option<String>) -> Result<(), String> {
        match self.world.dial().await {
            Ok(socket) => drop(self.clients.insert(name.to_owned(), Client::new(socket, password))),
            Err(error) => self.arrived.push((name.to_owned(), Arrived::Failed(error.kind()))),
        }
        Ok(())
    }

    async fn connect(&mut self, name: &str, options: &[(String, String)]) -> Result<(), String> {
        let given = |wanted: &str| options.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        self.dial(name, given("password")).await?;
        let Some(client) = self.clients.get_mut(name).filter(|client| client.socket.is_some() && client.key.is_none())
        else {
            return Ok(());
        };
        let mut words = vec!["Startup".to_owned(), "3.0".to_owned()];
        words.push(format!("user={}", given("user").unwrap_or("app".to_owned())));
        words.push(format!("database={}", given("database").unwrap_or("app".to_owned())));
        let rest = options.iter().filter(|(name, _)| !["user", "database", "password"].contains(&name.as_str()));
        words.extend(rest.map(|(name, value)| format!("{name}={value}")));
        client.send(&words)?;
        self.wait_for(&[name]).await
    }

    fn send(&mut self, name: &str, actions: &[Vec<String>]) -> Result<(), String> {
        for action in actions {
            let mut words = action.clone();
            for word in &mut words {
                while let Some((before, rest)) = word.clone().split_once("{pid ") {
                    let (of, after) = rest.split_once('}').ok_or("{pid NAME} is not closed")?;
                    let pid = self.names.pid(of).ok_or_else(|| format!("{of} has no backend"))?;
                    *word = format!("{before}{pid}{after}");
                }
            }
            if let ["CancelRequest", of] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                let (pid, key) = self.client(of)?.key.ok_or("it has no key")?;
                self.client(name)?.send_raw(&message::cancel_request(pid, key));
            } else {
                self.client(name)?.send(&words)?;
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, of: &str, wrong_key: bool) -> Result<(), String> {
        let (pid, key) = self.client(of)?.key.ok_or("it has no key")?;
        let key = if wrong_key { key ^ 1 } else { key };
        self.dial("cancel", None).await?;
        self.client("cancel")?.send_raw(&message::cancel_request(pid, key));
        let deadline = Instant::now() + LIMIT;
        while !self.client("cancel")?.ended && Instant::now() < deadline {
            self.pump(deadline).await;
        }
        self.clients.remove("cancel");
        Ok(())
    }

    async fn server(&mut self, step: &ServerStep) -> Result<(), String> {
        if *step == ServerStep::Stop(Mode::Smart) {
            // The observer's own session would keep the server alive.
            self.observer = None;
            self.pump(Instant::now() + self.world.stillness()).await;
        }
        let pid = match step {
            ServerStep::KillBackend(of) => Some(self.names.pid(of).ok_or("it has no backend")?),
            _ => None,
        };
        let deadline = Instant::now() + LIMIT;
        // The step's own time is the clients' too: they read what it sends them.
        for sql in self.world.server(step, pid).await? {
            self.ask(&sql).await?.ok_or("nobody observes the server")?;
        }
        match step {
            ServerStep::Start | ServerStep::Restart(_) | ServerStep::WaitRunning => {
                while let Err(error) = self.watch().await {
                    if Instant::now() > deadline {
                        return Err(error);
                    }
                    self.pump(Instant::now() + Duration::from_millis(5)).await;
                }
            }
            ServerStep::KillBackend(_) => self.observer = None,
            _ => {}
        }
        Ok(())
    }

    /// Makes the observer's session, if there is none.
    async fn watch(&mut self) -> Result<(), String> {
        if self.observer.as_ref().is_some_and(|observer| !observer.ended) {
            return Ok(());
        }
        self.observer = None;
        let socket = self.world.dial().await.map_err(|error| error.to_string())?;
        let mut observer = Client::new(socket, Some(SUPERUSER_PASSWORD.to_owned()));
        observer.send(&["Startup", "3.0", "user=postgres", "database=app"].map(str::to_owned))?;
        self.observer = Some(observer);
        match self.answer().await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.observer = None;
                Err(error)
            }
        }
    }

    /// Asks the observer; None when there is none. Error: the statement's.
    async fn ask(&mut self, sql: &str) -> Result<Option<Vec<Vec<Vec<Option<String>>>>>, String> {
        let Some(observer) = self.observer.as_mut() else { return Ok(None) };
        observer.send(&["Q".to_owned(), sql.to_owned()])?;
        match self.answer().await {
            Ok(sets) => Ok(Some(sets)),
            Err(_) if self.observer.as_ref().is_none_or(|observer| observer.ended) => {
                self.observer = None;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The rows of each statement, up to ReadyForQuery.
    async fn answer(&mut self) -> Result<Vec<Vec<Vec<Option<String>>>>, String> {
        let deadline = Instant::now() + LIMIT;
        while self.observer.as_ref().is_some_and(Client::waits) {
            if Instant::now() > deadline {
                return Err("the observer got no answer".to_owned());
            }
            self.pump(deadline).await;
        }
        let mut sets = Vec::new();
        for arrived in std::mem::take(&mut self.heard) {
            match arrived {
                Arrived::Message(reply) if reply.kind == b'T' => sets.push(Vec::new()),
                Arrived::Message(reply) if reply.kind == b'D' => {
                    sets.last_mut().ok_or("a row before its description")?.push(reply.row());
                }
                Arrived::Message(reply) if reply.kind == b'E' => {
                    return Err(format!("the observer got: {}", reply.words(&self.names)));
                }
                Arrived::Message(_) => {}
                other => return Err(format!("the observer got: {other:?}")),
            }
        }
        Ok(sets)
    }

    /// Lets bytes flow until something arrived for a client, or `until`. Gives whether something did.
    async fn pump(&mut self, until: Instant) -> bool {
        let mut timer = pin!(sleep_until(until));
        poll_fn(|cx| {
            let before = (self.arrived.len(), self.heard.len());
            let mut clients: Vec<_> = self.clients.iter_mut().collect();
            let place = |name: &String| self.awaited.iter().position(|awaited| awaited == name);
            clients.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
            for (name, client) in clients {
                for arrived in client.poll(cx) {
                    if let Some((pid, _)) = client.key {
                        self.names.know_pid(pid.into(), name);
                    }
                    self.arrived.push((name.clone(), arrived));
                }
            }
            if let Some(observer) = &mut self.observer {
                self.heard.extend(observer.poll(cx));
            }
            if before != (self.arrived.len(), self.heard.len()) {
                return Poll::Ready(before.0 != self.arrived.len());
            }
            timer.as_mut().poll(cx).map(|()| false)
        })
        .await
    }

    async fn wait_for(&mut self, names: &[&str]) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut waits = false;
            for name in names {
                waits |= self.client(name)?.waits();
            }
            if !waits {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("no answer within {LIMIT:?}; so far: {:?}", self.arrived));
            }
            self.pump(deadline).await;
        }
    }

    /// Waits until nothing happens any more.
    async fn settle(&mut self) -> Result<(), String> {
        let quiet = self.world.stillness();
        let deadline = Instant::now() + LIMIT;
        let mut still_since = Instant::now();
        loop {
            let before = self.arrived.len();
            self.pump(Instant::now() + quiet / 3).await;
            let snapshot = match self.ask(SNAPSHOT_SQL).await? {
                Some(sets) => Snapshot::read(&sets, &mut self.names)?,
                None => self.snapshot.clone(),
            };
            let seen = self.observer.is_some();
            let waiting = |(name, client): (&String, &Client<W::Socket>)| client.waits() && !snapshot.is_blocked(name);
            let busy = (seen && snapshot.is_busy()) || self.clients.iter().any(waiting);
            if before != self.arrived.len() || snapshot != self.snapshot {
                still_since = Instant::now();
            }
            let changed = snapshot != self.snapshot;
            if changed {
                self.snapshot.replace(snapshot);
            }
            let still = still_since.elapsed();
            if (still >= quiet && !busy) || still >= quiet * FALLBACK {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("the server does not come to rest".to_owned());
            }
        }
    }

    /// Writes a step down, client by client: by name, or after a wait in the order in which their answers began. What two
    /// of them are sent at about the same time has no order on a real server.
    fn tell(&mut self, step: &Step) {
        let _ = writeln!(self.transcript, "> {}", step.line);
        let mut arrived = std::mem::take(&mut self.arrived);
        if self.awaited.is_empty() {
            arrived.sort_by(|(a, _), (b, _)| a.cmp(b));
        } else {
            let mut order: Vec<String> = arrived.iter().map(|(name, _)| name.clone()).collect();
            let mut known = BTreeSet::new();
            order.retain(|name| known.insert(name.clone()));
            // The end of a process takes a moment: what others owe to its end may come before its FIN.
            let fin = |what: &Arrived| matches!(what, Arrived::Fin { .. });
            arrived.sort_by_key(|(name, what)| (fin(what), order.iter().position(|known| known == name)));
        }
        let mut lines: Vec<(String, String)> = Vec::new();
        for (client, what) in arrived {
            let words = match what {
                Arrived::Message(reply) => reply.words(&self.names),
                Arrived::Refusal(byte) => format!("the byte {:?}", char::from(byte)),
                Arrived::OldError(text) => format!("an error of protocol 2: {text:?}"),
                Arrived::Fin { half: 0 } => "FIN".to_owned(),
                Arrived::Fin { half } => format!("FIN after {half} bytes of a message"),
                Arrived::Failed(io::ErrorKind::ConnectionReset) => "RST".to_owned(),
                Arrived::Failed(kind) => format!("failed: {kind:?}"),
                Arrived::WriteFailed(kind) => format!("write failed: {kind:?}"),
            };
            lines.push((client, words));
        }
        if let Kind::Connect { client, .. } = &step.kind {
            let greeting: Vec<&str> =
                lines.iter().filter(|(name, _)| name == client).map(|(_, words)| words.as_str()).collect();
            if greeting == GREETING {
                lines.retain(|(name, _)| name != client);
                lines.push((client.clone(), "the usual greeting".to_owned()));
            }
        }
        for (client, words) in lines {
            let _ = writeln!(self.transcript, "  {client}  {words}");
        }
        for line in self.snapshot.news() {
            let _ = writeln!(self.transcript, "     {line}");
        }
    }
}
