//! What a client observes, and when, for each thing the network can do. All in virtual time.
#![expect(clippy::unwrap_used, reason = "tests")]

mod data;
mod dead_ends;
mod handshake;
mod partitions;
mod power;
mod streams_proptest;

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{
    Direction, FlowFilter, Host, Keepalive, Link, Listener, Net, PortMode, SocketOptions, Stream, StreamState,
};

/// A client `web` and a server `db` that listens on 5432, a fixed latency apart.
struct Pair {
    net: Net,
    web: Host,
    db: Host,
    listener: Listener,
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Pair {
    fn new(latency: Duration) -> Pair {
        let net = Net::new(1);
        net.set_default_link(Link::with_latency(latency));
        let (web, db) = (net.add_host("web"), net.add_host("db"));
        let listener = db.listen(5432, 128).unwrap();
        Pair { net, web, db, listener }
    }

    async fn dial(&self) -> io::Result<Stream> {
        self.web.connect("db", 5432, &SocketOptions::default()).await
    }

    /// An established connection: client's and server's end, the handshake's last ACK arrived.
    async fn streams(&self) -> (Stream, Stream) {
        self.streams_with(SocketOptions::default()).await
    }

    async fn streams_with(&self, options: SocketOptions) -> (Stream, Stream) {
        let client = self.web.connect("db", 5432, &options).await.unwrap();
        let (server, peer) = self.listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr());
        (client, server)
    }
}

/// What one read gave, as text: the data, `eof`, or the error's kind.
async fn read(stream: &mut Stream) -> Result<String, ErrorKind> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer).await {
        Ok(n) => Ok(String::from_utf8(buffer[..n].to_vec()).unwrap()),
        Err(e) => Err(e.kind()),
    }
}

async fn write(stream: &mut Stream, text: &str) -> Result<usize, ErrorKind> {
    stream.write(text.as_bytes()).await.map_err(|e| e.kind())
}

/// The virtual time a future takes, in milliseconds, and what it gave.
async fn timed<T>(future: impl Future<Output = T>) -> (u128, T) {
    let start = Instant::now();
    let result = future.await;
    (start.elapsed().as_millis(), result)
}
