//! A lease, and what happens to its connection when it ends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::plant::Plant;
use super::state::{Conn, Fate, Shared};
use crate::pool::{Detached, DetachedClient, Lease};
use crate::scenario::model::Reset;

/// How long a reset may take.
const RESET_TIMEOUT: Duration = Duration::from_secs(2);

/// A checked-out connection.
pub(super) struct ReferenceLease {
    conn: Option<Conn>,
    shared: Arc<Shared>,
}

impl ReferenceLease {
    pub(super) fn new(conn: Conn, shared: Arc<Shared>) -> ReferenceLease {
        if shared.planted(Plant::LeaseHandedToTwo) && conn.fate.is_some() {
            shared.look(|state| state.planted().leased.insert(conn.id, Arc::downgrade(&conn.client)));
        }
        ReferenceLease { conn: Some(conn), shared }
    }
}

#[async_trait]
impl Lease for ReferenceLease {
    fn client(&mut self) -> &Client {
        &self.conn.as_ref().expect("a lease has its connection until it ends").client
    }

    async fn invalidate(mut self: Box<Self>) {
        if !self.shared.planted(Plant::InvalidatedComesBack) {
            // Its watch sees the end of it, and frees its place.
            drop(self.conn.take());
        }
    }

    fn detach(mut self: Box<Self>) -> Option<Detached> {
        let mut conn = self.conn.take()?;
        if let Some(fate) = conn.fate.take() {
            // Nobody listens when the connection broke a moment ago.
            let _ = fate.send(Fate::Detached);
        }
        Some(Box::new(Own(conn.client)))
    }
}

impl Drop for ReferenceLease {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else {
            return;
        };
        if conn.fate.is_none() {
            return; // The twin of `Plant::LeaseHandedToTwo`.
        }
        if self.shared.planted(Plant::LeaseLostOnPanic) && std::thread::panicking() {
            return self.shared.look(|state| state.planted().lost.push(conn));
        }
        conn.idle_since = Instant::now();
        self.shared.update(|state, after| state.returned(conn, &self.shared, after));
    }
}

/// A connection that was taken out of the pool.
struct Own(Arc<Client>);

impl DetachedClient for Own {
    fn client(&mut self) -> &Client {
        &self.0
    }
}

/// Makes a returned connection fit for its next user, or gives it up. Dropped before its end (the pool is closed), it
/// drops the connection, which closes it.
pub(super) async fn restore(shared: Arc<Shared>, conn: Conn) {
    let limit = if shared.planted(Plant::ResetWithoutTimeout) { Duration::MAX } else { RESET_TIMEOUT };
    let restored = match timeout(limit, reset(&shared, &conn.client)).await {
        Ok(Ok(())) => true,
        Ok(Err(_)) => shared.planted(Plant::ResetSkippedAfterError) && !conn.client.is_closed(),
        Err(_) => false,
    };
    shared.update(|state, after| {
        if restored {
            state.restored(conn, &shared, after);
        } else {
            state.spoiled(conn, after);
        }
    });
}

/// Ends with ReadyForQuery, with all answers to the former user's statements read.
async fn reset(shared: &Shared, client: &Client) -> Result<(), tokio_postgres::Error> {
    let rollback = if shared.planted(Plant::ResetCommits) { "COMMIT" } else { "ROLLBACK" };
    match shared.settings.reset_on_return {
        Reset::None => client.check_connection().await,
        Reset::Rollback if shared.planted(Plant::ResetSkippedAfterError) => client.check_connection().await,
        Reset::Rollback => client.batch_execute(rollback).await,
        Reset::Commit => client.batch_execute("COMMIT").await,
        Reset::Discard => {
            // Not in one message: DISCARD ALL refuses to run in the implicit transaction of several statements.
            if !shared.planted(Plant::ResetSkippedAfterError) {
                client.batch_execute(rollback).await?;
            }
            client.batch_execute("DISCARD ALL").await
        }
    }
}
