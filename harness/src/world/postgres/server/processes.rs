//! The processes of a server on this machine, and what they leave in its kernel.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the kernel may take to end a process that was killed.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// The children of a process.
pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let id = parent.as_raw_nonzero();
    // A list for each of its threads.
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists: Vec<String> =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
    if !lists.is_empty() {
        return lists.iter().flat_map(|list| list.split_whitespace()).filter_map(pid).collect();
    }
    // Kernels without that file, and other systems.
    let listed = Command::new("ps").args(["-A", "-o", "ppid=,pid="]).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let parent = id.to_string();
    listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == parent).then(|| pid(words.next()?))?
        })
        .collect()
}

/// SIGSTOP for a server: first the postmaster, so that there are no new children.
pub(super) fn pause(postmaster: Pid) {
    let _ = kill_process(postmaster, Signal::STOP);
    for child in children(postmaster) {
        let _ = kill_process(child, Signal::STOP);
    }
}

/// SIGCONT for all of them.
pub(super) fn unpause(postmaster: Pid) {
    for child in children(postmaster) {
        let _ = kill_process(child, Signal::CONT);
    }
    let _ = kill_process(postmaster, Signal::CONT);
}

/// SIGKILL for all of them, in such an order that none of them sees another one die.
pub(super) fn kill(postmaster: Pid) {
    let _ = kill_process(postmaster, Signal::STOP);
    for child in children(postmaster) {
        let _ = kill_process(child, Signal::KILL);
    }
    let _ = kill_process(postmaster, Signal::KILL);
}

/// SIGKILL for every `postgres` whose data directory is in this folder, whoever started it; done when they are gone.
pub(super) fn kill_servers_in(folder: &Path) {
    let deadline = Instant::now() + LAST_BREATH;
    loop {
        let servers = servers_in(folder);
        if servers.is_empty() || Instant::now() > deadline {
            return;
        }
        for server in &servers {
            let _ = kill_process(*server, Signal::STOP);
        }
        for server in servers {
            let _ = kill_process(server, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every process of a server works in its data directory.
#[cfg(target_os = "linux")]
fn servers_in(folder: &Path) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = processes.filter_map(|entry| {
        let path = entry.ok()?.path();
        let pid = pid(path.file_name()?.to_str()?)?;
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let inside = fs::read_link(path.join("cwd")).ok()?.starts_with(folder);
        (inside && matches!(name.trim_end(), "postgres" | "postmaster")).then_some(pid)
    });
    processes.collect()
}

/// What its postmaster's file says, if that process still is one on this data directory; and its children.
#[cfg(not(target_os = "linux"))]
fn servers_in(folder: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let postmasters = entries.filter_map(|entry| {
        let data = entry.ok()?.path();
        let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let postmaster = pid(file.lines().next()?.trim())?;
        let asked =
            Command::new("ps").args(["-o", "command=", "-p", &postmaster.as_raw_nonzero().to_string()]).output();
        let command = String::from_utf8_lossy(&asked.ok()?.stdout).into_owned();
        let is_it = command.contains("postgres") && command.contains(data.to_str()?);
        is_it.then_some(postmaster)
    });
    postmasters.flat_map(|postmaster| std::iter::once(postmaster).chain(children(postmaster))).collect()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

/// When a process started, in the words of the system, which no later process of the same number repeats; `None`: there
/// is no such process.
pub(super) fn started_at(process: u32) -> Option<String> {
    if let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) {
        // The name in parentheses may contain anything; the 22nd field is the 20th after it.
        let after = &stat[stat.rfind(')')? + 1..];
        return after.split_whitespace().nth(19).map(str::to_owned);
    }
    let asked = Command::new("ps").args(["-o", "lstart=", "-p", &process.to_string()]).output().ok()?;
    let started = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    (!started.is_empty()).then_some(started)
}

/// A server that was killed leaves a small segment of shared memory; its next start would use it again. Where there is
/// none, this removes it. Only what `postmaster.pid` names and nobody is attached to.
pub(super) fn remove_shared_memory(data: &Path) {
    let Ok(file) = fs::read_to_string(data.join("postmaster.pid")) else { return };
    // The seventh line: key and id.
    let Some((key, id)) = file.lines().nth(6).and_then(|line| line.trim().split_once(char::is_whitespace)) else {
        return;
    };
    let (key, id) = (key.trim(), id.trim());
    let Ok(segments) = fs::read_to_string("/proc/sysvipc/shm") else { return };
    let abandoned = segments.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [its_key, its_id, _perms, _size, _cpid, _lpid, attached, ..] = fields[..] else { return false };
        its_key == key && its_id == id && attached == "0"
    });
    if abandoned {
        let _ = Command::new("ipcrm").args(["-m", id]).output();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_start_times_are_found() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("there is a sleep");
        let pid = Pid::from_child(&child);
        let own = children(rustix::process::getpid());
        let (started, again) = (started_at(child.id()), started_at(child.id()));
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert!(own.contains(&pid), "{own:?}");
        assert!(started.is_some());
        assert_eq!(started, again);
        assert_eq!(started_at(child.id()), None);
    }
}
