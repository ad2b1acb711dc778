//! A server that runs already, and is given by its URL.

use poolproof::world::postgres::server::{Kind, ServerError, Source, Wanted};
use tokio_postgres::{Config, NoTls};

use crate::{Place, Result, block_on, check, code, equal, session_with, setup};

/// The URL of a server, as its superuser has it.
fn url(server: &poolproof::world::postgres::server::Server) -> String {
    format!("postgresql://poolproof@{}/postgres", server.address())
}

/// Statements by its superuser, in another database.
async fn run(url: &str, statements: &[&str]) -> Result<Vec<String>> {
    let config: Config = url.parse()?;
    let (client, connection) = config.connect(NoTls).await?;
    let driven = tokio::spawn(connection);
    let mut rows = Vec::new();
    for statement in statements {
        for message in client.simple_query(statement).await? {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push(row.get(0).unwrap_or_default().to_owned());
            }
        }
    }
    drop(client);
    driven.await.map_err(|error| error.to_string())??;
    Ok(rows)
}

pub(crate) fn a_server_that_is_not_poolproofs(place: &Place) -> Result {
    block_on(async {
        let theirs = place.server("").await?;
        let url = url(&theirs);
        run(&url, &["DROP DATABASE app WITH (FORCE)", "DROP ROLE app"]).await?;
        let wanted = Wanted { url: Some(url.clone()), ..Wanted::default() };
        let source = Source::find(&wanted).await?;
        equal(&source.kind(), &Kind::Url)?;
        let asked = setup(
            "max_connections = 50\nsql = \"CREATE TABLE t AS SELECT 1 AS n\"\nsettings = { lock_timeout = \"7s\" }",
            "",
        )?;
        {
            let server = source.server(asked.clone()).await?;
            equal(&server.address(), &theirs.address())?;
            let slots = server.unsupported().join("; ");
            check(
                slots.contains("max_connections is 100 on the server, and the scenario needs 50")
                    && server.unsupported().len() == 1,
                &slots,
            )?;
            let client = session_with(&server, "app", server.password("app")).await?;
            let timeout = client.query_one("SHOW lock_timeout", &[]).await?;
            equal(&timeout.get::<_, String>(0), &"7s".to_owned())?;
            client.simple_query("UPDATE t SET n = 2").await?;
            equal(&server.query("SELECT n FROM t").await?, &vec![vec![Some("2".to_owned())]])?;
            let backends = server.backends().await?;
            let ours = backends.iter().find(|backend| backend.application_name == "a test");
            check(server.terminate(ours.ok_or("its backend")?.pid).await?, "it is there")?;

            let stopped = server.stop(poolproof::scenario::model::StopMode::Fast).await;
            check(matches!(stopped, Err(ServerError::Unsupported(_))), "it was stopped")?;
            for done in [server.kill().await, server.pause().await, server.reload("work_mem", "1MB").await] {
                let why = done.err().ok_or("it was controlled")?;
                equal(&why.to_string().as_str(), &"needs control of the server")?;
            }
            let second = source.server(asked.clone()).await;
            check(second.is_err_and(|error| error.to_string().contains("another run")), "two runs at once")?;
        }
        let left = "SELECT rolname FROM pg_roles WHERE rolname = 'app' \
                    UNION ALL SELECT datname FROM pg_database WHERE datname = 'app'";
        equal(&run(&url, &[left]).await?, &Vec::new())
    })
}

pub(crate) fn what_is_not_poolproofs_is_left_alone(place: &Place) -> Result {
    block_on(async {
        let theirs = place.server("sql = \"CREATE TABLE theirs ()\"").await?;
        let url = url(&theirs);
        let source = Source::find(&Wanted { url: Some(url.clone()), ..Wanted::default() }).await?;
        let refused = source.server(setup("", "")?).await.err().ok_or("it took their database")?;
        check(refused.to_string().contains("left alone"), &refused.to_string())?;
        equal(&theirs.query("SELECT relname FROM pg_class WHERE relname = 'theirs'").await?.len(), &1)?;
        // With the mark it is a leftover of a run that was killed.
        let mark = ["DATABASE", "ROLE"].map(|kind| format!("COMMENT ON {kind} app IS 'made by poolproof'"));
        run(&url, &[&mark[0], &mark[1]]).await?;
        let server = source.server(setup("", "")?).await?;
        let client = session_with(&server, "app", server.password("app")).await;
        equal(&code(client), &"success".to_owned())
    })
}
