//! Panics as events. A run expects panics (a step's own, and a hostile pool's): they must neither be printed nor end the
//! run, and the trace wants their message and place.
//!
//! The process has one panic hook. [`install`] puts ours before the one that was there: a thread that is watched
//! reports its panics, every other thread keeps its hook.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::rc::Rc;
use std::sync::Once;

/// The message of a panic that a scenario asked for (the step `panic`).
pub const PLANNED_PANIC: &str = "the scenario's step `panic`";

/// Told of a panic's message and place.
type Watcher = Rc<dyn Fn(&str)>;

thread_local! {
    /// How many [`catch`] are on this thread's stack.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    /// The last panic seen under a [`catch`].
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Who is told of a panic outside every [`catch`].
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
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

/// Whether the panic was one of a run's.
fn seen(info: &PanicHookInfo<'_>) -> bool {
    let message = || format!("{} ({})", text_of(info.payload()), place(info.location()));
    // `try_with`: a panic while the thread's locals are being destroyed is nobody's.
    if CATCHING.try_with(Cell::get).unwrap_or(0) > 0 {
        let message = message();
        return LAST
            .try_with(|last| *last.borrow_mut() = Some(message))
            .is_ok();
    }
    let watcher = WATCHER
        .try_with(|watcher| watcher.borrow().clone())
        .ok()
        .flatten();
    watcher.is_some_and(|watcher| {
        watcher(&message());
        true
    })
}

/// While it lives, panics of this thread outside every [`catch`] (those of tasks that a pool spawned) are told to the
/// watcher, with their message and place, and are not printed.
#[must_use]
pub struct Watch(());

/// Watches this thread.
pub fn watch(told: impl Fn(&str) + 'static) -> Watch {
    install();
    WATCHER.with(|watcher| *watcher.borrow_mut() = Some(Rc::new(told)));
    Watch(())
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Dropped at the thread's end the local may be gone, and the watcher with it.
        let _gone = WATCHER.try_with(|watcher| watcher.borrow_mut().take());
    }
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
    LAST.with(|last| last.borrow_mut().take())
        .unwrap_or_else(|| text_of(payload).to_owned())
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
    let src = parts
        .iter()
        .rposition(|part| *part == "src")
        .unwrap_or(parts.len() - 1);
    format!(
        "{}:{}",
        parts[src.saturating_sub(1)..].join("/"),
        location.line()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_has_message_and_place() {
        let message = catch(|| panic!("a {}", "reason")).expect_err("it panics");
        assert!(
            message.starts_with("a reason (harness/src/workload/panics.rs:"),
            "{message}"
        );
        assert_eq!(catch(|| 5), Ok(5));
    }

    #[test]
    fn a_panic_outside_is_told_to_the_watcher() {
        let told = Rc::new(RefCell::new(Vec::new()));
        let list = Rc::clone(&told);
        let watch = watch(move |message| list.borrow_mut().push(message.to_owned()));
        let _caught = catch_unwind(|| panic!("stray"));
        let _inner = catch(|| panic!("not stray"));
        drop(watch);
        assert_eq!(told.borrow().len(), 1);
        assert!(told.borrow()[0].starts_with("stray ("));
    }
}
