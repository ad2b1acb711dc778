//! Connects that are refused, lost, or never answered. Observed on loopback: a backlog of 2 takes 3 connections, and the
//! others' SYNs are dropped; closing the listener resets the three.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_closed_port_refuses_after_a_round_trip() {
    let pair = Pair::new(ms(5));
    drop(pair.listener);
    let (took, result) = timed(pair.web.connect("db", 5432, &SocketOptions::default())).await;
    assert_eq!((took, result.unwrap_err().kind()), (10, ErrorKind::ConnectionRefused));
    assert!(pair.net.flows().is_empty());
}

/// `connect(2)`: EADDRNOTAVAIL where "all port numbers in the ephemeral port range are currently in use". Here those that were
/// in use before count too.
#[tokio::test(start_paused = true)]
async fn a_host_without_a_free_port_is_told_so() {
    let pair = Pair::new(ms(1));
    pair.net.set_port_mode(&pair.db, 5432, PortMode::Refuse);
    let mut last = ErrorKind::ConnectionRefused;
    let mut tries = 0;
    while last == ErrorKind::ConnectionRefused {
        last = pair.dial().await.unwrap_err().kind();
        tries += 1;
    }
    assert_eq!((last, tries), (ErrorKind::AddrNotAvailable, 64_511));
}

#[tokio::test(start_paused = true)]
async fn a_refusing_port_leaves_its_listener_and_its_connections_alone() {
    let pair = Pair::new(ms(5));
    let (mut client, mut server) = pair.streams().await;
    pair.net.set_port_mode(&pair.db, 5432, PortMode::Refuse);
    let (took, result) = timed(pair.dial()).await;
    assert_eq!((took, result.unwrap_err().kind()), (10, ErrorKind::ConnectionRefused));
    write(&mut client, "on").await.unwrap();
    assert_eq!(read(&mut server).await, Ok("on".into()));
    pair.net.set_port_mode(&pair.db, 5432, PortMode::Open);
    pair.streams().await;
}

#[tokio::test(start_paused = true)]
async fn lost_syns_are_repeated_with_backoff_and_given_up_after_127_s() {
    let pair = Pair::new(ms(5));
    pair.net.set_port_mode(&pair.db, 5432, PortMode::LoseSyn);
    let (took, result) = timed(pair.dial()).await;
    assert_eq!((took, result.unwrap_err().kind()), (127_000, ErrorKind::TimedOut));
    assert!(pair.net.flows().is_empty());
}

/// Each repetition is seen: whichever is the first after the port opens again succeeds.
#[tokio::test(start_paused = true)]
async fn a_connect_succeeds_at_the_first_repetition_after_the_loss_ends() {
    for (opens, connected) in [(0, 1), (2, 3), (6, 7), (14, 15), (30, 31), (62, 63)] {
        let pair = Pair::new(ms(5));
        pair.net.set_port_mode(&pair.db, 5432, PortMode::LoseSyn);
        let (took, result) = timed(async {
            let (result, ()) = tokio::join!(pair.dial(), async {
                tokio::time::sleep(ms(opens * 1000 + 500)).await;
                pair.net.set_port_mode(&pair.db, 5432, PortMode::Open);
            });
            result
        })
        .await;
        result.unwrap();
        assert_eq!(took, connected * 1000 + 10);
    }
}

/// Observed: with 2.5 s it gives up after 2.512 s, with 10 s after 10.226 s.
#[tokio::test(start_paused = true)]
async fn a_user_timeout_ends_a_lost_connect() {
    let pair = Pair::new(ms(5));
    pair.net.set_port_mode(&pair.db, 5432, PortMode::LoseSyn);
    for (timeout, expected) in [(ms(2500), 2500), (s(10), 10_000), (ms(300), 1000)] {
        let options = SocketOptions { user_timeout: Some(timeout), ..SocketOptions::default() };
        let (took, result) = timed(pair.web.connect("db", 5432, &options)).await;
        assert_eq!((took, result.unwrap_err().kind()), (expected, ErrorKind::TimedOut));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_after_accept_takes_what_fits_and_answers_nothing() {
    let pair = Pair::new(ms(5));
    pair.net.set_buffers(1000, 1000);
    pair.net.set_port_mode(&pair.db, 5432, PortMode::AcceptSilence);
    let (took, client) = timed(pair.dial()).await;
    let mut client = client.unwrap();
    assert_eq!(took, 10);
    let writes = async { while client.write(&[0; 100]).await.is_ok() {} };
    assert!(tokio::time::timeout(s(3600), writes).await.is_err());
    assert!(tokio::time::timeout(s(86_400), read(&mut client)).await.is_err());
    // The hung process is killed: what it never read makes it a RST.
    pair.db.kill_sockets();
    assert_eq!(timed(read(&mut client)).await, (5, Err(ErrorKind::ConnectionReset)));
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_drops_syns_and_takes_a_repetition_when_there_is_room() {
    let pair = Pair::new(ms(0));
    let listener = pair.db.listen(7000, 2).unwrap();
    let dial = || async { pair.web.connect("db", 7000, &SocketOptions::default()).await };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(timed(dial()).await);
    }
    assert!(held.iter().all(|(took, result)| *took == 0 && result.is_ok()));
    let (took, result) = timed(async {
        tokio::join!(dial(), async {
            tokio::time::sleep(ms(1500)).await;
            listener.accept().await.unwrap()
        })
        .0
    })
    .await;
    assert_eq!((took, result.is_ok()), (3000, true));
}

#[tokio::test(start_paused = true)]
async fn closing_a_listener_resets_what_it_had_not_accepted() {
    let pair = Pair::new(ms(5));
    let mut client = pair.dial().await.unwrap();
    tokio::time::sleep(ms(5)).await;
    drop(pair.listener);
    assert_eq!(timed(read(&mut client)).await, (5, Err(ErrorKind::ConnectionReset)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connect_leaves_nothing_at_the_server() {
    for given_up_after in [ms(7), ms(2), ms(1)] {
        let pair = Pair::new(ms(5));
        let dial = tokio::time::timeout(given_up_after, pair.dial()).await;
        assert!(dial.is_err());
        tokio::time::sleep(ms(100)).await;
        assert!(pair.net.flows().is_empty(), "{:?}", pair.net.flows());
        assert!(tokio::time::timeout(s(1), pair.listener.accept()).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_ack_of_the_handshake_is_made_up_by_the_servers_repetition() {
    let pair = Pair::new(ms(5));
    let (client, ()) = tokio::join!(pair.dial(), async {
        tokio::time::sleep(ms(7)).await; // the SYN has arrived
        pair.net.partition(&pair.web, &pair.db, Direction::AToB);
    });
    let _client = client.unwrap();
    tokio::time::sleep(ms(90)).await;
    pair.net.heal(&pair.web, &pair.db);
    // The client was established at 10 ms; its ACK got lost; the SYN-ACK of 5 ms is repeated a second later.
    let (took, accepted) = timed(pair.listener.accept()).await;
    assert_eq!((took, accepted.is_ok()), (915, true));
}
