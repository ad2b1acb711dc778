//! Death of a process, loss of power, and what comes after.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_killed_process_closes_its_sockets_and_can_do_nothing_more() {
    let pair = Pair::new(ms(5));
    let (mut client, mut server) = pair.streams().await;
    let (mut dirty, mut dirty_server) = pair.streams().await;
    write(&mut dirty_server, "unread").await.unwrap();
    tokio::time::sleep(ms(10)).await;
    assert_eq!(pair.net.open_flows(&pair.web), 2);
    pair.web.kill_sockets();
    assert_eq!(pair.net.open_flows(&pair.web), 0);
    assert_eq!(timed(read(&mut server)).await, (5, Ok("".into())));
    assert_eq!(timed(read(&mut dirty_server)).await, (0, Err(ErrorKind::ConnectionReset)));
    // Code of the dead process that lives on gets errors, and the world does not see it.
    assert_eq!(write(&mut client, "ghost").await, Err(ErrorKind::ConnectionAborted));
    assert_eq!(read(&mut dirty).await, Err(ErrorKind::ConnectionAborted));
    assert_eq!(pair.dial().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    drop((client, dirty));
    let web = pair.web.respawn();
    assert!(web.connect("db", 5432, &SocketOptions::default()).await.is_ok());
    assert_eq!(pair.dial().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test(start_paused = true)]
async fn a_kill_wakes_whoever_waits() {
    let pair = Pair::new(ms(0));
    let (mut client, _server) = pair.streams().await;
    pair.net.set_port_mode(&pair.db, 1, PortMode::LoseSyn);
    let web = pair.web.clone();
    let dial = tokio::spawn(async move { web.connect("db", 1, &SocketOptions::default()).await.map(drop) });
    let reader = tokio::spawn(async move { read(&mut client).await });
    tokio::time::sleep(s(2)).await;
    pair.web.kill_sockets();
    assert_eq!(timed(reader).await.1.unwrap(), Err(ErrorKind::ConnectionAborted));
    assert_eq!(dial.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test(start_paused = true)]
async fn a_killed_server_refuses_connects_until_it_listens_again() {
    let pair = Pair::new(ms(5));
    pair.db.kill_sockets();
    assert_eq!(pair.listener.accept().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(pair.dial().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(pair.db.listen(5432, 1).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let _listener = pair.db.respawn().listen(5432, 1).unwrap();
    assert!(pair.dial().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn power_loss_is_silent_until_a_timer_ends_it() {
    let pair = Pair::new(ms(5));
    let (mut client, _server) = pair.streams().await;
    let (mut idle, _idle_server) = pair.streams().await;
    write(&mut client, "in flight").await.unwrap();
    tokio::time::sleep(ms(2)).await;
    pair.db.power_off();
    let (took, result) = timed(read(&mut client)).await;
    assert_eq!(result, Err(ErrorKind::TimedOut));
    assert!((924_600..1_050_000).contains(&took), "{took}");
    assert!(tokio::time::timeout(s(1_000_000), read(&mut idle)).await.is_err());
    let (took, result) = timed(pair.dial()).await;
    assert_eq!((took, result.unwrap_err().kind()), (127_000, ErrorKind::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_rebooted_host_answers_old_connections_with_a_reset() {
    let pair = Pair::new(ms(5));
    let (mut client, _server) = pair.streams().await;
    let keepalive = Some(Keepalive { idle: s(60), interval: s(10), count: 3 });
    let (mut kept, _kept_server) = pair.streams_with(SocketOptions { keepalive, user_timeout: None }).await;
    pair.db.power_off();
    tokio::time::sleep(s(20)).await;
    let db = pair.db.power_on();
    assert_eq!(pair.dial().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let _listener = db.listen(5432, 1).unwrap();
    assert!(pair.dial().await.is_ok());
    write(&mut client, "hello?").await.unwrap();
    assert_eq!(timed(read(&mut client)).await, (10, Err(ErrorKind::ConnectionReset)));
    // The other one is idle: its keepalive probe is what meets the RST.
    let (took, result) = timed(read(&mut kept)).await;
    assert_eq!(result, Err(ErrorKind::ConnectionReset));
    assert!((39_000..41_000).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn retransmission_meets_the_reset_of_a_rebooted_host() {
    let pair = Pair::new(ms(0));
    let (mut client, _server) = pair.streams().await;
    pair.db.power_off();
    write(&mut client, "lost").await.unwrap();
    tokio::time::sleep(ms(1000)).await;
    let _db = pair.db.power_on();
    // Sent again at 204, 408, 816 and 1632 ms.
    assert_eq!(timed(read(&mut client)).await, (632, Err(ErrorKind::ConnectionReset)));
}

/// Keeps what it hears.
#[derive(Default)]
struct Log(parking_lot::Mutex<Vec<super::super::NetEvent>>);

impl super::super::Observer for Log {
    fn net_event(&self, event: super::super::NetEvent) {
        self.0.lock().push(event);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_of_each_connection() {
    use super::super::NetEvent::{Closed, Opened, Reset};
    let pair = Pair::new(ms(1));
    let log = std::sync::Arc::new(Log::default());
    pair.net.observe(log.clone());
    let (a, b) = pair.streams().await;
    let (client, server) = (a.local_addr(), b.local_addr());
    a.handle().reset();
    drop((a, b));
    let expected = [
        Opened { client, server },
        Reset { local: client, peer: server },
        Reset { local: server, peer: client },
        Closed { client, server },
    ];
    assert_eq!(*log.0.lock(), expected);
}

/// Nothing is scheduled for a healthy idle connection, keepalive or not.
#[tokio::test(start_paused = true)]
async fn an_idle_day_costs_no_event() {
    let mut pair = Pair::new(ms(1));
    pair.listener.set_accepted_options(SocketOptions::postgres_server());
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(pair.streams_with(SocketOptions::postgres_server()).await);
    }
    tokio::time::sleep(ms(10)).await;
    assert_eq!(pair.net.pending_events(), 0);
    tokio::time::sleep(s(86_400)).await;
    assert_eq!(pair.net.open_flows(&pair.web), 100);
}
