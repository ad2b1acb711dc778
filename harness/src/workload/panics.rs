//! Panics as events. A run expects panics (a step's own, and a hostile pool's): they must neither be printed nor end the
//! run, and the trace wants their message and place.
//!
//! This part is for the panics of actors, and of the pool's code that they call: those that are caught here. The others on
//! a run's thread, in tasks that a pool spawned, are for [`poolproof_sim::runtime`]'s sink. Both come through the one panic
//! hook of the process; a sink asks [`told`] first, so that it does not matter whose hook was installed last.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// The message of a panic that a scenario asked for (the step `panic`).
pub const PLANNED_PANIC: &str = "the scenario's step `panic`";

/// The message of a panic that a scenario asked for in a manager (the fault `manager.panic`). A pool may pass it on.
pub const MANAGER_PANIC: &str = "the scenario's fault `manager.panic`";

thread_local! {
    /// How many [`catch`] are on this thread's stack.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    /// The last panic seen under a [`catch`].
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Puts the hook in place, once a process.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !seen(info) {
                former(info);
            }
        }));
    });
}

/// Whether the panic is one that will be caught here.
fn seen(info: &PanicHookInfo<'_>) -> bool {
    is_catching() && told(&format!("{} ({})", text_of(info.payload()), place(info.location())))
}

fn is_catching() -> bool {
    // `try_with`: a panic while the thread's locals are being destroyed is nobody's.
    CATCHING.try_with(Cell::get).unwrap_or(0) > 0
}

/// For panic hooks: whether a panic of this thread, now, is an actor's (or a pool's, called by one). Then its message is
/// kept for the trace, and nobody else should report it.
pub fn told(message: &str) -> bool {
    is_catching() && LAST.try_with(|last| *last.borrow_mut() = Some(message.to_owned())).is_ok()
}

/// Runs `code`, and returns its panic as message and place.
///
/// # Errors
/// The panic.
pub fn catch<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    install();
    CATCHING.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(code));
    CATCHING.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|payload| message(payload.as_ref()))
}

/// The message and place of a panic that was just caught by other means below a [`catch`].
pub fn message(payload: &(dyn Any + Send)) -> String {
    LAST.with(|last| last.borrow_mut().take()).unwrap_or_else(|| text_of(payload).to_owned())
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic without a text"
    }
}

/// `bb8-0.9.1/src/inner.rs:120`: the crate and its file, the same on every machine.
fn place(location: Option<&Location<'_>>) -> String {
    let Some(location) = location else {
        return "unknown place".to_owned();
    };
    let path = location.file().replace('\\', "/");
    let parts: Vec<&str> = path.split('/').collect();
    let src = parts.iter().rposition(|part| *part == "src").unwrap_or(parts.len() - 1);
    format!("{}:{}", parts[src.saturating_sub(1)..].join("/"), location.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_has_message_and_place() {
        let message = catch(|| panic!("a {}", "reason")).expect_err("it panics");
        assert!(message.starts_with("a reason (harness/src/workload/panics.rs:"), "{message}");
        assert_eq!(catch(|| 5), Ok(5));
    }

    #[test]
    fn a_panic_is_claimed_only_under_a_catch() {
        assert!(!told("stray"));
        assert_eq!(catch(|| told("inner")), Ok(true));
        let nested = catch(|| {
            let _inner = catch(|| panic!("one"));
            panic!("two")
        });
        assert!(nested.is_err_and(|message| message.starts_with("two (")));
    }
}
