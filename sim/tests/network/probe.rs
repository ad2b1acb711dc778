//! The language of probes, and how one is played on a pair of sockets.
//!
//! | step | meaning |
//! | --- | --- |
//! | `listen [BACKLOG]`, `stop listening` | the server's port |
//! | `c: connect` | the client's connect; `d`, `e` are further clients |
//! | `accept s` | the next connection of the backlog becomes the server's socket `s` |
//! | `c: write TEXT` / `c: fill` | one write / writes until the buffers are full |
//! | `c: read` / `s: drain` | one read, up to a few seconds / reads and drops until nothing comes |
//! | `c: close`, `c: shutdown`, `c: abort` | `close(2)`, `shutdown(SHUT_WR)`, `close(2)` with linger 0 |
//! | `c: keepalive IDLE INTERVAL COUNT` | seconds |
//! | `c: user timeout MS` | `TCP_USER_TIMEOUT`, of a connect too |
//! | `drop from c`, `drop from s`, `drop both`, `heal` | segments from the client, from the server, both are lost; none any more |
//! | `while SLEEP heal` | behind a step's line: `c: read while 700ms heal` heals 700 ms after the step began |
//! | `kill the server` | SIGKILL for the process that listens and holds what it accepted |
//! | `sleep MS` | |
//!
//! Each step's outcome is written down, with the time that it took in classes; two classes' borders are a factor 2 apart, so
//! that a busy machine's delay seldom shows.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probes {
    pub(crate) probe: Vec<Probe>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    pub(crate) name: String,
    pub(crate) steps: String,
}

/// What a client or a server does with its socket options.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Idle, interval (s), count.
    pub(crate) keepalive: Option<(u64, u64, u32)>,
    pub(crate) user_timeout: Option<Duration>,
}

/// Segments from which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Server,
    Both,
}

/// A client, a server, and the way between them.
pub(crate) trait Network {
    async fn listen(&mut self, backlog: usize) -> io::Result<()>;
    fn stop_listening(&mut self);
    async fn connect(&mut self, name: &str, options: Options) -> io::Result<()>;
    async fn accept(&mut self, name: &str) -> io::Result<()>;
    async fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<usize>;
    async fn read(&mut self, name: &str) -> io::Result<Vec<u8>>;
    async fn shutdown(&mut self, name: &str) -> io::Result<()>;
    fn close(&mut self, name: &str);
    fn abort(&mut self, name: &str);
    fn set_options(&mut self, name: &str, options: Options) -> io::Result<()>;
    fn drop_segments(&mut self, from: From);
    fn heal(&mut self);
    async fn kill_server(&mut self) -> io::Result<()>;
    /// A way to heal from beside a step.
    fn healer(&self) -> Box<dyn FnOnce()>;
}

/// The longest wait of a step.
const LIMIT: Duration = Duration::from_secs(7);
/// How long a write may take before it is said to block.
const WRITE_LIMIT: Duration = Duration::from_millis(250);

/// Plays a probe; gives one line a step. Error: a step that can't be read.
pub(crate) async fn play(network: &mut impl Network, probe: &Probe) -> Result<String, String> {
    let mut options = std::collections::BTreeMap::<String, Options>::new();
    let mut told = String::new();
    for line in probe.steps.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (step, later) = match line.split_once(" while ") {
            Some((step, later)) => (step, Some(later.strip_suffix(" heal").ok_or(format!("{line}: only `heal`"))?)),
            None => (line, None),
        };
        let healing = later.map(milliseconds).transpose()?.map(|after| {
            let heal = network.healer();
            async move {
                tokio::time::sleep(after).await;
                heal();
            }
        });
        let began = Instant::now();
        let outcome = match healing {
            None => one(network, &mut options, step).await,
            Some(healing) => {
                let mut healing = std::pin::pin!(healing);
                let mut step = std::pin::pin!(one(network, &mut options, step));
                tokio::select! {
                    biased;
                    outcome = &mut step => outcome,
                    () = &mut healing => step.await,
                }
            }
        };
        let outcome = outcome.map_err(|error| format!("{line}: {error}"))?;
        if outcome.is_empty() {
            let _ = writeln!(told, "> {line}");
        } else if step.ends_with("fill") || step.ends_with("drain") {
            // How long that takes says more about the buffers' sizes than about TCP.
            let _ = writeln!(told, "> {line}\n  {outcome}");
        } else {
            let _ = writeln!(told, "> {line}\n  {outcome}, {}", class(began.elapsed()));
        }
        // What a step sets in motion arrives before the next one.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(told)
}

fn milliseconds(word: &str) -> Result<Duration, String> {
    let number = word.strip_suffix("ms").ok_or(format!("{word}: a time is given in ms"))?;
    number.parse().map(Duration::from_millis).map_err(|error| format!("{word}: {error}"))
}

/// A time, coarsely.
fn class(time: Duration) -> &'static str {
    match time.as_millis() {
        0..150 => "at once",
        150..300 => "after 0.15 to 0.3 s",
        300..600 => "after 0.3 to 0.6 s",
        600..1200 => "after 0.6 to 1.2 s",
        1200..2400 => "after 1.2 to 2.4 s",
        2400..4800 => "after 2.4 to 4.8 s",
        _ => "after 4.8 s or more",
    }
}

/// One step's outcome; empty for what has none.
async fn one(
    network: &mut impl Network,
    options: &mut std::collections::BTreeMap<String, Options>,
    step: &str,
) -> Result<String, String> {
    let words: Vec<&str> = step.split_whitespace().collect();
    let said =
        |result: io::Result<()>| result.map_or_else(|error| format!("{:?}", error.kind()), |()| "done".to_owned());
    let number = |word: &str| word.parse::<u64>().map_err(|_| format!("{word} is no number"));
    Ok(match words.as_slice() {
        ["listen"] => said(network.listen(128).await),
        ["listen", backlog] => said(network.listen(usize::try_from(number(backlog)?).unwrap_or(0)).await),
        ["stop", "listening"] => {
            network.stop_listening();
            String::new()
        }
        ["accept", name] => match timeout(LIMIT, network.accept(name)).await {
            Ok(accepted) => said(accepted),
            Err(_) => "nothing comes".to_owned(),
        },
        ["sleep", time] => {
            tokio::time::sleep(milliseconds(time)?).await;
            String::new()
        }
        ["drop", "from", "c"] => {
            network.drop_segments(From::Client);
            String::new()
        }
        ["drop", "from", "s"] => {
            network.drop_segments(From::Server);
            String::new()
        }
        ["drop", "both"] => {
            network.drop_segments(From::Both);
            String::new()
        }
        ["heal"] => {
            network.heal();
            String::new()
        }
        ["kill", "the", "server"] => said(network.kill_server().await),
        [name, rest @ ..] => {
            let name = name.strip_suffix(':').ok_or("no such step")?;
            let own = options.entry(name.to_owned()).or_default();
            match rest {
                ["connect"] => match timeout(LIMIT, network.connect(name, *own)).await {
                    Ok(connected) => said(connected),
                    Err(_) => "nothing comes".to_owned(),
                },
                ["write", text] => match timeout(WRITE_LIMIT, network.write(name, text.as_bytes())).await {
                    Ok(Ok(written)) => format!("{written} bytes"),
                    Ok(Err(error)) => format!("{:?}", error.kind()),
                    Err(_) => "blocks".to_owned(),
                },
                ["fill"] => {
                    let chunk = vec![b'x'; 1 << 16];
                    loop {
                        match timeout(WRITE_LIMIT, network.write(name, &chunk)).await {
                            Ok(Ok(_)) => {}
                            Ok(Err(error)) => break format!("{:?}", error.kind()),
                            Err(_) => break "blocks".to_owned(),
                        }
                    }
                }
                ["read"] => match timeout(LIMIT, network.read(name)).await {
                    Ok(Ok(bytes)) if bytes.is_empty() => "end of stream".to_owned(),
                    Ok(Ok(bytes)) => format!("{:?}", String::from_utf8_lossy(&bytes)),
                    Ok(Err(error)) => format!("{:?}", error.kind()),
                    Err(_) => "nothing comes".to_owned(),
                },
                ["drain"] => loop {
                    match timeout(WRITE_LIMIT, network.read(name)).await {
                        Ok(Ok(bytes)) if bytes.is_empty() => break "end of stream".to_owned(),
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => break format!("{:?}", error.kind()),
                        Err(_) => break "no more comes".to_owned(),
                    }
                },
                ["close"] => {
                    network.close(name);
                    String::new()
                }
                ["abort"] => {
                    network.abort(name);
                    String::new()
                }
                ["shutdown"] => said(network.shutdown(name).await),
                ["keepalive", idle, interval, count] => {
                    let count = u32::try_from(number(count)?).unwrap_or(0);
                    own.keepalive = Some((number(idle)?, number(interval)?, count));
                    // Of a socket that is still to be made it is set then.
                    let _ = network.set_options(name, *own);
                    String::new()
                }
                ["user", "timeout", ms] => {
                    own.user_timeout = Some(Duration::from_millis(number(ms)?));
                    // Of a socket that is still to be made it is set then.
                    let _ = network.set_options(name, *own);
                    String::new()
                }
                _ => return Err("no such step".to_owned()),
            }
        }
        [] => return Err("an empty step".to_owned()),
    })
}
