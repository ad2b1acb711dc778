//! Real servers, as the world `postgres` has them: each test runs on a server of this machine's programs (`local::…`)
//! and on one in a container (`docker::…`).
//!
//! Where there is no PostgreSQL or no Docker with the image, its tests are told as ignored, with the reason; with
//! `CI=true` that is a failure. `POOLPROOF_POSTGRES_IMAGE` names the image.

mod control;
mod left_behind;
mod life;
mod setup;
#[path = "../common/skipped.rs"]
mod skipped;
mod standby;
mod url;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use poolproof::scenario;
use poolproof::world::postgres::server::{Kind, Server, Setup, Source, Wanted};
use tokio_postgres::{Client, Config, NoTls};

use skipped::skipped;

/// What a test says.
type Result<T = ()> = std::result::Result<T, Failed>;

/// So many at once: they mostly wait.
const AT_ONCE: usize = 4;
/// How long anything may take that comes by itself.
const LIMIT: Duration = Duration::from_secs(20);

/// What a test gets.
#[derive(Clone)]
struct Place {
    source: Arc<Source>,
    kind: Kind,
}

type Test = fn(&Place) -> Result;

/// On every kind of server that poolproof makes.
const EVERYWHERE: [(&str, Test); 15] = [
    ("life::each_stop_and_the_next_start", life::each_stop_and_the_next_start),
    ("life::a_smart_stop_waits_for_sessions", life::a_smart_stop_waits_for_sessions),
    ("life::a_killed_server_recovers", life::a_killed_server_recovers),
    ("life::a_killed_backend_makes_it_recover", life::a_killed_backend_makes_it_recover),
    ("life::a_refused_setting_is_told", life::a_refused_setting_is_told),
    ("control::backends_and_their_ends", control::backends_and_their_ends),
    ("control::a_reload_is_for_all", control::a_reload_is_for_all),
    ("control::a_paused_server_is_silent", control::a_paused_server_is_silent),
    ("control::its_log_can_be_followed", control::its_log_can_be_followed),
    ("setup::the_slots_are_the_scenarios", setup::the_slots_are_the_scenarios),
    ("setup::passwords_are_asked_for", setup::passwords_are_asked_for),
    ("standby::it_streams_and_is_promoted", standby::it_streams_and_is_promoted),
    ("standby::without_hot_standby", standby::without_hot_standby),
    ("left_behind::nothing_by_a_drop", left_behind::nothing_by_a_drop),
    ("left_behind::nothing_after_sigkill_and_the_next_one", left_behind::nothing_after_sigkill_and_the_next_one),
];

/// What is for local servers only, or needs but one.
const LOCAL: [(&str, Test); 5] = [
    ("life::of_many_runs_each_has_its_own", life::of_many_runs_each_has_its_own),
    ("left_behind::nothing_by_a_panic", left_behind::nothing_by_a_panic),
    ("left_behind::nothing_by_ctrl_c", left_behind::nothing_by_ctrl_c),
    ("url::a_server_that_is_not_poolproofs", url::a_server_that_is_not_poolproofs),
    ("url::what_is_not_poolproofs_is_left_alone", url::what_is_not_poolproofs_is_left_alone),
];

fn main() -> ExitCode {
    if let Some(code) = left_behind::child() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let mut trials = vec![Trial::test("none_is_found", none_is_found)];
    for (name, kind, own) in [("local", Kind::Local, &LOCAL[..]), ("docker", Kind::Docker, &[][..])] {
        let source = block_on(async { Source::find(&wanted(kind)).await.map_err(|error| error.to_string()) });
        let tests = EVERYWHERE.iter().chain(own);
        trials.extend(tests.map(|(test, run)| trial(format!("{name}::{test}"), *run, kind, &source)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Where nothing may be skipped, a missing server is a failure.
fn trial(name: String, run: Test, kind: Kind, source: &std::result::Result<Arc<Source>, String>) -> Trial {
    match source.clone() {
        Ok(source) => Trial::test(name, move || run(&Place { source, kind })),
        Err(why) => skipped(name, why),
    }
}

fn wanted(kind: Kind) -> Wanted {
    Wanted { url: None, kind: Some(kind), image: std::env::var("POOLPROOF_POSTGRES_IMAGE").ok() }
}

/// What was tried is told when there is none.
fn none_is_found() -> Result {
    block_on(async {
        let image = "poolproof.invalid/no-such-image:1".to_owned();
        let nowhere = Wanted { url: None, kind: Some(Kind::Docker), image: Some(image) };
        let url = Wanted { url: Some("postgresql://nobody@127.0.0.1:1/x".to_owned()), ..Wanted::default() };
        for (wanted, word) in [(nowhere, "docker: "), (url, "url: ")] {
            let error = match Source::find(&wanted).await {
                Ok(source) => return Err(format!("found {}", source.describe()).into()),
                Err(error) => error.to_string(),
            };
            check(error.starts_with("no PostgreSQL is to be had here: ") && error.contains(word), &error)?;
        }
        Ok(())
    })
}

/// A runtime of its own for each test.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the machine has room for a runtime").block_on(work)
}

/// A scenario with this `[server]`, and with this after it.
fn setup(server: &str, more: &str) -> Result<Setup> {
    let text = format!(
        "title = \"t\"\nstory = \"s\"\n[server]\n{server}\n{more}\n[app.web]\n[workload.w]\napp = \"web\"\n\
         arrive = {{ every = \"1s\" }}\nsteps = [\"acquire\", \"release\"]\n[expect]\nuntil = \"10s\"\n"
    );
    let read = scenario::parse("a test", &text);
    read.map(|scenario| Setup::of(&scenario)).map_err(|report| format!("{report:?}").into())
}

impl Place {
    /// A server with this `[server]`.
    async fn server(&self, server: &str) -> Result<Server> {
        let server = self.source.server(setup(server, "")?).await?;
        check(server.kind() == self.kind, "another kind")?;
        Ok(server)
    }
}

/// A session in the database `app`, as an app has it; driven by a task.
async fn session(server: &Server, user: &str) -> std::result::Result<Client, tokio_postgres::Error> {
    session_with(server, user, None).await
}

async fn session_with(
    server: &Server,
    user: &str,
    password: Option<&str>,
) -> std::result::Result<Client, tokio_postgres::Error> {
    let address = server.address();
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user(user).dbname("app").application_name("a test");
    if let Some(password) = password {
        config.password(password);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // The client's calls tell how it ended.
        let _ = connection.await;
    });
    Ok(client)
}

/// SQLSTATE of a failure.
fn code<T>(result: std::result::Result<T, tokio_postgres::Error>) -> String {
    match result {
        Ok(_) => "success".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

fn check(holds: bool, or: &str) -> Result {
    if holds { Ok(()) } else { Err(or.into()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(is: &T, expected: &T) -> Result {
    if is == expected { Ok(()) } else { Err(format!("it is {is:?}, and should be {expected:?}").into()) }
}

/// Until something holds.
async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !holds().await {
        check(tokio::time::Instant::now() < deadline, &format!("not within {LIMIT:?}: {what}"))?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
