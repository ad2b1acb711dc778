//! What is done to a running server, and what is seen of it.

use std::time::Duration;

use poolproof_sim::postgres::event::Lifecycle;

use crate::{Place, Result, block_on, check, code, equal, session, soon};

pub(crate) fn backends_and_their_ends(place: &Place) -> Result {
    block_on(async {
        let server = place.server("sql = \"CREATE TABLE t AS SELECT 1 AS n\"").await?;
        equal(&server.backends().await?, &Vec::new())?;
        let holder = session(&server, "app").await?;
        holder.simple_query("BEGIN; UPDATE t SET n = 2").await?;
        let waiter = session(&server, "app").await?;
        let waits = tokio::spawn(async move { code(waiter.simple_query("UPDATE t SET n = 3").await) });
        let waiting = async || {
            let backends = server.backends().await.unwrap_or_default();
            backends.iter().any(|backend| !backend.blocked_by.is_empty())
        };
        soon("one waits for the other", waiting).await?;
        let backends = server.backends().await?;
        let [first, second] = &backends[..] else { return Err(format!("{backends:?}").into()) };
        equal(&first.application_name.as_str(), &"a test")?;
        equal(&first.user.as_deref(), &Some("app"))?;
        equal(&first.state.as_deref(), &Some("idle in transaction"))?;
        equal(&second.state.as_deref(), &Some("active"))?;
        equal(&second.wait_event_type.as_deref(), &Some("Lock"))?;
        equal(&second.query.as_str(), &"UPDATE t SET n = 3")?;
        equal(&second.blocked_by, &vec![first.pid])?;
        check(first.backend_xid.is_some(), "it wrote, and has no transaction id")?;
        check(first.client_port.is_some() && first.client_port != second.client_port, "their ports")?;
        check(first.age >= second.age, "the oldest first")?;

        check(server.cancel(second.pid).await?, "it is there")?;
        equal(&waits.await.map_err(|error| error.to_string())?, &"57014".to_owned())?;
        check(server.terminate(first.pid).await?, "it is there")?;
        let told = code(holder.simple_query("SELECT 1").await);
        check(told == "57P01" || told.contains("closed"), &told)?;
        soon("it is gone", async || server.backends().await.is_ok_and(|backends| backends.is_empty())).await?;
        check(!server.terminate(first.pid).await?, "it was there twice")
    })
}

pub(crate) fn a_reload_is_for_all(place: &Place) -> Result {
    block_on(async {
        let server = place.server("settings = { idle_session_timeout = \"1h\" }").await?;
        let client = session(&server, "app").await?;
        server.reload("idle_session_timeout", "100ms").await?;
        // It counts from the end of the next statement on.
        soon("the session's end", async || {
            let _ = client.simple_query("SELECT 1").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            client.is_closed()
        })
        .await?;
        // Poolproof's own session is not meant.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let me = server.query("SHOW idle_session_timeout").await?;
        equal(&me, &vec![vec![Some("0".to_owned())]])?;
        check(server.reload("no_such_setting", "1").await.is_err(), "a setting that there is not")?;
        server.kill().await?;
        server.start().await?;
        server.running().await?;
        let fresh = session(&server, "app").await?;
        soon("the new session's end", async || fresh.is_closed()).await
    })
}

pub(crate) fn a_paused_server_is_silent(place: &Place) -> Result {
    block_on(async {
        let server = place.server("").await?;
        let client = session(&server, "app").await?;
        server.pause().await?;
        let silent = tokio::time::timeout(Duration::from_millis(300), client.simple_query("SELECT 1")).await;
        check(silent.is_err(), "a paused server answered")?;
        let silent = tokio::time::timeout(Duration::from_millis(300), session(&server, "app")).await;
        check(silent.is_err(), "a paused server took a session")?;
        server.unpause().await?;
        client.simple_query("SELECT 1").await?;
        equal(&server.lifecycle(), &Lifecycle::Running)?;
        // And it can be killed while it is paused.
        server.pause().await?;
        server.kill().await?;
        equal(&server.lifecycle(), &Lifecycle::Down)
    })
}

pub(crate) fn its_log_can_be_followed(place: &Place) -> Result {
    block_on(async {
        let server = place.server("").await?;
        let mut log = server.follow_log();
        let client = session(&server, "app").await?;
        let pid = server.backends().await?.first().ok_or("there is no backend")?.pid;
        server.terminate(pid).await?;
        let found = tokio::time::timeout(crate::LIMIT, async {
            loop {
                match log.recv().await {
                    Ok(entry) if entry.pid == pid && entry.severity == "FATAL" => return Ok(entry),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        });
        let entry = found.await.map_err(|_| "the log does not say why it ended")??;
        equal(&entry.code.as_str(), &"57P01")?;
        equal(&entry.application_name.as_str(), &"a test")?;
        equal(&entry.backend_type.as_str(), &"client backend")?;
        check(entry.client_port.is_some(), "its port")?;
        drop(client);
        Ok(())
    })
}
