//! Half-open connections: forgotten by a firewall, reset by a middlebox, found out by keepalive.
//!
//! Observed on Linux 6: keepalive 2 s / 1 s / 3 gives up after 5.048 s; with a user timeout of 7 s after 7.041 s, of
//! 3.5 s after 4.003 s, of 1 s after 2.963 s.

use super::*;

fn keepalive(idle: u64, interval: u64, count: u32) -> SocketOptions {
    let keepalive = Some(Keepalive { idle: s(idle), interval: s(interval), count });
    SocketOptions { keepalive, user_timeout: None }
}

#[tokio::test(start_paused = true)]
async fn keepalive_finds_a_black_hole_out() {
    for (user_timeout, expected) in [(None, 5000), (Some(7000), 7000), (Some(3500), 4000), (Some(1000), 3000)] {
        let pair = Pair::new(ms(0));
        let options = SocketOptions { user_timeout: user_timeout.map(ms), ..keepalive(2, 1, 3) };
        let (mut client, _server) = pair.streams_with(options).await;
        pair.net.partition(&pair.web, &pair.db, Direction::Both);
        assert_eq!(timed(read(&mut client)).await, (expected, Err(ErrorKind::TimedOut)), "{user_timeout:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_answered_probe_decides_when_a_later_loss_is_found() {
    let pair = Pair::new(ms(0));
    let (mut client, _server) = pair.streams_with(keepalive(60, 10, 3)).await;
    tokio::time::sleep(s(3600 + 10)).await; // the last probe was answered at 3600 s
    pair.net.partition(&pair.web, &pair.db, Direction::Both);
    assert_eq!(timed(read(&mut client)).await, (50_000 + 30_000, Err(ErrorKind::TimedOut)));
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_ends_between_probes_is_not_noticed() {
    let pair = Pair::new(ms(0));
    let (mut client, mut server) = pair.streams_with(keepalive(60, 10, 3)).await;
    pair.net.partition(&pair.web, &pair.db, Direction::Both);
    tokio::time::sleep(s(75)).await; // probes at 60 and 70 s are lost
    pair.net.heal(&pair.web, &pair.db);
    assert!(tokio::time::timeout(s(100_000), read(&mut client)).await.is_err());
    write(&mut server, "on").await.unwrap();
    assert_eq!(read(&mut client).await, Ok("on".into()));
}

#[tokio::test(start_paused = true)]
async fn keepalive_does_not_help_with_unacknowledged_data() {
    let pair = Pair::new(ms(0));
    let (mut client, _server) = pair.streams_with(keepalive(2, 1, 3)).await;
    pair.net.partition(&pair.web, &pair.db, Direction::Both);
    write(&mut client, "query").await.unwrap();
    assert_eq!(timed(read(&mut client)).await, (928_896, Err(ErrorKind::TimedOut)));
}

#[tokio::test(start_paused = true)]
async fn a_postgres_server_finds_a_dead_client_after_two_hours_and_a_bit() {
    let mut pair = Pair::new(ms(0));
    pair.listener.set_accepted_options(SocketOptions::postgres_server());
    let (_client, mut server) = pair.streams().await;
    pair.web.power_off();
    assert_eq!(timed(read(&mut server)).await, ((7200 + 9 * 75) * 1000, Err(ErrorKind::TimedOut)));
    assert!(tokio::time::timeout(ms(1), pair.listener.accept()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn forgotten_connections_are_silent_for_ever_and_new_ones_work() {
    let pair = Pair::new(ms(1));
    let (mut old, mut old_server) = pair.streams().await;
    tokio::time::sleep(s(10)).await;
    let (mut young, mut young_server) = pair.streams().await;
    let filter = FlowFilter::all().between(&pair.web, &pair.db).older_than(s(10));
    assert_eq!(pair.net.forget_flows(&filter), 1);
    write(&mut young, "on").await.unwrap();
    assert_eq!(read(&mut young_server).await, Ok("on".into()));
    write(&mut old, "lost").await.unwrap();
    assert!(tokio::time::timeout(s(900), read(&mut old_server)).await.is_err());
    assert_eq!(read(&mut old).await, Err(ErrorKind::TimedOut));
    // The other side has sent nothing and has no keepalive: it never learns.
    assert!(tokio::time::timeout(s(1_000_000), read(&mut old_server)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_firewall_forgets_idle_connections_but_not_those_kept_alive() {
    let pair = Pair::new(ms(0));
    pair.net.set_idle_flow_timeout(&pair.web, &pair.db, Some(s(300)));
    let (mut idle, mut idle_server) = pair.streams().await;
    let (mut kept, mut kept_server) = pair.streams_with(keepalive(100, 10, 3)).await;
    let (mut busy, mut busy_server) = pair.streams().await;
    for _ in 0..4 {
        tokio::time::sleep(s(250)).await;
        write(&mut busy, "x").await.unwrap();
        assert_eq!(read(&mut busy_server).await, Ok("x".into()));
    }
    assert_eq!(pair.net.flows().iter().map(|f| f.forgotten).collect::<Vec<_>>(), [true, false, false]);
    write(&mut kept, "x").await.unwrap();
    assert_eq!(timed(read(&mut kept_server)).await, (0, Ok("x".into())));
    write(&mut idle, "x").await.unwrap();
    assert!(tokio::time::timeout(s(900), read(&mut idle_server)).await.is_err());
    assert_eq!(read(&mut idle).await, Err(ErrorKind::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_servers_keepalive_longer_than_the_firewalls_patience_kills_the_connection() {
    let mut pair = Pair::new(ms(0));
    pair.listener.set_accepted_options(SocketOptions::postgres_server());
    let (_client, mut server) = pair.streams().await;
    pair.net.set_idle_flow_timeout(&pair.web, &pair.db, Some(s(3600)));
    assert_eq!(timed(read(&mut server)).await, ((7200 + 675) * 1000, Err(ErrorKind::TimedOut)));
}

#[tokio::test(start_paused = true)]
async fn reset_connections_fail_at_both_ends_at_once_oldest_first() {
    let pair = Pair::new(ms(5));
    let (mut first, mut first_server) = pair.streams().await;
    let (mut second, mut second_server) = pair.streams().await;
    assert_eq!(pair.net.reset_flows(&FlowFilter::all().touching(&pair.web).at_most(1)), 1);
    assert_eq!(timed(read(&mut first)).await, (0, Err(ErrorKind::ConnectionReset)));
    assert_eq!(timed(read(&mut first_server)).await, (0, Err(ErrorKind::ConnectionReset)));
    write(&mut second, "on").await.unwrap();
    assert_eq!(read(&mut second_server).await, Ok("on".into()));
}

#[tokio::test(start_paused = true)]
async fn a_handle_resets_or_silences_a_stream_that_was_given_away() {
    let pair = Pair::new(ms(0));
    let (mut a, mut a_server) = pair.streams().await;
    let (mut b, mut b_server) = pair.streams().await;
    a.handle().silence();
    write(&mut a, "x").await.unwrap();
    assert!(tokio::time::timeout(s(1), read(&mut a_server)).await.is_err());
    let handle = b.handle();
    handle.reset();
    assert_eq!(handle.state(), StreamState::Broken);
    assert_eq!(read(&mut b).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(read(&mut b_server).await, Err(ErrorKind::ConnectionReset));
    drop((b, b_server));
    assert_eq!(handle.state(), StreamState::Gone);
}
