//! turmoil's network as a run asks for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::turmoil::net::TcpStream;
use async_trait::async_trait;
use parking_lot::Mutex;
use poolproof_sim::postgres::event::{Observer, Pid, ServerEvent};
use tokio::sync::watch;

use super::flow::{Ends, Seat};
use super::machine::{Name, Place, Shared, Visitor};
use super::site::Site;
use super::{Doors, LinkOrders};
use crate::pool::connector::Dialer;
use crate::pool::resource::Script;
use crate::scenario::model::{Direction, Scenario, ServerName};
use crate::trace::recorder::IntMap;
use crate::world::servers::{self, Simulated};
use crate::world::tasks::Tasks;
use crate::world::{Control, Done, LinkChange, Machine, PortMode, Undoing, World};

/// The world of one run.
pub(super) struct TurmoilWorld {
    scenario: Arc<Scenario>,
    sites: Vec<Arc<Site>>,
    tasks: Tasks,
    script: Arc<Script>,
    control: Simulated,
    name: Arc<Name>,
    seats: Mutex<BTreeMap<(String, u32), Arc<Shared>>>,
    clients: Arc<Ends>,
    lost: Arc<Mutex<Vec<TcpStream>>>,
    peers: Arc<Peers>,
    modes: watch::Sender<PortMode>,
    orders: LinkOrders,
}

/// The clients' addresses, by their backends.
#[derive(Default)]
struct Peers(Mutex<IntMap<Pid, SocketAddr>>);

/// Keeps them, and passes events on.
struct PeerObserver {
    peers: Arc<Peers>,
    next: Arc<dyn Observer>,
}

impl Observer for PeerObserver {
    fn server_event(&self, server: &str, event: ServerEvent) {
        match &event {
            ServerEvent::Forked { pid, peer } => drop(self.peers.0.lock().insert(*pid, *peer)),
            ServerEvent::Gone { pid, .. } => drop(self.peers.0.lock().remove(pid)),
            _ => {}
        }
        self.next.server_event(server, event);
    }

    fn wants_statements(&self) -> bool {
        self.next.wants_statements()
    }
}

impl TurmoilWorld {
    /// Makes the servers, hands them to their hosts and starts them; they are not yet running.
    ///
    /// # Errors
    /// The server's refusal of its settings or of the scenario's `sql`, as a sentence.
    pub(super) fn new(
        scenario: &Arc<Scenario>,
        seed: u64,
        observer: Arc<dyn Observer>,
        doors: &Doors,
        orders: LinkOrders,
    ) -> Result<Arc<TurmoilWorld>, String> {
        let peers = Arc::new(Peers::default());
        let observer: Arc<dyn Observer> = Arc::new(PeerObserver { peers: Arc::clone(&peers), next: observer });
        let servers = servers::make(scenario, seed, &observer).map_err(|error| error.to_string())?;
        let sites: Vec<_> = servers.iter().map(|(name, server)| Site::new(*name, server.clone())).collect();
        let world = Arc::new(TurmoilWorld {
            scenario: Arc::clone(scenario),
            sites,
            tasks: Tasks::default(),
            script: Arc::default(),
            control: Simulated::new(servers),
            name: Arc::new(Name::new(scenario.network.dns_ttl)),
            seats: Mutex::default(),
            clients: Arc::default(),
            lost: Arc::default(),
            peers,
            modes: watch::Sender::new(PortMode::Open),
            orders,
        });
        for site in &world.sites {
            if let Some(door) = doors.get(&site.name) {
                // Each host waits for one server, and gets one.
                let _ = door.set((Arc::clone(site), world.modes.subscribe()));
            }
            site.server.start();
        }
        Ok(world)
    }

    /// The server of this name. The scenario's checks saw to it that a standby exists where one is named.
    fn site(&self, name: ServerName) -> &Arc<Site> {
        self.sites.iter().find(|site| site.name == name).unwrap_or(&self.sites[0])
    }
}

#[async_trait]
impl World for TurmoilWorld {
    fn scenario(&self) -> &Arc<Scenario> {
        &self.scenario
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn other_tasks(&self) -> usize {
        // The servers' are on hosts of their own, and turmoil has none on the apps'.
        0
    }

    fn script(&self) -> &Arc<Script> {
        &self.script
    }

    fn control(&self) -> &dyn Control {
        &self.control
    }

    async fn start(&self, server: ServerName) -> Done {
        self.site(server).start()
    }

    async fn kill(&self, server: ServerName) -> Done {
        self.site(server).kill();
        Ok(())
    }

    async fn power_loss(&self, server: ServerName) -> Done {
        self.site(server).power_loss();
        Ok(())
    }

    fn visitor(&self, server: ServerName, _machine: &str) -> Arc<dyn Dialer> {
        Arc::new(Visitor(server))
    }

    fn repoint(&self, server: ServerName) {
        self.name.repoint(server);
    }

    fn change_link(&self, change: LinkChange) {
        let network = &self.scenario.network;
        let order = match change {
            LinkChange::Latency { latency, jitter } => (latency, jitter),
            LinkChange::Restored => (network.latency, network.jitter),
            // `lacks` tells of it: such a run does not begin.
            LinkChange::Bandwidth(_) => return,
        };
        *self.orders.lock() = Some(order);
    }

    fn partition(&self, _all_apps: Option<&str>, _both: Direction) -> Undoing {
        // Others do not get here: `lacks` tells of them.
        let sites = self.sites.clone();
        sites.iter().for_each(|site| site.partition());
        Box::new(move || sites.iter().for_each(|site| site.heal()))
    }

    fn forget(&self, _app: Option<&str>, _older_than: Option<Duration>) {
        // `lacks` tells of it: such a run does not begin.
    }

    fn reset(&self, app: Option<&str>, older_than: Option<Duration>) {
        for client in self.clients.of_app(app, older_than) {
            self.clients.reset(&client);
            self.sites.iter().for_each(|site| site.ends.reset(&client));
        }
    }

    fn set_ports(&self, mode: PortMode) {
        self.modes.send_replace(mode);
    }

    fn set_idle_flow_timeout(&self, _timeout: Option<Duration>) {
        // `lacks` tells of it: such a run does not begin.
    }

    fn machine(&self, app: &str, seat: u32) -> Arc<dyn Machine> {
        let mut seats = self.seats.lock();
        let shared = seats
            .entry((app.to_owned(), seat))
            .or_insert_with(|| Arc::new(Shared::new(&self.name, &self.clients, &self.lost)));
        Arc::new(Place { seat: Seat { app: app.into(), seat }, shared: Arc::clone(shared) })
    }

    fn unread(&self, pid: Pid) -> u64 {
        let peer = self.peers.0.lock().get(&pid).copied();
        peer.map_or(0, |client| self.clients.unread(&client))
    }
}
