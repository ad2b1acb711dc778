//! What befalls the bytes on their way.

use super::*;
use crate::scenario::model::Direction;
use poolproof_sim::net::{Keepalive, Link};
use tokio::time::Instant;

const NOTHING: Result<Vec<u8>, io::ErrorKind> = Err(io::ErrorKind::WouldBlock);

#[tokio::test]
async fn bytes_and_ends_are_carried_both_ways() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    carry(&mut app, &mut server, b"up").await;
    carry(&mut server, &mut app, b"down").await;
    app.shutdown().await.expect("half closed");
    assert_eq!(arrives(&mut server, LONG, 1).await, Err(io::ErrorKind::UnexpectedEof));
    carry(&mut server, &mut app, b"still open").await;
    drop(server);
    assert_eq!(arrives(&mut app, LONG, 1).await, Err(io::ErrorKind::UnexpectedEof));
    until("the flow is gone", || stage.proxy.flows() == 0).await;
}

#[tokio::test]
async fn latency_is_one_way_and_begins_with_the_dial() {
    let stage = Stage::new().await;
    stage.proxy.set_link(Link { latency: ms(100), jitter: ms(50), bandwidth: None });
    let begun = Instant::now();
    let (mut app, mut server) = stage.connect().await;
    assert!(begun.elapsed() >= ms(200), "{:?}", begun.elapsed());
    let begun = Instant::now();
    carry(&mut app, &mut server, b"up").await;
    let up = begun.elapsed();
    carry(&mut server, &mut app, b"down").await;
    assert!(up >= ms(100) && begun.elapsed() >= ms(200), "{up:?}, {:?}", begun.elapsed());
    // In order, whatever the jitter.
    for byte in 0..20 {
        app.write_all(&[byte]).await.expect("it takes bytes");
        tokio::time::sleep(ms(2)).await;
    }
    assert_eq!(arrives(&mut server, LONG, 20).await, Ok((0..20).collect()));
    let begun = Instant::now();
    stage.proxy.set_port_open("primary", false);
    assert_eq!(dial(&stage.seat(), LONG).await.err(), Some(io::ErrorKind::ConnectionRefused));
    assert!(begun.elapsed() >= ms(100), "a refusal takes its time, too");
}

#[tokio::test]
async fn bandwidth_is_shared_by_the_flows_of_a_way() {
    let stage = Stage::new().await;
    let (mut one, mut two) = (stage.connect().await, stage.connect().await);
    stage.proxy.set_link(Link { bandwidth: Some(400_000), ..Link::default() });
    let begun = Instant::now();
    let bytes = vec![7; 100_000];
    tokio::join!(carry(&mut one.0, &mut one.1, &bytes), carry(&mut two.0, &mut two.1, &bytes));
    let took = begun.elapsed();
    assert!(took >= ms(450), "200 kB at 400 kB/s took {took:?}");
}

#[tokio::test]
async fn what_is_sent_into_a_partition_arrives_after_it() {
    let stage = Stage::new().await;
    for (direction, up, down) in
        [(Direction::Both, false, false), (Direction::ToServer, false, true), (Direction::ToApp, true, false)]
    {
        let (mut app, mut server) = stage.connect().await;
        stage.proxy.partition("web-1", "primary", direction);
        app.write_all(b"up").await.expect("it takes bytes");
        server.write_all(b"down").await.expect("it takes bytes");
        let there = (arrives(&mut server, ms(150), 2).await, arrives(&mut app, ms(150), 4).await);
        assert_eq!((there.0.is_ok(), there.1.is_ok()), (up, down), "{direction:?}: {there:?}");
        stage.proxy.heal("web-1", "primary");
        if !up {
            assert_eq!(arrives(&mut server, LONG, 2).await, Ok(b"up".to_vec()), "{direction:?}");
        }
        if !down {
            assert_eq!(arrives(&mut app, LONG, 4).await, Ok(b"down".to_vec()), "{direction:?}");
        }
        carry(&mut app, &mut server, b"whole again").await;
    }
}

#[tokio::test]
async fn what_was_on_its_way_arrives_in_spite_of_a_partition() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    stage.proxy.set_link(Link { latency: ms(200), ..Link::default() });
    app.write_all(b"first").await.expect("it takes bytes");
    tokio::time::sleep(ms(50)).await;
    stage.proxy.partition("web-1", "primary", Direction::Both);
    app.write_all(b"second").await.expect("it takes bytes");
    assert_eq!(arrives(&mut server, LONG, 5).await, Ok(b"first".to_vec()));
    assert_eq!(arrives(&mut server, ms(300), 1).await, NOTHING);
    stage.proxy.heal("web-1", "primary");
    assert_eq!(arrives(&mut server, LONG, 6).await, Ok(b"second".to_vec()));
}

#[tokio::test]
async fn a_fin_waits_for_the_healing_and_a_rst_is_lost() {
    let stage = Stage::new().await;
    let (app, mut server) = stage.connect().await;
    let (unread, mut server_of_unread) = stage.connect().await;
    server_of_unread.write_all(b"nobody reads this").await.expect("it takes bytes");
    tokio::time::sleep(ms(300)).await;
    stage.proxy.partition("web-1", "primary", Direction::Both);
    drop(app);
    drop(unread);
    assert_eq!(arrives(&mut server, ms(150), 1).await, NOTHING);
    stage.proxy.heal("web-1", "primary");
    assert_eq!(arrives(&mut server, LONG, 1).await, Err(io::ErrorKind::UnexpectedEof));
    assert_eq!(arrives(&mut server_of_unread, ms(150), 1).await, NOTHING);
    server_of_unread.write_all(b"anybody?").await.expect("it takes bytes");
    assert_eq!(arrives(&mut server_of_unread, LONG, 1).await, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn forgotten_flows_are_silent_for_ever() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    tokio::time::sleep(ms(1000)).await;
    let (mut young, mut server_of_young) = stage.connect().await;
    assert_eq!(stage.proxy.forget_flows(Some("web-2"), None), 0);
    assert_eq!(stage.proxy.forget_flows(Some("web-1"), Some(ms(900))), 1);
    app.write_all(b"up").await.expect("it takes bytes");
    server.write_all(b"down").await.expect("it takes bytes");
    assert_eq!((arrives(&mut server, ms(150), 1).await, arrives(&mut app, ms(150), 1).await), (NOTHING, NOTHING));
    carry(&mut young, &mut server_of_young, b"young").await;
    drop(app);
    assert_eq!(arrives(&mut server, ms(150), 1).await, NOTHING, "nor does the end get through");
    drop(server);
    until("both ends are closed", || stage.proxy.flows() == 1).await;
}

#[tokio::test]
async fn a_reset_reaches_both_ends() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    assert_eq!(stage.proxy.reset_flows(None, Some(LONG)), 0);
    assert_eq!(stage.proxy.reset_flows(None, None), 1);
    assert_eq!(arrives(&mut app, LONG, 1).await, Err(io::ErrorKind::ConnectionReset));
    assert_eq!(arrives(&mut server, LONG, 1).await, Err(io::ErrorKind::ConnectionReset));
    let (mut app, mut server) = stage.connect().await;
    carry(&mut app, &mut server, b"new").await;
}

#[tokio::test]
async fn a_firewall_forgets_idle_flows_but_not_those_kept_alive() {
    let stage = Stage::new().await;
    let keepalive = Keepalive { idle: ms(1000), interval: ms(1000), count: 3 };
    let kept = SocketOptions { keepalive: Some(keepalive), user_timeout: None };
    let (mut idle, mut busy, mut kept) =
        (stage.connect().await, stage.connect().await, stage.connect_with(&kept).await);
    stage.proxy.set_idle_flow_timeout(Some(ms(1100)));
    for _ in 0..8 {
        tokio::time::sleep(ms(200)).await;
        carry(&mut busy.0, &mut busy.1, b"busy").await;
    }
    idle.0.write_all(b"idle").await.expect("it takes bytes");
    assert_eq!(arrives(&mut idle.1, ms(150), 4).await, NOTHING);
    carry(&mut kept.0, &mut kept.1, b"kept").await;
    stage.proxy.set_idle_flow_timeout(None);
    assert_eq!(arrives(&mut idle.1, ms(150), 4).await, NOTHING, "what is forgotten stays forgotten");
}

#[tokio::test]
async fn an_end_that_does_not_read_is_felt_at_the_other() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    let chunk = vec![1; 64 * 1024];
    let mut sent = 0;
    while let Ok(written) = timeout(ms(300), server.write(&chunk)).await {
        sent += written.expect("it takes bytes");
        assert!(sent < 64 << 20, "the proxy takes everything");
    }
    let mut left = sent;
    while left > 0 {
        let read = arrives(&mut app, LONG, left.min(chunk.len())).await.expect("all of it arrives");
        left -= read.len();
    }
    carry(&mut server, &mut app, b"and it goes on").await;
}

#[tokio::test]
async fn hundreds_of_flows_at_once() {
    let stage = Stage::new().await;
    let mut flows = Vec::new();
    for _ in 0..400 {
        flows.push(stage.connect().await);
    }
    let carried = flows.iter_mut().map(|(app, server)| async {
        for _ in 0..5 {
            carry(app, server, b"up").await;
            carry(server, app, b"down").await;
        }
    });
    futures_util::future::join_all(carried).await;
    assert_eq!(stage.proxy.flows(), 400);
    drop(flows);
    until("all are gone", || stage.proxy.flows() == 0).await;
}
