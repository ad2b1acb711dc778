//! A real PostgreSQL on loopback, made for the suite and gone with it.
//!
//! One data directory is made by `initdb` and copied for each server. A server is kept for the situations of its family, one
//! after the other; several servers work at once. As root it runs as the user `postgres`, since PostgreSQL refuses to run
//! as root.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::family::{Family, ServerOptions, Situation};
use crate::play::{SUPERUSER_PASSWORD, World, play};
use crate::script::{Mode, ServerStep};

/// What makes a server quick, and keeps it from doing anything of its own accord.
const QUIET: [&str; 8] = [
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=1MB",
    "jit=off",
    "TimeZone=Etc/UTC",
    "bgwriter_lru_maxpages=0",
    // What a killed one leaves of its shared memory is in its data directory, and goes with it.
    "dynamic_shared_memory_type=mmap",
];
/// How long a server may take to start or to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// An installation of PostgreSQL, and the servers that were made of it.
pub(crate) struct Installation {
    bin: PathBuf,
    pub(crate) version: String,
    user: Option<(u32, u32)>,
    home: TempDir,
    template: OnceLock<Result<PathBuf, String>>,
    free: Mutex<Vec<RealServer>>,
}

/// The newest installation of this major version. Error: why there is none to be had.
pub(crate) fn find(major: u32) -> Result<Installation, String> {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let mut others = Vec::new();
    for bin in folders.into_iter().filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists()) {
        let asked = Command::new(bin.join("postgres")).arg("--version").output().map_err(|error| error.to_string())?;
        let version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        let number = version.split_whitespace().find_map(|word| word.split('.').next()?.parse::<u32>().ok());
        if number != Some(major) {
            others.push(version);
            continue;
        }
        let home =
            tempfile::Builder::new().prefix("poolproof-fidelity-").tempdir().map_err(|error| error.to_string())?;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).map_err(|error| error.to_string())?;
        return Ok(Installation {
            bin,
            version,
            user: unprivileged_user()?,
            home,
            template: OnceLock::new(),
            free: Mutex::default(),
        });
    }
    match others.as_slice() {
        [] => Err(format!("no PostgreSQL {major} here: neither in /usr/lib/postgresql/*/bin nor on PATH")),
        others => Err(format!("no PostgreSQL {major} here, only {}", others.join(", "))),
    }
}

/// User and group `postgres` when this process is root's.
fn unprivileged_user() -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = fields.into_iter().find(|fields| fields[0] == "postgres").ok_or("root needs a user `postgres`")?;
    match (user[2].parse(), user[3].parse()) {
        (Ok(uid), Ok(gid)) => Ok(Some((uid, gid))),
        _ => Err("/etc/passwd: postgres has no numbers".to_owned()),
    }
}

impl Installation {
    /// Plays a situation of a family. Error: it could not be played.
    pub(crate) fn run(
        self: &Arc<Self>,
        family: &Family,
        situation: &Situation,
        patience: u32,
    ) -> Result<String, String> {
        let mut server = self.take(&family.server)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let prepared = server.prepare(situation);
        let played = prepared.and_then(|()| {
            runtime.block_on(async {
                let world = Real { server: &mut server, stillness: Duration::from_millis(18) * patience };
                play(world, situation).await.0
            })
        });
        drop(runtime);
        match &played {
            Ok(_) => self.free.lock().push(server),
            // Whatever state it is in: the next situation gets a new one.
            Err(_) => drop(server),
        }
        played
    }

    /// Stops all servers and takes everything away.
    pub(crate) fn finish(&self) {
        self.free.lock().clear();
        let _ = fs::remove_dir_all(self.home.path());
    }

    fn take(self: &Arc<Self>, options: &ServerOptions) -> Result<RealServer, String> {
        let mut free = self.free.lock();
        let fitting = free.iter().position(|server| server.options == *options);
        let (found, other) = match fitting {
            Some(at) => (Some(free.swap_remove(at)), None),
            None => (None, free.pop()),
        };
        drop(free);
        // One that nobody needs now makes room.
        drop(other);
        match found {
            Some(server) => Ok(server),
            None => RealServer::new(self.clone(), options),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.home.path()).env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn own(&self, path: &Path) -> Result<(), String> {
        let (uid, gid) = self.user.unzip();
        chown(path, uid, gid).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A data directory to be copied.
    fn template(&self) -> Result<&Path, String> {
        let made = self.template.get_or_init(|| {
            let path = self.home.path().join("template");
            fs::create_dir(&path).map_err(|error| error.to_string())?;
            self.own(&path)?;
            let mut command = self.command("initdb");
            command.args(["--no-sync", "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8", "-D"]).arg(&path);
            let done = command.output().map_err(|error| format!("initdb: {error}"))?;
            if !done.status.success() {
                return Err(format!("initdb: {}", String::from_utf8_lossy(&done.stderr)));
            }
            Ok(path)
        });
        made.as_deref().map_err(Clone::clone)
    }
}

/// A server with a data directory of its own.
pub(crate) struct RealServer {
    installation: Arc<Installation>,
    options: ServerOptions,
    data: TempDir,
    port: u16,
    process: Option<Child>,
    /// A smart stop has begun.
    stopping: bool,
}

impl Drop for RealServer {
    fn drop(&mut self) {
        // An immediate stop leaves no shared memory in the kernel, as a killed server does.
        if self.process.is_some() && self.stop(Signal::QUIT).is_err() {
            self.kill_all();
        }
    }
}

impl RealServer {
    fn new(installation: Arc<Installation>, options: &ServerOptions) -> Result<RealServer, String> {
        let template = installation.template()?.to_owned();
        let data = tempfile::Builder::new().prefix("data-").tempdir_in(installation.home.path());
        let data = data.map_err(|error| error.to_string())?;
        let copied = Command::new("cp").arg("-a").arg(template.join(".")).arg(data.path()).status();
        if !copied.is_ok_and(|status| status.success()) {
            return Err("the data directory could not be copied".to_owned());
        }
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        let port = socket.local_addr().map_err(|error| error.to_string())?.port();
        drop(socket);
        let mut server =
            RealServer { installation, options: options.clone(), data, port, process: None, stopping: false };
        server.start()?;
        server.populate()?;
        Ok(server)
    }

    fn start(&mut self) -> Result<(), String> {
        let mut command = self.installation.command("postgres");
        command.arg("-D").arg(self.data.path());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.installation.home.path().join("log"));
        let log = log.map_err(|error| error.to_string())?;
        command.stdout(Stdio::null()).stderr(log);
        let own = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
        ];
        // A standby's log must hold more.
        let minimal: &[&str] = if self.options.standby { &[] } else { &["wal_level=minimal", "max_wal_senders=0"] };
        let quiet = QUIET.iter().chain(minimal).map(|setting| (*setting).to_owned());
        let asked = self.options.settings.iter().map(|(name, value)| format!("{name}={value}"));
        for setting in own.into_iter().chain(quiet).chain(asked) {
            command.args(["-c", &setting]);
        }
        self.stopping = false;
        self.process = Some(command.spawn().map_err(|error| format!("postgres: {error}"))?);
        self.wait_until_running()
    }

    /// Until it takes sessions.
    fn wait_until_running(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.superuser("postgres") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(format!("the server does not start: {error}")),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            if let Some(process) = &mut self.process
                && let Ok(Some(status)) = process.try_wait()
            {
                let log = fs::read_to_string(self.installation.home.path().join("log")).unwrap_or_default();
                let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
                return Err(format!("the server ended while it started, with {status}: {last}"));
            }
        }
    }

    fn superuser(&self, database: &str) -> Result<Session, String> {
        Session::connect(self.port, "postgres", database)
    }

    /// Roles and databases, then what needs a restart.
    fn populate(&mut self) -> Result<(), String> {
        let mut session = self.superuser("postgres")?;
        session.run(&format!("ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'"))?;
        session.run("CREATE ROLE app LOGIN PASSWORD 'app'")?;
        session.run("CREATE DATABASE app OWNER app")?;
        let limit = |limit: Option<u32>| limit.map_or(String::new(), |limit| format!(" CONNECTION LIMIT {limit}"));
        for role in &self.options.roles {
            let password = role.password.as_ref().map_or(String::new(), |password| format!(" PASSWORD '{password}'"));
            session.run(&format!("CREATE ROLE \"{}\" LOGIN{}{password}", role.name, limit(role.connection_limit)))?;
        }
        for database in &self.options.databases {
            session.run(&format!("CREATE DATABASE \"{}\"{}", database.name, limit(database.connection_limit)))?;
        }
        drop(session);
        if self.options.scram {
            // The suite's own sessions, before a situation, still need no password.
            let hba = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
            fs::write(self.data.path().join("pg_hba.conf"), hba).map_err(|error| error.to_string())?;
            self.superuser("postgres")?.run("SELECT pg_reload_conf()")?;
        }
        Ok(())
    }

    /// An empty schema with a situation's tables, and nobody else connected.
    fn prepare(&mut self, situation: &Situation) -> Result<(), String> {
        if self.stopping {
            self.kill_all();
        }
        if self.process.is_none() {
            self.start()?;
        }
        if self.options.standby {
            return self.prepare_standby(situation);
        }
        let mut session = self.superuser("postgres")?;
        session.run("ALTER SYSTEM RESET ALL")?;
        session.run("SELECT pg_reload_conf()")?;
        let others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        session.run(&format!("SELECT pg_terminate_backend(pid, 5000) {others}"))?;
        drop(session);

        self.empty_schema(&situation.setup)
    }

    fn empty_schema(&self, setup: &str) -> Result<(), String> {
        let mut session = Session::connect(self.port, "postgres", "app")?;
        session.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC")?;
        if !setup.is_empty() {
            session.run("SET ROLE app")?;
            session.run(setup).map_err(|error| format!("setup: {error}"))?;
        }
        Ok(())
    }

    /// The data of a primary that was stopped, started as a standby: the same data for each situation.
    fn prepare_standby(&mut self, situation: &Situation) -> Result<(), String> {
        let signal = self.data.path().join("standby.signal");
        let is_standby = signal.exists();
        if is_standby || self.superuser("app")?.run("SELECT 1 WHERE pg_is_in_recovery()")? == 1 {
            self.stop(Signal::INT)?;
            let _ = fs::remove_file(&signal);
            self.start()?;
        }
        self.empty_schema(&situation.setup)?;
        self.stop(Signal::INT)?;
        fs::write(&signal, "").map_err(|error| error.to_string())?;
        self.installation.own(&signal)?;
        self.start()
    }

    fn postmaster(&self) -> Option<Pid> {
        self.process.as_ref().and_then(|process| Pid::from_raw(i32::try_from(process.id()).ok()?))
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = self.postmaster().ok_or("the server does not run")?;
        kill_process(pid, signal).map_err(|error| error.to_string())
    }

    fn stop(&mut self, signal: Signal) -> Result<(), String> {
        self.signal(signal)?;
        self.wait_down()
    }

    fn wait_down(&mut self) -> Result<(), String> {
        if let Some(mut process) = self.process.take() {
            let deadline = Instant::now() + LIMIT;
            while process.try_wait().map_err(|error| error.to_string())?.is_none() {
                if Instant::now() > deadline {
                    self.process = Some(process);
                    return Err("the server does not stop".to_owned());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// SIGKILL for the postmaster and its children, in such an order that none of them sees another one die.
    fn kill_all(&mut self) {
        let Some(postmaster) = self.postmaster() else { return };
        let _ = kill_process(postmaster, Signal::STOP);
        let id = postmaster.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = kill_process(postmaster, Signal::KILL);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}

/// A session of the suite's own, for what is done before a situation: blocking, the simple protocol.
struct Session(std::net::TcpStream);

impl Session {
    fn connect(port: u16, user: &str, database: &str) -> Result<Session, String> {
        use std::io::Write as _;
        let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
        let mut session = Session(stream);
        let parameters = [("user".to_owned(), user.to_owned()), ("database".to_owned(), database.to_owned())];
        session.0.write_all(&crate::message::startup("3.0", &parameters)?).map_err(|error| error.to_string())?;
        session.until_ready()?;
        Ok(session)
    }

    /// Runs SQL; gives how many rows came. Error: the server's.
    fn run(&mut self, sql: &str) -> Result<usize, String> {
        use std::io::Write as _;
        let query = crate::message::encode(&["Q".to_owned(), sql.to_owned()])?;
        self.0.write_all(&query).map_err(|error| error.to_string())?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> Result<usize, String> {
        use std::io::Read as _;
        let names = crate::names::Names::new();
        let (mut input, mut rows, mut error) = (Vec::new(), 0, None);
        loop {
            while let Some(reply) = crate::message::cut(&mut input) {
                match reply.kind {
                    b'D' => rows += 1,
                    b'E' => error = Some(reply.words(&names)),
                    b'Z' => return error.map_or(Ok(rows), Err),
                    _ => {}
                }
            }
            let mut room = [0; 4096];
            match self.0.read(&mut room) {
                Ok(0) => return Err(error.unwrap_or("the server closed the connection".to_owned())),
                Ok(n) => input.extend(&room[..n]),
                Err(failed) => return Err(failed.to_string()),
            }
        }
    }
}

/// A situation's view of a server.
struct Real<'s> {
    server: &'s mut RealServer,
    stillness: Duration,
}

impl World for Real<'_> {
    type Socket = TcpStream;

    async fn dial(&mut self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.server.port))).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn reset(&self, socket: TcpStream) {
        // Linger 0: close(2) sends a RST.
        let _ = socket.set_zero_linger();
    }

    async fn server(&mut self, step: &ServerStep, pid: Option<i64>) -> Result<Vec<String>, String> {
        let signal = |mode: Mode| match mode {
            Mode::Smart => Signal::TERM,
            Mode::Fast => Signal::INT,
            Mode::Immediate => Signal::QUIT,
        };
        match step {
            ServerStep::Stop(Mode::Smart) => {
                self.server.stopping = true;
                self.server.signal(Signal::TERM)?;
            }
            ServerStep::Stop(mode) => self.server.stop(signal(*mode))?,
            ServerStep::Start => self.server.start()?,
            ServerStep::Restart(mode) => {
                self.server.stop(signal(*mode))?;
                self.server.start()?;
            }
            // A crash is over when it takes sessions again, which the observer finds out.
            ServerStep::WaitRunning => {}
            ServerStep::WaitDown => self.server.wait_down()?,
            ServerStep::KillBackend(_) => {
                let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).ok_or("no process id")?;
                kill_process(pid, Signal::KILL).map_err(|error| error.to_string())?;
            }
            ServerStep::Kill => self.server.kill_all(),
            ServerStep::Reload(name, value) => {
                return Ok(vec![format!("ALTER SYSTEM SET {name} = '{value}'"), "SELECT pg_reload_conf()".to_owned()]);
            }
            ServerStep::Promote => return Ok(vec!["SELECT pg_promote(true, 10)".to_owned()]),
        }
        Ok(Vec::new())
    }

    fn stillness(&self) -> Duration {
        self.stillness
    }
}
