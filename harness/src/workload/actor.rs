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
use tokio_postgres::Client;

use super::cancel::{Outcome, cancel_at};
use super::panics::{self, PLANNED_PANIC};
use super::process::ProcessContext;
use super::program::{Code, Effect, Op, Program, Values};
use super::random;
use super::slot::AbandonTimer;
use super::traffic::Shared;
use crate::pool::connector::identify;
use crate::pool::{Caller, Capabilities, Detached, Lease, Pool, PoolError, PoolErrorKind};
use crate::scenario::model::OnError;
use crate::trace::event::{Acquired, ActorEnd, ActorId, ConnId, PoolId, SqlResult};
use crate::trace::{Recorder, What};

/// A step failed: what went wrong is in the trace.
pub(super) struct Failed;

type StepResult = Result<(), Failed>;

/// An actor that runs.
pub(super) struct Actor {
    id: ActorId,
    /// Its number in its workload, from 1.
    number: u64,
    program: Arc<Program>,
    process: Arc<ProcessContext>,
    traffic: Arc<Shared>,
    abandon: Option<AbandonTimer>,
    /// Made when it is first drawn from.
    rng: Option<Box<ChaCha8Rng>>,
    grip: Option<Grip>,
    own_pool: Option<(PoolId, Arc<dyn Pool>)>,
    /// Whether it is in a transaction, as far as it knows.
    in_transaction: bool,
}

/// A connection that the actor holds.
struct Grip {
    conn: ConnId,
    hold: Hold,
}

/// How it holds it.
enum Hold {
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
    pub(super) fn new(
        id: ActorId,
        number: u64,
        program: Arc<Program>,
        process: Arc<ProcessContext>,
        traffic: Arc<Shared>,
        abandon: Option<AbandonTimer>,
    ) -> Actor {
        Actor {
            id,
            number,
            program,
            process,
            traffic,
            abandon,
            rng: None,
            grip: None,
            own_pool: None,
            in_transaction: false,
        }
    }

    /// Runs all steps. The actor and what it holds is gone when this is complete or dropped.
    pub(super) async fn live(mut self) -> ActorEnd {
        let program = Arc::clone(&self.program);
        match self.run(&program.steps).await {
            Ok(()) => ActorEnd::Done,
            Err(Failed) => ActorEnd::Failed,
        }
    }

    fn recorder(&self) -> &Recorder {
        &self.traffic.recorder
    }

    async fn run(&mut self, steps: &[Code]) -> StepResult {
        for code in steps {
            let result = match &code.cancel {
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
            };
            if result.is_err() {
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

    async fn perform(&mut self, op: &Op) -> StepResult {
        match op {
            Op::Acquire { deadline } => self.acquire(*deadline).await,
            Op::Sql { text, prepared, effect } => {
                let text = text.fill(Values { actor: self.id.0, process: self.process.id.0, number: self.number });
                self.send(text, *prepared, *effect).await
            }
            Op::Hold { min, max } => {
                self.hold(*min, *max).await;
                Ok(())
            }
            Op::Release => self.release().await,
            Op::Leak => self.leak(),
            Op::Abandon { after } => {
                let timer = self.abandon.as_ref().expect("made for every program that has this step");
                *timer.lock() = Some(Box::pin(tokio::time::sleep(*after)));
                Ok(())
            }
            Op::Panic => panic!("{PLANNED_PANIC}"),
            Op::Detach => self.detach(),
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
                pool.resize(*max_size);
                Ok(())
            }
            Op::Status => {
                let (id, pool) = self.pool().ok_or(Failed)?;
                if let Some(status) = pool.status() {
                    self.recorder().record(What::PoolStatus { pool: id, status });
                }
                Ok(())
            }
            Op::Spawn { program, wait } => {
                let end = Shared::spawn(&self.traffic, *program, Some(&self.process));
                if *wait && let Some(end) = end {
                    // An error is an end too: the actor's task is gone.
                    let _ended = end.await;
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

    async fn acquire(&mut self, deadline: Option<Duration>) -> StepResult {
        if self.grip.is_some() {
            return Err(Failed);
        }
        let (pool_id, pool) = self.pool().ok_or(Failed)?;
        let grip = take_lease(self.recorder(), &self.process, self.id, pool_id, &*pool, deadline).await?;
        self.in_transaction = false;
        self.grip = Some(grip);
        Ok(())
    }

    async fn send(&mut self, text: Arc<str>, prepared: bool, effect: Effect) -> StepResult {
        let Some(Grip { conn, hold }) = &mut self.grip else {
            return Err(Failed);
        };
        let mut open = OpenStatement::start(&self.traffic.recorder, self.id, *conn, &text);
        let client = hold.client();
        // `batch_execute` sends the same Query message as `simple_query`, and keeps no rows.
        let answer =
            if prepared { client.query(&*text, &[]).await.map(drop) } else { client.batch_execute(&text).await };
        let result = match answer {
            Ok(()) => SqlResult::Ok,
            Err(error) => {
                if let Hold::Lease(lease) = hold {
                    lease.failed(&error);
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
        match (effect, ok) {
            (Effect::Begins, true) => self.in_transaction = true,
            // A COMMIT that fails has ended the transaction as well.
            (Effect::Ends, _) => self.in_transaction = false,
            _ => {}
        }
        if ok { Ok(()) } else { Err(Failed) }
    }

    /// What `OnError::Rollback` says. Its own failure changes nothing: the actor ends anyway.
    async fn roll_back(&mut self) {
        if self.grip.is_some() && std::mem::take(&mut self.in_transaction) {
            let _failed = self.send(Arc::clone(&self.traffic.rollback), false, Effect::Ends).await;
        }
    }

    async fn hold(&mut self, min: Duration, max: Duration) {
        let time = if min == max {
            min
        } else {
            let (traffic, program, number) = (&self.traffic, &self.program, self.number);
            let rng = self.rng.get_or_insert_with(|| Box::new(random::stream(traffic.seed, &program.name, number)));
            random::uniform(&mut **rng, min, max)
        };
        if time.is_zero() {
            // Nothing, but as an await: a loop of nothing must not keep the thread.
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(time).await;
        }
    }

    /// Returns the lease as the pool wants it, or drops the detached connection.
    async fn release(&mut self) -> StepResult {
        match self.grip.take() {
            None => Err(Failed),
            Some(Grip { conn, hold: Hold::Lease(lease) }) => {
                self.in_transaction = false;
                self.recorder().record(What::Released { actor: self.id, conn });
                lease.give_back().await;
                Ok(())
            }
            detached => {
                self.grip = detached;
                self.let_go();
                Ok(())
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

    async fn close_pool(&mut self) -> StepResult {
        if !self.can().close {
            return Err(Failed);
        }
        let (id, pool) = self.pool().ok_or(Failed)?;
        self.recorder().record(What::PoolClosing { pool: id });
        pool.close().await;
        self.recorder().record(What::PoolClosed { pool: id });
        Ok(())
    }

    async fn new_pool(&mut self) -> StepResult {
        let process = Arc::clone(&self.process);
        let id = self.recorder().next_pool();
        let connector = (process.connector_for)(id);
        // Before it is there: a pool with `min_idle` dials while it is built.
        let max_size = process.settings.max_size;
        self.recorder().record(What::PoolBuilt { pool: id, process: process.id, max_size, own: true });
        let built = process.adapter.build(&process.settings, connector).await;
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
            drop(handle);
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.let_go();
        self.drop_own_pool();
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
    let attempt = AssertUnwindSafe(async { pool.acquire().await }).catch_unwind();
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
        Probe { thread, recorder, process, actor, grip: None, end: ActorEnd::Killed }
    }

    /// Asks for a lease. Returns whether it got one; dropped before, it was killed while it waited.
    pub async fn acquire(&mut self, pool_id: PoolId, pool: &dyn Pool) -> bool {
        let taking = take_lease(&self.recorder, &self.process, self.actor, pool_id, pool, None);
        let result = self.thread.scope(taking).await;
        self.grip = result.ok();
        self.end = if self.grip.is_some() { ActorEnd::Done } else { ActorEnd::Failed };
        self.grip.is_some()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(Grip { conn, hold }) = self.grip.take() {
            self.recorder.record(What::Released { actor: self.actor, conn });
            let _calls = self.thread.enter();
            drop(hold);
        }
        self.recorder.record(What::ActorEnd { actor: self.actor, end: self.end.clone() });
    }
}

/// An acquire under way. Dropped before its end, it was cancelled.
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
            self.end(Acquired::Cancelled);
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
