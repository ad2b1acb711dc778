//! Signals that ask the process to end (SIGINT, SIGTERM, SIGHUP), heard in one place: what is done before it ends, and who
//! wants to end in order.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Once};

use parking_lot::Mutex;

static LAST: Mutex<Vec<fn()>> = Mutex::new(Vec::new());
static ORDERLY: Mutex<Vec<Arc<AtomicBool>>> = Mutex::new(Vec::new());

/// From now on a signal has this done before it ends the process, with the exit code of a shell for it: what others gave
/// before is done first.
pub(crate) fn before_the_end(last: fn()) {
    LAST.lock().push(last);
    watch();
}

/// From now on the first signal sets this flag only, and the second one ends the process.
pub(crate) fn asked_to_end() -> Arc<AtomicBool> {
    let asked = Arc::new(AtomicBool::new(false));
    ORDERLY.lock().push(Arc::clone(&asked));
    watch();
    asked
}

/// Starts the thread that hears signals, and waits until they are caught: before that one would end the process at once.
fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let (ready, is_ready) = channel();
        let hear = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(hear(ready))) {
                eprintln!("poolproof: signals are not heard, so Ctrl-C may leave files or servers behind: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("poolproof-signals".to_owned()).spawn(hear) {
            eprintln!("poolproof: signals are not heard, so Ctrl-C may leave files or servers behind: {error}");
        }
        // There is no more to wait for when the thread has given up.
        let _ready_or_given_up = is_ready.recv();
    });
}

/// Until a signal ends the process.
async fn hear(ready: Sender<()>) -> io::Result<()> {
    let mut signals = Signals::caught()?;
    drop(ready);
    loop {
        let code = signals.next().await?;
        let unasked: Vec<_> =
            ORDERLY.lock().iter().filter(|asked| !asked.swap(true, Ordering::Relaxed)).cloned().collect();
        if unasked.is_empty() {
            let last = LAST.lock().clone();
            last.iter().for_each(|last| last());
            std::process::exit(code);
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn caught() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The exit code that a shell gives for the next one.
    async fn next(&mut self) -> io::Result<i32> {
        use tokio::signal::unix::SignalKind;
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
        };
        Ok(128 + kind.as_raw_value())
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn caught() -> io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> io::Result<i32> {
        tokio::signal::ctrl_c().await?;
        Ok(130)
    }
}
