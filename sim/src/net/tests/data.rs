//! Data, FIN, RST, buffers and links on a healthy network.
//!
//! The outcomes of the close and reset tests were observed with real sockets on loopback (Linux 6, Python's `socket`).

use super::*;

#[tokio::test(start_paused = true)]
async fn connect_takes_a_round_trip_and_data_one_way() {
    let pair = Pair::new(ms(5));
    let (took, client) = timed(pair.dial()).await;
    let mut client = client.unwrap();
    assert_eq!(took, 10);
    let (mut server, _) = pair.listener.accept().await.unwrap();
    write(&mut client, "ping").await.unwrap();
    assert_eq!(timed(read(&mut server)).await, (5, Ok("ping".into())));
    write(&mut server, "pong").await.unwrap();
    assert_eq!(timed(read(&mut client)).await, (5, Ok("pong".into())));
}

#[tokio::test(start_paused = true)]
async fn without_latency_everything_is_there_at_once() {
    let pair = Pair::new(ms(0));
    let (mut client, mut server) = pair.streams().await;
    write(&mut client, "ping").await.unwrap();
    assert_eq!(server.unread(), 4);
    assert_eq!(timed(read(&mut server)).await, (0, Ok("ping".into())));
}

#[tokio::test(start_paused = true)]
async fn latency_below_a_millisecond_is_kept_in_the_queue_and_delivered_at_the_next_tick() {
    let pair = Pair::new(Duration::from_micros(300));
    let (mut client, mut server) = pair.streams().await;
    write(&mut client, "ping").await.unwrap();
    assert_eq!(timed(read(&mut server)).await, (1, Ok("ping".into())));
}

/// Observed: `1`, then `EPIPE` for ever; reads give the end of stream.
#[tokio::test(start_paused = true)]
async fn first_write_after_the_peer_closed_succeeds_the_next_fails() {
    let pair = Pair::new(ms(1));
    let (mut client, server) = pair.streams().await;
    drop(server);
    tokio::time::sleep(ms(5)).await;
    assert_eq!(client.handle().state(), StreamState::PeerClosed);
    assert_eq!(write(&mut client, "x").await, Ok(1));
    tokio::time::sleep(ms(5)).await;
    assert_eq!(write(&mut client, "y").await, Err(ErrorKind::BrokenPipe));
    assert_eq!(write(&mut client, "y").await, Err(ErrorKind::BrokenPipe));
    assert_eq!(read(&mut client).await, Ok("".into()));
}

/// Observed: what was sent before the FIN stays readable after the RST that a write brought back.
#[tokio::test(start_paused = true)]
async fn data_before_a_fin_survives_a_reset() {
    let pair = Pair::new(ms(1));
    let (mut client, mut server) = pair.streams().await;
    write(&mut server, "hello").await.unwrap();
    drop(server);
    tokio::time::sleep(ms(5)).await;
    assert_eq!(write(&mut client, "x").await, Ok(1));
    tokio::time::sleep(ms(5)).await;
    assert_eq!(write(&mut client, "y").await, Err(ErrorKind::BrokenPipe));
    assert_eq!(read(&mut client).await, Ok("hello".into()));
    assert_eq!(read(&mut client).await, Ok("".into()));
}

/// Observed: `b'hello'`, `ECONNRESET`, `b''`, then a write `EPIPE`.
#[tokio::test(start_paused = true)]
async fn close_with_unread_data_sends_a_reset_after_what_was_written() {
    let pair = Pair::new(ms(1));
    let (mut client, mut server) = pair.streams().await;
    write(&mut client, "query").await.unwrap();
    tokio::time::sleep(ms(5)).await;
    write(&mut server, "hello").await.unwrap();
    assert_eq!(server.unread(), 5);
    drop(server);
    tokio::time::sleep(ms(5)).await;
    assert_eq!(read(&mut client).await, Ok("hello".into()));
    assert_eq!(read(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(read(&mut client).await, Ok("".into()));
    assert_eq!(write(&mut client, "y").await, Err(ErrorKind::BrokenPipe));
}

/// Observed: a write takes `ECONNRESET` as a read would, and reads see the end of stream from then on.
#[tokio::test(start_paused = true)]
async fn a_reset_is_told_once_to_whoever_asks_first() {
    let pair = Pair::new(ms(1));
    let (mut client, server) = pair.streams().await;
    write(&mut client, "query").await.unwrap();
    tokio::time::sleep(ms(5)).await;
    drop(server);
    tokio::time::sleep(ms(5)).await;
    assert_eq!(write(&mut client, "y").await, Err(ErrorKind::ConnectionReset));
    assert_eq!(write(&mut client, "y").await, Err(ErrorKind::BrokenPipe));
    assert_eq!(read(&mut client).await, Ok("".into()));
}

#[tokio::test(start_paused = true)]
async fn half_close_leaves_the_other_direction_open() {
    let pair = Pair::new(ms(1));
    let (mut client, mut server) = pair.streams().await;
    client.shutdown().await.unwrap();
    assert_eq!(timed(read(&mut server)).await, (1, Ok("".into())));
    assert_eq!(write(&mut client, "z").await, Err(ErrorKind::BrokenPipe));
    write(&mut server, "abc").await.unwrap();
    assert_eq!(read(&mut client).await, Ok("abc".into()));
    drop((client, server));
    tokio::time::sleep(ms(10)).await;
    assert!(pair.net.flows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn hangup_is_seen_behind_unread_data() {
    let pair = Pair::new(ms(1));
    let (mut client, server) = pair.streams().await;
    write(&mut client, "query").await.unwrap();
    drop(client);
    let (took, ()) = timed(std::future::poll_fn(|cx| server.poll_hangup(cx))).await;
    assert_eq!((took, server.unread(), server.is_hungup()), (1, 5, true));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_blocks_the_writer_until_it_does() {
    for latency in [ms(0), ms(3)] {
        let pair = Pair::new(latency);
        pair.net.set_buffers(1000, 500);
        let (mut client, mut server) = pair.streams().await;
        let big = vec![7_u8; 10_000];
        let writer = tokio::spawn(async move {
            client.write_all(&big).await.unwrap();
            client
        });
        tokio::time::sleep(s(1)).await;
        assert!(!writer.is_finished());
        assert_eq!(server.unread(), 500);
        let mut got = vec![0; 10_000];
        let (took, _) = timed(server.read_exact(&mut got)).await;
        assert!(got.iter().all(|b| *b == 7));
        assert_eq!(took > 0, latency > ms(0));
        writer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn bandwidth_is_shared_by_the_streams_of_a_link() {
    let pair = Pair::new(ms(0));
    let (mut a, mut a_server) = pair.streams().await;
    let (mut b, mut b_server) = pair.streams().await;
    let slow = Link { bandwidth: Some(10_000), latency: ms(10), ..Link::default() };
    pair.net.set_link(&pair.web, &pair.db, Direction::AToB, slow);
    a.write_all(&[1; 1000]).await.unwrap();
    b.write_all(&[2; 1000]).await.unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(timed(a_server.read_exact(&mut buffer)).await.0, 110);
    assert_eq!(timed(b_server.read_exact(&mut buffer)).await.0, 100);
    // The other direction is as before.
    a_server.write_all(b"x").await.unwrap();
    assert_eq!(timed(read(&mut a)).await.0, 0);
}

/// When each of ten messages arrives, for a seed.
async fn arrivals(seed: u64) -> Vec<u128> {
    let net = Net::new(seed);
    net.set_default_link(Link { latency: ms(5), jitter: ms(20), bandwidth: None });
    let (web, db) = (net.add_host("web"), net.add_host("db"));
    let listener = db.listen(1, 1).unwrap();
    let mut client = web.connect("db", 1, &SocketOptions::default()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let start = Instant::now();
    tokio::spawn(async move {
        for n in 0..10_u8 {
            client.write_all(&[n]).await.unwrap();
            tokio::time::sleep(ms(1)).await;
        }
        tokio::time::sleep(s(1)).await;
    });
    let mut times = Vec::new();
    for n in 0..10 {
        assert_eq!(server.read_u8().await.unwrap(), n);
        times.push(start.elapsed().as_millis());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn jitter_keeps_the_order_and_follows_the_seed() {
    let first = arrivals(1).await;
    assert!(first.is_sorted() && first[0] >= 5 && *first.last().unwrap() <= 9 + 26);
    assert_eq!(first, arrivals(1).await);
    assert_ne!(first, arrivals(2).await);
}

/// Which of eight readers woke in which order, when all messages are due in the same microsecond.
async fn wake_order(seed: u64) -> Vec<usize> {
    let net = Net::new(seed);
    net.set_default_link(Link::with_latency(ms(1)));
    let (web, db) = (net.add_host("web"), net.add_host("db"));
    let listener = db.listen(1, 16).unwrap();
    let order = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for n in 0..8 {
        clients.push(web.connect("db", 1, &SocketOptions::default()).await.unwrap());
        let (mut server, _) = listener.accept().await.unwrap();
        let order = std::sync::Arc::clone(&order);
        tokio::spawn(async move {
            read(&mut server).await.unwrap();
            order.lock().push(n);
        });
    }
    tokio::time::sleep(ms(1)).await;
    for client in &mut clients {
        write(client, "x").await.unwrap();
    }
    tokio::time::sleep(ms(10)).await;
    let order = order.lock().clone();
    assert_eq!(order.len(), 8);
    order
}

#[tokio::test(start_paused = true)]
async fn ties_between_streams_are_broken_by_the_seed() {
    assert_eq!(wake_order(1).await, wake_order(1).await);
    assert_ne!(wake_order(1).await, wake_order(2).await);
}

#[tokio::test(start_paused = true)]
async fn names_are_repointed_and_cached_for_their_ttl() {
    let pair = Pair::new(ms(1));
    let standby = pair.net.add_host("standby");
    let _there = standby.listen(5432, 1).unwrap();
    let dial = || async { pair.web.connect("primary", 5432, &SocketOptions::default()).await };
    let unknown = dial().await.unwrap_err();
    assert!(unknown.to_string().contains("failed to lookup address"), "{unknown}");
    pair.net.set_name("primary", &pair.db);
    pair.web.set_dns_ttl(s(30));
    assert_eq!(dial().await.unwrap().peer_addr().ip(), pair.db.ip());
    pair.net.set_name("primary", &standby);
    tokio::time::sleep(s(29)).await;
    assert_eq!(dial().await.unwrap().peer_addr().ip(), pair.db.ip());
    tokio::time::sleep(s(1)).await;
    assert_eq!(dial().await.unwrap().peer_addr().ip(), standby.ip());
}

/// The network also runs in real time, for `poolproof serve`.
#[tokio::test]
async fn works_with_a_running_clock() {
    let pair = Pair::new(ms(5));
    let (mut client, mut server) = pair.streams().await;
    write(&mut client, "ping").await.unwrap();
    let (took, got) = timed(read(&mut server)).await;
    assert!(took >= 4 && got == Ok("ping".into()), "{took}");
}
