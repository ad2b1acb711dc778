//! Takes the events of a run as they happen, stamps them, and hands them to those who judge, count and write.
//!
//! One run, one recorder; its clones are handles to the same trace. Nothing is kept of an event once those who need it
//! have seen it, unless [`Options::keep`] or [`Options::out`] ask for more, so a long run needs no more memory than a
//! short one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::clock;
use poolproof_sim::postgres::event::{Observer, Pid, ServerEvent};
use tokio::time::Instant;

use super::event::{ActorId, ConnId, Event, JobId, PoolId, ProcessId, What};
use super::figures::Figures;
use super::json;
use super::pace::Pace;
use super::story::Story;
use super::view::View;
use crate::invariant::judge::Kind;
use crate::invariant::{self, Jury, Terms, Violations};
use crate::pool::{Caller, Capabilities};
use crate::scenario::model::Scenario;
use crate::worker::progress;

/// What a recorder does beside numbering.
#[derive(Default)]
pub struct Options {
    /// Judge the run and collect its figures and its story. [`Watch::new`] makes it.
    pub watch: Option<Watch>,
    /// Where the full trace is written, one JSON object a line.
    pub out: Option<Box<dyn io::Write + Send>>,
    /// Keep every event in memory, for tests: see [`Recorder::events`].
    pub keep: bool,
}

/// Those who see every event: the view, the judges, the figures and the story.
pub struct Watch {
    view: View,
    jury: Jury,
    figures: Figures,
    story: Story,
}

impl Watch {
    /// For a run of this scenario with a pool that can do this.
    #[must_use]
    pub fn new(scenario: &Scenario, capabilities: Capabilities) -> Watch {
        Watch {
            view: View::new(scenario),
            jury: invariant::jury(&Terms::new(scenario, capabilities)),
            figures: Figures::telling(Pace::told_if(tells_pace(scenario))),
            story: Story::default(),
        }
    }

    fn take(&mut self, event: &Event) {
        let kind = Kind::of(&event.what);
        self.jury.before(kind, event, &self.view);
        self.view.apply(event.at, &event.what);
        self.jury.after(kind, event, &self.view);
        // Most events are these, and neither counts nor tells them.
        let plain = matches!(
            kind,
            Kind::State | Kind::Statement | Kind::StatementEnd | Kind::SqlStart | Kind::Released | Kind::Commit
        );
        if !plain {
            self.figures.take(event, &self.view);
        }
        if !plain || self.story.lags(self.jury.violations()) {
            self.story.take(event, &self.view, self.jury.violations());
        }
        self.figures.events = event.seq;
    }
}

/// Whether the scenario is about how much gets done over time.
fn tells_pace(scenario: &Scenario) -> bool {
    scenario.expect.figures.keys().any(|name| name.starts_with("done_a_minute."))
}

/// What a recorder has to say at the end of a run.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The world at the end.
    pub view: View,
    /// What was found.
    pub violations: Violations,
    /// What was measured.
    pub figures: Figures,
    /// What is told.
    pub story: Story,
}

/// A handle to the run's trace. Cheap to clone; all clones are one trace.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    actors: AtomicU32,
    threads: AtomicU32,
    conns: AtomicU32,
    pools: AtomicU32,
    processes: AtomicU32,
    jobs: AtomicU32,
    gives_up: AtomicBool,
    state: Mutex<State>,
}

struct State {
    seq: u64,
    by_pid: IntMap<Pid, ConnId>,
    servers: Vec<Arc<str>>,
    kept: Option<Vec<Event>>,
    watch: Option<Box<Watch>>,
    out: Option<Box<dyn io::Write + Send>>,
    failed: Option<io::Error>,
    over: bool,
}

impl Recorder {
    /// Starts the trace of a run: now is its time zero. Call it inside the run's runtime, whose clock it reads.
    #[must_use]
    pub fn new(options: Options) -> Recorder {
        Recorder {
            shared: Arc::new(Shared {
                start: clock::now(),
                actors: AtomicU32::new(0),
                threads: AtomicU32::new(0),
                conns: AtomicU32::new(0),
                pools: AtomicU32::new(0),
                processes: AtomicU32::new(0),
                jobs: AtomicU32::new(0),
                gives_up: AtomicBool::new(false),
                state: Mutex::new(State {
                    seq: 0,
                    by_pid: HashMap::default(),
                    servers: Vec::new(),
                    kept: options.keep.then(Vec::new),
                    watch: options.watch.map(Box::new),
                    out: options.out,
                    failed: None,
                    over: false,
                }),
            }),
        }
    }

    /// A recorder that keeps every event and judges nothing: for tests of what records.
    #[must_use]
    pub fn keeping() -> Recorder {
        Recorder::new(Options { keep: true, ..Options::default() })
    }

    /// Records that this happened now.
    pub fn record(&self, what: What) {
        let at = self.now();
        // For the watchdog of a worker: virtual time moves.
        progress::at(at);
        match &what {
            What::AcquireStart { .. } => progress::acquires(1),
            What::AcquireEnd { .. } => progress::acquires(-1),
            _ => {}
        }
        let mut state = self.shared.state.lock();
        state.take(at, what);
    }

    /// Virtual time since the start of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        clock::since(self.shared.start)
    }

    /// A number for a new actor, from 1.
    #[must_use]
    pub fn next_actor(&self) -> ActorId {
        ActorId(self.shared.actors.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A number for a new thread of an application, from 1.
    #[must_use]
    pub fn next_thread(&self) -> Caller {
        Caller(self.shared.threads.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A number for a new dial, from 1.
    #[must_use]
    pub fn next_conn(&self) -> ConnId {
        ConnId(self.shared.conns.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A number for a new pool, from 1.
    #[must_use]
    pub fn next_pool(&self) -> PoolId {
        PoolId(self.shared.pools.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A number for a new process, from 1.
    #[must_use]
    pub fn next_process(&self) -> ProcessId {
        ProcessId(self.shared.processes.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A number for a new job, from 1.
    #[must_use]
    pub fn next_job(&self) -> JobId {
        JobId(self.shared.jobs.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Healing is over: an acquire that is dropped from now on was not cancelled by the scenario.
    pub(crate) fn give_up(&self) {
        self.shared.gives_up.store(true, Ordering::Relaxed);
    }

    /// Whether healing is over.
    pub(crate) fn gives_up(&self) -> bool {
        self.shared.gives_up.load(Ordering::Relaxed)
    }

    /// The connection that this backend serves, from [`What::Connected`] on (also when it has ended since).
    #[must_use]
    pub fn conn_of(&self, pid: Pid) -> Option<ConnId> {
        self.shared.state.lock().by_pid.get(&pid).copied()
    }

    /// Ends the trace: what is recorded later is not heard (tasks that end with their runtime may still record). `None`
    /// when nothing was watched.
    ///
    /// # Errors
    /// What the writer of the full trace reported first.
    pub fn finish(&self) -> io::Result<Option<Finished>> {
        let mut state = self.shared.state.lock();
        state.over = true;
        if let Some(mut out) = state.out.take()
            && let Err(error) = out.flush()
        {
            state.failed.get_or_insert(error);
        }
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let Some(watch) = state.watch.take() else {
            return Ok(None);
        };
        let Watch { view, mut jury, mut figures, story } = *watch;
        jury.finish(&view);
        figures.finish(&view);
        Ok(Some(Finished { violations: jury.violations().clone(), view, figures, story }))
    }

    /// Looks at the world as the events so far tell it; `None` when nothing is watched. `look` may not record.
    pub fn look<T>(&self, look: impl FnOnce(&View) -> T) -> Option<T> {
        self.shared.state.lock().watch.as_ref().map(|watch| look(&watch.view))
    }

    /// The violations found so far.
    #[must_use]
    pub fn violations(&self) -> Violations {
        self.shared.state.lock().watch.as_ref().map(|watch| watch.jury.violations().clone()).unwrap_or_default()
    }

    /// Takes the events so far out of the trace, if they are kept.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        self.shared.state.lock().kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The events so far, if they are kept; none otherwise.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.shared.state.lock().kept.clone().unwrap_or_default()
    }
}

impl State {
    /// Inlined, so that an event is built where it is judged, and not moved there.
    #[inline]
    fn take(&mut self, at: Duration, what: What) {
        if self.over {
            return;
        }
        self.seq += 1;
        let event = Event { at, seq: self.seq, what };
        if let What::Connected { conn, pid } = event.what {
            self.by_pid.insert(pid, conn);
        }
        if let Some(watch) = &mut self.watch {
            watch.take(&event);
        }
        if let Some(out) = &mut self.out
            && let Err(error) = json::write_line(&mut **out, &event)
        {
            self.failed = Some(error);
            self.out = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(event);
        }
    }

    /// The server's name, shared: there are one or two of them.
    fn server(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.servers.iter().find(|known| &***known == name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(name);
        self.servers.push(Arc::clone(&new));
        new
    }
}

impl Observer for Recorder {
    fn server_event(&self, server: &str, event: ServerEvent) {
        let at = self.now();
        let mut state = self.shared.state.lock();
        let server = state.server(server);
        state.take(at, What::Server { server, event });
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// Hashes one integer by a multiplication. Maps with it are never iterated, so its order is never seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IntHasher(u64);

impl Hasher for IntHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_i32(&mut self, value: i32) {
        self.write_u64(u64::from(value.cast_unsigned()));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing: the odd number nearest to 2^64 divided by the golden ratio; the map uses the top bits too.
        self.0 = value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// A map keyed by a number.
pub(crate) type IntMap<K, V> = HashMap<K, V, BuildHasherDefault<IntHasher>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::event::Phase;

    #[tokio::test(start_paused = true)]
    async fn events_are_numbered_and_carry_virtual_time() {
        let recorder = Recorder::keeping();
        recorder.record(What::Phase(Phase::Fault));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        recorder.clone().record(What::Phase(Phase::Healing));
        let events = recorder.events();
        assert_eq!(events.len(), 2);
        assert_eq!((events[0].seq, events[0].at), (1, Duration::ZERO));
        assert_eq!((events[1].seq, events[1].at), (2, Duration::from_millis(1500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_is_found_by_its_pid() {
        let recorder = Recorder::keeping();
        let conn = recorder.next_conn();
        let pool = recorder.next_pool();
        recorder.record(What::Dial { conn, pool });
        assert_eq!(recorder.conn_of(4711), None);
        recorder.record(What::Connected { conn, pid: 4711 });
        assert_eq!(recorder.conn_of(4711), Some(conn));
        assert_eq!(recorder.next_conn(), ConnId(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_run_ends_with_what_was_found_and_a_full_trace() {
        use crate::invariant::testing::{ABLE, scenario};

        #[derive(Clone, Default)]
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let out = Shared::default();
        let recorder = Recorder::new(Options {
            watch: Some(Watch::new(&scenario(), ABLE)),
            out: Some(Box::new(out.clone())),
            keep: false,
        });
        recorder.record(What::Phase(Phase::Fault));
        recorder.record(What::TaskPanicked { message: "index out of bounds".into() });
        assert_eq!(recorder.look(|view| view.phase), Some(Phase::Fault));
        let finished = recorder.finish().expect("memory takes everything").expect("it was watched");
        assert_eq!(finished.violations.counts()["no-panic"], 1);
        assert_eq!(finished.figures.events, 2);
        // What comes late is not heard.
        recorder.record(What::Phase(Phase::End));
        let text = String::from_utf8(out.0.lock().clone()).expect("JSON is UTF-8");
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("{\"at\":\"0.000\",\"seq\":1,\"event\":\"phase\",\"phase\":\"fault\"}\n"));
    }

    #[test]
    fn handles_cross_threads() {
        fn is<T: Send + Sync + Clone>() {}
        is::<Recorder>();
    }

    /// Not a test of speed that can fail, since machines differ; it prints what an event costs:
    /// `cargo test -p poolproof --lib cost_of_an_event -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints a measurement"]
    #[expect(clippy::print_stdout, reason = "a measurement")]
    fn cost_of_an_event() {
        use crate::invariant::testing::{ABLE, scenario, session};
        use crate::trace::event::{Acquired, ActorEnd, SqlResult};
        use poolproof_sim::postgres::event::{BackendState, Lifecycle};

        let mut watch = Watch::new(&scenario(), ABLE);
        let (pool, conn, process, pid) = (PoolId(1), ConnId(1), ProcessId(1), 1);
        let (text, workload, server): (Arc<str>, Arc<str>, Arc<str>) = ("SELECT 1".into(), "w".into(), "db".into());
        let mut seq = 0;
        let mut take = |at: Duration, what: What| {
            seq += 1;
            watch.take(&Event { at, seq, what });
        };
        let on = |event| What::Server { server: Arc::clone(&server), event };
        let zero = Duration::ZERO;
        take(zero, on(ServerEvent::Lifecycle(Lifecycle::Running)));
        take(zero, What::ProcessStart { process, app: "web".into(), seat: 0 });
        take(zero, What::PoolBuilt { pool, process, max_size: 2, own: false });
        take(zero, What::AcquireStart { actor: ActorId(1), pool });
        take(zero, What::Dial { conn, pool });
        take(zero, on(ServerEvent::Forked { pid, peer: "10.0.0.1:1".parse().expect("an address") }));
        take(zero, on(ServerEvent::State { pid, state: BackendState::Idle }));
        take(zero, What::Connected { conn, pid });
        take(zero, What::AcquireEnd { actor: ActorId(1), pool, result: Acquired::Cancelled });
        take(zero, What::ActorEnd { actor: ActorId(1), end: ActorEnd::Done });
        let rounds = 300_000_u32;
        let start = std::time::Instant::now();
        for n in 0..rounds {
            let at = Duration::from_millis(u64::from(n));
            let actor = ActorId(n + 2);
            take(at, What::ActorStart { actor, workload: Arc::clone(&workload), process });
            take(at, What::AcquireStart { actor, pool });
            let session = Some(session(BackendState::Idle));
            take(at, What::AcquireEnd { actor, pool, result: Acquired::Lease { conn, pid, session, unread: 0 } });
            take(at, What::SqlStart { actor, conn, text: Arc::clone(&text) });
            take(at, on(ServerEvent::State { pid, state: BackendState::Active }));
            take(at, on(ServerEvent::Statement { pid, text: Arc::clone(&text) }));
            take(at, on(ServerEvent::StatementEnd { pid, result: Ok(Arc::clone(&text)) }));
            take(at, on(ServerEvent::State { pid, state: BackendState::Idle }));
            take(at, What::SqlEnd { actor, conn, result: SqlResult::Ok });
            take(at, What::Released { actor, conn });
            take(at, What::ActorEnd { actor, end: ActorEnd::Done });
        }
        let each = start.elapsed() / rounds;
        println!("a query's 11 events: {each:?}, an event: {:?}", each / 11);
        assert!(watch.jury.violations().is_empty());
    }
}
