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

macro_rules! museum {
    ($($name:literal)*) => { &[$((
        concat!("museum/found/", $name),
        include_str!(concat!("../../scenarios/museum/found/", $name)),
    ),)*] };
}

/// What searches found in published pools, for `poolproof search` to recognise. Below [`FOLDER`] as well, but nobody else's suite:
/// these are about those pools.
pub const MUSEUM: &[(&str, &str)] = museum! {
    "abandoned_statement.toml"
    "background_dial.toml"
    "dropped_in_an_outage.toml"
    "failed_dial_tells_nobody.toml"
    "given_up.toml"
    "outage_with_a_queue.toml"
    "own_dial.toml"
};

/// The paths of the files at or below this one; `None` when it doesn't lead into the crate. The [`MUSEUM`] is visited by its name
/// only.
#[must_use]
pub fn find(path: &Path) -> Option<Vec<PathBuf>> {
    path.starts_with(FOLDER).then(|| {
        let museum = if path.starts_with(Path::new(FOLDER).join("museum")) { MUSEUM } else { &[] };
        let all = FILES.iter().chain(museum).map(|(name, _)| Path::new(FOLDER).join(name));
        all.filter(|file| file.starts_with(path)).collect()
    })
}

/// The text of the file at this path.
#[must_use]
pub fn text(path: &Path) -> Option<&'static str> {
    let inside = path.strip_prefix(FOLDER).ok()?;
    FILES.iter().chain(MUSEUM).find(|(name, _)| Path::new(name) == inside).map(|(_, text)| *text)
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
        let names = |files: &[(&'static str, &str)]| files.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(FILES), there);
        let found = std::fs::read_dir(root.join("museum/found")).unwrap();
        let mut found: Vec<String> =
            found.map(|entry| format!("museum/found/{}", entry.unwrap().file_name().into_string().unwrap())).collect();
        found.sort();
        assert_eq!(names(MUSEUM), found);
    }

    #[test]
    fn paths_lead_to_files_and_folders() {
        assert_eq!(find(Path::new("built-in")).unwrap().len(), FILES.len());
        let museum = find(Path::new("built-in/museum")).unwrap();
        assert_eq!(museum.len(), MUSEUM.len());
        assert!(museum.iter().all(|path| text(path).is_some()));
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
