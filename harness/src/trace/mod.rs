//! The trace: every event of a run, in order; and the story told from it.

pub mod event;
pub mod figures;
pub mod json;
pub mod pace;
pub mod recorder;
pub mod refused;
pub mod story;
pub mod told;
pub mod view;

pub use event::{Event, What};
pub use figures::Figures;
pub use recorder::Recorder;
pub use view::View;
