//! The task that closes idle connections when their time is over. It sleeps until the next one is due.

use std::sync::Arc;

use tokio::time::sleep_until;

use super::plant::Plant;
use super::state::Shared;

/// Starts the reaper, if there is something to keep.
pub(super) fn start(shared: &Arc<Shared>) {
    if shared.settings.idle_timeout.is_none() && shared.settings.max_lifetime.is_none() {
        return;
    }
    let task = tokio::spawn(run(Arc::clone(shared)));
    shared.look(|state| state.reaper = Some(task.abort_handle()));
}

async fn run(shared: Arc<Shared>) {
    loop {
        let earlier = shared.wake_reaper.notified();
        match shared.update(|state, after| state.expire(&shared, after)) {
            Some(due) => tokio::select! {
                biased;
                () = earlier => {}
                () = sleep_until(due) => {}
            },
            None => earlier.await,
        }
        if shared.planted(Plant::IdleTimeoutReadOnce) {
            return;
        }
    }
}
