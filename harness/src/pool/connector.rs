//! The connector: what a pool dials with. It gives the pool an ordinary [`tokio_postgres::Client`] over the world's
//! streams, and tells the trace of each dial and of each client end's death.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};

use crate::trace::Recorder;
use crate::trace::event::PoolId;

/// A byte stream of the world.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for T {}

/// Opens streams from one app to the server named `db`.
pub trait Dialer: Send + Sync + 'static {
    /// Opens a stream, as `connect(2)` does.
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send + '_>>;
}

/// Opens connections for one pool.
#[derive(Clone)]
pub struct Connector {
    pub(crate) config: Arc<Config>,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) recorder: Recorder,
    pub(crate) pool: PoolId,
}

/// An open connection: the client, and the task that drives it.
pub struct Connection {
    /// The driver's client.
    pub client: Client,
    /// The task that moves its bytes. It ends when the client is dropped or the connection breaks.
    pub task: JoinHandle<()>,
}
