//! What turmoil 0.7.2 does where the kernel does something else, shown on turmoil alone. ARCHITECTURE.md has it in wording to
//! file upstream. A test asserts the behaviour as it is in the locked version: when a release mends it, the test fails, and
//! what is said of it here, in `known.toml` and in `poolproof::world::turmoil` can go.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use poolproof_sim::runtime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

/// One way.
const LATENCY: Duration = Duration::from_millis(10);

const SECOND: Duration = Duration::from_secs(1);

/// A fact's name, and what shows it.
type Fact = (&'static str, fn() -> Result<(), Failed>);

const FACTS: [Fact; 7] = [
    ("a_connect_through_a_partition_is_refused_at_once", refused_at_once),
    ("a_syn_ack_passes_a_one_way_partition_and_takes_no_time", syn_ack_is_no_message),
    ("a_lost_segment_is_never_sent_again", no_retransmission),
    ("a_full_backlog_panics", full_backlog),
    ("a_refused_connect_leaks_its_socket", leaked_socket),
    ("an_abandoned_connect_stays_open_at_the_server", abandoned_connect),
    ("a_panic_in_a_task_ends_the_simulation", panic_of_a_task),
];

pub(crate) fn trials() -> Vec<Trial> {
    FACTS.into_iter().map(|(name, fact)| Trial::test(format!("turmoil::{name}"), move || quietly(fact))).collect()
}

/// On a run's thread, where the panics that are shown here are not printed.
fn quietly(fact: fn() -> Result<(), Failed>) -> Result<(), Failed> {
    let shown = runtime::run_foreign(
        1,
        || runtime::on_panic(|_| ()),
        move |()| fact().map_err(|failed| failed.message().unwrap_or_default().to_owned()),
    );
    Ok(shown??)
}

/// Where a client leaves what it saw.
type Seen<T> = Rc<RefCell<Option<T>>>;

/// A simulation whose `server` does this to each stream that it accepts.
fn with_server<F>(serve: impl Fn(TcpStream) -> F + Copy + 'static) -> turmoil::Sim<'static>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut builder = turmoil::Builder::new();
    builder.min_message_latency(LATENCY).max_message_latency(LATENCY).simulation_duration(60 * SECOND).rng_seed(1);
    let mut sim = builder.build();
    sim.host("server", move || async move {
        let listener = TcpListener::bind(("0.0.0.0", 5432)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream));
        }
    });
    sim
}

/// Sends back what it gets.
async fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

fn connect() -> impl Future<Output = std::io::Result<TcpStream>> {
    TcpStream::connect(("server", 5432))
}

/// What a client's code saw.
fn seen_by<T: 'static, F>(mut sim: turmoil::Sim<'static>, client: F) -> Result<T, Failed>
where
    F: Future<Output = T> + 'static,
{
    let seen: Seen<T> = Seen::default();
    let out = Rc::clone(&seen);
    sim.client("client", async move {
        *out.borrow_mut() = Some(client.await);
        Ok(())
    });
    sim.run()?;
    let seen = seen.borrow_mut().take();
    seen.ok_or_else(|| "the client did not end".into())
}

fn same<T: PartialEq + std::fmt::Debug>(is: T, was: T) -> Result<(), Failed> {
    if is == was { Ok(()) } else { Err(format!("it was {was:?}, and is {is:?}").into()) }
}

/// Linux sends the SYN again after 1, 3, 7, … 63 s, and gives ETIMEDOUT after 127 s (probes `connect_to_silence`,
/// `connect_through_a_loss_that_ends`).
fn refused_at_once() -> Result<(), Failed> {
    let seen = seen_by(with_server(echo), async {
        turmoil::partition("client", "server");
        let start = Instant::now();
        let error = connect().await.err().map(|error| error.kind());
        (error, start.elapsed())
    })?;
    same(seen, (Some(ErrorKind::ConnectionRefused), Duration::ZERO))
}

/// Linux waits for a SYN-ACK that crosses the network (probe `connect_whose_syn_ack_is_lost`): a connect takes a round trip,
/// and does not succeed while nothing comes back.
fn syn_ack_is_no_message() -> Result<(), Failed> {
    let seen = seen_by(with_server(echo), async {
        turmoil::partition_oneway("server", "client");
        let start = Instant::now();
        let connected = connect().await.is_ok();
        (connected, start.elapsed())
    })?;
    same(seen, (true, LATENCY))
}

/// Linux sends it again until it is acknowledged, for 15 minutes (probes of the kind `…_a_loss_that_ends`).
fn no_retransmission() -> Result<(), Failed> {
    let seen = seen_by(with_server(echo), async {
        let mut stream = connect().await.unwrap();
        turmoil::partition("client", "server");
        stream.write_all(b"lost").await.unwrap();
        turmoil::repair("client", "server");
        // Nor does what is sent later arrive, as it comes after a gap.
        stream.write_all(b"late").await.unwrap();
        let mut bytes = [0; 64];
        timeout(30 * SECOND, stream.read(&mut bytes)).await.is_err()
    })?;
    same(seen, true)
}

/// Linux drops a SYN for which there is no room, and the client sends it again (probe `a_full_backlog`).
fn full_backlog() -> Result<(), Failed> {
    let mut sim = turmoil::Builder::new().tcp_capacity(2).rng_seed(1).build();
    sim.client("server", async {
        let _listener = TcpListener::bind(("0.0.0.0", 5432)).await?;
        sleep(SECOND).await;
        Ok(())
    });
    sim.client("client", async {
        for _ in 0..3 {
            tokio::spawn(connect());
        }
        sleep(SECOND).await;
        Ok(())
    });
    match catch_unwind(AssertUnwindSafe(|| sim.run())) {
        Ok(ended) => Err(format!("it went on: {ended:?}").into()),
        Err(payload) => {
            let text = runtime::panic_text(payload.as_ref());
            if text.contains("server socket buffer full") { Ok(()) } else { Err(text.into()) }
        }
    }
}

/// A socket whose connect failed is closed with it; its port can be taken again.
fn leaked_socket() -> Result<(), Failed> {
    let seen = seen_by(with_server(echo), async {
        for _ in 0..10 {
            assert!(TcpStream::connect(("server", 1)).await.is_err());
        }
        turmoil::established_tcp_stream_count()
    })?;
    same(seen, 10)
}

/// A socket that is closed while its connect is under way answers the SYN-ACK with a RST; one that is closed later sends a FIN.
/// Here neither comes: who accepted waits for ever.
fn abandoned_connect() -> Result<(), Failed> {
    let seen = seen_by(with_server(echo), async {
        // The server is there first in its tick: it accepts, and the client gives up before its own turn.
        let mut connecting = Box::pin(connect());
        assert!(timeout(LATENCY - Duration::from_millis(1), &mut connecting).await.is_err());
        // In the tick in which the server accepts.
        tokio::task::yield_now().await;
        sleep(Duration::from_millis(1)).await;
        drop(connecting);
        sleep(30 * SECOND).await;
        turmoil::established_tcp_stream_count_on("server")
    })?;
    same(seen, 1)
}

/// A panic of a task is the task's end on any tokio runtime, and its handle tells of it. With `--cfg tokio_unstable` turmoil
/// asks its runtimes to shut down instead: a pool whose own task panics takes the run with it.
fn panic_of_a_task() -> Result<(), Failed> {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        seen_by(with_server(echo), async {
            drop(tokio::spawn(async { panic!("a task's own") }).await);
            sleep(SECOND).await;
        })
    }));
    same(ended.is_err(), cfg!(tokio_unstable))
}
