//! The simulated world of one run: the servers and their hosts, the network between, and a host for each process.
//!
//! A server's port is open while its postmaster lives: from StartingUp to Down, ShuttingDown included (its sessions are
//! refused with 57P03 then, not their connects).

mod messages;
mod world;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::net::{Host, Keepalive, Link, Net, SocketOptions, Stream, StreamHandle};
use poolproof_sim::postgres::error::PgError;
use poolproof_sim::postgres::event::{Lifecycle, Observer, Pid, ServerEvent};
use poolproof_sim::postgres::server::Server;

use self::messages::{MessageStream, Messages};
pub use super::servers::PORT;
use super::servers::{self, Simulated};
use super::tasks::Tasks;
use super::{is_machine_of, link, machine_name};
use crate::pool::connector::{Dialer, Dialling, Socket};
use crate::pool::resource::Script;
use crate::scenario::model::{self, Scenario, ServerName};
use crate::trace::recorder::IntMap;

/// The backlog that Linux grants a server that asks for more (`net.core.somaxconn`); PostgreSQL asks for twice
/// `max_connections`, and for 200 at the least of its settings in use.
const BACKLOG: usize = 4096;

/// The name that apps connect to; it can be re-pointed.
pub const NAME: &str = crate::scenario::rehearsal::NAME;

/// One server and its host.
pub struct Site {
    /// Which.
    pub name: ServerName,
    /// The server.
    pub server: Server,
    host: Mutex<Host>,
}

impl Site {
    /// Where it runs: the present incarnation of its host.
    #[must_use]
    pub fn host(&self) -> Host {
        self.host.lock().clone()
    }

    /// `pg_ctl start`; the host gets power if it has none.
    ///
    /// # Errors
    /// What the server is doing, unless it is down: a second postmaster finds `postmaster.pid`, and gives up.
    pub fn start(&self) -> Result<(), Lifecycle> {
        let now = self.server.lifecycle();
        if now != Lifecycle::Down {
            return Err(now);
        }
        {
            let mut host = self.host.lock();
            if !host.is_alive() {
                *host = host.power_on();
            }
        }
        self.server.start();
        Ok(())
    }
}

/// The world of one run.
pub struct SimWorld {
    /// The scenario that made it.
    pub scenario: Arc<Scenario>,
    /// The network.
    pub net: Net,
    /// The server that the name `db` means at first.
    pub primary: Arc<Site>,
    /// The standby, if the scenario has one.
    pub standby: Option<Arc<Site>>,
    /// Its own tasks.
    pub tasks: Tasks,
    /// What befalls the managers of pools of resources.
    pub script: Arc<Script>,
    control: Simulated,
    link: Mutex<Link>,
    idle_flow_timeout: Mutex<Option<Duration>>,
    hosts: Mutex<BTreeMap<String, Host>>,
    others: Mutex<BTreeMap<String, Host>>,
    flows: Arc<Flows>,
    /// What befalls connections at their messages.
    messages: Arc<Messages>,
}

/// The clients' ends of the flows to the servers, found by what a server knows: the backend.
#[derive(Default)]
struct Flows {
    peers: Mutex<IntMap<Pid, Peer>>,
    streams: Mutex<BTreeMap<SocketAddr, StreamHandle>>,
}

/// A backend's client.
struct Peer {
    address: SocketAddr,
    /// Its end of the flow, once somebody looked for it.
    stream: Option<StreamHandle>,
}

impl SimWorld {
    /// Builds the world; its servers are started, and not yet running.
    ///
    /// # Errors
    /// The server's refusal of its settings or of the scenario's `sql`.
    pub fn new(scenario: &Arc<Scenario>, seed: u64, observer: Arc<dyn Observer>) -> Result<Arc<SimWorld>, PgError> {
        let flows = Arc::new(Flows::default());
        let observer: Arc<dyn Observer> = Arc::new(FlowObserver { flows: Arc::clone(&flows), next: observer });
        let net = Net::new(seed);
        let mut sites = Vec::new();
        let servers = servers::make(scenario, seed, &observer)?;
        let control = Simulated::new(servers.clone());
        for (name, server) in servers {
            let host = net.add_host(servers::host(name));
            if name == ServerName::Primary {
                net.set_name(NAME, &host);
            }
            sites.push(Arc::new(Site { name, host: Mutex::new(host), server }));
        }
        let standby = sites.pop_if(|site| site.name == ServerName::Standby);
        let primary = sites.pop().expect("a scenario has a primary");
        let servers = std::iter::once(&primary).chain(&standby).map(|site| site.server.clone()).collect();
        let world = Arc::new(SimWorld {
            messages: Arc::new(Messages::new(scenario, seed, servers)),
            scenario: Arc::clone(scenario),
            net,
            primary,
            standby,
            tasks: Tasks::default(),
            script: Arc::default(),
            control,
            link: Mutex::new(link(scenario)),
            idle_flow_timeout: Mutex::new(scenario.network.idle_flow_timeout),
            hosts: Mutex::default(),
            others: Mutex::default(),
            flows,
        });
        world.set_link(link(scenario));
        for site in world.sites() {
            world.tasks.spawn(keep_port(Arc::clone(site), world.tasks.clone()));
            site.server.start();
        }
        Ok(world)
    }

    /// Its servers, the primary first.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        std::iter::once(&self.primary).chain(&self.standby)
    }

    /// The server of this name. The scenario's checks saw to it that a standby exists where one is named.
    #[must_use]
    pub fn site(&self, name: ServerName) -> &Site {
        match (name, &self.standby) {
            (ServerName::Standby, Some(standby)) => standby,
            _ => &self.primary,
        }
    }

    /// The machine of a seat: the same for each process that sits there.
    pub fn host(&self, app: &str, seat: u32) -> Host {
        let name = machine_name(app, seat);
        let mut hosts = self.hosts.lock();
        let host = hosts.entry(name).or_insert_with_key(|name| {
            let host = self.net.add_host(name);
            host.set_dns_ttl(self.scenario.network.dns_ttl);
            self.set_idle_flow_timeout_of(&host, *self.idle_flow_timeout.lock());
            host
        });
        host.clone()
    }

    /// A new process in a seat: the machine's next incarnation, with power if it had none.
    pub fn respawn(&self, app: &str, seat: u32) -> Host {
        let name = machine_name(app, seat);
        let mut hosts = self.hosts.lock();
        match hosts.get_mut(&name) {
            Some(host) if !host.is_alive() => {
                *host = host.power_on();
                host.clone()
            }
            Some(host) => host.clone(),
            None => {
                drop(hosts);
                self.host(app, seat)
            }
        }
    }

    /// The machine of a client that is none of the apps.
    pub fn other_host(&self, name: &str) -> Host {
        let mut others = self.others.lock();
        others.entry(name.to_owned()).or_insert_with_key(|name| self.net.add_host(name)).clone()
    }

    fn set_link(&self, link: Link) {
        *self.link.lock() = link;
        self.net.set_default_link(link);
    }

    fn set_idle_flow_timeout_of(&self, client: &Host, timeout: Option<Duration>) {
        for site in self.sites() {
            self.net.set_idle_flow_timeout(client, &site.host(), timeout);
        }
    }

    /// The hosts of an app's processes, or of all apps'.
    #[must_use]
    pub fn hosts(&self, app: Option<&str>) -> Vec<Host> {
        self.hosts.lock().iter().filter(|(name, _)| is_machine_of(name, app)).map(|(_, host)| host.clone()).collect()
    }
}

/// Opens and closes the server's port with its life, and serves who comes.
async fn keep_port(site: Arc<Site>, tasks: Tasks) {
    let server = &site.server;
    let mut lifecycle = server.lifecycle_watch();
    loop {
        if *lifecycle.borrow_and_update() == Lifecycle::Down {
            if lifecycle.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Ok(mut listener) = site.host().listen(PORT, BACKLOG) else {
            // The host has just lost its power; the server is told next.
            if lifecycle.changed().await.is_err() {
                return;
            }
            continue;
        };
        listener.set_accepted_options(SocketOptions::postgres_server());
        loop {
            tokio::select! {
                biased;
                changed = lifecycle.changed() => match changed {
                    Err(_) => return,
                    Ok(()) if *lifecycle.borrow_and_update() == Lifecycle::Down => break,
                    Ok(()) => {}
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let server = server.clone();
                        tasks.spawn(async move { server.serve(stream, peer).await });
                    }
                    // Its host's process is dead. The next one listens anew, perhaps in this very instant: then the
                    // server's death itself was never seen.
                    Err(_) => break,
                }
            }
        }
    }
}

/// Keeps the backends' addresses, and passes events on.
struct FlowObserver {
    flows: Arc<Flows>,
    next: Arc<dyn Observer>,
}

impl Observer for FlowObserver {
    fn server_event(&self, server: &str, event: ServerEvent) {
        match &event {
            ServerEvent::Forked { pid, peer } => {
                self.flows.peers.lock().insert(*pid, Peer { address: *peer, stream: None });
            }
            ServerEvent::Gone { pid, .. } => {
                let peer = self.flows.peers.lock().remove(pid);
                if let Some(peer) = peer {
                    self.flows.streams.lock().remove(&peer.address);
                }
            }
            _ => {}
        }
        self.next.server_event(server, event);
    }

    fn wants_statements(&self) -> bool {
        self.next.wants_statements()
    }
}

/// Dials `db` from one process's host, while the process lives.
pub struct HostDialer {
    host: Host,
    options: SocketOptions,
    alive: Arc<AtomicBool>,
    flows: Arc<Flows>,
    /// Those of the apps; `None` for who is none of them.
    messages: Option<Arc<Messages>>,
}

impl HostDialer {
    /// A dialer for a process on this host; when `alive` becomes false its dials never end, so that what is left of a dead
    /// process can't touch the world again.
    #[must_use]
    pub fn new(host: Host, world: &SimWorld, alive: Arc<AtomicBool>) -> HostDialer {
        HostDialer {
            host,
            options: socket_options(&world.scenario.network.client),
            alive,
            flows: Arc::clone(&world.flows),
            messages: None,
        }
    }

    /// Opens a stream.
    pub async fn stream(&self) -> io::Result<Stream> {
        if !self.alive.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let stream = self.host.connect(NAME, PORT, &self.options).await?;
        self.flows.streams.lock().insert(stream.local_addr(), stream.handle());
        Ok(stream)
    }
}

impl Dialer for HostDialer {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let dial = self.messages.as_ref().and_then(Messages::dial);
            let stream = self.stream().await?;
            Ok(match dial {
                Some(dial) => Box::new(MessageStream::new(stream, dial)) as Box<dyn Socket>,
                None => Box::new(stream),
            })
        })
    }
}

/// The scenario's socket options, as the network knows them.
#[must_use]
pub fn socket_options(options: &model::SocketOptions) -> SocketOptions {
    SocketOptions {
        keepalive: options.keepalive.as_ref().map(|keepalive| Keepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        user_timeout: options.user_timeout,
    }
}

/// Passes the server's events on to the run's trace, once there is one: the servers start before time zero.
pub struct LateObserver<O> {
    target: std::sync::OnceLock<O>,
}

impl<O> Default for LateObserver<O> {
    fn default() -> Self {
        LateObserver { target: std::sync::OnceLock::new() }
    }
}

impl<O> LateObserver<O> {
    /// From now on events are passed on.
    pub fn set(&self, target: O) {
        // A second target would be a mistake of the runner; the first one stays.
        let _ = self.target.set(target);
    }
}

impl<O: Observer> Observer for LateObserver<O> {
    fn server_event(&self, server: &str, event: ServerEvent) {
        if let Some(target) = self.target.get() {
            target.server_event(server, event);
        }
    }

    fn wants_statements(&self) -> bool {
        self.target.get().is_none_or(Observer::wants_statements)
    }
}
