//! Takes away what a process left behind that was killed before it could.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::folder::{CONTAINERS, OWNER, PREFIX};
use super::processes::{kill_servers_in, remove_shared_memory, started_at};

/// What was found, and what became of it, in sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// What is gone now.
    pub removed: Vec<String>,
    /// What is left, where it lies, and why.
    pub left: Vec<String>,
}

/// Removes every folder in the temporary directory whose owner is gone, with the servers and containers of it.
pub(super) async fn sweep(containers: bool) -> Swept {
    let found = tokio::task::spawn_blocking(|| abandoned(&std::env::temp_dir())).await.unwrap_or_default();
    let mut swept = Swept::default();
    let containers = containers || found.iter().any(|folder| folder.join(CONTAINERS).exists());
    // Containers first: a folder that is there still says whose they are.
    #[cfg(feature = "docker")]
    if containers {
        super::docker::sweep(&mut swept).await;
    }
    #[cfg(not(feature = "docker"))]
    if containers {
        swept.left.push("containers with the label `poolproof`: this poolproof is built without Docker".to_owned());
    }
    let removed = tokio::task::spawn_blocking(move || {
        for folder in found {
            remove(&folder, &mut swept);
        }
        swept
    });
    removed.await.unwrap_or_default()
}

/// The folders in here whose owners are gone.
fn abandoned(parent: &Path) -> Vec<PathBuf> {
    let Ok(parent) = parent.canonicalize() else { return Vec::new() };
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_abandoned(path)).collect();
    folders.sort();
    folders
}

/// Whether this is the folder of a process that is gone.
///
/// The lock decides. Between the making of a folder and that of its lock it is the process in its name.
pub(super) fn is_abandoned(folder: &Path) -> bool {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { return false };
    let Some(number) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse().ok()) else {
        return false;
    };
    match File::open(folder.join(OWNER)) {
        Ok(owner) => {
            if owner.try_lock().is_err() {
                return false;
            }
            let said = fs::read_to_string(folder.join(OWNER)).unwrap_or_default();
            let started = said.trim_end().split_once(' ').map(|(_, started)| started.to_owned());
            // Not yet locked, and written just now.
            started.is_some_and(|started| started_at(number) != Some(started)) || started_at(number).is_none()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => folder.is_dir() && started_at(number).is_none(),
        // Another user's.
        Err(_) => false,
    }
}

/// Kills the servers of a folder and removes it.
fn remove(folder: &Path, swept: &mut Swept) {
    kill_servers_in(folder);
    for data in fs::read_dir(folder).into_iter().flatten().flatten() {
        remove_shared_memory(&data.path());
    }
    // What was killed may still be writing.
    let mut outcome = fs::remove_dir_all(folder);
    for _ in 0..50 {
        match &outcome {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                outcome = fs::remove_dir_all(folder);
            }
            _ => break,
        }
    }
    let place = folder.display();
    match outcome {
        Ok(()) => swept.removed.push(format!("{place}, of a poolproof that is gone, and its servers")),
        // Another one was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => swept.left.push(format!("{place}, of a poolproof that is gone: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process has this number: Linux' and macOS' are smaller.
    const NOBODY: u32 = 1_999_999_999;

    #[test]
    fn only_what_nobody_owns_is_abandoned() {
        let parent = tempfile::tempdir().expect("a folder");
        let made = |name: &str, owner: Option<&str>| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).expect("a folder");
            if let Some(owner) = owner {
                fs::write(folder.join(OWNER), owner).expect("a file");
            }
            folder
        };
        let me = std::process::id();
        let mine = started_at(me).expect("this process");
        let dead = made(&format!("{PREFIX}{NOBODY}-a"), Some("1999999999 1\n"));
        let bare = made(&format!("{PREFIX}{NOBODY}-b"), None);
        let reused = made(&format!("{PREFIX}{me}-c"), Some(&format!("{me} 1\n")));
        let living = made(&format!("{PREFIX}{me}-d"), Some(&format!("{me} {mine}\n")));
        let starting = made(&format!("{PREFIX}{me}-e"), None);
        let locked = made(&format!("{PREFIX}{NOBODY}-f"), Some("1999999999 1\n"));
        let lock = File::open(locked.join(OWNER)).expect("a file");
        lock.lock().expect("nobody has it");
        let other = made("other-1-a", Some("1 1\n"));
        for (folder, expected) in [
            (&dead, true),
            (&bare, true),
            (&reused, true),
            (&living, false),
            (&starting, false),
            (&locked, false),
            (&other, false),
        ] {
            assert_eq!(is_abandoned(folder), expected, "{}", folder.display());
        }
        let found = abandoned(parent.path());
        assert_eq!(found.len(), 3, "{found:?}");
        let mut swept = Swept::default();
        for folder in &found {
            remove(folder, &mut swept);
        }
        assert_eq!((swept.removed.len(), swept.left.len()), (3, 0), "{swept:?}");
        assert_eq!(abandoned(parent.path()), Vec::<PathBuf>::new());
    }
}
