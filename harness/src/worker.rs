//! A worker: a process that does runs for a campaign, one after another, and may die of any of them.
//!
//! A thread that blocks or spins can't be ended from outside; a process can. So each run of a campaign is done by a copy
//! of this very executable, started with [`VARIABLE`] set, which takes requests from its standard input and answers on
//! its standard output, a JSON object a line. A watchdog thread of the worker's sees when virtual time stands still,
//! says where, and ends the process. The memory limit is the kernel's (`RLIMIT_AS`, setrlimit(2)): beyond it, an
//! allocation fails, and Rust aborts.
//!
//! What a pool prints goes to the same standard output. Answers are told from it by a mark at the line's start.

use std::any::Any;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The environment variable that makes an executable a worker.
pub const VARIABLE: &str = "POOLPROOF_WORKER";

/// What every line of a worker begins with.
pub(crate) const MARK: &str = "\u{1}poolproof ";

/// How often a worker that is busy says that it is alive.
pub(crate) const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// The exit code of a worker that its watchdog ended.
const STALLED: i32 = 70;

/// Something that can be run by a worker.
pub trait Work: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// What comes of it.
    type Report: Serialize + DeserializeOwned + Send + 'static;

    /// Does it, on the calling thread or on one of its own.
    fn run(&self) -> Self::Report;

    /// What is reported of it when its worker was lost over it.
    fn lost(&self, loss: &Loss) -> Self::Report;
}

/// How a run ended that gave no report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Virtual time stood still for too long, or the run took too long as a whole.
    Stalled(Place),
    /// It asked for more memory than it may have.
    Memory(Place),
    /// It overflowed its stack.
    StackOverflow(Place),
    /// The process died of something else: a signal's or an exit code's name, and the last it wrote to standard error.
    Died {
        /// Where it was.
        place: Place,
        /// How it died.
        how: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// poolproof itself panicked, outside the pool: a bug to report.
    Harness(String),
}

/// Where a run was when it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Virtual time, in milliseconds since the run's start.
    pub virtual_ms: u64,
    /// The actor whose code (or the pool's, called by it) was running; `None` in a task of the pool's or the world's.
    pub actor: Option<u32>,
}

/// Limits of a run in a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall-clock time for which virtual time may stand still.
    pub stall: Duration,
    /// Wall-clock time of the whole run.
    pub total: Duration,
    /// Bytes of address space of the process; `None` sets no limit.
    pub memory: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { stall: Duration::from_secs(30), total: Duration::from_secs(600), memory: Some(4 << 30) }
    }
}

/// What a worker is asked.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request<W> {
    pub(crate) number: u64,
    pub(crate) limits: Limits,
    pub(crate) work: W,
}

/// What a worker says.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answer<R> {
    /// The run goes on.
    Alive { number: u64, place: Place },
    /// The run is done.
    Done { number: u64, report: R },
    /// The run was given up, and the worker ends.
    Stalled { number: u64, place: Place },
    /// The harness panicked.
    Panicked { number: u64, message: String },
}

/// Where this process's run is. One run at a time is watched: a worker's.
pub mod progress {
    use super::{AtomicU32, AtomicU64, Duration, Ordering, Place};

    static VIRTUAL_MS: AtomicU64 = AtomicU64::new(0);
    static ACTOR: AtomicU32 = AtomicU32::new(0);

    /// Something happened at this virtual time. Costs a store: called for every event.
    pub fn at(time: Duration) {
        VIRTUAL_MS.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The code of this actor runs now; 0 is none. Costs a store: called for every poll of an actor.
    pub fn in_actor(actor: u32) {
        ACTOR.store(actor, Ordering::Relaxed);
    }

    /// The last that was heard.
    #[must_use]
    pub fn place() -> Place {
        let actor = ACTOR.load(Ordering::Relaxed);
        Place { virtual_ms: VIRTUAL_MS.load(Ordering::Relaxed), actor: (actor > 0).then_some(actor) }
    }

    pub(super) fn reset() {
        at(Duration::ZERO);
        in_actor(0);
    }
}

/// What is done before the watchdog ends the process, of the run under way.
static LAST_WORDS: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Lets the run under way keep what it has, when the watchdog gives it up. It is called on another thread, and must not
/// wait for the run's.
pub(crate) fn before_a_stall_ends_it(keep: impl FnOnce() + Send + 'static) {
    *last_words() = Some(Box::new(keep));
}

fn last_words() -> MutexGuard<'static, Option<Box<dyn FnOnce() + Send>>> {
    LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// If this process was started as a worker, does its work, and does not return. Call it first in `main`, of every
/// executable from which campaigns are started.
pub fn become_worker_if_asked<W: Work>() {
    if std::env::var_os(VARIABLE).is_some() {
        serve::<W>();
    }
}

/// Takes requests until the input ends.
fn serve<W: Work>() -> ! {
    let (requests, todo) = mpsc::channel::<Request<W>>();
    let (starts, watched) = mpsc::channel();
    std::thread::spawn(move || watch(&watched));
    std::thread::spawn(move || {
        for request in todo {
            do_run(request, &starts);
        }
    });
    // The input is read while a run is under way: when the parent is gone, so are we.
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str::<Request<W>>(&line) {
            Ok(request) => drop(requests.send(request)),
            Err(error) => {
                eprintln!("a worker was asked what it does not understand: {error}");
                std::process::exit(71);
            }
        }
    }
    std::process::exit(0)
}

fn do_run<W: Work>(request: Request<W>, starts: &mpsc::Sender<Option<(u64, Limits)>>) {
    let Request { number, limits, work } = request;
    limit_memory(limits.memory);
    progress::reset();
    let _watchdog_is_there = starts.send(Some((number, limits)));
    let result = catch_unwind(AssertUnwindSafe(|| work.run()));
    let _watchdog_is_there = starts.send(None);
    drop(last_words().take());
    say(&match result {
        Ok(report) => Answer::Done { number, report },
        Err(payload) => Answer::Panicked { number, message: text_of(payload.as_ref()) },
    });
}

/// Ends the process when a run makes no progress.
fn watch(runs: &mpsc::Receiver<Option<(u64, Limits)>>) {
    let mut run: Option<Watched> = None;
    loop {
        let next = match &run {
            None => runs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(watched) => runs.recv_timeout(watched.limits.stall.min(ALIVE_EVERY) / 2),
        };
        match next {
            Ok(Some((number, limits))) => run = Some(Watched::new(number, limits)),
            Ok(None) => run = None,
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some(watched) = &mut run {
                    watched.look();
                }
            }
        }
    }
}

/// A run under way, as the watchdog sees it.
struct Watched {
    number: u64,
    limits: Limits,
    started: Instant,
    moved: Instant,
    said: Instant,
    virtual_ms: u64,
}

impl Watched {
    fn new(number: u64, limits: Limits) -> Watched {
        let now = Instant::now();
        Watched { number, limits, started: now, moved: now, said: now, virtual_ms: 0 }
    }

    fn look(&mut self) {
        let (now, place, number) = (Instant::now(), progress::place(), self.number);
        if place.virtual_ms != self.virtual_ms {
            self.virtual_ms = place.virtual_ms;
            self.moved = now;
        }
        if now - self.moved >= self.limits.stall || now - self.started >= self.limits.total {
            let keep = last_words().take();
            keep.into_iter().for_each(|keep| keep());
            say(&Answer::<()>::Stalled { number, place });
            std::process::exit(STALLED);
        }
        if now - self.said >= ALIVE_EVERY {
            self.said = now;
            say(&Answer::<()>::Alive { number, place });
        }
    }
}

/// Writes one answer. When nobody listens any more there is nothing left to do.
fn say<R: Serialize>(answer: &Answer<R>) {
    let json = serde_json::to_string(answer).expect("reports are plain data");
    let mut out = io::stdout().lock();
    // A line of its own, whatever was printed before without an end.
    let written = writeln!(out, "\n{MARK}{json}").and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}

/// Limits this process's address space. The limit can be lowered again and again, up to the hard limit.
fn limit_memory(bytes: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(bytes) = bytes else { return };
    let Rlimit { maximum, .. } = getrlimit(Resource::As);
    let current = Some(maximum.map_or(bytes, |maximum| maximum.min(bytes)));
    if let Err(error) = setrlimit(Resource::As, Rlimit { current, maximum }) {
        eprintln!("the memory of runs is not limited: {error}");
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}
