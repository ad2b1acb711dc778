//! A suite with pools of one's own, from outside: what is listed, what fails and what doesn't, what `poolproof.toml` does, and
//! where stories go. The executable is both: with [`ROOT`] set it is such a suite, in that folder; without, it tests
//! itself.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use poolproof::pool::reference::{Plant, Planted, Reference};
use poolproof::pool::{Adapter, Capabilities, Connector, Pool, PoolError, PoolSettings, async_trait};
use tempfile::TempDir;

/// The suite's root. Set, this executable is the suite.
const ROOT: &str = "POOLPROOF_TEST_ROOT";

/// A pool that does well, one that opens too many connections, and one of the name of a published one.
fn suite(root: String) -> ExitCode {
    let own = |name, of: Arc<dyn Adapter>| Own { name, of };
    let suite = poolproof::suite!().root(root).pool(own("good", Arc::new(Reference)));
    suite.pool(own("churning", Arc::new(Planted(Plant::Churn)))).pool(own("bb8", Arc::new(Reference))).main()
}

struct Own {
    name: &'static str,
    of: Arc<dyn Adapter>,
}

#[async_trait]
impl Adapter for Own {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> &'static str {
        "0.9.0"
    }

    fn capabilities(&self) -> Capabilities {
        self.of.capabilities()
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        self.of.build(settings, connector).await
    }
}

fn main() -> ExitCode {
    if let Ok(root) = std::env::var(ROOT) {
        return suite(root);
    }
    let tests: [(&str, fn()); 8] = [
        ("every_scenario_with_every_pool_is_a_test", every_scenario_with_every_pool_is_a_test),
        ("what_is_not_declared_fails", what_is_not_declared_fails),
        ("what_is_declared_passes_and_must_show", what_is_declared_passes_and_must_show),
        ("the_files_mistakes_are_told_with_their_places", the_files_mistakes_are_told_with_their_places),
        ("a_bug_that_nothing_can_show_is_a_mistake", a_bug_that_nothing_can_show_is_a_mistake),
        ("a_pool_with_a_published_name_is_ones_own", a_pool_with_a_published_name_is_ones_own),
        ("stories_are_kept_and_compared", stories_are_kept_and_compared),
        ("the_command_line_knows_the_pools", the_command_line_knows_the_pools),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), Vec::from(trials)).exit_code()
}

/// A folder with one scenario of its own, which shows a churn, and this `poolproof.toml`.
fn folder(settings: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("mine/deep")).unwrap();
    fs::write(folder.path().join("mine/deep/steady.toml"), include_str!("planted/steady.toml")).unwrap();
    fs::write(folder.path().join("poolproof.toml"), settings).unwrap();
    folder
}

const OWN_ONLY: &str = "scenarios = [\"mine\"]\n[built_in]\ninclude = []\n";

fn known(violates: &str, scenario: &str, more: &str) -> String {
    format!("[[known]]\nscenarios = [\"{scenario}\"]\nviolates = \"{violates}\"\nlink = \"K.md#k\"\n{more}\n")
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).current_dir(folder).env(ROOT, folder).env_remove("CI").env("INSTA_UPDATE", "no");
    command
}

fn run(folder: &TempDir, arguments: &[&str]) -> Output {
    command(folder.path(), arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

#[track_caller]
fn passes(output: &Output) -> String {
    let text = text(output);
    assert!(output.status.success(), "{text}");
    text
}

#[track_caller]
fn fails(output: &Output, parts: &[&str]) {
    let text = text(output);
    assert!(!output.status.success(), "{text}");
    for part in parts {
        assert!(text.contains(part), "no \"{part}\" in: {text}");
    }
}

fn every_scenario_with_every_pool_is_a_test() {
    let listed = passes(&run(&folder("scenarios = [\"mine\"]"), &["--list", "--format", "terse"]));
    for name in
        ["steady::good: test", "server_crash::churning: test", "resize_in_use::bb8: test", "invalidate::good: test"]
    {
        assert!(listed.lines().any(|line| line.ends_with(name)), "no {name} in: {listed}");
    }
    let listed = passes(&run(&folder("[built_in]\ninclude = [\"lifecycle\"]\nexclude = [\"detach\"]"), &["--list"]));
    assert!(listed.contains("resize_in_use::good") && !listed.contains("server_crash") && !listed.contains("detach"));
    // Where nothing is said, the built-in ones are run; and an exact name is one test, as nextest asks for it.
    let folder = tempfile::tempdir().unwrap();
    assert!(passes(&run(&folder, &["--list"])).contains("server_crash::good"));
    let one = passes(&run(&folder, &["--exact", "resize_before_use::good", "--nocapture"]));
    assert!(one.contains("1 passed; 0 failed; 0 ignored"), "{one}");
}

fn what_is_not_declared_fails() {
    let folder = folder(OWN_ONLY);
    passes(&run(&folder, &["steady::good"]));
    let output = run(&folder, &["steady::churning"]);
    let replay = "cargo test --test own_pools -- poolproof show mine/deep/steady.toml --pool churning --seed 1";
    fails(&output, &["churning does not come out as mine/deep/steady.toml expects", "violates demand at", replay]);
}

fn what_is_declared_passes_and_must_show() {
    let declared = known("demand", "steady", "pool = \"churning\"");
    passes(&run(&folder(&format!("{OWN_ONLY}{declared}")), &["steady"]));
    let declared = known("demand", "steady", "");
    let output = run(&folder(&format!("{OWN_ONLY}{declared}")), &["steady::good"]);
    fails(&output, &["the known bug demand (K.md#k) did not show with any seed"]);
    let other_versions = known("demand", "steady", "pool = \"churning\"\nversions = \"<0.9\"");
    fails(&run(&folder(&format!("{OWN_ONLY}{other_versions}")), &["steady::churning"]), &["violates demand"]);
    // Seeds are those of the file.
    let seeds = format!("seeds = [77]\n{OWN_ONLY}");
    fails(&run(&folder(&seeds), &["steady::churning"]), &["seed 77: violates demand", "--seed 77"]);
}

fn the_files_mistakes_are_told_with_their_places() {
    let wrong = "scenarois = [\"mine\"]\n[built_in]\nexclude = [\"server_crahs\"]\n[[known]]\nscenarios = [\"failover\"]\n\
                 violates = \"demnad\"\nlink = \"https://example.org\"\npool = \"godo\"\n";
    let parts = [
        "poolproof.toml: 4 mistakes",
        "poolproof.toml:1:1",
        "did you mean `scenarios`?",
        "poolproof.toml:3:12",
        "did you mean `server_crash`?",
        "poolproof.toml:6:12",
        "did you mean `demand`?",
        "poolproof.toml:8:8",
        "did you mean `good`?",
    ];
    fails(&run(&folder(wrong), &["--list"]), &parts);
    // A scenario's own mistakes are told as ever.
    let folder = folder(OWN_ONLY);
    let path = folder.path().join("mine/deep/steady.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("title", "titel")).unwrap();
    fails(&run(&folder, &["--list"]), &["mine/deep/steady.toml: 1 mistake", "did you mean `title`?"]);
}

fn a_bug_that_nothing_can_show_is_a_mistake() {
    // The reference pool has no `dispose`; a scenario that needs it is run with none of these pools.
    let folder = folder(&format!("{OWN_ONLY}{}", known("demand", "steady", "")));
    let path = folder.path().join("mine/deep/steady.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("[expect]\n", "[expect]\nneeds = [\"dispose\"]\n"))
        .unwrap();
    fails(&run(&folder, &["--list"]), &["the known bug demand (K.md#k) can't show"]);
}

fn a_pool_with_a_published_name_is_ones_own() {
    // What this scenario declares of bb8 0.9.1 and before must show with bb8; here it is the reference pool.
    let folder = folder("seeds = [1]");
    passes(&run(&folder, &["--exact", "connect_silent::bb8"]));
}

fn stories_are_kept_and_compared() {
    let folder = folder(&format!("stories = \"told\"\n{OWN_ONLY}"));
    let story = folder.path().join("told/deep/steady/good.snap");
    fails(&run(&folder, &["steady::good"]), &["the story of seed 1 is not the reviewed one", "cargo insta review"]);
    let accepted = command(folder.path(), &["steady::good"]).env("INSTA_UPDATE", "unseen").output().unwrap();
    passes(&accepted);
    passes(&run(&folder, &["steady::good"]));
    passes(&run(&folder, &["stories"]));
    let kept = fs::read_to_string(&story).unwrap();
    assert!(kept.contains("source: harness/tests/own_pools.rs"), "{kept}");
    fs::write(&story, kept.replace("seed 1", "seed 2")).unwrap();
    fails(&run(&folder, &["steady::good"]), &["the story of seed 1 is not the reviewed one"]);
    fs::write(folder.path().join("told/deep/steady/gone.snap"), "").unwrap();
    fails(&run(&folder, &["stories"]), &["no test makes these any more, remove them: told/deep/steady/gone.snap"]);
}

fn the_command_line_knows_the_pools() {
    let folder = folder("");
    let shown = run(&folder, &["poolproof", "show", "built-in/lifecycle/resize_before_use.toml", "--pool", "good"]);
    assert!(passes(&shown).contains("good 0.9.0, seed 1"));
    // Its file names published pools.
    let story = run(&folder, &["poolproof", "run", "built-in/lifecycle/invalidate.toml", "--seed", "1"]);
    assert!(text(&story).contains("invalidate  good"), "{}", text(&story));
    let table = run(&folder, &["poolproof", "run", "mine", "--seed", "1"]);
    fails(&table, &["FAILED: demand", "2 pass, 1 FAILED"]);
    assert!(passes(&run(&folder, &["poolproof", "list", "pools"])).contains("churning 0.9.0"));
}
