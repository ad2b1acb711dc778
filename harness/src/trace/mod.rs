//! The trace: every event of a run, in order; and the story told from it.

pub mod event;
pub mod recorder;

pub use event::{Event, What};
pub use recorder::Recorder;
