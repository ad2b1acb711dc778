//! `poolproof search FILE`, from outside: all neighbours of a file, each once, and what is found among them.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Three share one connection, and nobody cancels anything.
const WAITERS: &str = r#"
title = "Three share one connection"
story = "Each waits for the one before it."
seeds = [1]

[app.web]
pool = { max_size = 1, acquire_timeout = "4s" }

[workload.caller]
app = "web"
arrive = { at = ["0s", "10ms", "20ms"] }
steps = ["acquire", "sql SELECT 1", "hold 50ms", "release"]

[expect]
until = "10s"
"#;

/// Connections that are checked before they are handed out, and cleaned up when they come back.
const CHECKED: &str = r#"
title = "A checked pool of two"
story = "Four callers, two connections, each checked and reset."
seeds = [1]

[app.web]
pool = { max_size = 2, acquire_timeout = "4s", test_on_acquire = true, reset_on_return = "rollback" }

[workload.caller]
app = "web"
arrive = { at = ["0s", "1ms", "2ms", "100ms"] }
steps = ["acquire", "begin", "sql SELECT 1", "hold 20ms", "commit", "release"]

[expect]
until = "6s"
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new(file: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file.toml"), file).unwrap();
        Place(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolproof"));
        command.args(arguments).current_dir(self.path()).env("COLUMNS", "100");
        command
    }

    /// `poolproof search file.toml …`, with one job.
    fn search(&self, pool: &str, state: &str, more: &[&str]) -> Command {
        let first = ["search", "file.toml", "--pool", pool, "--jobs", "1", "--state", state];
        self.command(&[&first[..], more].concat())
    }

    fn results(&self, state: &str) -> Vec<String> {
        let path = self.path().join(state).join("results.jsonl");
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The text of the first file in a search's `found`, and its path from here.
    fn found(&self, state: &str) -> (String, String) {
        let folder = self.path().join(state).join("found");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "toml"))
            .collect();
        files.sort_unstable();
        let path = format!("{state}/found/{}", files.first().expect("a file"));
        (fs::read_to_string(self.path().join(&path)).unwrap(), path)
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Searches the neighbours of a file until the first finding, which violates this invariant; the file itself does not. What is
/// found shows it again in a fresh process, as its file says, and does not show without the bug.
fn finds(file: &str, pool: &str, every: &str, invariant: &str) -> String {
    let place = Place::new(file);
    let itself = place.command(&["run", "file.toml", "--pool", pool]).output().unwrap();
    assert_eq!(itself.status.code(), Some(0), "{pool}: {}", text(&itself));
    let searched = place.search(pool, "state", &[every, "--first", "--shrink-runs", "200"]).output().unwrap();
    assert_eq!(searched.status.code(), Some(1), "{pool}: {}", text(&searched));
    let (written, path) = place.found("state");
    assert!(written.contains(&format!("violates = \"{invariant}\"")), "{written}");
    for arguments in [["run", &path, "--pool", pool], ["run", &path, "--pool", "reference"]] {
        let again = place.command(&arguments).output().unwrap();
        assert_eq!(again.status.code(), Some(0), "{arguments:?}: {}\n{written}", text(&again));
    }
    written
}

#[test]
fn every_poll_finds_the_lost_grant_without_any_randomness() {
    let written = finds(WAITERS, "planted:grant-lost-on-cancel", "--every-poll", "no-lost-wakeup");
    assert!(written.contains("cancel at wake 1"), "{written}");
}

#[test]
fn every_message_finds_what_only_a_late_answer_shows() {
    finds(CHECKED, "planted:check-timeout-returns-connection", "--every-message", "quiescent-capacity");
}

#[test]
fn every_moment_finds_what_needs_a_fault_between_two_steps() {
    finds(CHECKED, "planted:permit-lost-on-failed-dial", "--every-moment", "quiescent-capacity");
}

#[test]
fn a_correct_pool_has_no_bad_neighbour() {
    for (file, most) in [(WAITERS, "400"), (CHECKED, "60")] {
        let place = Place::new(file);
        let every = ["--every-poll", "--every-moment", "--every-message", "--interleavings", "1", "--most", most];
        let searched = place.search("reference", "state", &every).output().unwrap();
        assert_eq!(searched.status.code(), Some(0), "{}", text(&searched));
        assert!(text(&searched).contains("nothing was found"), "{}", text(&searched));
    }
}

#[test]
fn the_list_and_its_results_are_the_same_each_time_and_each_is_run_once() {
    let place = Place::new(WAITERS);
    for state in ["a", "b"] {
        let more = ["--every-poll", "--interleavings", "2"];
        let searched = place.search("planted:grant-lost-on-cancel", state, &more).output().unwrap();
        assert_eq!(searched.status.code(), Some(1), "{}", text(&searched));
    }
    let results = place.results("a");
    assert_eq!(results, place.results("b"));
    assert_eq!(place.found("a").0, place.found("b").0);
    let number = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["run"].as_u64().unwrap();
    let runs: Vec<u64> = results.iter().map(number).collect();
    assert_eq!(runs, (0..runs.len() as u64).collect::<Vec<u64>>());
    assert_eq!(results.iter().filter(|line| line.contains("\"features\":\"given\"")).count(), 3);
}

#[test]
fn a_killed_search_goes_on_where_it_was() {
    let place = Place::new(WAITERS);
    let search = |state: &str| place.search("reference", state, &["--every-message", "--most", "150"]);
    let whole = search("whole").output().unwrap();
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
    assert_eq!(place.results("whole").len(), 151);

    let mut child = search("killed").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while place.results("killed").len() < 32 && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let at_the_kill = place.results("killed").len();
    assert!((32..151).contains(&at_the_kill), "{at_the_kill}");
    let resumed = search("killed").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed));
    assert!(text(&resumed).contains(&format!("({} now", 151 - at_the_kill)), "{}", text(&resumed));
    assert_eq!(place.results("killed"), place.results("whole"));
}

#[test]
fn what_makes_no_sense_is_one_sentence() {
    let place = Place::new(WAITERS);
    let neither = place.search("reference", "state", &[]).output().unwrap();
    assert_eq!(neither.status.code(), Some(2), "{}", text(&neither));
    assert!(text(&neither).starts_with("error: which neighbours? Name them with --every-poll"), "{}", text(&neither));
    let no_file = place.command(&["search", "--pool", "reference", "--every-poll"]).output().unwrap();
    assert_eq!(no_file.status.code(), Some(2), "{}", text(&no_file));
}

/// A message is named by its dial, its direction and its number; what befalls it there is told as the fault's beginning.
#[test]
fn a_fault_at_a_message_strikes_there() {
    let fault =
        |keys: &str| format!("{WAITERS}\n[[fault]]\nat = \"0s\"\ndo = \"net.message\"\nconnection = 1\n{keys}\n");
    let cases = [
        (
            "direction = \"to-server\"\nmessage = 2\nwhat = \"cut\"",
            "gets a RST at both ends before the app's message 2",
        ),
        (
            "direction = \"to-app\"\nmessage = 1\nmoment = \"after\"\nwhat = \"silence\"",
            "is forgotten by a firewall after the server's message 1",
        ),
        (
            "direction = \"to-server\"\nmessage = 2\nwhat = \"delay\"\nby = \"30ms\"",
            "stalls for 30ms before the app's message 2",
        ),
        ("direction = \"to-server\"\nmessage = 2\nwhat = \"terminate\"", "57P01"),
        ("direction = \"to-server\"\nmessage = 1\nwhat = \"starve\"", "53200"),
        ("direction = \"to-server\"\nmessage = 2\nwhat = \"starve\"", "53200"),
        (
            "direction = \"to-server\"\nmessage = 2\nmoment = \"after\"\nwhat = \"cancel\"",
            "has its backend's statement cancelled after the app's message 2",
        ),
    ];
    let traced = |keys: &str| {
        let place = Place::new(&fault(keys));
        let ran = place.command(&["run", "file.toml", "--pool", "reference", "--trace", "trace"]).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
        fs::read_to_string(place.path().join("trace")).unwrap()
    };
    for (keys, told) in cases {
        let trace = traced(keys);
        assert!(trace.contains(told), "{told}\n{trace}");
    }
    let never = traced("direction = \"to-server\"\nmessage = 900\nwhat = \"cut\"");
    assert!(!never.contains("gets a RST"), "{never}");
    for (keys, wrong) in [
        ("direction = \"to-server\"\nmessage = 2\nwhat = \"delay\"", "`by` is missing"),
        ("direction = \"to-server\"\nmessage = 2\nwhat = \"cut\"\nby = \"30ms\"", "`by` is for `what = \"delay\"`"),
        ("direction = \"both\"\nmessage = 2\nwhat = \"cut\"", "to-server"),
    ] {
        let place = Place::new(&fault(keys));
        let checked = place.command(&["check", "file.toml"]).output().unwrap();
        assert_eq!(checked.status.code(), Some(2), "{}", text(&checked));
        assert!(text(&checked).contains(wrong), "{wrong}\n{}", text(&checked));
    }
}

/// A COMMIT that fails before it is at work leaves a failed transaction, which the application rolls back.
#[test]
fn a_commit_that_finds_no_memory_is_rolled_back() {
    let writes = WAITERS
        .replace("[app.web]", "[server]\nsql = \"CREATE TABLE note (actor int)\"\n[app.web]")
        .replace("arrive", "on_error = \"rollback\"\narrive")
        .replace("\"sql SELECT 1\"", "\"begin\", \"sql INSERT INTO note VALUES ($actor)\", \"commit\"");
    let fault = "[[fault]]\nat = \"0s\"\ndo = \"net.message\"\nconnection = 1\ndirection = \"to-server\"\nmessage = 4\n\
                 what = \"starve\"\n";
    let place = Place::new(&format!("{writes}\n{fault}"));
    let ran = place.command(&["run", "file.toml", "--pool", "reference", "--trace", "trace"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
    let trace = fs::read_to_string(place.path().join("trace")).unwrap();
    let sent: Vec<&str> = trace.lines().filter(|line| line.contains("\"sql_start\",\"actor\":1,")).collect();
    let [_, _, commit, rollback] = sent.as_slice() else { panic!("{trace}") };
    assert!(commit.contains("COMMIT") && rollback.contains("ROLLBACK"), "{sent:?}");
    assert!(trace.contains("53200"), "{trace}");
}

/// A connection that is opened in the instant in which its flow is forgotten is not known to be well.
#[test]
fn a_cut_in_the_instant_in_which_a_connection_is_opened_is_not_the_pools() {
    for fault in [
        "do = \"net.forget\"",
        "do = \"net.message\"\nconnection = 1\ndirection = \"to-app\"\nmessage = 16\nmoment = \"after\"\nwhat = \"silence\"",
    ] {
        let at = if fault.contains("message") { "0s" } else { "6ms" };
        let place = Place::new(&format!("{CHECKED}\n[[fault]]\nat = \"{at}\"\n{fault}\n"));
        let shown = place.command(&["show", "file.toml", "--pool", "reference"]).output().unwrap();
        assert_eq!(shown.status.code(), Some(0), "{}", text(&shown));
        assert!(text(&shown).contains("forget") || text(&shown).contains("forgotten"), "{}", text(&shown));
    }
}

/// Another order is another run, and the same each time.
#[test]
fn another_order_is_another_run_and_the_same_each_time() {
    let place = Place::new(CHECKED);
    let trace = |order: Option<u32>, name: &str| {
        let line = order.map_or_else(String::new, |order| format!("interleave = {order}\n"));
        fs::write(place.path().join("ordered.toml"), CHECKED.replace("seeds = [1]\n", &format!("seeds = [1]\n{line}")))
            .unwrap();
        let ran = place.command(&["run", "ordered.toml", "--pool", "reference", "--trace", name]).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
        fs::read_to_string(place.path().join(name)).unwrap()
    };
    let own = trace(None, "own");
    let others: Vec<String> = (0..4).map(|order| trace(Some(order), "other")).collect();
    assert!(others.iter().any(|other| *other != own));
    assert!(others.windows(2).any(|two| two[0] != two[1]));
    assert_eq!(trace(Some(3), "again"), others[3]);
}
