//! A run's own thread and tokio runtime: virtual clock, seeded entropy, tokio's generator seeded.
//!
//! Each run gets a fresh OS thread, since std's hash keys are drawn once a thread, and a current-thread runtime whose
//! clock is paused: when every task waits, time jumps to the next timer. Several runs on several threads don't disturb
//! each other.
//!
//! A thread can't be killed from outside. [`Run::wait`] therefore tells a run that makes no progress (a task that blocks or
//! spins, so that the runtime never parks) from a slow one, and leaves its thread behind; whoever wants it gone runs it in a
//! process of its own.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::time::Duration;

use crate::{clock, entropy};

/// Why a run gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The run's own future panicked (a panic in a spawned task does not end a run).
    #[error("the run panicked: {0}")]
    Panicked(String),
    /// The runtime has not parked for the given wall-clock time: a task blocks the thread or spins.
    #[error("no task of the run has yielded to the clock for {0:?} of wall-clock time")]
    Stalled(Duration),
    /// The operating system gave no thread.
    #[error("no thread could be started: {0}")]
    NoThread(String),
}

/// A run under way on its own thread.
pub struct Run<T> {
    result: mpsc::Receiver<Result<T, Failure>>,
    parks: Arc<AtomicU64>,
}

/// Whether runs in one process are reproducible: tokio's generator can only be seeded with `--cfg tokio_unstable`. Without
/// it a run is reproducible in a process of its own.
#[must_use]
pub fn is_reproducible_in_process() -> bool {
    cfg!(tokio_unstable)
}

/// Starts a run: `future` is made and driven on a fresh thread, in virtual time.
pub fn start<F, Fut>(seed: u64, future: F) -> Result<Run<Fut::Output>, Failure>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    start_thread(move |heartbeat| drive(seed, heartbeat, future))
}

fn start_thread<T: Send + 'static>(
    drive: impl FnOnce(Arc<AtomicU64>) -> T + Send + 'static,
) -> Result<Run<T>, Failure> {
    let parks = Arc::new(AtomicU64::new(0));
    let heartbeat = Arc::clone(&parks);
    let result = on_a_thread(move || drive(heartbeat))?;
    Ok(Run { result, parks })
}

/// A run whose tokio runtimes are somebody else's: several of them, which take turns on the run's thread. `build` makes them
/// all, while time stands still, so that their clocks agree; `drive` lets them run. Time is that of the runtime whose turn it
/// is, under std, too, and entropy is seeded, as in [`run`].
///
/// # Errors
/// [`Failure::Panicked`], or [`Failure::NoThread`]. Nothing limits how long it takes.
pub fn run_foreign<S, T: Send + 'static>(
    seed: u64,
    build: impl FnOnce() -> S + Send + 'static,
    drive: impl FnOnce(S) -> T + Send + 'static,
) -> Result<T, Failure> {
    let result = on_a_thread(move || {
        let _entropy = entropy::Guard::enter(seed);
        let clock = clock::Guard::stand_still(seed);
        let built = build();
        clock.go();
        drive(built)
    })?;
    result.recv().unwrap_or_else(|_| Err(Failure::Panicked("the run's thread ended without a result".to_owned())))
}

/// Starts `work` on a thread as runs have it.
fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<mpsc::Receiver<Result<T, Failure>>, Failure> {
    install_panic_hook();
    let (sender, result) = mpsc::channel();
    std::thread::Builder::new()
        .name("poolproof run".to_owned())
        // Debug builds of deeply nested pool futures need more than the 2 MiB default.
        .stack_size(16 << 20)
        .spawn(move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
            PANIC_SINK.with_borrow_mut(|sink| *sink = None);
            // The receiver is gone when the caller gave the run up.
            let _ = sender.send(outcome.map_err(|payload| Failure::Panicked(panic_text(payload.as_ref()))));
        })
        .map_err(|error| Failure::NoThread(error.to_string()))?;
    Ok(result)
}

/// Starts a run in real time: `future` is made and driven on a fresh thread, with the machine's clock, entropy and sockets.
pub fn start_in_real_time<F, Fut>(future: F) -> Result<Run<Fut::Output>, Failure>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    start_thread(move |heartbeat| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all();
        builder.on_thread_park(move || {
            heartbeat.fetch_add(1, Ordering::Relaxed);
        });
        let runtime = builder.build().expect("a runtime gets its file descriptors");
        runtime.block_on(async move {
            // A run that only waits parks once: it must be seen to be alive.
            let alive = async {
                loop {
                    tokio::time::sleep(ALIVE).await;
                }
            };
            tokio::select! {
                biased;
                output = future() => output,
                () = alive => unreachable!("it is endless"),
            }
        })
    })
}

/// How often a run in real time parks at least.
const ALIVE: Duration = Duration::from_millis(200);

/// Starts a run and waits for it, however long it takes.
pub fn run<F, Fut>(seed: u64, future: F) -> Result<Fut::Output, Failure>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    start(seed, future)?.wait(Duration::MAX)
}

impl<T> Run<T> {
    /// Waits for the run's end, or until it has made no progress for `patience` of wall-clock time.
    ///
    /// # Errors
    /// [`Failure::Panicked`], or [`Failure::Stalled`]: then the run's thread is left behind.
    pub fn wait(self, patience: Duration) -> Result<T, Failure> {
        let mut seen = self.parks.load(Ordering::Relaxed);
        loop {
            let outcome = if patience == Duration::MAX {
                self.result.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
            } else {
                self.result.recv_timeout(patience)
            };
            match outcome {
                Ok(outcome) => return outcome,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Panicked("the run's thread ended without a result".to_owned()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let now = self.parks.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(Failure::Stalled(patience));
                    }
                    seen = now;
                }
            }
        }
    }
}

fn drive<F, Fut>(seed: u64, heartbeat: Arc<AtomicU64>, future: F) -> Fut::Output
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    // Dropped in reverse order: the runtime and all its tasks first, under virtual time and seeded entropy.
    let _entropy = entropy::Guard::enter(seed);
    let clock = clock::Guard::enter(seed);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.on_thread_park(move || {
        heartbeat.fetch_add(1, Ordering::Relaxed);
        clock::parked();
    });
    builder.on_thread_unpark(clock::parked);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.build().expect("a current-thread runtime without I/O needs nothing that can be refused");
    let output = runtime.block_on(async move { future().await });
    clock.runtime_ends();
    output
}

/// Receives the message and place of each panic on a run's thread.
type PanicSink = Box<dyn Fn(&str)>;

thread_local! {
    static PANIC_SINK: RefCell<Option<PanicSink>> = const { RefCell::new(None) };
    static FIRST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Message and place of the first panic on this run's thread that was told to a sink ([`on_panic`]), since this was last
/// asked.
pub fn take_first_panic() -> Option<String> {
    FIRST_PANIC.with_borrow_mut(Option::take)
}

/// From now to the end of this run, panics on its thread are told to `sink` (message and place) and not printed. To be
/// called on the run's thread.
pub fn on_panic(sink: impl Fn(&str) + 'static) {
    PANIC_SINK.with_borrow_mut(|cell| *cell = Some(Box::new(sink)));
}

fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = || {
                let place = info.location().map_or(String::new(), |l| format!(" ({}:{})", l.file(), l.line()));
                format!("{}{place}", panic_text(info.payload()))
            };
            let told = PANIC_SINK
                .try_with(|cell| match cell.try_borrow() {
                    Ok(sink) => match sink.as_ref() {
                        Some(sink) => {
                            let text = text();
                            let _ = FIRST_PANIC.try_with(|first| {
                                if let Ok(mut first) = first.try_borrow_mut() {
                                    first.get_or_insert_with(|| text.clone());
                                }
                            });
                            sink(&text);
                            true
                        }
                        None => false,
                    },
                    Err(_) => false,
                })
                .unwrap_or(false);
            if !told {
                previous(info);
            }
        }));
    });
}

/// The text of a panic's payload.
#[must_use]
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is no text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[test]
    fn foreign_runtimes_begin_at_one_instant_and_std_follows_the_one_whose_turn_it_is() {
        fn paused() -> tokio::runtime::Runtime {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.expect("it needs nothing of the system");
            // Time moves in the first before the second is built, as it does in turmoil's.
            runtime.block_on(async { sleep(Duration::from_millis(1)).await });
            runtime
        }
        let seen = run_foreign(
            1,
            || (paused(), paused()),
            |(one, other)| {
                let now = |runtime: &tokio::runtime::Runtime| runtime.block_on(async { Instant::now() });
                let same = now(&one) == now(&other);
                let (tokios, stds) = one.block_on(async {
                    let (start, std_start) = (Instant::now(), std::time::Instant::now());
                    sleep(Duration::from_secs(5)).await;
                    (start.elapsed(), std_start.elapsed())
                });
                (same, tokios, stds.as_millis(), now(&one) - now(&other))
            },
        );
        let five = Duration::from_secs(5);
        assert_eq!(seen, Ok((true, five, 5000, five)));
    }

    #[test]
    fn the_first_panic_is_kept_for_who_asks() {
        let seen = run_foreign(
            1,
            || on_panic(|_| ()),
            |()| {
                for text in ["one", "two"] {
                    drop(std::panic::catch_unwind(|| panic!("{text}")));
                }
                (take_first_panic(), take_first_panic())
            },
        );
        let (first, none) = seen.expect("it does not panic itself");
        assert!(first.is_some_and(|first| first.starts_with("one (")), "with its place");
        assert_eq!(none, None);
    }
}
