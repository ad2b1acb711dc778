//! Probes on this machine's kernel: in a network namespace of their own, where segments can be dropped.
//!
//! This executable runs itself again inside the namespace (`unshare`), which tells what it saw on its standard output. All
//! probes run there at once, each with a port of its own; `nft` drops what a probe wants dropped. A server that is
//! to be killed is a process of its own: this executable a third time.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::probe::{From, Network, Options, Probe, play};

/// What an inner run is asked for: names of probes, joined by commas.
const INSIDE: &str = "POOLPROOF_NETWORK_PROBES";
/// The port that a server process listens on.
const SERVER: &str = "POOLPROOF_NETWORK_SERVER";
const FIRST_PORT: u16 = 20_000;
/// So many probes at once; each mostly waits.
const AT_ONCE: usize = 10;
/// The kernel's answers here are those of a kernel with these settings.
const SYSCTLS: [(&str, &str); 2] = [("tcp_syn_linear_timeouts", "0"), ("tcp_syn_retries", "6")];
const RULES: &str = "
    add table ip probes
    add set ip probes from_client { type inet_service; }
    add set ip probes from_server { type inet_service; }
    add chain ip probes input { type filter hook input priority 0; }
    add rule ip probes input tcp dport @from_client drop
    add rule ip probes input tcp sport @from_server drop
";

/// How to get into a namespace.
pub(crate) struct Namespace(Vec<&'static str>);

impl Namespace {
    /// Error: why there can be none.
    pub(crate) fn find() -> Result<Namespace, String> {
        let works = |how: &[&str]| {
            let tried = Command::new("unshare").args(how).args(["sh", "-c", "ip link set lo up && nft list tables"]).output();
            match tried {
                Ok(tried) if tried.status.success() => Ok(()),
                Ok(tried) => Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
                Err(error) => Err(format!("unshare: {error}")),
            }
        };
        match works(&["-n"]) {
            Ok(()) => Ok(Namespace(vec!["-n"])),
            Err(_) => match works(&["-r", "-n"]) {
                Ok(()) => Ok(Namespace(vec!["-r", "-n"])),
                Err(error) => Err(format!("no network namespace with ip and nft here: {error}")),
            },
        }
    }

    /// Plays these probes there; gives what was seen in each.
    pub(crate) fn run(&self, names: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new("unshare");
        command.args(&self.0).arg(own).env(INSIDE, names.join(","));
        let done = command.output().map_err(|error| format!("unshare: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        Ok(crate::parse(&String::from_utf8_lossy(&done.stdout)))
    }
}

/// This process's other lives. False: it is the test itself.
pub(crate) fn inner_life(probes: &[Probe]) -> Result<bool, String> {
    if let Ok(port) = std::env::var(SERVER) {
        serve(port.parse().map_err(|_| "no port")?).map_err(|error| error.to_string())?;
        return Ok(true);
    }
    let Ok(names) = std::env::var(INSIDE) else { return Ok(false) };
    let names: Vec<&str> = names.split(',').collect();
    run_tool("ip", &["link", "set", "lo", "up"])?;
    for (name, value) in SYSCTLS {
        // Older kernels don't know all of them, and behave as if they were set so.
        let _ = std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
    }
    for rule in RULES.lines().map(str::trim).filter(|rule| !rule.is_empty()) {
        run_tool("nft", &[rule])?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let wanted = probes.iter().enumerate().filter(|(_, probe)| names.contains(&probe.name.as_str()));
        let played = wanted.map(|(index, probe)| async move {
            let port = FIRST_PORT + u16::try_from(index).unwrap_or(0);
            let in_process = probe.steps.contains("kill the server");
            let mut real = Real { port, in_process, listener: None, process: None, streams: BTreeMap::new() };
            (&probe.name, play(&mut real, probe).await)
        });
        let mut played = futures_util::stream::iter(played).buffer_unordered(AT_ONCE);
        while let Some((name, seen)) = played.next().await {
            println!("\n== {name}\n{}", seen.unwrap_or_else(|error| format!("not played: {error}")).trim_end());
        }
    });
    Ok(true)
}

fn run_tool(tool: &str, words: &[&str]) -> Result<(), String> {
    let done = Command::new(tool).args(words).output().map_err(|error| format!("{tool}: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{tool} {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr))),
    }
}

/// A server process: accepts a connection for each line on its standard input, and holds it until it is killed.
fn serve(port: u16) -> io::Result<()> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("listening");
    let mut held = Vec::new();
    for line in io::stdin().lines() {
        line?;
        held.push(listener.accept()?);
        println!("accepted");
    }
    Ok(())
}

struct Real {
    port: u16,
    /// The server is a process of its own.
    in_process: bool,
    listener: Option<TcpListener>,
    process: Option<(Child, BufReader<std::process::ChildStdout>)>,
    streams: BTreeMap<String, Arc<TcpStream>>,
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn set(socket: &SockRef<'_>, options: Options) -> io::Result<()> {
    if let Some((idle, interval, count)) = options.keepalive {
        let (idle, interval) = (Duration::from_secs(idle), Duration::from_secs(interval));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count))?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

fn missing() -> io::Error {
    io::Error::other("there is no such socket")
}

impl Real {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn stream(&self, name: &str) -> io::Result<Arc<TcpStream>> {
        self.streams.get(name).cloned().ok_or_else(missing)
    }

    /// Waits for the server process to say something.
    fn hear(&mut self) -> io::Result<()> {
        let (_, output) = self.process.as_mut().ok_or_else(missing)?;
        output.read_line(&mut String::new()).map(drop)
    }
}

fn nft(what: &str, set: &str, port: u16) {
    if let Err(error) = run_tool("nft", &[what, "element", "ip", "probes", set, &format!("{{ {port} }}")]) {
        eprintln!("{error}");
    }
}

impl Network for Real {
    async fn listen(&mut self, backlog: usize) -> io::Result<()> {
        if self.in_process {
            let mut command = Command::new(std::env::current_exe()?);
            command.env(SERVER, self.port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn()?;
            let output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
            self.process = Some((child, output));
            return self.hear();
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address())?;
        self.listener = Some(socket.listen(u32::try_from(backlog).unwrap_or(128))?);
        Ok(())
    }

    fn stop_listening(&mut self) {
        self.listener = None;
    }

    async fn connect(&mut self, name: &str, options: Options) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        set(&SockRef::from(&socket), options)?;
        let stream = socket.connect(self.address()).await?;
        self.streams.insert(name.to_owned(), Arc::new(stream));
        Ok(())
    }

    async fn accept(&mut self, name: &str) -> io::Result<()> {
        if let Some((child, _)) = &mut self.process {
            child.stdin.as_mut().ok_or_else(missing)?.write_all(b"\n")?;
            return self.hear();
        }
        let (stream, _) = self.listener.as_ref().ok_or_else(missing)?.accept().await?;
        self.streams.insert(name.to_owned(), Arc::new(stream));
        Ok(())
    }

    async fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<usize> {
        let stream = self.stream(name)?;
        loop {
            stream.writable().await?;
            match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    async fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let stream = self.stream(name)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    buffer.truncate(done?);
                    return Ok(buffer);
                }
            }
        }
    }

    async fn shutdown(&mut self, name: &str) -> io::Result<()> {
        SockRef::from(&*self.stream(name)?).shutdown(std::net::Shutdown::Write)
    }

    fn close(&mut self, name: &str) {
        self.streams.remove(name);
    }

    fn abort(&mut self, name: &str) {
        if let Some(stream) = self.streams.remove(name) {
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn set_options(&mut self, name: &str, options: Options) -> io::Result<()> {
        set(&SockRef::from(&*self.stream(name)?), options)
    }

    fn drop_segments(&mut self, from: From) {
        if from != From::Server {
            nft("add", "from_client", self.port);
        }
        if from != From::Client {
            nft("add", "from_server", self.port);
        }
    }

    fn heal(&mut self) {
        self.healer()();
    }

    async fn kill_server(&mut self) -> io::Result<()> {
        let (child, _) = self.process.as_mut().ok_or_else(missing)?;
        child.kill()?;
        child.wait().map(drop)
    }

    fn healer(&self) -> Box<dyn FnOnce()> {
        let port = self.port;
        Box::new(move || {
            for set in ["from_client", "from_server"] {
                // Not all of them have it.
                let _ = run_tool("nft", &["delete", "element", "ip", "probes", set, &format!("{{ {port} }}")]);
            }
        })
    }
}
