//! The superuser's session, by which a server is controlled and looked at. There is one, and it stays.
//!
//! On a server that poolproof made it takes no slot, and no smart stop waits for it ([`Walsender`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::event::Pid;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::error::{ServerError, failed};
use super::walsender::Walsender;

/// The role of the session.
pub(super) const ROLE: &str = "poolproof";
/// How long the server may take to answer it.
const LIMIT: Duration = Duration::from_secs(10);
/// The database of the scenarios.
pub(super) const DATABASE: &str = "app";

/// A row of `pg_stat_activity`: a client's backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its process.
    pub pid: Pid,
    /// What its client calls itself.
    pub application_name: String,
    /// `usename`; none while it authenticates.
    pub user: Option<String>,
    /// `state`; none while it starts.
    pub state: Option<String>,
    /// How long ago it started.
    pub age: Duration,
    /// `wait_event_type`
    pub wait_event_type: Option<String>,
    /// `wait_event`
    pub wait_event: Option<String>,
    /// The statement that runs, or ran last.
    pub query: String,
    /// Its transaction id, if it wrote.
    pub backend_xid: Option<u64>,
    /// The client's port, as the server sees it.
    pub client_port: Option<u16>,
    /// `pg_blocking_pids`, ascending; empty unless it waits for a lock.
    pub blocked_by: Vec<Pid>,
}

const BACKENDS: &str = "SELECT pid, application_name, usename, state, \
     floor(extract(epoch FROM clock_timestamp() - backend_start) * 1e6)::bigint, wait_event_type, wait_event, query, \
     backend_xid, client_port, CASE WHEN wait_event_type = 'Lock' THEN array_to_string(pg_blocking_pids(pid), ' ') END \
     FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY backend_start, pid";

/// The session; opened when it is needed, and again when it was lost.
pub(super) struct Session {
    config: Config,
    /// Where it goes past the slots; `None` is an ordinary session.
    past_slots: Option<SocketAddr>,
    open: Mutex<Option<Open>>,
}

struct Open {
    client: Arc<Client>,
    /// Drives it.
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// An ordinary one: as this user, to this server and database.
    pub(super) fn new(mut config: Config) -> Session {
        config.application_name("poolproof").connect_timeout(LIMIT);
        Session { config, past_slots: None, open: Mutex::new(None) }
    }

    /// One that takes no slot.
    pub(super) fn past_slots(config: Config, address: SocketAddr) -> Session {
        Session { past_slots: Some(address), ..Session::new(config) }
    }

    async fn connect(&self) -> Result<Open, ServerError> {
        // The client's calls tell how it ended.
        let (client, task) = match self.past_slots {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
            Some(address) => {
                let socket = TcpStream::connect(address).await.map_err(|error| failed(address, error))?;
                socket.set_nodelay(true).map_err(|error| failed(address, error))?;
                let (client, connection) = self.config.connect_raw(Walsender::new(socket), NoTls).await?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
        };
        Ok(Open { client: Arc::new(client), task })
    }

    /// Runs statements; gives the rows of all of them, as text.
    pub(super) async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ServerError> {
        match tokio::time::timeout(LIMIT, self.ask(sql)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.close().await;
                Err(ServerError::Failed(format!("the server did not answer within {} s", LIMIT.as_secs())))
            }
        }
    }

    async fn ask(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ServerError> {
        let client = {
            let mut open = self.open.lock().await;
            match &*open {
                Some(session) if !session.client.is_closed() => Arc::clone(&session.client),
                _ => {
                    let session = open.insert(self.connect().await?);
                    Arc::clone(&session.client)
                }
            }
        };
        let mut rows = Vec::new();
        for message in client.simple_query(sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }

    /// Ends it, until it is needed again.
    pub(super) async fn close(&self) {
        self.open.lock().await.take();
    }

    pub(super) async fn backends(&self) -> Result<Vec<Backend>, ServerError> {
        let rows = self.query(BACKENDS).await?;
        Ok(rows.into_iter().filter_map(backend).collect())
    }

    /// What a function of one process says: true, or false where there is no such process.
    pub(super) async fn signal(&self, function: &str, pid: Pid) -> Result<bool, ServerError> {
        let rows = self.query(&format!("SELECT {function}({pid})")).await?;
        Ok(rows.first().and_then(|row| row.first()?.as_deref()) == Some("t"))
    }
}

fn backend(row: Vec<Option<String>>) -> Option<Backend> {
    let mut columns = row.into_iter();
    let mut next = || columns.next().flatten();
    Some(Backend {
        pid: next()?.parse().ok()?,
        application_name: next().unwrap_or_default(),
        user: next(),
        state: next(),
        age: Duration::from_micros(next().and_then(|micros| micros.parse().ok()).unwrap_or_default()),
        wait_event_type: next(),
        wait_event: next(),
        query: next().unwrap_or_default(),
        backend_xid: next().and_then(|xid| xid.parse().ok()),
        client_port: next().and_then(|port| port.parse().ok()),
        blocked_by: next().map_or_else(Vec::new, |pids| {
            let mut pids: Vec<Pid> = pids.split(' ').filter_map(|pid| pid.parse().ok()).collect();
            pids.sort_unstable();
            pids.dedup();
            pids
        }),
    })
}

/// A string constant.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A quoted name.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
