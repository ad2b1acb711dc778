//! Ctrl-C ends a search with its summary; a second one ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// From now on Ctrl-C and SIGTERM set the flag that is given back; the second one ends the process.
pub(crate) fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let (ready, is_ready) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        // Without it a signal ends the process as ever: what has a result is kept.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            if signalled(Some(ready)).await {
                told.store(true, Ordering::Relaxed);
                if signalled(None).await {
                    std::process::exit(130);
                }
            }
        });
    });
    let _ready_or_given_up = is_ready.recv();
    stop
}

/// Waits for a signal; false where there are none. Tells when signals are caught by dropping `ready`.
async fn signalled(ready: Option<std::sync::mpsc::Sender<()>>) -> bool {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else { return false };
        drop(ready);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        true
    }
    #[cfg(not(unix))]
    {
        let caught = tokio::signal::ctrl_c();
        drop(ready);
        caught.await.is_ok()
    }
}
