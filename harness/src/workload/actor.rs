//! What an actor does at each step, and what of it goes into the trace.
//!
//! Every start in the trace gets its end, however the actor ends: an acquire or a statement whose future is dropped ends as
//! cancelled. A lease that is dropped is recorded in the same poll, just before the drop, so that nobody sees the pool
//! use a connection that is still leased. Nothing is released by a process that was killed: its memory is gone.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand_chacha::ChaCha8Rng;
use tokio_postgres::error::Severity;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::cancel::{Counted, Outcome, cancel_at};
use super::jobs::Held;
use super::panics::{self, PLANNED_PANIC};
use super::process::ProcessContext;
use super::program::{Code, Effect, Op, Program, Template, Values};
use super::random;
use super::session::InSession;
use super::slot::{AbandonTimer, Kill};
use super::traffic::{Arrived, Shared};
use crate::census;
use crate::interleave::Yields;
use crate::pool::connector::identify;
use crate::pool::error::describe;
use crate::pool::{Caller, Capabilities, Detached, Lease, Pool, PoolError, PoolErrorKind};
use crate::scenario::model::OnError;
use crate::trace::event::{Acquired, ActorEnd, ActorId, ConnId, PoolId, SqlResult};
use crate::trace::{Recorder, What};
use crate::worker::progress::{self, InPool};

/// A step failed: what went wrong is in the trace.
pub(super) struct Failed;

pub(super) type StepResult = Result<(), Failed>;

/// How a statement is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// By the simple query protocol.
    Simple,
    /// The same, and the rows of the answer are counted.
    Rows,
    /// Prepared, by the extended protocol.
    Prepared,
}

/// What a statement failed with.
pub(super) struct Refusal {
    /// The driver's text, with the server's.
    pub(super) message: String,
}

/// An actor that runs.
pub(super) struct Actor {
    pub(super) id: ActorId,
    /// Its number in its workload, from 1.
    number: u64,
    program: Arc<Program>,
    pub(super) process: Arc<ProcessContext>,
    pub(super) traffic: Arc<Shared>,
    /// The worker that it is the task of.
    pub(super) thread: Option<Caller>,
    abandon: Option<AbandonTimer>,
    /// Where it gives way to others, if the scenario varies their order.
    yields: Option<Yields>,
    /// Made when it is first drawn from.
    rng: Option<Box<ChaCha8Rng>>,
    pub(super) grip: Option<Grip>,
    pub(super) own_pool: Option<(PoolId, Arc<dyn Pool>)>,
    /// Whether it is in a transaction, as far as it knows.
    pub(super) in_transaction: bool,
    /// Whether it works in its thread's session.
    pub(super) session: Option<InSession>,
    /// Its job.
    pub(super) held: Option<Held>,
    /// Actors that it spawned, with their programs.
    pub(super) spawned: Vec<(usize, Arc<dyn Kill>)>,
}

/// A connection that the actor holds.
pub(super) struct Grip {
    pub(super) conn: ConnId,
    pub(super) hold: Hold,
}

/// How it holds it.
pub(super) enum Hold {
    /// The pool's, lent.
    Lease(Box<dyn Lease>),
    /// Its own, taken out of the pool.
    Detached(Detached),
}

impl Hold {
    fn client(&mut self) -> &Client {
        match self {
            Hold::Lease(lease) => lease.client(),
            Hold::Detached(detached) => detached.client(),
        }
    }
}

impl Actor {
    /// The actor that has arrived, in its process.
    pub(super) fn new(
        arrived: Arrived,
        program: Arc<Program>,
        process: Arc<ProcessContext>,
        traffic: Arc<Shared>,
    ) -> Actor {
        let yields =
            traffic.interleave.map(|order| Yields::new(order, &format!("{} {}", program.name, arrived.number)));
        Actor {
            yields,
            id: arrived.id,
            number: arrived.number,
            program,
            process,
            traffic,
            thread: None,
            abandon: None,
            rng: None,
            grip: None,
            own_pool: None,
            in_transaction: false,
            session: None,
            held: None,
            spawned: Vec::new(),
        }
    }

    /// With the timer that ends it in the middle of a step.
    pub(super) fn with_timer(mut self, abandon: Option<AbandonTimer>) -> Actor {
        self.abandon = abandon;
        self
    }

    /// As a task of this worker, which may have a job for it.
    pub(super) fn of_worker(mut self, thread: Caller, held: Option<Held>) -> Actor {
        self.thread = Some(thread);
        self.held = held;
        self
    }

    /// Runs all steps. The actor and what it holds is gone when this is complete or dropped.
    pub(super) async fn live(mut self) -> ActorEnd {
        let program = Arc::clone(&self.program);
        let end = match self.run(&program.steps).await {
            Ok(()) => ActorEnd::Done,
            Err(Failed) => ActorEnd::Failed,
        };
        for code in &program.finally {
            // One that fails keeps none of the others from being done, and changes nothing.
            let _failed = self.step(code).await;
        }
        self.answer_for_job(&end);
        end
    }

    fn recorder(&self) -> &Recorder {
        &self.traffic.recorder
    }

    /// Draws from the actor's own stream.
    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        let (traffic, program, number) = (&self.traffic, &self.program, self.number);
        self.rng.get_or_insert_with(|| Box::new(random::stream(traffic.seed, &program.name, number)))
    }

    /// Something failed on the application's side.
    pub(super) fn raise(&self, class: &'static str, message: Arc<str>) {
        self.recorder().record(What::Raised { actor: self.id, class, message });
    }

    async fn step(&mut self, code: &Code) -> StepResult {
        if let Some(yields) = &mut self.yields {
            yields.pause().await;
        }
        match &code.cancel {
            None if code.can_wait && census::is_on() => {
                let (program, place, number) = (Arc::clone(&self.program), code.place, self.number);
                let told = move |polls, wakes| census::step(&program.name, place, number, polls, wakes);
                Counted::new(Box::pin(self.perform(&code.op)), told).await
            }
            None => self.perform(&code.op).await,
            Some((cancel, text)) => {
                let number = self.number;
                match cancel_at(*cancel, number, Box::pin(self.perform(&code.op))).await {
                    Outcome::Done(result) => result,
                    Outcome::Cancelled => {
                        let step = Arc::clone(text);
                        self.recorder().record(What::StepCancelled { actor: self.id, step });
                        Ok(())
                    }
                }
            }
        }
    }

    async fn run(&mut self, steps: &[Code]) -> StepResult {
        for code in steps {
            if self.step(code).await.is_err() {
                if let Some(held) = &mut self.held {
                    held.failed = true;
                }
                match self.program.on_error {
                    OnError::Continue => {}
                    OnError::Stop => return Err(Failed),
                    OnError::Rollback => {
                        self.roll_back().await;
                        return Err(Failed);
                    }
                }
            }
        }
        Ok(())
    }

    /// [`Actor::run`] inside a step, so many times: boxed, since steps nest.
    fn repeat<'a>(
        &'a mut self,
        times: u32,
        steps: &'a [Code],
    ) -> Pin<Box<dyn Future<Output = StepResult> + Send + 'a>> {
        Box::pin(async move {
            for _ in 0..times {
                self.run(steps).await?;
            }
            Ok(())
        })
    }

    /// A text with the actor's own values in it.
    fn fill(&self, text: &Template) -> Arc<str> {
        let payload = self.held.as_ref().map_or("", |held| &held.job.payload);
        text.fill(Values { actor: self.id.0, process: self.process.id.0, number: self.number, payload })
    }

    async fn perform(&mut self, op: &Op) -> StepResult {
        if let Some(turn) = &self.process.turn {
            // Nobody does anything while the thread is blocked.
            drop(turn.of(self.id, &self.traffic.recorder).await);
        }
        match op {
            Op::Acquire { deadline } => self.acquire(*deadline).await,
            Op::Sql { text, prepared, effect } => {
                let how = if *prepared { How::Prepared } else { How::Simple };
                self.ask_anywhere(self.fill(text), how, *effect).await
            }
            Op::ExpectRow { text } => self.ask_anywhere(self.fill(text), How::Rows, Effect::Keeps).await,
            Op::Flush { text } => self.flush(self.fill(text)).await,
            Op::Session => self.enter_session(),
            Op::RemoveSession => self.remove_session().await,
            Op::Lose => self.lose(),
            Op::LosePool => self.lose_pool(),
            Op::Collect => {
                self.collect().await;
                Ok(())
            }
            Op::Allocate { min, max } => {
                self.allocate(*min, *max).await;
                Ok(())
            }
            Op::Put { queue, after, payload } => {
                let payload = self.fill(payload);
                self.put(*queue, *after, payload);
                Ok(())
            }
            Op::Take { queue } => self.take(*queue).await,
            Op::Done { queue } => self.job_done(*queue),
            Op::Join { queue } => {
                self.join(*queue).await;
                Ok(())
            }
            Op::While { queue, steps } => {
                while self.has_jobs(*queue) {
                    self.repeat(1, steps).await?;
                }
                Ok(())
            }
            Op::Kill { program } => {
                self.kill_spawned(*program);
                Ok(())
            }
            Op::DisposePool => self.dispose_pool().await,
            Op::Hold { min, max } => {
                self.hold(*min, *max).await;
                Ok(())
            }
            Op::Release => {
                let held = self.grip.is_some();
                self.give_back().await;
                if held { Ok(()) } else { Err(Failed) }
            }
            Op::Leak => self.leak(),
            Op::Abandon { after } => {
                let timer = self.abandon.as_ref().expect("made for every program that has this step");
                *timer.lock() = Some(Box::pin(tokio::time::sleep(*after)));
                Ok(())
            }
            Op::Panic => panic!("{PLANNED_PANIC}"),
            Op::Detach => self.detach(),
            Op::Invalidate => self.invalidate().await,
            Op::ClosePool => self.close_pool().await,
            Op::NewPool => self.new_pool().await,
            Op::DropPool => {
                self.drop_own_pool();
                Ok(())
            }
            Op::Resize(max_size) => {
                if !self.can().resize {
                    return Err(Failed);
                }
                let (id, pool) = self.pool().ok_or(Failed)?;
                self.recorder().record(What::PoolResized { pool: id, max_size: *max_size });
                let _pools = progress::pools();
                pool.resize(*max_size);
                Ok(())
            }
            Op::Status => {
                let (id, pool) = self.pool().ok_or(Failed)?;
                let status = {
                    let _pools = progress::pools();
                    pool.status()
                };
                if let Some(status) = status {
                    self.recorder().record(What::PoolStatus { pool: id, status });
                }
                Ok(())
            }
            Op::Spawn { program, wait } => {
                let Some(spawned) = Shared::spawn(&self.traffic, *program, Some(&self.process)) else { return Ok(()) };
                self.spawned.extend(spawned.slot.map(|slot| (*program, slot)));
                if *wait {
                    // An error is an end too: the actor's task is gone.
                    let _ended = spawned.end.await;
                }
                Ok(())
            }
            Op::Repeat { times, steps } => self.repeat(*times, steps).await,
        }
    }

    /// What the pool can do. A scenario that needs more is not run with it (see [`super::needs`]).
    fn can(&self) -> Capabilities {
        self.process.adapter.capabilities()
    }

    /// The pool that the actor uses: its own, or its process's.
    fn pool(&self) -> Option<(PoolId, Arc<dyn Pool>)> {
        self.own_pool.clone().or_else(|| self.process.shared_pool())
    }

    pub(super) async fn acquire(&mut self, deadline: Option<Duration>) -> StepResult {
        if self.grip.is_some() {
            return Err(Failed);
        }
        let (pool_id, pool) = self.pool().ok_or(Failed)?;
        if self.hangs_in_acquire(&*pool).await {
            let _open = OpenAcquire::start(self.recorder(), self.id, pool_id);
            self.recorder().record(What::Deadlocked { actor: self.id, pool: pool_id });
            std::future::pending::<()>().await;
        }
        let grip = take_lease(self.recorder(), &self.process, self.id, pool_id, &*pool, deadline).await?;
        self.in_transaction = false;
        self.grip = Some(grip);
        Ok(())
    }

    /// Sends a statement, in the session if the actor works in one.
    async fn ask_anywhere(&mut self, text: Arc<str>, how: How, effect: Effect) -> StepResult {
        match self.session {
            Some(_) => self.in_session(text, how, effect).await,
            None => self.ask(text, how, effect).await,
        }
    }

    /// Sends a statement on the lease, and looks at its rows if they matter.
    pub(super) async fn ask(&mut self, text: Arc<str>, how: How, effect: Effect) -> StepResult {
        let rows = self.send(text, how, effect).await.map_err(|_| Failed)?;
        match (how, rows) {
            (How::Rows, 0) => {
                self.raise("NoResultFound", "No row was found when one was required".into());
                Err(Failed)
            }
            (How::Rows, 2..) => {
                self.raise("MultipleResultsFound", "Multiple rows were found when exactly one was required".into());
                Err(Failed)
            }
            _ => Ok(()),
        }
    }

    /// Sends a statement on the lease. Gives the number of rows where they are counted.
    pub(super) async fn send(&mut self, text: Arc<str>, how: How, effect: Effect) -> Result<usize, Refusal> {
        let process = Arc::clone(&self.process);
        let _turn = match &process.turn {
            Some(turn) => Some(turn.of(self.id, &self.traffic.recorder).await),
            None => None,
        };
        let Some(Grip { conn, hold }) = &mut self.grip else {
            return Err(Refusal { message: "no lease".to_owned() });
        };
        let mut open = OpenStatement::start(&self.traffic.recorder, self.id, *conn, &text);
        let client = hold.client();
        // `batch_execute` sends the same Query message as `simple_query`, and keeps no rows.
        let answer = match how {
            How::Prepared => client.query(&*text, &[]).await.map(|rows| rows.len()),
            How::Simple => client.batch_execute(&text).await.map(|()| 0),
            How::Rows => client.simple_query(&text).await.map(|messages| {
                messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count()
            }),
        };
        let result = match &answer {
            Ok(_) => SqlResult::Ok,
            Err(error) => {
                if let Hold::Lease(lease) = hold {
                    lease.failed(error);
                }
                match error.code() {
                    Some(code) => SqlResult::Error(code.code().to_owned()),
                    None => SqlResult::Broken(error.to_string()),
                }
            }
        };
        let ok = result == SqlResult::Ok;
        open.end(result);
        drop(open);
        // A COMMIT that fails may not have come to its end: the transaction is then still open, and failed. A session that has
        // ended is in none.
        let goes_on = answer.as_ref().err().and_then(tokio_postgres::Error::as_db_error);
        let goes_on = goes_on.is_some_and(|error| error.parsed_severity() == Some(Severity::Error));
        match effect {
            Effect::Begins if ok => self.in_transaction = true,
            Effect::Ends if !goes_on => self.in_transaction = false,
            _ => {}
        }
        answer.map_err(|error| Refusal { message: describe(&error) })
    }

    /// What `OnError::Rollback` says. Its own failure changes nothing: the actor ends anyway.
    pub(super) async fn roll_back(&mut self) {
        if self.grip.is_some() && std::mem::take(&mut self.in_transaction) {
            let _failed = self.send(Arc::clone(&self.traffic.rollback), How::Simple, Effect::Ends).await;
        }
    }

    async fn hold(&mut self, min: Duration, max: Duration) {
        let time = if min == max { min } else { random::uniform(self.rng(), min, max) };
        if time.is_zero() {
            // Nothing, but as an await: a loop of nothing must not keep the thread.
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(time).await;
        }
    }

    /// Returns the lease as the pool wants it, or drops the detached connection.
    pub(super) async fn give_back(&mut self) {
        match self.grip.take() {
            None => {}
            Some(Grip { conn, hold: Hold::Lease(lease) }) => {
                self.in_transaction = false;
                self.recorder().record(What::Released { actor: self.id, conn });
                InPool::new(|| lease.give_back()).await;
            }
            detached => {
                self.grip = detached;
                self.let_go();
            }
        }
    }

    /// Drops the lease or the detached connection.
    fn let_go(&mut self) {
        let Some(Grip { conn, hold }) = self.grip.take() else {
            return;
        };
        self.in_transaction = false;
        if !self.process.is_killed() {
            self.recorder().record(match &hold {
                Hold::Lease(_) => What::Released { actor: self.id, conn },
                Hold::Detached(_) => What::DetachedDropped { conn },
            });
        }
        let _pools = progress::pools();
        drop(hold);
    }

    fn leak(&mut self) -> StepResult {
        match self.grip.take() {
            Some(Grip { conn, hold: Hold::Lease(lease) }) => {
                self.recorder().record(What::Leaked { actor: self.id, conn });
                self.process.leak(lease);
                Ok(())
            }
            other => {
                self.grip = other;
                Err(Failed)
            }
        }
    }

    fn detach(&mut self) -> StepResult {
        if !self.can().detach {
            return Err(Failed);
        }
        match self.grip.take() {
            Some(Grip { conn, hold: Hold::Lease(lease) }) => {
                self.recorder().record(What::Detached { actor: self.id, conn });
                match lease.detach() {
                    Some(detached) => {
                        self.grip = Some(Grip { conn, hold: Hold::Detached(detached) });
                        Ok(())
                    }
                    None => {
                        // The pool can't: whatever it did with the connection, the actor has it no longer.
                        self.recorder().record(What::DetachedDropped { conn });
                        Err(Failed)
                    }
                }
            }
            other => {
                self.grip = other;
                Err(Failed)
            }
        }
    }

    async fn invalidate(&mut self) -> StepResult {
        if !self.can().invalidate {
            return Err(Failed);
        }
        match self.grip.take() {
            Some(Grip { conn, hold: Hold::Lease(lease) }) => {
                self.in_transaction = false;
                self.recorder().record(What::Invalidated { actor: self.id, conn });
                lease.invalidate().await;
                Ok(())
            }
            other => {
                self.grip = other;
                Err(Failed)
            }
        }
    }

    async fn close_pool(&mut self) -> StepResult {
        if !self.can().close {
            return Err(Failed);
        }
        let (id, pool) = self.pool().ok_or(Failed)?;
        let mut open = OpenClose::start(self.recorder(), id);
        InPool::new(|| pool.close()).await;
        open.end();
        Ok(())
    }

    async fn dispose_pool(&mut self) -> StepResult {
        if !self.can().dispose {
            return Err(Failed);
        }
        let (id, pool) = self.pool().ok_or(Failed)?;
        self.recorder().record(What::PoolDisposed { pool: id });
        InPool::new(|| pool.dispose()).await;
        Ok(())
    }

    async fn new_pool(&mut self) -> StepResult {
        let process = Arc::clone(&self.process);
        let id = self.recorder().next_pool();
        let connector = (process.connector_for)(id);
        // Before it is there: a pool with `min_idle` dials while it is built.
        let max_size = process.settings.max_size;
        self.recorder().record(What::PoolBuilt { pool: id, process: process.id, max_size, own: true });
        let built = InPool::new(|| process.adapter.build(&process.settings, connector)).await;
        match built {
            Ok(pool) => {
                self.drop_own_pool();
                self.own_pool = Some((id, pool));
                Ok(())
            }
            Err(error) => {
                let message = error.message.into();
                self.recorder().record(What::PoolFailed { pool: id, process: process.id, message });
                Err(Failed)
            }
        }
    }

    fn drop_own_pool(&mut self) {
        if let Some((pool, handle)) = self.own_pool.take() {
            if !self.process.is_killed() {
                self.recorder().record(What::PoolDropped { pool });
            }
            let _pools = progress::pools();
            drop(handle);
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.leave_session();
        self.let_go();
        self.drop_own_pool();
        self.leave_job();
    }
}

/// Takes a lease from a pool, for an actor of a process.
async fn take_lease(
    recorder: &Recorder,
    process: &ProcessContext,
    actor: ActorId,
    pool_id: PoolId,
    pool: &dyn Pool,
    deadline: Option<Duration>,
) -> Result<Grip, Failed> {
    let mut open = OpenAcquire::start(recorder, actor, pool_id);
    let attempt = AssertUnwindSafe(async { InPool::new(|| pool.acquire()).await }).catch_unwind();
    let outcome = match deadline {
        None => Some(attempt.await),
        Some(deadline) => tokio::time::timeout(deadline, attempt).await.ok(),
    };
    let failure = match outcome {
        Some(Ok(Ok(lease))) => {
            let mut hold = Hold::Lease(lease);
            let pid = identify(hold.client());
            if let Some(conn) = recorder.conn_of(pid) {
                let hooks = &process.hooks;
                let (session, unread) = ((hooks.session)(pid), (hooks.unread)(pid));
                open.end(Acquired::Lease { conn, pid, session, unread });
                return Ok(Grip { conn, hold });
            }
            // Not one of the connector's: nothing that it does could be judged.
            let message = "the pool handed out a client that its connector did not open".into();
            Acquired::Error { kind: PoolErrorKind::Other, message }
        }
        Some(Ok(Err(PoolError { kind, message }))) => Acquired::Error { kind, message: message.into() },
        Some(Err(panic)) => Acquired::Panicked(panics::message(panic.as_ref())),
        None => Acquired::Deadline,
    };
    open.end(failure);
    Err(Failed)
}

/// An actor of the harness's own, and a thread of its own: it asks for one lease, and keeps it until it is dropped. It does
/// not count as traffic.
pub struct Probe {
    thread: Caller,
    recorder: Recorder,
    process: Arc<ProcessContext>,
    actor: ActorId,
    grip: Option<Grip>,
    end: ActorEnd,
}

impl Probe {
    /// The probe arrives.
    #[must_use]
    pub fn new(recorder: Recorder, process: Arc<ProcessContext>) -> Probe {
        let (actor, thread) = (recorder.next_actor(), recorder.next_thread());
        let workload = Arc::from("capacity");
        recorder.record(What::ActorStart { actor, workload, process: process.id });
        Probe { thread, recorder, process, actor, grip: None, end: ActorEnd::GivenUp }
    }

    /// Asks for a lease. Returns whether it got one; dropped before, it was given up while it waited.
    pub async fn acquire(&mut self, pool_id: PoolId, pool: &dyn Pool) -> bool {
        let taking = take_lease(&self.recorder, &self.process, self.actor, pool_id, pool, None);
        let result = self.thread.scope(taking).await;
        self.grip = result.ok();
        self.end = if self.grip.is_some() { ActorEnd::Done } else { ActorEnd::Failed };
        self.grip.is_some()
    }

    /// Whether it has a lease.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.grip.is_some()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(Grip { conn, hold }) = self.grip.take() {
            self.recorder.record(What::Released { actor: self.actor, conn });
            let _calls = self.thread.enter();
            let _pools = progress::pools();
            drop(hold);
        }
        self.recorder.record(What::ActorEnd { actor: self.actor, end: self.end.clone() });
    }
}

/// An acquire under way. Dropped before its end, it was cancelled; after healing's end it was given up.
struct OpenAcquire<'a> {
    recorder: &'a Recorder,
    actor: ActorId,
    pool: PoolId,
    ended: bool,
}

impl OpenAcquire<'_> {
    fn start(recorder: &Recorder, actor: ActorId, pool: PoolId) -> OpenAcquire<'_> {
        recorder.record(What::AcquireStart { actor, pool });
        OpenAcquire { recorder, actor, pool, ended: false }
    }

    fn end(&mut self, result: Acquired) {
        self.ended = true;
        self.recorder.record(What::AcquireEnd { actor: self.actor, pool: self.pool, result });
    }
}

impl Drop for OpenAcquire<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let given_up = self.recorder.gives_up();
            self.end(if given_up { Acquired::GivenUp } else { Acquired::Cancelled });
        }
    }
}

/// A close under way. Dropped before its end, nobody waits for it any more; after healing's end it goes on, as far as its
/// judge is concerned.
struct OpenClose<'a> {
    recorder: &'a Recorder,
    pool: PoolId,
    ended: bool,
}

impl OpenClose<'_> {
    fn start(recorder: &Recorder, pool: PoolId) -> OpenClose<'_> {
        recorder.record(What::PoolClosing { pool });
        OpenClose { recorder, pool, ended: false }
    }

    fn end(&mut self) {
        self.ended = true;
        self.recorder.record(What::PoolClosed { pool: self.pool });
    }
}

impl Drop for OpenClose<'_> {
    fn drop(&mut self) {
        if !self.ended && !self.recorder.gives_up() {
            self.recorder.record(What::PoolCloseCancelled { pool: self.pool });
        }
    }
}

/// A statement under way. Dropped before its end, the actor gave up on it.
struct OpenStatement<'a> {
    recorder: &'a Recorder,
    actor: ActorId,
    conn: ConnId,
    ended: bool,
}

impl OpenStatement<'_> {
    fn start<'a>(recorder: &'a Recorder, actor: ActorId, conn: ConnId, text: &Arc<str>) -> OpenStatement<'a> {
        recorder.record(What::SqlStart { actor, conn, text: Arc::clone(text) });
        OpenStatement { recorder, actor, conn, ended: false }
    }

    fn end(&mut self, result: SqlResult) {
        self.ended = true;
        self.recorder.record(What::SqlEnd { actor: self.actor, conn: self.conn, result });
    }
}

impl Drop for OpenStatement<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(SqlResult::Cancelled);
        }
    }
}
