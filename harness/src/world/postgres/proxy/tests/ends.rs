//! How ends end: closed, killed, without power, given up.

use super::*;
use crate::scenario::model::Direction;
use poolproof_sim::net::{Keepalive, Link};

const NOTHING: Result<Vec<u8>, io::ErrorKind> = Err(io::ErrorKind::WouldBlock);
const EOF: Result<Vec<u8>, io::ErrorKind> = Err(io::ErrorKind::UnexpectedEof);
const RESET: Result<Vec<u8>, io::ErrorKind> = Err(io::ErrorKind::ConnectionReset);
const ABORTED: Result<Vec<u8>, io::ErrorKind> = Err(io::ErrorKind::ConnectionAborted);

#[tokio::test]
async fn a_server_that_closed_answers_by_a_reset() {
    let stage = Stage::new().await;
    let (mut app, mut server) = stage.connect().await;
    server.write_all(b"last words").await.expect("it takes bytes");
    drop(server);
    assert_eq!(arrives(&mut app, LONG, 10).await, Ok(b"last words".to_vec()));
    assert_eq!(arrives(&mut app, LONG, 1).await, EOF);
    app.write_all(b"first").await.expect("the first write succeeds");
    let failed = timeout(LONG, async {
        loop {
            tokio::time::sleep(ms(10)).await;
            if let Err(error) = app.write_all(b"next").await {
                return error.kind();
            }
        }
    });
    let failed = failed.await.expect("the next one fails soon");
    assert!(matches!(failed, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{failed:?}");
}

#[tokio::test]
async fn a_reset_by_either_end_is_passed_on() {
    let stage = Stage::new().await;
    let (mut app, server) = stage.connect().await;
    server.set_zero_linger().expect("set");
    drop(server);
    assert_eq!(arrives(&mut app, LONG, 1).await, RESET);
    let (app, mut server) = stage.connect().await;
    server.write_all(b"unread").await.expect("it takes bytes");
    tokio::time::sleep(ms(300)).await;
    drop(app);
    assert_eq!(arrives(&mut server, LONG, 1).await, RESET);
}

#[tokio::test]
async fn a_killed_process_says_nothing_more() {
    let stage = Stage::new().await;
    let seat = stage.seat();
    let (mut app, mut server) = stage.connect().await;
    let (mut unread, mut server_of_unread) = stage.connect().await;
    server_of_unread.write_all(b"unread").await.expect("it takes bytes");
    tokio::time::sleep(ms(300)).await;
    let reader = tokio::spawn(async move {
        let read = arrives(&mut app, LONG, 1).await;
        (app, read)
    });
    tokio::time::sleep(ms(100)).await;
    seat.kill_sockets();
    let (mut app, read) = reader.await.expect("it ends");
    assert_eq!(read, ABORTED, "who waits is woken");
    let written = app.write_all(b"ghost").await.map_err(|error| error.kind());
    assert_eq!((written, arrives(&mut unread, LONG, 1).await), (Err(io::ErrorKind::ConnectionAborted), ABORTED));
    assert_eq!((arrives(&mut server, LONG, 1).await, arrives(&mut server_of_unread, LONG, 1).await), (EOF, RESET));
    assert!(!seat.is_alive());
    assert_eq!(dial(&seat, LONG).await.err(), Some(io::ErrorKind::ConnectionAborted));
    dial(&seat.respawn(), LONG).await.expect("the next process dials");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dial_ends_with_its_process() {
    let stage = Stage::new().await;
    stage.proxy.partition("web-1", "primary", Direction::Both);
    stage.proxy.set_port_mode("primary", poolproof_sim::net::PortMode::LoseSyn);
    let seat = stage.seat();
    let dialling = seat.clone();
    let dialling = tokio::spawn(async move { dial(&dialling, LONG).await.err() });
    tokio::time::sleep(ms(50)).await;
    seat.kill_sockets();
    assert_eq!(dialling.await.expect("it ends"), Some(io::ErrorKind::ConnectionAborted));
}

#[tokio::test]
async fn a_machine_without_power_is_not_heard_of() {
    let stage = Stage::new().await;
    let seat = stage.seat();
    let (mut app, mut server) = stage.connect().await;
    carry(&mut app, &mut server, b"before").await;
    seat.power_off();
    assert_eq!(arrives(&mut app, LONG, 1).await, ABORTED);
    assert_eq!(arrives(&mut server, ms(150), 1).await, NOTHING);
    server.write_all(b"anybody?").await.expect("it takes bytes");
    assert_eq!(arrives(&mut server, ms(150), 1).await, NOTHING);
    let seat = seat.power_on();
    assert_eq!(arrives(&mut server, LONG, 1).await, RESET, "its new kernel knows no such connection");
    dial(&seat, LONG).await.expect("the next process dials");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_without_power_is_not_heard_of() {
    let stage = Stage::new().await;
    let (mut app, server) = stage.connect().await;
    stage.proxy.set_powered("primary", false);
    drop(server);
    app.write_all(b"anybody?").await.expect("it takes bytes");
    assert_eq!(arrives(&mut app, ms(150), 1).await, NOTHING);
    assert_eq!(dial(&stage.seat(), ms(150)).await.err(), Some(io::ErrorKind::WouldBlock));
    stage.proxy.set_powered("primary", true);
    assert_eq!(arrives(&mut app, LONG, 1).await, RESET);
    stage.connect().await;
}

#[tokio::test]
async fn what_was_on_the_way_to_a_server_without_power_is_not_acknowledged() {
    let stage = Stage::new().await;
    stage.proxy.set_link(Link { latency: ms(300), ..Link::default() });
    let (mut app, _server) = stage.connect_with(&SocketOptions { keepalive: None, user_timeout: Some(ms(400)) }).await;
    app.write_all(b"on the way").await.expect("it takes bytes");
    tokio::time::sleep(ms(50)).await;
    stage.proxy.set_powered("primary", false);
    assert_eq!(arrives(&mut app, LONG, 1).await, Err(io::ErrorKind::TimedOut));
}

#[tokio::test]
async fn kernels_give_up_by_their_timers() {
    let stage = Stage::new().await;
    let timeout = SocketOptions { keepalive: None, user_timeout: Some(ms(300)) };
    let keepalive = Keepalive { idle: ms(1000), interval: ms(1000), count: 1 };
    let keepalive = SocketOptions { keepalive: Some(keepalive), user_timeout: None };
    let (mut app, _server) = stage.connect_with(&timeout).await;
    let (mut idle, mut server_of_idle) = stage.connect_with(&timeout).await;
    let (mut kept, _server_of_kept) = stage.connect_with(&keepalive).await;
    stage.proxy.partition("web-1", "primary", Direction::ToApp);
    app.write_all(b"unacknowledged").await.expect("it takes bytes");
    let gives_up = arrives(&mut app, LONG, 1).await;
    assert_eq!(gives_up, Err(io::ErrorKind::TimedOut));
    assert_eq!(arrives(&mut kept, LONG, 1).await, Err(io::ErrorKind::TimedOut));
    assert_eq!(arrives(&mut idle, ms(50), 1).await, NOTHING, "nothing of it is unacknowledged");
    stage.proxy.heal("web-1", "primary");
    // Its timers run no more.
    tokio::time::sleep(ms(400)).await;
    carry(&mut idle, &mut server_of_idle, b"fine").await;
}

#[tokio::test]
async fn a_server_gives_up_by_its_timers() {
    let stage = Stage::new().await;
    stage.proxy.set_server_options("primary", SocketOptions { keepalive: None, user_timeout: Some(ms(200)) });
    let (mut app, mut server) = stage.connect().await;
    stage.proxy.partition("web-1", "primary", Direction::Both);
    server.write_all(b"unacknowledged").await.expect("it takes bytes");
    assert_eq!(arrives(&mut server, LONG, 1).await, RESET);
    assert_eq!(arrives(&mut app, ms(100), 1).await, NOTHING, "the app is not told");
    stage.proxy.heal("web-1", "primary");
    assert_eq!(arrives(&mut app, ms(100), 1).await, NOTHING, "until it asks");
    app.write_all(b"hello?").await.expect("it takes bytes");
    assert_eq!(arrives(&mut app, LONG, 1).await, RESET);
}

#[tokio::test]
async fn with_the_proxy_everything_is_closed() {
    let Stage { proxy, server: listening } = Stage::new().await;
    let seat = proxy.seat("web-1");
    let mut app = dial(&seat, LONG).await.expect("it connects");
    let (mut server, _) = listening.accept().await.expect("accepted");
    let door = proxy.address("web-1", "primary").expect("it has one");
    drop(proxy);
    assert_eq!(arrives(&mut app, LONG, 1).await, ABORTED);
    assert!(arrives(&mut server, LONG, 1).await.is_err_and(|kind| kind != io::ErrorKind::WouldBlock));
    assert_eq!(dial(&seat, LONG).await.err(), Some(io::ErrorKind::ConnectionAborted));
    let mut closed = false;
    for _ in 0..100 {
        closed |= TcpStream::connect(door).await.is_err();
        tokio::time::sleep(ms(5)).await;
    }
    assert!(closed, "the door is closed");
}
