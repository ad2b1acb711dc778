//! A server in a container, by testcontainers; of a Docker daemon on this machine.
//!
//! The container's first process is the postmaster, so what is done to the container is done to the server. It is reached
//! on a port of 127.0.0.1 that stays the same over restarts (`network`). Each container has a label that says whose it is.

mod network;
mod request;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use poolproof_sim::postgres::event::Pid;
use testcontainers::bollard::Docker as Daemon;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::errors::Error as DaemonError;
use testcontainers::bollard::query_parameters::{
    AttachContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{CmdWaitFor, ExecCommand};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};

use super::control::{Control, signal_name};
use super::error::{ServerError, failed};
use super::folder::{CONTAINERS, Dispose, Folder};
use super::life::Life;
use super::port::{free_port, give_back};
use super::setup::Setup;
use super::sweep::{Swept, is_abandoned};
use crate::pool::error::describe;
use crate::scenario::model::StopMode;
use network::Network;

/// The label of each container: the machine, and the folder of its owner.
const LABEL: &str = "poolproof";
/// How often a container that ends is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// An image that is there.
#[derive(Debug, Clone)]
pub(super) struct Image {
    name: String,
    tag: String,
    network: Network,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

impl Image {
    /// The image, pulled if it is not there.
    pub(super) async fn find(reference: &str) -> Result<Image, ServerError> {
        // A colon before a slash is that of a registry's port.
        let (name, tag) = match reference.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (reference, "latest"),
        };
        let daemon = daemon().await?;
        daemon.ping().await.map_err(|error| failed("no Docker daemon answers", describe(&error)))?;
        let image = Image { name: name.to_owned(), tag: tag.to_owned(), network: Network::of(&daemon).await };
        if daemon.inspect_image(&image.to_string()).await.is_err() {
            let pulled = image.generic().pull_image().await;
            let why = |error| format!("it is not here, and can't be pulled: {}", describe(&error));
            pulled.map(drop).map_err(|error| failed(format!("the image {image}"), why(error)))?;
        }
        Ok(image)
    }

    fn generic(&self) -> GenericImage {
        GenericImage::new(self.name.clone(), self.tag.clone())
    }
}

async fn daemon() -> Result<Daemon, ServerError> {
    docker_client_instance().await.map_err(|error| failed("Docker", describe(&error)))
}

/// The label's value.
fn label(folder: &Path) -> String {
    format!("{} {}", machine(), folder.display())
}

fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The server.
pub(super) struct Docker {
    /// Taken when it is thrown away.
    container: Mutex<Option<Arc<ContainerAsync<GenericImage>>>>,
    id: String,
    daemon: Daemon,
    image: Image,
    folder: Arc<Folder>,
    address: SocketAddr,
    life: Arc<Life>,
    /// A process was started, and is not yet known to be gone.
    runs: Arc<AtomicBool>,
}

impl Docker {
    /// A container with this setup, started for the first time.
    pub(super) async fn primary(
        image: &Image,
        folder: &Arc<Folder>,
        setup: &Setup,
        life: &Arc<Life>,
    ) -> Result<Arc<Docker>, ServerError> {
        let port = free_port()?;
        let wanted = request::primary(image.generic(), image.network, setup, port);
        Docker::first_start(image, folder, wanted, port, life).await
    }

    /// Starts a container for the first time that is reached on this port.
    async fn first_start(
        image: &Image,
        folder: &Arc<Folder>,
        wanted: ContainerRequest<GenericImage>,
        port: u16,
        life: &Arc<Life>,
    ) -> Result<Arc<Docker>, ServerError> {
        let marker = folder.path().join(CONTAINERS);
        std::fs::write(&marker, "").map_err(|error| failed(marker.display(), error))?;
        let daemon = daemon().await?;
        let name = folder.next("container");
        let name = format!("poolproof-{}-{}", std::process::id(), name.file_name().unwrap_or_default().display());
        let wanted = wanted.with_container_name(&name).with_label(LABEL, label(folder.path()));
        life.started();
        let container = match wanted.start().await {
            Ok(container) => Arc::new(container),
            Err(error) => {
                let words = first_words(&daemon, &name).await;
                give_back(port);
                // It may be there, and not started.
                let _ = remove(&daemon, &name).await;
                return Err(failed(format!("a container of {image}"), format!("{}{words}", describe(&error))));
            }
        };
        let docker = Arc::new(Docker {
            id: container.id().to_owned(),
            container: Mutex::new(Some(container)),
            daemon,
            image: image.clone(),
            folder: Arc::clone(folder),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            life: Arc::clone(life),
            runs: Arc::new(AtomicBool::new(true)),
        });
        let weak = Arc::downgrade(&docker);
        if let Err(error) = folder.register(weak) {
            docker.dispose();
            return Err(error);
        }
        let options = LogsOptionsBuilder::new().follow(true).stderr(true).build();
        docker.follow(docker.daemon.logs(&docker.id, Some(options)).boxed());
        Ok(docker)
    }

    /// Follows the log of the process until the container has ended.
    fn follow(&self, mut output: impl Stream<Item = Result<LogOutput, DaemonError>> + Send + Unpin + 'static) {
        let (daemon, id) = (self.daemon.clone(), self.id.clone());
        let (life, runs) = (Arc::clone(&self.life), Arc::clone(&self.runs));
        tokio::spawn(async move {
            let mut rest = Vec::new();
            while let Some(Ok(chunk)) = output.next().await {
                let LogOutput::StdErr { message } = chunk else { continue };
                rest.extend_from_slice(&message);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    life.line(String::from_utf8_lossy(&line).trim_end());
                }
            }
            let how = loop {
                let state = match daemon.inspect_container(&id, None::<InspectContainerOptions>).await {
                    Ok(container) => container.state,
                    Err(_) => break "its container is gone".to_owned(),
                };
                match state {
                    Some(state) if state.running == Some(true) => tokio::time::sleep(LOOK).await,
                    Some(state) => break format!("its container ended with {}", state.exit_code.unwrap_or_default()),
                    None => break "its container ended".to_owned(),
                }
            };
            runs.store(false, Ordering::Release);
            life.ended(how);
        });
    }

    fn container(&self) -> Result<Arc<ContainerAsync<GenericImage>>, ServerError> {
        let container = self.container.lock().clone();
        container.ok_or_else(|| ServerError::Failed("the server was thrown away".to_owned()))
    }

    async fn signal(&self, signal: &str) -> Result<(), ServerError> {
        if !self.runs.load(Ordering::Acquire) {
            return Err(ServerError::State(self.life.lifecycle()));
        }
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = self.daemon.kill_container(&self.id, Some(options)).await;
        sent.map_err(|error| failed(format!("docker kill --signal {signal}"), describe(&error)))
    }
}

/// What a container that did not start said last.
async fn first_words(daemon: &Daemon, name: &str) -> String {
    let options = LogsOptionsBuilder::new().stderr(true).stdout(true).tail("5").build();
    let said: Vec<String> =
        daemon.logs(name, Some(options)).filter_map(async |line| Some(line.ok()?.to_string())).collect().await;
    let said = said.concat();
    if said.trim().is_empty() { String::new() } else { format!("; it said: {}", said.trim()) }
}

/// `docker rm --force --volumes`
async fn remove(daemon: &Daemon, container: &str) -> Result<(), String> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    daemon.remove_container(container, Some(options)).await.map_err(|error| describe(&error))
}

#[async_trait]
impl Control for Arc<Docker> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn start(&self) -> Result<(), ServerError> {
        let container = self.container()?;
        if self.runs.swap(true, Ordering::AcqRel) {
            return Err(ServerError::State(self.life.lifecycle()));
        }
        let started = async {
            // Before it says anything.
            let options = AttachContainerOptionsBuilder::new().stream(true).stderr(true).build();
            let attached = self.daemon.attach_container(&self.id, Some(options)).await;
            let attached = attached.map_err(|error| failed("docker attach", describe(&error)))?;
            container.start().await.map_err(|error| failed("docker start", describe(&error)))?;
            Ok(attached)
        };
        match started.await {
            Ok(attached) => {
                self.life.started();
                self.follow(attached.output);
                Ok(())
            }
            Err(error) => {
                self.runs.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    async fn signal_stop(&self, mode: StopMode) -> Result<(), ServerError> {
        self.signal(signal_name(mode)).await
    }

    async fn kill(&self) -> Result<(), ServerError> {
        // The first process of the container; its kernel namespace, and all in it, ends with it.
        self.signal("SIGKILL").await
    }

    async fn kill_backend(&self, pid: Pid) -> Result<(), ServerError> {
        if pid <= 1 {
            return Err(ServerError::Failed(format!("there is no backend {pid}")));
        }
        // A backend is a child of the first process.
        let command = format!("grep -q '^PPid:[[:space:]]*1$' /proc/{pid}/status && kill -KILL {pid}");
        let command = ExecCommand::new(["sh", "-c", &command]).with_cmd_ready_condition(CmdWaitFor::exit_code(0));
        match self.container()?.exec(command).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(format!("SIGKILL for {pid}"), describe(&error))),
        }
    }

    async fn pause(&self) -> Result<(), ServerError> {
        self.container()?.pause().await.map_err(|error| failed("docker pause", describe(&error)))
    }

    async fn unpause(&self) -> Result<(), ServerError> {
        self.container()?.unpause().await.map_err(|error| failed("docker unpause", describe(&error)))
    }

    async fn promote(&self) -> Result<(), ServerError> {
        match self.container()?.exec(request::promote()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("pg_ctl promote", describe(&error))),
        }
    }

    async fn standby(&self, life: &Arc<Life>) -> Result<Box<dyn Control>, ServerError> {
        if self.image.network != Network::Shared {
            let reason = "a standby in a container, where Docker does not share this machine's network";
            return Err(ServerError::Unsupported(reason.to_owned()));
        }
        let port = free_port()?;
        let wanted = request::standby(self.image.generic(), self.address.port(), port);
        let standby = Docker::first_start(&self.image, &self.folder, wanted, port, life).await?;
        Ok(Box::new(standby))
    }
}

impl Dispose for Arc<Docker> {
    fn dispose(&self) {
        self.as_ref().dispose();
    }
}

impl Dispose for Docker {
    fn dispose(&self) {
        let Some(container) = self.container.lock().take() else { return };
        let (id, port) = (self.id.clone(), self.address.port());
        // testcontainers removes it when it is dropped, but only inside a runtime.
        elsewhere(async move {
            let removed = match Arc::try_unwrap(container) {
                Ok(container) => container.rm().await.map_err(|error| describe(&error)),
                // Something is being done to it.
                Err(_) => match daemon().await {
                    Ok(daemon) => remove(&daemon, &id).await,
                    Err(error) => Err(error.to_string()),
                },
            };
            if let Err(error) = removed {
                eprintln!("poolproof: the container {id} is left behind: {error}");
            }
            give_back(port);
        });
    }
}

/// Runs this to its end, from anywhere: on a thread with a runtime of its own.
fn elsewhere(work: impl Future<Output = ()> + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(work),
            Err(error) => eprintln!("poolproof: containers with the label `{LABEL}` are left behind: {error}"),
        });
    });
}

/// Removes every container of the owner of this folder.
pub(super) fn remove_all_of(folder: &Path) {
    let label = label(folder);
    elsewhere(async move {
        let mut swept = Swept::default();
        remove_where(&mut swept, |owner| owner == label).await;
        for left in swept.left {
            eprintln!("poolproof: left behind: {left}");
        }
    });
}

/// Removes the containers of this machine's owners that are gone.
pub(super) async fn sweep(swept: &mut Swept) {
    let machine = machine();
    remove_where(swept, |owner| {
        let folder = owner.strip_prefix(machine.as_str()).and_then(|rest| rest.strip_prefix(' ')).map(Path::new);
        folder.is_some_and(|folder| !folder.exists() || is_abandoned(folder))
    })
    .await;
}

async fn remove_where(swept: &mut Swept, gone: impl Fn(&str) -> bool) {
    let daemon = match daemon().await {
        Ok(daemon) => daemon,
        Err(error) => return swept.left.push(format!("containers with the label `{LABEL}`, if any: {error}")),
    };
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = match daemon.list_containers(Some(options)).await {
        Ok(containers) => containers,
        Err(error) => {
            let why = describe(&error);
            return swept.left.push(format!("containers with the label `{LABEL}`, if any: {why}"));
        }
    };
    for container in containers {
        let owner = container.labels.as_ref().and_then(|labels| labels.get(LABEL));
        let (Some(owner), Some(id)) = (owner, &container.id) else { continue };
        if !gone(owner) {
            continue;
        }
        match remove(&daemon, id).await {
            Ok(()) => swept.removed.push(format!("the container {id}, of a poolproof that is gone")),
            Err(error) => swept.left.push(format!("the container {id}, of a poolproof that is gone: {error}")),
        }
    }
}
