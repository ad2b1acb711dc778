//! Starts and ends, and what the server is said to be doing meanwhile.

use std::time::Duration;

use poolproof::scenario::model::StopMode;
use poolproof::world::postgres::server::{Server, ServerError};
use poolproof_sim::postgres::event::Lifecycle::{self, Down, Recovering, Running, ShuttingDown, StartingUp};
use tokio::sync::broadcast;

use crate::{Place, Result, block_on, check, code, equal, session, setup, soon};

/// Everything the server is said to do from now on.
struct Recorded(broadcast::Receiver<Lifecycle>);

impl Recorded {
    fn of(server: &Server) -> Recorded {
        Recorded(server.lifecycle_changes())
    }

    /// All of it until now, in order.
    fn is(mut self, expected: &[Lifecycle]) -> Result {
        let mut seen = Vec::new();
        while let Ok(change) = self.0.try_recv() {
            seen.push(change);
        }
        equal(&seen.as_slice(), &expected)
    }
}

pub(crate) fn each_stop_and_the_next_start(place: &Place) -> Result {
    block_on(async {
        let server = place.server("").await?;
        let address = server.address();
        equal(&server.lifecycle(), &Running)?;
        let again = server.start().await;
        check(matches!(again, Err(ServerError::State(Running))), "it was started twice")?;
        server.query("CREATE TABLE kept (n int)").await?;
        for (n, mode) in [StopMode::Fast, StopMode::Immediate, StopMode::Smart].into_iter().enumerate() {
            server.query(&format!("INSERT INTO kept VALUES ({n})")).await?;
            let recorded = Recorded::of(&server);
            server.stop(mode).await?;
            equal(&server.lifecycle(), &Down)?;
            let refused = session(&server, "app").await;
            check(refused.is_err_and(|error| error.code().is_none()), "a session on a server that is down")?;
            let again = server.stop(mode).await;
            check(matches!(again, Err(ServerError::State(Down))), "it was stopped twice")?;
            server.start().await?;
            server.running().await?;
            equal(&server.address(), &address)?;
            let recovers = mode == StopMode::Immediate;
            let expected: &[Lifecycle] = match recovers {
                true => &[ShuttingDown, Down, StartingUp, Recovering, Running],
                false => &[ShuttingDown, Down, StartingUp, Running],
            };
            recorded.is(expected)?;
            let kept = server.query("SELECT count(*) FROM kept").await?;
            equal(&kept, &vec![vec![Some((n + 1).to_string())]])?;
        }
        Ok(())
    })
}

pub(crate) fn a_smart_stop_waits_for_sessions(place: &Place) -> Result {
    block_on(async {
        let server = place.server("").await?;
        let client = session(&server, "app").await?;
        let stop = server.stop(StopMode::Smart);
        tokio::pin!(stop);
        let early = tokio::time::timeout(Duration::from_millis(500), &mut stop).await;
        check(early.is_err(), "it did not wait")?;
        equal(&server.lifecycle(), &ShuttingDown)?;
        equal(&code(session(&server, "app").await), &"57P03".to_owned())?;
        client.simple_query("SELECT 1").await?;
        equal(&server.backends().await?.len(), &1)?;
        drop(client);
        stop.await?;
        equal(&server.lifecycle(), &Down)
    })
}

pub(crate) fn a_killed_server_recovers(place: &Place) -> Result {
    block_on(async {
        let server = place.server("").await?;
        let client = session(&server, "app").await?;
        server.query("CREATE TABLE kept AS SELECT 1 AS n").await?;
        let recorded = Recorded::of(&server);
        server.kill().await?;
        equal(&server.lifecycle(), &Down)?;
        let last = client.simple_query("SELECT 1").await;
        check(last.is_err_and(|error| error.code().is_none()), "a killed server had last words")?;
        server.start().await?;
        server.running().await?;
        recorded.is(&[Down, StartingUp, Recovering, Running])?;
        equal(&server.query("SELECT n FROM kept").await?, &vec![vec![Some("1".to_owned())]])
    })
}

pub(crate) fn a_killed_backend_makes_it_recover(place: &Place) -> Result {
    block_on(async {
        let server = place.server("").await?;
        let (victim, other) = (session(&server, "app").await?, session(&server, "app").await?);
        let backends = server.backends().await?;
        let pid = backends.first().ok_or("there is no backend")?.pid;
        let recorded = Recorded::of(&server);
        server.kill_backend(pid).await?;
        soon("the server notices", async || server.lifecycle() != Running || other.is_closed()).await?;
        server.running().await?;
        recorded.is(&[Recovering, Running])?;
        soon("both sessions end", async || victim.is_closed() && other.is_closed()).await?;
        check(server.backends().await?.iter().all(|backend| backend.pid != pid), "it is still there")?;
        let nobody = server.kill_backend(pid).await;
        check(nobody.is_err(), "a backend was killed twice")
    })
}

pub(crate) fn a_refused_setting_is_told(place: &Place) -> Result {
    block_on(async {
        // Its name and its value are right; the server wants two segments of its log at the least.
        let asked = setup("settings = { max_wal_size = \"2MB\" }", "")?;
        let refused = place.source.server(asked).await;
        let error = refused.err().ok_or("it started")?.to_string();
        check(error.contains("max_wal_size"), &error)
    })
}

pub(crate) fn of_many_runs_each_has_its_own(place: &Place) -> Result {
    block_on(async {
        let (one, two) =
            tokio::try_join!(async { place.server("sql = \"CREATE TABLE mine AS SELECT 1 AS n\"").await }, async {
                place.server("sql = \"CREATE TABLE mine AS SELECT 2 AS n\"").await
            },)?;
        check(one.address() != two.address(), "one port for two")?;
        check(one.data_directory() != two.data_directory(), "one directory for two")?;
        equal(&one.query("SELECT n FROM mine").await?, &vec![vec![Some("1".to_owned())]])?;
        equal(&two.query("SELECT n FROM mine").await?, &vec![vec![Some("2".to_owned())]])?;
        // Its owner is the app's role, which may do anything to it.
        let client = session(&two, "app").await?;
        client.simple_query("ALTER TABLE mine ADD COLUMN more int; TRUNCATE mine").await?;
        Ok(())
    })
}
