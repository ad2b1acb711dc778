//! The simulated server behind the simulated network, in virtual time.

use std::io;
use std::time::Duration;

use poolproof_sim::net::{Host, Net, SocketOptions, Stream};
use poolproof_sim::postgres::event::Lifecycle;
use poolproof_sim::postgres::{Auth, Config, Database, Role, Server, StopMode};

use crate::family::{Family, ServerOptions, Situation};
use crate::play::{SUPERUSER_PASSWORD, World, play};
use crate::script::{Mode, ServerStep};

const PORT: u16 = 5432;
/// Far from any number in a situation.
const FIRST_PID: i32 = 731_000;

struct Simulated {
    client: Host,
    db: Host,
    server: Server,
    _net: Net,
}

/// Plays a situation of a family against the simulated server. Error: it could not be played.
pub(crate) fn run(family: &Family, situation: &Situation) -> Result<String, String> {
    let config = config(&family.server, &situation.setup);
    let (standby, situation) = (family.server.standby, situation.clone());
    let played = poolproof_sim::runtime::run(1, move || async move {
        let world = Simulated::new(config, standby).await?;
        play(world, &situation).await.0
    });
    played.map_err(|failure| failure.to_string())?
}

fn config(options: &ServerOptions, setup: &str) -> Config {
    let mut config = Config {
        startup_time: Duration::ZERO,
        fork_time: Duration::ZERO,
        initial_sql: setup.to_owned(),
        first_pid: FIRST_PID,
        auth: if options.scram { Auth::ScramSha256 } else { Auth::Trust },
        ..Config::default()
    };
    // `initial_sql` runs in the first database.
    config.databases.sort_by_key(|database| database.name != "app");
    for role in &mut config.roles {
        role.password = Some(if role.superuser { SUPERUSER_PASSWORD.to_owned() } else { role.name.clone() });
    }
    config.roles.extend(options.roles.iter().map(|role| Role {
        name: role.name.clone(),
        superuser: false,
        connection_limit: role.connection_limit,
        password: role.password.clone(),
    }));
    config.databases.extend(
        options
            .databases
            .iter()
            .map(|database| Database { name: database.name.clone(), connection_limit: database.connection_limit }),
    );
    for (name, value) in &options.settings {
        match name.as_str() {
            "max_connections" => config.max_connections = value.parse().expect("a number"),
            "superuser_reserved_connections" => {
                config.superuser_reserved_connections = value.parse().expect("a number");
            }
            _ => drop(config.settings.insert(name.clone(), value.clone())),
        }
    }
    config
}

impl Simulated {
    async fn new(config: Config, standby: bool) -> Result<Simulated, String> {
        let net = Net::new(1);
        let (client, db) = (net.add_host("client"), net.add_host("db"));
        let server = Server::new(config.clone(), None).map_err(|error| format!("setup: {error}"))?;
        let server = match standby {
            true => Server::standby_of(&server, config, None).map_err(|error| error.to_string())?,
            false => server,
        };
        let mut world = Simulated { client, db, server, _net: net };
        world.start().await?;
        Ok(world)
    }

    /// Starts the server and opens its port, until it is down again.
    async fn start(&mut self) -> Result<(), String> {
        self.server.start();
        let mut listener = self.db.listen(PORT, 128).map_err(|error| error.to_string())?;
        listener.set_accepted_options(SocketOptions::postgres_server());
        let server = self.server.clone();
        tokio::spawn(async move {
            let mut lifecycle = server.lifecycle_watch();
            loop {
                tokio::select! {
                    biased;
                    _ = lifecycle.wait_for(|now| *now == Lifecycle::Down) => return,
                    accepted = listener.accept() => {
                        let Ok((stream, peer)) = accepted else { return };
                        let server = server.clone();
                        tokio::spawn(async move { server.serve(stream, peer).await });
                    }
                }
            }
        });
        self.wait(Lifecycle::Running).await
    }

    async fn wait(&self, wanted: Lifecycle) -> Result<(), String> {
        let mut lifecycle = self.server.lifecycle_watch();
        let reached = lifecycle.wait_for(|now| *now == wanted).await;
        reached.map(drop).map_err(|error| error.to_string())?;
        // The task that owns the port sees it too.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }
}

fn mode(mode: Mode) -> StopMode {
    match mode {
        Mode::Smart => StopMode::Smart,
        Mode::Fast => StopMode::Fast,
        Mode::Immediate => StopMode::Immediate,
    }
}

impl World for Simulated {
    type Socket = Stream;

    async fn dial(&mut self) -> io::Result<Stream> {
        self.client.connect("db", PORT, &SocketOptions::default()).await
    }

    fn reset(&self, socket: Stream) {
        socket.abort();
    }

    async fn server(&mut self, step: &ServerStep, pid: Option<i64>) -> Result<Vec<String>, String> {
        match step {
            ServerStep::Stop(Mode::Smart) => drop(self.server.stop(StopMode::Smart)),
            ServerStep::Stop(how) => {
                self.server.stop(mode(*how)).await;
                self.wait(Lifecycle::Down).await?;
            }
            ServerStep::Start => self.start().await?,
            ServerStep::Restart(how) => {
                self.server.stop(mode(*how)).await;
                self.wait(Lifecycle::Down).await?;
                self.start().await?;
            }
            ServerStep::WaitRunning => self.wait(Lifecycle::Running).await?,
            ServerStep::WaitDown => self.wait(Lifecycle::Down).await?,
            ServerStep::KillBackend(_) => {
                let pid = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
                if !self.server.kill_backend(pid) {
                    return Err("there is no such backend".to_owned());
                }
            }
            ServerStep::Kill => {
                self.server.kill();
                self.wait(Lifecycle::Down).await?;
            }
            ServerStep::Reload(name, value) => self.server.reload(name, value).map_err(|error| error.to_string())?,
            ServerStep::Promote => drop(self.server.promote()),
        }
        Ok(Vec::new())
    }

    fn stillness(&self) -> Duration {
        Duration::from_millis(30)
    }
}
