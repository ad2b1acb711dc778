//! A server of the programs on this machine: its data directory, and its processes.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use poolproof_sim::postgres::event::Pid;
use rustix::process::{Signal, kill_process};

use super::control::Control;
use super::error::{ServerError, blocking, failed};
use super::folder::{Dispose, Folder};
use super::installation::Installation;
use super::life::Life;
use super::port::{free_port, give_back};
use super::processes::{self, remove_shared_memory};
use super::session::ROLE;
use super::setup::Setup;
use crate::scenario::model::StopMode;

/// How long a server that is thrown away has for an orderly end.
const LAST_CHANCE: Duration = Duration::from_secs(3);

/// The server.
pub(super) struct Local {
    installation: Arc<Installation>,
    folder: Arc<Folder>,
    data: PathBuf,
    address: SocketAddr,
    life: Arc<Life>,
    process: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The postmaster, until it and all its children are gone and it is reaped.
    postmaster: Option<Child>,
    disposed: bool,
}

impl Local {
    /// A primary with this setup, its data as `initdb` makes them. It is not started.
    pub(super) fn primary(
        installation: &Arc<Installation>,
        folder: &Arc<Folder>,
        setup: &Setup,
        life: &Arc<Life>,
    ) -> Result<Arc<Local>, ServerError> {
        let data = folder.next("data");
        let local = Self::new(installation, folder, data, life)?;
        installation.data(folder, &local.data)?;
        let put = |name: &str, text: &str, append: bool| {
            let path = local.data.join(name);
            let mut options = fs::OpenOptions::new();
            options.create(true).write(true).append(append).truncate(!append);
            let written = options.open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(|error| failed(path.display(), error))
        };
        put("postgresql.conf", &format!("\n{}", setup.configuration()), true)?;
        put("pg_hba.conf", &setup.authentication(), false)?;
        Ok(local)
    }

    /// A standby that streams from a primary, which must run. It is not started.
    pub(super) fn standby(primary: &Local, life: &Arc<Life>) -> Result<Arc<Local>, ServerError> {
        let local = Self::new(&primary.installation, &primary.folder, primary.folder.next("data"), life)?;
        local.installation.folder(&local.data)?;
        let port = primary.address.port();
        let connection = format!("host=127.0.0.1 port={port} user={ROLE} application_name=standby");
        let options = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &connection, "-D"];
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.push(local.data.as_os_str());
        local.installation.run("pg_basebackup", local.folder.path(), &arguments)?;
        Ok(local)
    }

    fn new(
        installation: &Arc<Installation>,
        folder: &Arc<Folder>,
        data: PathBuf,
        life: &Arc<Life>,
    ) -> Result<Arc<Local>, ServerError> {
        let local = Arc::new(Local {
            installation: Arc::clone(installation),
            folder: Arc::clone(folder),
            data,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
            life: Arc::clone(life),
            process: Arc::default(),
        });
        let weak = Arc::downgrade(&local);
        folder.register(weak)?;
        Ok(local)
    }

    /// Starts the postmaster.
    fn spawn(&self) -> Result<(), ServerError> {
        let mut state = self.process.lock();
        if state.disposed {
            return Err(ServerError::Failed("the server was thrown away".to_owned()));
        }
        if state.postmaster.is_some() {
            return Err(ServerError::State(self.life.lifecycle()));
        }
        let mut command = self.installation.command("postgres", self.folder.path());
        command.arg("-D").arg(&self.data);
        let port = format!("port={}", self.address.port());
        for place in [port.as_str(), "listen_addresses=127.0.0.1", "unix_socket_directories="] {
            command.args(["-c", place]);
        }
        // A group of its own: Ctrl-C is not for it, but for poolproof, which stops it.
        command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut postmaster = command.spawn().map_err(|error| failed("postgres", error))?;
        let log = postmaster.stderr.take();
        state.postmaster = Some(postmaster);
        self.life.started();
        let (process, life) = (Arc::clone(&self.process), Arc::clone(&self.life));
        let follower = std::thread::Builder::new().name("poolproof-postgres".to_owned());
        let follower = follower.spawn(move || follow(log, &process, &life));
        drop(state);
        follower.map(drop).map_err(|error| {
            self.dispose();
            failed("a thread for the server's log", error)
        })
    }

    /// Does something to the postmaster, which can't end meanwhile: it is a child that nobody else reaps.
    fn with<T>(&self, act: impl FnOnce(rustix::process::Pid) -> T) -> Result<T, ServerError> {
        let state = self.process.lock();
        let postmaster = state.postmaster.as_ref().ok_or(ServerError::State(self.life.lifecycle()))?;
        Ok(act(rustix::process::Pid::from_child(postmaster)))
    }

    fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        self.with(|postmaster| kill_process(postmaster, signal))?.map_err(|error| failed("a signal", error))
    }
}

/// Reads the log until nobody is left who could write it, and reaps the postmaster.
fn follow(log: Option<ChildStderr>, process: &Mutex<State>, life: &Life) {
    if let Some(log) = log {
        let mut lines = BufReader::new(log);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            life.line(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
    let ended = process.lock().postmaster.take().map(|mut postmaster| postmaster.wait());
    life.ended(match ended {
        Some(Ok(status)) => format!("it ended with {status}"),
        Some(Err(error)) => format!("it ended: {error}"),
        None => "it ended".to_owned(),
    });
}

#[async_trait]
impl Control for Arc<Local> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn start(&self) -> Result<(), ServerError> {
        self.spawn()
    }

    async fn signal_stop(&self, mode: StopMode) -> Result<(), ServerError> {
        self.signal(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        })
    }

    async fn kill(&self) -> Result<(), ServerError> {
        self.with(processes::kill)
    }

    async fn kill_backend(&self, pid: Pid) -> Result<(), ServerError> {
        self.with(|postmaster| {
            let child = processes::children(postmaster).into_iter().find(|child| child.as_raw_nonzero().get() == pid);
            let child = child.ok_or_else(|| ServerError::Failed(format!("there is no backend {pid}")))?;
            kill_process(child, Signal::KILL).map_err(|error| failed(format!("SIGKILL for {pid}"), error))
        })?
    }

    async fn pause(&self) -> Result<(), ServerError> {
        self.with(processes::pause)
    }

    async fn unpause(&self) -> Result<(), ServerError> {
        self.with(processes::unpause)
    }

    async fn promote(&self) -> Result<(), ServerError> {
        // As `pg_ctl promote`, which needs no session.
        let file = self.data.join("promote");
        fs::write(&file, "").map_err(|error| failed(file.display(), error))?;
        self.signal(Signal::USR1)
    }

    async fn standby(&self, life: &Arc<Life>) -> Result<Box<dyn Control>, ServerError> {
        let (primary, life) = (Arc::clone(self), Arc::clone(life));
        let standby = blocking(move || Local::standby(&primary, &life)).await?;
        if let Err(error) = standby.spawn() {
            standby.as_ref().dispose();
            return Err(error);
        }
        Ok(Box::new(standby))
    }

    fn data_directory(&self) -> Option<&Path> {
        Some(&self.data)
    }
}

impl Dispose for Arc<Local> {
    fn dispose(&self) {
        self.as_ref().dispose();
    }
}

impl Dispose for Local {
    fn dispose(&self) {
        self.process.lock().disposed = true;
        // An immediate stop leaves nothing in the kernel.
        let asked = self.with(|postmaster| {
            let _ = kill_process(postmaster, Signal::QUIT);
            processes::unpause(postmaster);
        });
        let deadline = Instant::now() + LAST_CHANCE;
        while asked.is_ok() && self.process.lock().postmaster.is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.with(processes::kill);
        processes::kill_servers_in(&self.data);
        remove_shared_memory(&self.data);
        give_back(self.address.port());
        match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("poolproof: {} is left behind: {error}", self.data.display());
            }
            _ => {}
        }
    }
}
