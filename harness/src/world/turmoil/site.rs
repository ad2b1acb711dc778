//! A server on a host of its own: its port, who comes to it, and the links to the apps' host.

use std::sync::Arc;

use ::turmoil::net::{TcpListener, TcpStream};
use parking_lot::Mutex;
use poolproof_sim::postgres::event::Lifecycle;
use poolproof_sim::postgres::server::Server;
use tokio::sync::watch;

use super::APPS;
use super::flow::Ends;
use crate::scenario::model::ServerName;
use crate::world::servers::{PORT, host};
use crate::world::tasks::Tasks;
use crate::world::{Done, PortMode, sentence};

/// A server and its host.
pub(super) struct Site {
    pub(super) name: ServerName,
    pub(super) server: Server,
    /// Its ends of the flows.
    pub(super) ends: Arc<Ends>,
    link: Mutex<Link>,
}

/// What is wrong with the way between a server and the apps.
#[derive(Default)]
struct Link {
    partitions: u32,
    powerless: bool,
}

impl Link {
    /// Tells turmoil. What is held is what TCP would send again and again: a partition holds everything, and a host without
    /// power holds what comes to it, while nothing leaves it. To be called in the turn of some host.
    fn apply(&self, server: &str) {
        match self {
            Link { powerless: true, .. } => {
                ::turmoil::hold(APPS, server);
                ::turmoil::partition_oneway(server, APPS);
            }
            Link { partitions: 1.., .. } => ::turmoil::hold(APPS, server),
            Link { partitions: 0, .. } => ::turmoil::release(APPS, server),
        }
    }
}

impl Site {
    pub(super) fn new(name: ServerName, server: Server) -> Arc<Site> {
        Arc::new(Site { name, server, ends: Arc::default(), link: Mutex::default() })
    }

    /// Changes the link.
    fn change(&self, change: impl FnOnce(&mut Link)) {
        let mut link = self.link.lock();
        change(&mut link);
        link.apply(host(self.name));
    }

    pub(super) fn partition(&self) {
        self.change(|link| link.partitions += 1);
    }

    pub(super) fn heal(&self) {
        self.change(|link| link.partitions = link.partitions.saturating_sub(1));
    }

    /// `pg_ctl start`; the host gets power if it has none.
    pub(super) fn start(&self) -> Done {
        let now = self.server.lifecycle();
        if now != Lifecycle::Down {
            return Err(format!("{} is {}", sentence::name(self.name), now.as_str()));
        }
        if self.link.lock().powerless {
            self.change(|link| link.powerless = false);
        }
        self.server.start();
        Ok(())
    }

    pub(super) fn kill(&self) {
        // The kernel closes a killed program's sockets; its own last words must not get out.
        self.ends.silence();
        self.server.kill();
    }

    pub(super) fn power_loss(&self) {
        self.change(|link| link.powerless = true);
        self.ends.silence();
        self.server.power_loss();
    }

    /// What runs on the host: the port opens and closes with the server's life, unless it is made to misbehave, and who comes
    /// is served.
    pub(super) async fn keep_port(self: Arc<Self>, mut modes: watch::Receiver<PortMode>) {
        let tasks = Tasks::default();
        let mut lifecycle = self.server.lifecycle_watch();
        let mut listener: Option<TcpListener> = None;
        // Accepted, and then nothing comes.
        let mut silent: Vec<TcpStream> = Vec::new();
        loop {
            let up = *lifecycle.borrow_and_update() != Lifecycle::Down;
            let mode = *modes.borrow_and_update();
            let listens = match mode {
                PortMode::Open => up,
                PortMode::Refuse => false,
                // Nobody accepts: a SYN waits, as one does that is lost and sent again.
                PortMode::LoseSyn | PortMode::AcceptSilence => true,
            };
            if !listens {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(("0.0.0.0", PORT)).await.ok();
            }
            let accepted = tokio::select! {
                biased;
                changed = lifecycle.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                changed = modes.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                accepted = accept(listener.as_ref().filter(|_| mode != PortMode::LoseSyn)) => accepted,
            };
            let Ok((stream, peer)) = accepted else { continue };
            if mode == PortMode::AcceptSilence {
                silent.push(stream);
                continue;
            }
            let (server, end) = (self.server.clone(), self.ends.hold(stream, peer, None));
            tasks.spawn(async move { server.serve(end, peer).await });
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
