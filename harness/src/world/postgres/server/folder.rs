//! This process's folder in the temporary directory, where its servers lie, and what puts an end to them.
//!
//! The folder is `poolproof-PID-XXXXXX`, and has a file `owner`: the process and when it started, locked as long as the
//! process lives. It goes with the last server and the last [`super::Source`]. A process that was killed leaves it
//! behind; the next one takes it away ([`super::sweep`]).

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once, Weak};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::error::{ServerError, failed};
use super::processes::started_at;
use crate::signals::before_the_end;

/// How each folder's name begins.
pub(super) const PREFIX: &str = "poolproof-";
/// The file that says whose it is.
pub(super) const OWNER: &str = "owner";
/// The file that says that its owner had containers.
pub(super) const CONTAINERS: &str = "containers";

/// Something that was started, and must be gone before the process is.
pub(super) trait Dispose: Send + Sync {
    /// Stops and removes it, at once. More than once is harmless.
    fn dispose(&self);
}

/// The folder.
pub(super) struct Folder {
    path: TempDir,
    /// Locked while it is open.
    _owner: File,
    next: AtomicU32,
    started: Mutex<Started>,
}

#[derive(Default)]
struct Started {
    closed: bool,
    all: Vec<Weak<dyn Dispose>>,
}

static CURRENT: Mutex<Weak<Folder>> = Mutex::new(Weak::new());
static HEARD: Once = Once::new();

impl Folder {
    /// This process's, made if there is none.
    pub(super) fn current() -> Result<Arc<Folder>, ServerError> {
        let mut current = CURRENT.lock();
        if let Some(folder) = current.upgrade() {
            return Ok(folder);
        }
        let parent = std::env::temp_dir();
        let at = |error: std::io::Error| failed(format!("a folder in {}", parent.display()), error);
        // Symbolic links resolved, as the kernel tells the servers' working directories.
        let parent = parent.canonicalize().map_err(at)?;
        let me = std::process::id();
        let path = tempfile::Builder::new().prefix(&format!("{PREFIX}{me}-")).tempdir_in(&parent).map_err(at)?;
        // A server that runs as another user must get to its data, and sees nothing else.
        fs::set_permissions(path.path(), fs::Permissions::from_mode(0o711)).map_err(at)?;
        let mut owner = File::create_new(path.path().join(OWNER)).map_err(at)?;
        owner.lock().map_err(at)?;
        writeln!(owner, "{me} {}", started_at(me).unwrap_or_default()).map_err(at)?;
        let folder = Arc::new(Folder { path, _owner: owner, next: AtomicU32::new(1), started: Mutex::default() });
        *current = Arc::downgrade(&folder);
        drop(current);
        HEARD.call_once(|| before_the_end(close_current));
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        self.path.path()
    }

    /// A path in it for another data directory.
    pub(super) fn next(&self, what: &str) -> PathBuf {
        self.path().join(format!("{what}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// From now on this ends with the process. Error: the process is ending.
    pub(super) fn register(&self, started: Weak<dyn Dispose>) -> Result<(), ServerError> {
        let mut known = self.started.lock();
        if known.closed {
            return Err(ServerError::Failed("poolproof was asked to end".to_owned()));
        }
        known.all.retain(|other| other.strong_count() > 0);
        known.all.push(started);
        Ok(())
    }

    /// Puts an end to all.
    fn close(&self) {
        let all = {
            let mut started = self.started.lock();
            started.closed = true;
            std::mem::take(&mut started.all)
        };
        for started in all.iter().filter_map(Weak::upgrade) {
            started.dispose();
        }
        #[cfg(feature = "docker")]
        if self.path().join(CONTAINERS).exists() {
            super::docker::remove_all_of(self.path());
        }
        let _ = fs::remove_dir_all(self.path());
    }
}

/// What was started ends before the process does.
fn close_current() {
    let folder = CURRENT.lock().upgrade();
    if let Some(folder) = folder {
        folder.close();
    }
}
