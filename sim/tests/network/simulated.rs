//! Probes on the simulated network, without latency, in virtual time.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use poolproof_sim::net::{Direction, Host, Keepalive, Link, Listener, Net, SocketOptions, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::probe::{From, Network, Options, Probe, play};

const PORT: u16 = 5432;

struct Simulated {
    net: Net,
    client: Host,
    server: Host,
    listener: Option<Listener>,
    streams: BTreeMap<String, Stream>,
}

pub(crate) fn run(probe: &Probe) -> Result<String, String> {
    let probe = probe.clone();
    let played = poolproof_sim::runtime::run(1, move || async move {
        let net = Net::new(1);
        net.set_default_link(Link::with_latency(Duration::ZERO));
        let (client, server) = (net.add_host("client"), net.add_host("server"));
        let mut network = Simulated { net, client, server, listener: None, streams: BTreeMap::new() };
        play(&mut network, &probe).await
    });
    played.map_err(|failure| failure.to_string())?
}

fn socket_options(options: Options) -> SocketOptions {
    SocketOptions {
        keepalive: options.keepalive.map(|(idle, interval, count)| Keepalive {
            idle: Duration::from_secs(idle),
            interval: Duration::from_secs(interval),
            count,
        }),
        user_timeout: options.user_timeout,
    }
}

fn missing() -> io::Error {
    io::Error::other("there is no such socket")
}

impl Simulated {
    fn stream(&mut self, name: &str) -> io::Result<&mut Stream> {
        self.streams.get_mut(name).ok_or_else(missing)
    }
}

impl Network for Simulated {
    async fn listen(&mut self, backlog: usize) -> io::Result<()> {
        self.listener = Some(self.server.listen(PORT, backlog)?);
        Ok(())
    }

    fn stop_listening(&mut self) {
        self.listener = None;
    }

    async fn connect(&mut self, name: &str, options: Options) -> io::Result<()> {
        let stream = self.client.connect("server", PORT, &socket_options(options)).await?;
        self.streams.insert(name.to_owned(), stream);
        Ok(())
    }

    async fn accept(&mut self, name: &str) -> io::Result<()> {
        let (stream, _) = self.listener.as_ref().ok_or_else(missing)?.accept().await?;
        self.streams.insert(name.to_owned(), stream);
        Ok(())
    }

    async fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<usize> {
        self.stream(name)?.write(bytes).await
    }

    async fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        let n = self.stream(name)?.read(&mut buffer).await?;
        buffer.truncate(n);
        Ok(buffer)
    }

    async fn shutdown(&mut self, name: &str) -> io::Result<()> {
        self.stream(name)?.shutdown().await
    }

    fn close(&mut self, name: &str) {
        self.streams.remove(name);
    }

    fn abort(&mut self, name: &str) {
        if let Some(stream) = self.streams.remove(name) {
            stream.abort();
        }
    }

    fn set_options(&mut self, name: &str, options: Options) -> io::Result<()> {
        self.stream(name)?.set_options(socket_options(options));
        Ok(())
    }

    fn drop_segments(&mut self, from: From) {
        let direction = match from {
            From::Both => Direction::Both,
            From::Client | From::Server => Direction::AToB,
        };
        match from {
            From::Server => self.net.partition(&self.server, &self.client, direction),
            From::Client | From::Both => self.net.partition(&self.client, &self.server, direction),
        }
    }

    fn heal(&mut self) {
        self.net.heal_all();
    }

    async fn kill_server(&mut self) -> io::Result<()> {
        self.server.kill_sockets();
        Ok(())
    }

    fn healer(&self) -> Box<dyn FnOnce()> {
        let net = self.net.clone();
        Box::new(move || net.heal_all())
    }
}
