//! Takes the events of a run as they happen, stamps them, and hands them to those who judge, count and write.

/// A handle to the run's trace. Cheap to clone; all clones are one trace.
#[derive(Clone)]
pub struct Recorder {}
