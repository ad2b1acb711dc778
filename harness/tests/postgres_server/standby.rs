//! A standby, and its promotion.

use poolproof_sim::postgres::event::Lifecycle;

use crate::{Place, Result, block_on, check, code, equal, session, setup, soon};

pub(crate) fn it_streams_and_is_promoted(place: &Place) -> Result {
    block_on(async {
        let asked = setup("sql = \"CREATE TABLE t AS SELECT 1 AS n\"", "[standby]")?;
        let primary = place.source.server(asked).await?;
        let standby = primary.standby().await?;
        equal(&standby.lifecycle(), &Lifecycle::Running)?;
        check(primary.address() != standby.address(), "one port for two")?;
        let mut in_recovery = standby.in_recovery();
        check(*in_recovery.borrow(), "it is no standby")?;
        check(primary.promote().await.is_err(), "a primary was promoted")?;

        primary.query("UPDATE t SET n = 2").await?;
        let two = vec![vec![Some("2".to_owned())]];
        let streamed = async || standby.query("SELECT n FROM t").await.is_ok_and(|rows| rows == two);
        soon("the change at the standby", streamed).await?;
        let client = session(&standby, "app").await?;
        equal(&code(client.simple_query("UPDATE t SET n = 3").await), &"25006".to_owned())?;

        // It goes on when the primary is gone, and the sessions live through the promotion.
        primary.kill().await?;
        standby.promote().await?;
        let promoted = tokio::time::timeout(crate::LIMIT, in_recovery.wait_for(|standby| !standby));
        promoted.await.map_err(|_| "it is not promoted")?.map_err(|error| error.to_string())?;
        client.simple_query("UPDATE t SET n = 3").await?;
        equal(&standby.query("SELECT n FROM t").await?, &vec![vec![Some("3".to_owned())]])
    })
}

pub(crate) fn without_hot_standby(place: &Place) -> Result {
    block_on(async {
        let primary = place.source.server(setup("", "[standby]\nhot_standby = false")?).await?;
        let standby = primary.standby().await?;
        equal(&standby.lifecycle(), &Lifecycle::Running)?;
        equal(&code(session(&standby, "app").await), &"57P03".to_owned())?;
        standby.promote().await?;
        let mut in_recovery = standby.in_recovery();
        let promoted = tokio::time::timeout(crate::LIMIT, in_recovery.wait_for(|standby| !standby));
        promoted.await.map_err(|_| "it is not promoted")?.map_err(|error| error.to_string())?;
        session(&standby, "app").await?.simple_query("SELECT 1").await?;
        Ok(())
    })
}
