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
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use progress::Counts;

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

    /// What tells a worker for this from workers for other work of the same executable: the value of [`VARIABLE`].
    const KIND: &'static str = "1";

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
    /// Whether it stayed in the pool's hands: in one call of it, in calls that ask again at once without end, or in a task
    /// that is not poolproof's. If not, the load is the scenario's own.
    pub in_pool: bool,
    /// Acquires under way.
    pub acquires: u32,
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

/// Where this process's run is. One run at a time is watched: a worker's. Only the run's thread writes.
pub mod progress {
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;

    use futures_util::future::BoxFuture;

    use super::Place;

    static VIRTUAL_MS: AtomicU64 = AtomicU64::new(0);
    static ACQUIRES: AtomicU32 = AtomicU32::new(0);
    static EVENTS: AtomicU64 = AtomicU64::new(0);
    static OURS: AtomicU64 = AtomicU64::new(0);
    static POOLS: AtomicU64 = AtomicU64::new(0);
    static WHOSE: AtomicU8 = AtomicU8::new(0);

    /// Whose code runs.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Whose {
        /// Of a task that poolproof did not start, or of the runtime.
        Other = 0,
        /// Poolproof's: an actor's, the world's.
        Ours = 1,
        /// The pool's, called by an actor.
        Pools = 2,
    }

    fn count(counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Something happened at this virtual time. Costs two stores: called for every event.
    pub fn at(time: Duration) {
        VIRTUAL_MS.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        count(&EVENTS);
    }

    /// So many acquires are under way, more (or fewer) than before.
    pub fn acquires(change: i32) {
        ACQUIRES.store(ACQUIRES.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
    }

    /// Until this is dropped, somebody's code runs.
    #[must_use]
    pub struct Entered {
        before: u8,
    }

    impl Drop for Entered {
        fn drop(&mut self) {
            WHOSE.store(self.before, Ordering::Relaxed);
        }
    }

    fn enter(whose: Whose) -> Entered {
        count(if whose == Whose::Pools { &POOLS } else { &OURS });
        let before = WHOSE.load(Ordering::Relaxed);
        WHOSE.store(whose as u8, Ordering::Relaxed);
        Entered { before }
    }

    /// Poolproof's own code runs now: an actor, the world.
    pub fn ours() -> Entered {
        enter(Whose::Ours)
    }

    /// The pool is called now.
    pub fn pools() -> Entered {
        enter(Whose::Pools)
    }

    /// A task of poolproof's own.
    pub(crate) async fn our_task<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            let _ours = ours();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// A call of the pool that takes its time. Dropping it is the pool's, too.
    pub(crate) struct InPool<'a, T>(Option<BoxFuture<'a, T>>);

    impl<'a, T> InPool<'a, T> {
        pub(crate) fn new(call: impl FnOnce() -> BoxFuture<'a, T>) -> Self {
            let _pools = pools();
            InPool(Some(call()))
        }
    }

    impl<T> Future for InPool<'_, T> {
        type Output = T;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
            let _pools = pools();
            match &mut self.0 {
                Some(future) => future.as_mut().poll(cx),
                None => Poll::Pending,
            }
        }
    }

    impl<T> Drop for InPool<'_, T> {
        fn drop(&mut self) {
            let _pools = pools();
            self.0 = None;
        }
    }

    /// What was counted until a moment.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Counts {
        events: u64,
        ours: u64,
        pools: u64,
    }

    impl Counts {
        pub(super) fn now() -> Counts {
            let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            Counts { events: get(&EVENTS), ours: get(&OURS), pools: get(&POOLS) }
        }

        /// Whether anything happened in between.
        pub(super) fn moved(self, since: Counts) -> bool {
            self.events != since.events
        }
    }

    /// The last that was heard, and whether the run has been in the pool's hands since then.
    pub(super) fn place(since: Counts) -> Place {
        let now = Counts::now();
        let whose = WHOSE.load(Ordering::Relaxed);
        let in_pool = !now.moved(since)
            && (whose == Whose::Pools as u8
                || now.pools != since.pools
                || whose == Whose::Other as u8 && now.ours == since.ours);
        let acquires = ACQUIRES.load(Ordering::Relaxed);
        Place { virtual_ms: VIRTUAL_MS.load(Ordering::Relaxed), in_pool, acquires }
    }

    pub(super) fn reset() {
        at(Duration::ZERO);
        ACQUIRES.store(0, Ordering::Relaxed);
        WHOSE.store(0, Ordering::Relaxed);
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

/// If this process was started as a worker for this kind of work, does it, and does not return. Call it first in `main`, of
/// every executable from which campaigns are started.
pub fn become_worker_if_asked<W: Work>() {
    if std::env::var_os(VARIABLE).is_some_and(|kind| kind == W::KIND) {
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

/// How often the watchdog looks where a run is: often enough to see it on its way to the memory limit.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends the process when a run makes no progress.
fn watch(runs: &mpsc::Receiver<Option<(u64, Limits)>>) {
    let mut run: Option<Watched> = None;
    loop {
        let next = match &run {
            None => runs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(_) => runs.recv_timeout(LOOK_EVERY),
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
    // When virtual time last moved.
    moved: Instant,
    // When something last happened, and what had been counted by then.
    happened: (Instant, Counts),
    said: Instant,
    seen: Counts,
    virtual_ms: u64,
    // The size of the address space when a place was last said.
    size: u64,
}

impl Watched {
    fn new(number: u64, limits: Limits) -> Watched {
        let (now, seen) = (Instant::now(), Counts::now());
        let size = address_space();
        Watched {
            number,
            limits,
            started: now,
            moved: now,
            happened: (now, seen),
            said: now,
            seen,
            virtual_ms: 0,
            size,
        }
    }

    fn look(&mut self) {
        let (now, number) = (Instant::now(), self.number);
        let counts = Counts::now();
        if counts.moved(self.happened.1) {
            self.happened = (now, counts);
        }
        let lately = progress::place(std::mem::replace(&mut self.seen, counts));
        if lately.virtual_ms != self.virtual_ms {
            self.virtual_ms = lately.virtual_ms;
            self.moved = now;
        }
        if now - self.moved >= self.limits.stall || now - self.started >= self.limits.total {
            let keep = last_words().take();
            keep.into_iter().for_each(|keep| keep());
            let mut place = progress::place(self.happened.1);
            // A load that is merely large makes things happen all the time.
            place.in_pool &= now - self.happened.0 >= self.limits.stall / 2;
            say(&Answer::<()>::Stalled { number, place });
            std::process::exit(STALLED);
        }
        // Who takes much memory at a time may have none left before the next look.
        let size = if self.limits.memory.is_some() { address_space() } else { 0 };
        let grown = self.limits.memory.is_some_and(|limit| size.saturating_sub(self.size) >= limit / 32);
        if grown || now - self.said >= ALIVE_EVERY {
            (self.said, self.size) = (now, size);
            say(&Answer::<()>::Alive { number, place: lately });
        }
    }
}

/// Bytes of address space that this process has; 0 where that can't be seen.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    size.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib.saturating_mul(1024))
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
