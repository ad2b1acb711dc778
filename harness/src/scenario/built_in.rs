//! The scenarios that are shipped inside the crate: faults, and a pool's life. Whoever runs a pool of their own has them
//! without a file on disk, under paths that begin with [`FOLDER`].
//!
//! Besides, there are those about the managers of pools of resources ([`crate::pool::resource`]), which nobody else runs.
//!
//! They are compiled in from `harness/scenarios`, a symbolic link to the workspace's `scenarios/`: cargo puts the files
//! behind it into the package. Left out are the seed stories, which are about models of Python's pools.

use std::path::{Path, PathBuf};

/// What a path begins with that leads into the crate: `built-in/faults/server_crash.toml`.
pub const FOLDER: &str = "built-in";

macro_rules! files {
    ($($path:literal)*) => { &[
        $(($path, include_str!(concat!("../../scenarios/", $path))),)*
        ("manager/manager_check.toml", include_str!("manager/manager_check.toml")),
        ("manager/manager_connect.toml", include_str!("manager/manager_connect.toml")),
        ("manager/manager_reset.toml", include_str!("manager/manager_reset.toml")),
    ] };
}

/// Each file's path below [`FOLDER`] and its text, in the order of paths.
pub const FILES: &[(&str, &str)] = files! {
    "faults/app_killed.toml"
    "faults/connect_lost.toml"
    "faults/connect_refused.toml"
    "faults/connect_silent.toml"
    "faults/dirty_session.toml"
    "faults/failover.toml"
    "faults/hog_and_waiter.toml"
    "faults/idle_timeout_hours.toml"
    "faults/impatient_callers.toml"
    "faults/lifetime_herd.toml"
    "faults/lifetime_hours.toml"
    "faults/long_timeline_query.toml"
    "faults/no_timeouts.toml"
    "faults/panic_in_actor.toml"
    "faults/server_crash.toml"
    "faults/server_restart_fast.toml"
    "faults/server_restart_immediate.toml"
    "faults/server_restart_smart.toml"
    "faults/silent_death_all.toml"
    "faults/silent_death_leased.toml"
    "faults/silent_death_old.toml"
    "faults/slot_exhaustion.toml"
    "faults/slow_server.toml"
    "faults/stuck_transaction.toml"
    "faults/thread_churn.toml"
    "lifecycle/close_in_every_state.toml"
    "lifecycle/detach.toml"
    "lifecycle/drop_in_use.toml"
    "lifecycle/invalidate.toml"
    "lifecycle/min_idle_refill.toml"
    "lifecycle/resize_before_use.toml"
    "lifecycle/resize_in_use.toml"
};

/// The paths of the files at or below this one; `None` when it doesn't lead into the crate.
#[must_use]
pub fn find(path: &Path) -> Option<Vec<PathBuf>> {
    path.starts_with(FOLDER).then(|| {
        let all = FILES.iter().map(|(name, _)| Path::new(FOLDER).join(name));
        all.filter(|file| file.starts_with(path)).collect()
    })
}

/// The text of the file at this path.
#[must_use]
pub fn text(path: &Path) -> Option<&'static str> {
    let inside = path.strip_prefix(FOLDER).ok()?;
    FILES.iter().find(|(name, _)| Path::new(name) == inside).map(|(_, text)| *text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Whoever adds a scenario adds it here, too.
    #[test]
    fn every_file_of_the_folders_is_shipped() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut there = Vec::new();
        for folder in ["faults", "lifecycle"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.ends_with(".toml") {
                    there.push(format!("{folder}/{name}"));
                }
            }
        }
        for name in ["check", "connect", "reset"] {
            there.push(format!("manager/manager_{name}.toml"));
        }
        there.sort();
        let shipped: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(shipped, there);
    }

    #[test]
    fn paths_lead_to_files_and_folders() {
        assert_eq!(find(Path::new("built-in")).unwrap().len(), FILES.len());
        let lifecycle = find(Path::new("built-in/lifecycle")).unwrap();
        assert!(!lifecycle.is_empty() && lifecycle.len() < FILES.len());
        assert_eq!(find(Path::new("built-in/nothing")).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(find(Path::new("built-in-house/faults")), None);
        for path in lifecycle {
            assert!(text(&path).unwrap().contains("title"), "{}", path.display());
        }
        assert_eq!(text(Path::new("faults/server_crash.toml")), None);
    }
}
