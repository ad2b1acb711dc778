//! The simulated world as a run asks for it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use poolproof_sim::net::{self, FlowFilter, Host, SocketOptions};
use poolproof_sim::postgres::event::Pid;

use super::messages::Messages;
use super::{Flows, HostDialer, NAME, PORT, SimWorld, socket_options};
use crate::pool::connector::{Dialer, Dialling, Socket};
use crate::pool::resource::Script;
use crate::scenario::model::{AtMessage, Direction, MessagePlace, Scenario, ServerName};
use crate::world::tasks::Tasks;
use crate::world::{Control, Done, LinkChange, Machine, PortMode, Undoing, World, sentence, servers};

#[async_trait]
impl World for SimWorld {
    fn scenario(&self) -> &Arc<Scenario> {
        &self.scenario
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn other_tasks(&self) -> usize {
        self.net.own_tasks()
    }

    fn script(&self) -> &Arc<Script> {
        &self.script
    }

    fn control(&self) -> &dyn Control {
        &self.control
    }

    async fn start(&self, server: ServerName) -> Done {
        self.site(server).start().map_err(|state| format!("{} is {}", sentence::name(server), state.as_str()))
    }

    async fn kill(&self, server: ServerName) -> Done {
        let site = self.site(server);
        // The kernel closes a killed program's sockets; its own last words must not get out.
        site.host().kill_sockets();
        site.server.kill();
        Ok(())
    }

    async fn power_loss(&self, server: ServerName) -> Done {
        let site = self.site(server);
        site.host().power_off();
        site.server.power_loss();
        Ok(())
    }

    fn visitor(&self, server: ServerName, machine: &str) -> Arc<dyn Dialer> {
        Arc::new(Visitor { host: self.other_host(machine), name: servers::host(server) })
    }

    fn repoint(&self, server: ServerName) {
        self.net.set_name(NAME, &self.site(server).host());
    }

    fn change_link(&self, change: LinkChange) {
        let now = *self.link.lock();
        self.set_link(change.of(now, &self.scenario));
    }

    fn partition(&self, app: Option<&str>, direction: Direction) -> Undoing {
        let mut cut: Vec<(Host, Host)> = Vec::new();
        for client in self.hosts(app) {
            for site in self.sites() {
                let server = site.host();
                let (from, to, direction) = match direction {
                    Direction::Both => (&client, &server, net::Direction::Both),
                    Direction::ToServer => (&client, &server, net::Direction::AToB),
                    Direction::ToApp => (&server, &client, net::Direction::AToB),
                };
                self.net.partition(from, to, direction);
                cut.push((from.clone(), to.clone()));
            }
        }
        let net = self.net.clone();
        Box::new(move || cut.iter().for_each(|(a, b)| net.heal(a, b)))
    }

    fn forget(&self, app: Option<&str>, older_than: Option<Duration>) {
        for filter in self.flows_of(app, older_than) {
            self.net.forget_flows(&filter);
        }
    }

    fn reset(&self, app: Option<&str>, older_than: Option<Duration>) {
        for filter in self.flows_of(app, older_than) {
            self.net.reset_flows(&filter);
        }
    }

    fn at_message(&self, place: MessagePlace, what: AtMessage, told: Box<dyn Fn(bool) + Send>) -> Done {
        self.messages.arm(place, what, told);
        Ok(())
    }

    fn faults_are_over(&self) {
        self.messages.disarm();
    }

    fn set_ports(&self, mode: PortMode) {
        for site in self.sites() {
            self.net.set_port_mode(&site.host(), PORT, mode);
        }
    }

    fn set_idle_flow_timeout(&self, timeout: Option<Duration>) {
        let timeout = timeout.or(self.scenario.network.idle_flow_timeout);
        *self.idle_flow_timeout.lock() = timeout;
        for host in self.hosts(None) {
            self.set_idle_flow_timeout_of(&host, timeout);
        }
    }

    fn machine(&self, app: &str, seat: u32) -> Arc<dyn Machine> {
        Arc::new(Place {
            host: self.respawn(app, seat),
            options: socket_options(&self.scenario.network.client),
            flows: Arc::clone(&self.flows),
            messages: Arc::clone(&self.messages),
        })
    }

    fn unread(&self, pid: Pid) -> u64 {
        let mut peers = self.flows.peers.lock();
        let Some(peer) = peers.get_mut(&pid) else { return 0 };
        if peer.stream.is_none() {
            peer.stream = self.flows.streams.lock().get(&peer.address).cloned();
        }
        peer.stream.as_ref().map_or(0, |stream| stream.unread() as u64)
    }
}

/// A host that a process sits on.
struct Place {
    host: Host,
    options: SocketOptions,
    flows: Arc<Flows>,
    messages: Arc<Messages>,
}

impl Machine for Place {
    fn dialer(&self, alive: Arc<AtomicBool>) -> Arc<dyn Dialer> {
        let (host, options, flows) = (self.host.clone(), self.options, Arc::clone(&self.flows));
        Arc::new(HostDialer { host, options, alive, flows, messages: Some(Arc::clone(&self.messages)) })
    }

    fn kill_sockets(&self) {
        self.host.kill_sockets();
    }

    fn power_off(&self) {
        self.host.power_off();
    }
}

/// Dials one server from a host that is none of the apps'.
struct Visitor {
    host: Host,
    name: &'static str,
}

impl Dialer for Visitor {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let stream = self.host.connect(self.name, PORT, &SocketOptions::default()).await?;
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }
}

impl SimWorld {
    fn flows_of(&self, app: Option<&str>, older_than: Option<Duration>) -> Vec<FlowFilter> {
        let mut filters = Vec::new();
        for client in self.hosts(app) {
            for site in self.sites() {
                let filter = FlowFilter::all().between(&client, &site.host());
                filters.push(match older_than {
                    Some(age) => filter.older_than(age),
                    None => filter,
                });
            }
        }
        filters
    }
}
