//! The server is as the scenario asks.

use crate::{Place, Result, block_on, check, code, equal, session, session_with};

pub(crate) fn the_slots_are_the_scenarios(place: &Place) -> Result {
    block_on(async {
        let text = "max_connections = 8\nsuperuser_reserved_connections = 2\ndatabase_connection_limit = 6\n\
                    [server.role.narrow]\nconnection_limit = 1";
        let server = place.server(text).await?;
        equal(&server.unsupported(), &&[][..])?;
        // Poolproof's own session is there, too, and counts for nothing.
        equal(&server.query("SHOW max_connections").await?, &vec![vec![Some("8".to_owned())]])?;
        let mut held = vec![session(&server, "narrow").await?];
        equal(&code(session(&server, "narrow").await), &"53300".to_owned())?;
        for _ in 0..5 {
            held.push(session(&server, "app").await?);
        }
        equal(&code(session(&server, "app").await), &"53300".to_owned())?;
        held.push(session(&server, "postgres").await?);
        held.push(session(&server, "postgres").await?);
        equal(&code(session(&server, "postgres").await), &"53300".to_owned())?;
        equal(&server.backends().await?.len(), &8)
    })
}

pub(crate) fn passwords_are_asked_for(place: &Place) -> Result {
    block_on(async {
        let text = "auth = \"scram-sha-256\"\n[server.role.app]\npassword = \"it's secret\"";
        let server = place.server(text).await?;
        equal(&server.password("app"), &Some("it's secret"))?;
        let client = session_with(&server, "app", server.password("app")).await?;
        client.simple_query("SELECT 1").await?;
        equal(&code(session_with(&server, "app", Some("wrong")).await), &"28P01".to_owned())?;
        let bare = session(&server, "app").await;
        check(bare.is_err(), "no password was asked for")
    })
}
