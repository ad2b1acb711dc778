//! One run, as a worker is asked for it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::engine::{Engine, RunRequest};
use super::files;
use crate::report::Told;
use crate::worker::{Loss, Work, before_a_stall_ends_it};
use crate::world::Place;

/// A run: the file's text travels with it, so that an edit under way changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) file: PathBuf,
    pub(crate) text: Arc<str>,
    pub(crate) pool: String,
    pub(crate) seed: u64,
    pub(crate) place: Place,
    /// Where the full trace is written: a file that is there.
    pub(crate) trace: Option<PathBuf>,
}

impl Work for Job {
    type Report = Told;

    fn run(&self) -> Told {
        let engine = Engine::installed();
        let Some(adapter) = engine.pool(&self.pool) else {
            return Told::bug(self.seed, format!("the worker knows no pool {}", self.pool));
        };
        let checked = files::parse(&engine, &self.file.display().to_string(), &self.text);
        let Some(scenario) = checked.scenario else {
            return Told::bug(self.seed, format!("the worker can't read {}", self.file.display()));
        };
        let opened = self.trace.as_ref().map(|path| files::open(path)).transpose();
        let trace = match opened {
            Ok(file) => file.map(|file| Box::new(TraceFile::new(file)) as Box<dyn io::Write + Send>),
            Err(error) => {
                return Told::bug(self.seed, format!("the worker can't write the trace: {error}"));
            }
        };
        let scenario = Arc::new(self.place.scenario(&scenario).into_owned());
        (engine.run)(RunRequest { scenario: &scenario, adapter, seed: self.seed, place: &self.place, trace })
    }

    fn lost(&self, loss: &Loss) -> Told {
        Told::lost(self.seed, loss)
    }
}

/// A trace's file. When the watchdog gives the run up, what was recorded until then is written.
struct TraceFile(Arc<Mutex<BufWriter<File>>>);

impl TraceFile {
    fn new(file: File) -> TraceFile {
        let shared = Arc::new(Mutex::new(BufWriter::with_capacity(1 << 16, file)));
        let kept = Arc::clone(&shared);
        before_a_stall_ends_it(move || {
            // Held while it is written to: then the trace itself is what the run hangs in.
            if let Some(mut file) = kept.try_lock() {
                let _as_far_as_it_goes = file.flush();
            }
        });
        TraceFile(shared)
    }
}

impl io::Write for TraceFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().flush()
    }
}
