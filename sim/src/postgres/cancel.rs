//! CancelRequest: a connection of its own that carries a pid and a key, and is answered by its end only.
//! <https://www.postgresql.org/docs/15/protocol-flow.html#id-1.10.6.7.10>
//!
//! It is processed in every state of the server, takes no slot, and tells nobody whether it found its target. What it
//! cancels is whatever the backend does when the signal arrives: nothing, when it is idle; the *next* user's statement,
//! when the connection has changed hands meanwhile.

use super::activity::Signals;
use super::event::Pid;
use super::server::Shared;

impl Shared {
    /// `processCancelRequest`
    pub(super) fn cancel_request(&self, pid: Pid, secret: i32) {
        let backend = self.registry.lock().backends.get(&pid).cloned();
        if let Some(backend) = backend
            && backend.secret == secret
        {
            backend.signal(Signals::CANCEL);
        }
    }
}
