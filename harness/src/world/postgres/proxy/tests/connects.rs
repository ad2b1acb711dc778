//! How connects are answered.

use super::*;
use crate::scenario::model::Direction;
use poolproof_sim::net::PortMode;

#[tokio::test]
async fn a_port_that_is_closed_refuses_and_opens_again() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    let door = stage.proxy.address("web-1", "primary").expect("it has one");
    for _ in 0..3 {
        stage.proxy.set_port_mode("primary", PortMode::Refuse);
        assert_eq!(dial(&stage.seat(), LONG).await.err(), Some(io::ErrorKind::ConnectionRefused));
        let outside = TcpStream::connect(door).await.map_err(|error| error.kind());
        assert_eq!(outside.err(), Some(io::ErrorKind::ConnectionRefused));
        stage.proxy.set_port_mode("primary", PortMode::Open);
        stage.connect().await;
    }
    carry(&mut app, &mut server, b"old").await;
    stage.proxy.set_port_open("primary", false);
    assert_eq!(dial(&stage.seat(), LONG).await.err(), Some(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_refusal_that_nobody_announced_is_passed_on() {
    let Stage { proxy, server } = Stage::new().await;
    drop(server);
    assert_eq!(dial(&proxy.seat("web-1"), LONG).await.err(), Some(io::ErrorKind::ConnectionRefused));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn lost_connects_hang_until_they_are_repeated() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    stage.proxy.set_port_mode("primary", PortMode::LoseSyn);
    let seats: Vec<Seat> = (0..5).map(|_| stage.seat()).collect();
    let options = SocketOptions::default();
    let mut hanging = Box::pin(futures_util::future::join_all(seats.iter().map(|seat| seat.dial("db", &options))));
    assert!(timeout(ms(300), &mut hanging).await.is_err(), "a lost connect does not end");
    carry(&mut app, &mut server, b"old").await;
    stage.proxy.set_port_mode("primary", PortMode::Open);
    let opened = timeout(LONG, hanging).await.expect("they come through");
    let mut streams: Vec<SeatStream> = opened.into_iter().map(|stream| stream.expect("it connects")).collect();
    // Which is whose does not matter.
    for stream in &mut streams {
        stream.write_all(b"hello").await.expect("it takes bytes");
        let (mut server, _) = timeout(LONG, stage.server.accept()).await.expect("in time").expect("it arrives");
        tokio::spawn(async move { carry_back(&mut server).await });
    }
    for stream in &mut streams {
        assert_eq!(arrives(stream, LONG, 5).await, Ok(b"hello".to_vec()));
    }
}

/// Answers with what it reads.
async fn carry_back(server: &mut TcpStream) {
    let read = arrives(server, LONG, 5).await.expect("it arrives");
    server.write_all(&read).await.expect("it takes bytes");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connects_through_a_partition_hang() {
    let stage = Stage::new().await;
    drop(stage.connect().await);
    for direction in [Direction::Both, Direction::ToServer, Direction::ToApp] {
        stage.proxy.partition("web-1", "primary", direction);
        assert_eq!(dial(&stage.seat(), ms(200)).await.err(), Some(io::ErrorKind::WouldBlock), "{direction:?}");
        let (elsewhere, other) = (stage.proxy.seat("web-2"), SocketOptions::default());
        elsewhere.dial("db", &other).await.expect("another seat is not cut off");
        stage.proxy.heal("web-1", "primary");
        dial(&stage.seat(), LONG).await.expect("healed");
    }
}

#[tokio::test]
async fn accepted_and_silent() {
    let stage = Stage::new().await;
    stage.proxy.set_port_mode("primary", PortMode::AcceptSilence);
    let mut app = dial(&stage.seat(), LONG).await.expect("it is accepted");
    app.write_all(b"hello").await.expect("the kernel takes it");
    assert_eq!(arrives(&mut app, ms(200), 1).await, Err(io::ErrorKind::WouldBlock));
    assert!(timeout(ms(100), stage.server.accept()).await.is_err(), "the server hears of nothing");
    stage.proxy.set_port_mode("primary", PortMode::Open);
    assert_eq!(arrives(&mut app, ms(200), 1).await, Err(io::ErrorKind::WouldBlock), "it stays silent");
    let (mut app, mut server) = stage.connect().await;
    carry(&mut app, &mut server, b"new").await;
}

#[tokio::test]
async fn a_name_is_resolved_at_each_dial_unless_it_is_kept() {
    let (stage, standby) = (Stage::new().await, TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    stage.proxy.add_upstream("standby", standby.local_addr().expect("bound"));
    stage.proxy.set_port_open("standby", true);
    stage.proxy.set_dns_ttl(ms(300));
    stage.connect().await;
    stage.proxy.set_name("db", "standby");
    stage.connect().await;
    tokio::time::sleep(ms(350)).await;
    let _app = dial(&stage.seat(), LONG).await.expect("it connects");
    timeout(LONG, standby.accept()).await.expect("in time").expect("to the standby");
    let other = stage.seat().dial("nobody", &SocketOptions::default()).await.map_err(|error| error.to_string());
    assert!(other.is_err_and(|error| error.contains("Name or service not known: nobody")));
}

#[tokio::test]
async fn a_program_without_a_seat_reaches_the_server_too() {
    let stage = Stage::new().await;
    let address = stage.proxy.address("outside", "primary").expect("a door");
    let mut app = TcpStream::connect(address).await.expect("it connects");
    let (mut server, _) = timeout(LONG, stage.server.accept()).await.expect("in time").expect("accepted");
    carry(&mut app, &mut server, b"up").await;
    carry(&mut server, &mut app, b"down").await;
}

#[tokio::test]
async fn a_server_moves() {
    let stage = Stage::new().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    stage.proxy.move_upstream("primary", elsewhere.local_addr().expect("bound"));
    let _app = dial(&stage.seat(), LONG).await.expect("it connects");
    timeout(LONG, elsewhere.accept()).await.expect("in time").expect("accepted");
}
