//! `poolproof serve`: the simulated server in real time on a real port, for psql or any driver.
//!
//! Bytes go through the simulated network, so the file's network faults befall real clients, too. What the kernel's own
//! TCP answers can't be simulated from outside it: a lost SYN is a connection that is accepted and stays silent, and a
//! refused connect is one that is reset, unless the server is down: then the port is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use poolproof_sim::postgres::event::{Lifecycle, Observer, ServerEvent};
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::apps::Apps;
use crate::pool::reference::Reference;
use crate::scenario::model::Scenario;
use crate::trace::recorder::Options;
use crate::trace::{Recorder, What};
use crate::workload::{Processes, Traffic, WorldHooks};
use crate::world::faults::{Target, Teller};
use crate::world::schedule::play;
use crate::world::sim::HostDialer;
use crate::world::{SimWorld, World as _};

/// Serves until Ctrl-C. `tell` gets one line for each thing that happens to the server.
///
/// # Errors
/// The address can't be listened on, or the scenario's `sql` is refused.
pub fn serve(scenario: &Scenario, listen: SocketAddr, tell: impl Fn(String) + Send + Sync + 'static) -> io::Result<()> {
    let mut scenario = scenario.clone();
    // The traffic is the real clients'.
    scenario.workloads.clear();
    let seed = scenario.seeds.first().copied().unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = tokio::signal::ctrl_c() => signal,
            served = serve_until_dropped(Arc::new(scenario), listen, seed, Arc::new(tell)) => served,
        }
    })
}

async fn serve_until_dropped(
    scenario: Arc<Scenario>,
    listen: SocketAddr,
    seed: u64,
    tell: Arc<dyn Fn(String) + Send + Sync>,
) -> io::Result<()> {
    // First of all the port, so that an address in use is told before anything else.
    let mut listener = Some(bind(listen)?);
    let watcher = Arc::clone(&tell);
    let world = SimWorld::new(&scenario, seed, Arc::new(Watcher(watcher))).map_err(io::Error::other)?;
    world.ready().await;
    let address = listener.as_ref().map_or(Ok(listen), TcpListener::local_addr)?;
    tell(format!("listening on {address}; role app or postgres, database app"));

    let world_for_faults = Arc::clone(&world);
    let told = Arc::clone(&tell);
    tokio::spawn(async move {
        let teller = Teller::new(move |what: What| {
            if let What::FaultBegin { text, .. } | What::FaultEnd { text, .. } | What::FaultEffect { text, .. } = what {
                told(text.to_string());
            }
        });
        let target = target(&world_for_faults, teller);
        play(&scenario, seed, &target, Instant::now()).await;
        target.heal_servers();
    });

    let mut lifecycle = world.primary.server.lifecycle_watch();
    loop {
        let up = *lifecycle.borrow_and_update() != Lifecycle::Down;
        match (&listener, up) {
            (None, true) => listener = Some(bind(address)?),
            (Some(_), false) => listener = None,
            _ => {}
        }
        tokio::select! {
            biased;
            changed = lifecycle.changed() => changed.map_err(io::Error::other)?,
            accepted = accept(listener.as_ref()) => {
                let (socket, _) = accepted?;
                let world = Arc::clone(&world);
                tokio::spawn(async move { bridge(&world, socket).await });
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As PostgreSQL does: a restart must not wait for old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Carries bytes between a real client and the simulated server, until both directions have ended.
async fn bridge(world: &SimWorld, mut real: TcpStream) {
    let host = world.other_host("client");
    let dialer = HostDialer::new(host, world, Arc::new(AtomicBool::new(true)));
    let Ok(simulated) = dialer.stream().await else {
        reset(real);
        return;
    };
    let _ = real.set_nodelay(true);
    let broken = {
        let (mut from_server, mut to_server) = tokio::io::split(simulated);
        let (mut from_client, mut to_client) = real.split();
        let up = async {
            let result = copy(&mut from_client, &mut to_server).await;
            let _ = to_server.shutdown().await;
            result
        };
        let down = async {
            let result = copy(&mut from_server, &mut to_client).await;
            if result.is_ok() {
                let _ = to_client.shutdown().await;
            }
            result
        };
        tokio::pin!(up, down);
        // The server's end decides: once it has closed, nothing more comes.
        tokio::select! {
            result = &mut down => result.is_err(),
            result = &mut up => match result {
                Ok(_) => down.await.is_err(),
                Err(_) => true,
            },
        }
    };
    if broken {
        reset(real);
    }
}

/// Closes with a RST.
fn reset(socket: TcpStream) {
    let _ = socket.set_zero_linger();
}

/// What faults are applied to: no app of the scenario runs here.
fn target(world: &Arc<SimWorld>, teller: Teller) -> Target {
    let adapter = Arc::new(Reference);
    let recorder = Recorder::new(Options::default());
    let processes = Arc::new(Processes::default());
    let hooks = Arc::new(WorldHooks { session: Box::new(|_| None), unread: Box::new(|_| 0) });
    let apps = Arc::new(Apps::new(Arc::clone(world) as _, adapter, recorder.clone(), Arc::clone(&processes), hooks));
    let traffic = Arc::new(Traffic::start(&world.scenario, 0, recorder, processes, Instant::now()));
    Target { world: Arc::clone(world) as _, apps, traffic, teller }
}

/// Tells of the server's life, and of sessions that come and go.
struct Watcher(Arc<dyn Fn(String) + Send + Sync>);

impl Observer for Watcher {
    fn server_event(&self, server: &str, event: ServerEvent) {
        match event {
            ServerEvent::Lifecycle(state) => (self.0)(format!("{server} is {}", state.as_str())),
            ServerEvent::Promoted => (self.0)(format!("{server} is promoted")),
            ServerEvent::Refused { peer, code, .. } => (self.0)(format!("{server} refused {peer}: {code}")),
            _ => {}
        }
    }

    fn wants_statements(&self) -> bool {
        false
    }
}
