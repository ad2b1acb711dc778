//! The JSON Schema of scenario files, for completion and help in editors.
//!
//! The types here describe the file as it is written; they are never constructed. The parser reads files by hand (its
//! errors are better), so a test compares the keys of every table with those that the parser knows. A fault's schema is
//! made from the parser's own list of faults.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::parse::FAULTS;

/// The schema as text, as it is kept in `scenarios/scenario.schema.json`.
#[must_use]
pub fn schema() -> String {
    let mut schema = schemars::schema_for!(ScenarioFile).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), json!("poolproof scenario"));
        // Taplo's directive `#:schema` is a comment, so the file itself has no `$schema` key.
        root.remove("$id");
    }
    let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value can be printed");
    text.push('\n');
    text
}

/// A text that must look like a pattern.
macro_rules! text_type {
    ($(#[doc = $doc:literal])+ $name:ident, $pattern:literal) => {
        $(#[doc = $doc])+
        struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_type!(
    /// `250ms`, `5s`, `1h30m`
    Duration,
    r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"
);
text_type!(
    /// A duration or `never`.
    Timeout,
    r"^(never|(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?)$"
);
text_type!(
    /// `80/s`
    Rate,
    r"^[0-9.]+ */ *(s|m|min|h)$"
);
text_type!(
    /// `1MiB/s`
    Bandwidth,
    r"^\d+ *([kMG]|[KMG]i)?B/s$"
);
text_type!(
    /// `<= 20`, `= 0`, `>= 95%`, `< 2s`
    Comparison,
    r"^\s*(=|<=?|>=?)\s*\d[\w.]*\s*%?\s*$"
);

/// One scenario for connection pools: a server, apps, traffic, what goes wrong, and what must hold.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct ScenarioFile {
    /// One line: what happens.
    title: String,
    /// The story, for a reader who has never seen the code.
    story: String,
    /// The seeds of a run: a list, or a range like "1..=8". Default "1..=4".
    seeds: Option<Seeds>,
    /// Another order among what is ready at the same time, drawn from this number and the seed. Default: the runtime's own.
    interleave: Option<u64>,
    /// The pools that the story is about: `run`, `compare` and `cargo test` use these. Default: every published one.
    pools: Option<Vec<String>>,
    /// The PostgreSQL server, whose host is `db`.
    server: Option<Server>,
    /// A second server, which can be promoted; its host is `standby`.
    standby: Option<Standby>,
    /// The network between apps and servers.
    network: Option<Network>,
    /// Client programs by name, each with pools of its own.
    app: BTreeMap<String, App>,
    /// Queues of jobs by name: what a step puts, a worker takes.
    queue: Option<BTreeMap<String, Queue>>,
    /// Traffic by name: actors arrive, each runs the steps once.
    workload: BTreeMap<String, Workload>,
    /// What goes wrong.
    fault: Option<Vec<Fault>>,
    /// What must hold.
    expect: Expect,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum Seeds {
    List(Vec<u64>),
    Range(#[schemars(regex(pattern = r"^\d+\.\.=\d+$"))] String),
}

/// A value of a setting.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum Scalar {
    Text(String),
    Number(f64),
    Truth(bool),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Server {
    /// PostgreSQL's major version: 15, 16 or 17. Default 15.
    #[schemars(range(min = 15, max = 17))]
    version: Option<u32>,
    /// Slots for connections, reserved ones included. Default 100.
    #[schemars(range(min = 1, max = 262_143))]
    max_connections: Option<u32>,
    /// Slots that only superusers get. Default 3.
    superuser_reserved_connections: Option<u32>,
    /// How clients authenticate. Default "trust".
    auth: Option<Auth>,
    /// Other settings of postgresql.conf by name: `idle_in_transaction_session_timeout = "30s"`.
    settings: Option<BTreeMap<String, Scalar>>,
    /// Roles by name, beside `app` and the superuser `postgres`.
    role: Option<BTreeMap<String, Role>>,
    /// CONNECTION LIMIT of the database. Default none.
    database_connection_limit: Option<u32>,
    /// Statements run before the scenario starts: tables and their rows.
    sql: Option<String>,
    /// How long statements take.
    cost: Option<Vec<Cost>>,
    /// From the start of its process until it accepts sessions. Default "200ms".
    startup_time: Option<Duration>,
    /// The additional time for recovery after a crash or an immediate stop. Default "500ms".
    recovery_time: Option<Duration>,
    /// From an accepted TCP connection until ReadyForQuery. Default "2ms".
    fork_time: Option<Duration>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes files")]
enum Auth {
    /// No password is asked for.
    #[schemars(rename = "trust")]
    Trust,
    /// SCRAM, which costs both sides computing time.
    #[schemars(rename = "scram-sha-256")]
    ScramSha256,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Role {
    /// Whether it may use the reserved slots and terminate any session. Default false.
    superuser: Option<bool>,
    /// CONNECTION LIMIT. Default none.
    connection_limit: Option<u32>,
    /// Its password, for `auth = "scram-sha-256"`.
    password: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Cost {
    /// A LIKE pattern on the statement's text: `SELECT sum%`.
    like: String,
    /// How long such a statement takes, once it has its locks.
    takes: Option<Duration>,
    /// Longer by this for each row read.
    per_row: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Standby {
    /// Whether it accepts read-only sessions before it is promoted. Default true.
    hot_standby: Option<bool>,
    /// How long a promotion takes. Default "500ms".
    promotion_time: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Network {
    /// One way. Default "1ms".
    latency: Option<Duration>,
    /// Up to this much more, at random. Default "0s".
    jitter: Option<Duration>,
    /// Bytes a second in each direction: "1MiB/s". Default unlimited.
    bandwidth: Option<Bandwidth>,
    /// A firewall on the way silently forgets flows idle for longer. Default "never".
    idle_flow_timeout: Option<Timeout>,
    /// How long apps cache a host's address. Default "0s": asked at each dial.
    dns_ttl: Option<Duration>,
    /// Socket options of the apps' ends.
    client: Option<Client>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Client {
    /// TCP keepalive: false, or its timers. Default on, with Linux's timers (2 hours, 75 s, 9 probes).
    keepalive: Option<KeepaliveOrNot>,
    /// TCP_USER_TIMEOUT. Default "never": retransmission gives up after about 15 minutes.
    user_timeout: Option<Timeout>,
    /// How long a dial may take. Default "never": as long as TCP tries.
    connect_timeout: Option<Timeout>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum KeepaliveOrNot {
    Switch(bool),
    Timers(Keepalive),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Keepalive {
    /// Idle time before the first probe (tcp_keepalive_time). Default "2h".
    idle: Option<Duration>,
    /// Time between probes (tcp_keepalive_intvl). Default "75s".
    interval: Option<Duration>,
    /// Probes without an answer until the connection is dead (tcp_keepalive_probes). Default 9.
    #[schemars(range(min = 1, max = 127))]
    count: Option<u32>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct App {
    /// How many identical processes, each with a pool, or "per request": one for each actor, as CGI does. Default 1.
    processes: Option<Processes>,
    /// When its garbage collector runs by itself: at `threshold` allocations, or "never", the default.
    collector: Option<CollectorOrNot>,
    /// Whether its driver lets other actors of the process run while one waits for the server. Default true.
    cooperative: Option<bool>,
    /// The role it connects as. Default "app".
    user: Option<String>,
    /// Its pool's settings, by the names that most pools have.
    pool: Option<Pool>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum Processes {
    Count(#[schemars(range(min = 1, max = 1000))] u32),
    PerRequest(#[schemars(regex(pattern = "^per request$"))] String),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum CollectorOrNot {
    Never(#[schemars(regex(pattern = "^never$"))] String),
    Threshold(Collector),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Collector {
    /// It runs after so many allocations (the step `allocate`).
    #[schemars(range(min = 1))]
    threshold: u32,
    /// Allocations inside each acquire, where some pools hold a lock. Default 0.
    acquire: Option<u32>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Queue {
    /// In the memory of each process of this app, and lost with it. Default: in a broker, which all apps reach.
    app: Option<String>,
    /// When a job is forgotten by the queue: "early" when it is taken, "late" when it is done. Default "early".
    acknowledge: Option<Acknowledge>,
    /// How often a job is put again whose actor failed. Default 0.
    max_retries: Option<u32>,
    /// The time before it is put again. Default "0s".
    countdown: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum Acknowledge {
    /// When it is taken: a worker that dies takes the job with it.
    Early,
    /// When it is done: the job of a worker that dies is taken by another one.
    Late,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Pool {
    /// At most this many connections; "unlimited" sets no bound. Default 10.
    max_size: Option<MaxSize>,
    /// At least this many idle connections are kept. Default 0.
    min_idle: Option<u32>,
    /// At most this many idle connections are kept; more are closed when they come back. Default: max_size.
    max_idle: Option<u32>,
    /// How long an acquire may take; "never" waits for ever. Default "30s".
    acquire_timeout: Option<Timeout>,
    /// A connection idle for longer is closed. Default "never".
    idle_timeout: Option<Timeout>,
    /// A connection older than this is closed when it is next idle. Default "never".
    max_lifetime: Option<Timeout>,
    /// Whether a connection is checked with a query before it is handed out. Default false.
    test_on_acquire: Option<bool>,
    /// What happens to a session when it is returned. Default "none".
    reset_on_return: Option<Reset>,
    /// Which idle connection is handed out next. Default: the pool's own.
    order: Option<Order>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum MaxSize {
    Number(#[schemars(range(min = 1, max = 10_000))] u32),
    Unlimited(Unlimited),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum Unlimited {
    /// No bound.
    Unlimited,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum Reset {
    /// Nothing.
    None,
    /// ROLLBACK when a transaction is open.
    Rollback,
    /// COMMIT when a transaction is open.
    Commit,
    /// DISCARD ALL, or the pool's own nearest.
    Discard,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum Order {
    /// The one idle for longest.
    Fifo,
    /// The one returned last.
    Lifo,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Workload {
    /// The app it belongs to; its actors are spread over the app's processes in turn.
    app: String,
    /// When actors arrive.
    arrive: Arrive,
    /// No actor arrives before this. Default "0s".
    from: Option<Duration>,
    /// No actor arrives at or after this. Default: the end, `until` of `[expect]`.
    until: Option<Duration>,
    /// What an actor does, step by step.
    steps: Vec<Step>,
    /// What an actor does when a step fails. Default "stop".
    on_error: Option<OnError>,
    /// What an actor does at its end, also after a failed step; not when it panics, is abandoned or killed.
    finally: Option<Vec<Step>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum OnError {
    /// It ends, and drops what it holds.
    Stop,
    /// It goes on with the next step.
    Continue,
    /// It sends ROLLBACK if it is in a transaction, then ends.
    Rollback,
}

#[derive(JsonSchema)]
#[schemars(untagged, deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
enum Arrive {
    /// "never": only when another workload spawns them.
    Never(#[schemars(regex(pattern = "^never$"))] String),
    /// At given times.
    At {
        /// The times: ["1s", "2s"].
        at: Vec<Duration>,
    },
    /// At random.
    Poisson {
        /// How many on average: "80/s".
        poisson: Rate,
    },
    /// Many at once.
    Burst {
        /// How many at once.
        burst: u32,
        /// Again each interval. Default: once.
        every: Option<Duration>,
    },
    /// A closed loop.
    Workers {
        /// How many workers, each of which starts over when it has ended.
        workers: u32,
        /// The pause between a worker's end and its next start. Default "0s".
        pause: Option<Duration>,
    },
    /// One for each job of a queue.
    Jobs {
        /// The queue.
        jobs: String,
        /// How many workers, each of which takes the next job when it has ended one.
        workers: u32,
    },
    /// One each interval.
    Every {
        /// The interval.
        every: Duration,
    },
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum Step {
    /// A step: "acquire", "acquire within 2s", "sql SELECT 1", "prepared SELECT 1", "expect row SELECT 1", "begin",
    /// "commit", "rollback", "hold 5ms..20ms", "release", "leak", "lose", "abandon after 5ms", "panic", "detach",
    /// "invalidate", "close pool", "new pool", "drop pool", "dispose pool", "lose pool", "collect", "allocate 100", "session", "flush
    /// STATEMENT", "remove session", "put QUEUE PAYLOAD", "take QUEUE", "done QUEUE", "join QUEUE", "kill NAME",
    /// "resize 5", "status", "spawn NAME", "spawn NAME and wait"; with "cancel after 10ms: ", "cancel at poll 2: ",
    /// "cancel at wake 1: " or "cancel at every poll: " before it, its future is dropped.
    Text(String),
    /// A repetition.
    Repetition(Repetition),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Repetition {
    /// How often. Either this or `while`.
    #[schemars(range(min = 1))]
    repeat: Option<u32>,
    /// As long as this queue has jobs to take.
    r#while: Option<String>,
    /// What is repeated.
    steps: Vec<Step>,
    /// When the whole repetition is cancelled: "after 10ms", "at poll 2". Default never.
    cancel: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Expect {
    /// The end: faults end, no actor arrives any more.
    until: Duration,
    /// How long healing may take before it is judged. Default "2m".
    healing: Option<Duration>,
    /// Bounds of invariants: "recovery within 1s of server-up", "bounded-bypass at most 3". All are judged in any case.
    holds: Option<Vec<String>>,
    /// What a pool must be able to do for this scenario to make sense: "idle_timeout".
    needs: Option<Vec<String>>,
    /// Known bugs of published pools. Strict: they must show.
    known: Option<Vec<Known>>,
    /// What the story itself violates, by the application's doing. Strict: each must show with every seed.
    violation: Option<Vec<Declared>>,
    /// Error texts that must show.
    error: Option<Vec<ErrorCheck>>,
    /// Invariants that are excused here, and why.
    excuse: Option<Vec<Excuse>>,
    /// Statements run at the end, with the value they must return.
    sql: Option<Vec<SqlCheck>>,
    /// Bounds on figures: `peak_connections = "<= 20"`.
    figures: Option<BTreeMap<String, Figure>>,
}

/// A comparison, or a table of them (`errors.timeout = "= 0"`).
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes files")]
enum Figure {
    Comparison(Comparison),
    Table(BTreeMap<String, Figure>),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Known {
    /// The pool that has the bug.
    pool: String,
    /// The versions that have it, as in Cargo.toml: "<=0.9.1".
    versions: String,
    /// The invariant that it violates.
    violates: String,
    /// Where it is described.
    link: String,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Excuse {
    /// The invariant that may be violated.
    invariant: String,
    /// Only for this pool. Default: every pool.
    pool: Option<String>,
    /// Why.
    why: String,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct Declared {
    /// The invariant that the story violates.
    invariant: String,
    /// Only with this pool. Default: with every pool.
    pool: Option<String>,
    /// What the application does.
    because: String,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct ErrorCheck {
    /// The error's text, or a part of it.
    text: String,
    /// How often it comes: "= 3". Default: at least once.
    count: Option<Comparison>,
    /// When it comes first, since the start of the run: "< 2m".
    first: Option<Comparison>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes files")]
struct SqlCheck {
    /// A query of one row and one column, run as superuser when all is over.
    query: String,
    /// Its value.
    equals: Scalar,
}

/// All keys that some fault has.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes files")]
struct FaultKeys {
    /// When.
    at: Duration,
    /// Again each interval, until the end. Default: once.
    every: Option<Duration>,
    /// Which server. Default "db".
    server: Option<ServerName>,
    /// How the server stops. Default "fast".
    mode: Option<Mode>,
    /// How long it stays down before it starts again.
    down_for: Option<Duration>,
    /// How much longer each statement (a manager's method) takes; how much later what follows a message comes.
    by: Option<Duration>,
    /// How long it lasts. Default: until the end.
    r#for: Option<Duration>,
    /// The app it is for. Default: all.
    app: Option<String>,
    /// Only sessions in this state. Default: any.
    state: Option<State>,
    /// Only connections (processes, actors) that are at least this old. Default: of any age.
    older_than: Option<Duration>,
    /// At most this many, the oldest first. Default: all; one for server.crash_backend.
    count: Option<u32>,
    /// The setting's name.
    setting: Option<String>,
    /// The setting's new value.
    value: Option<Scalar>,
    /// The statements.
    sql: Option<String>,
    /// How many sessions.
    sessions: Option<u32>,
    /// The role. Default "app".
    user: Option<String>,
    /// The new latency, one way.
    latency: Option<Duration>,
    /// Up to this much more, at random. Default "0s".
    jitter: Option<Duration>,
    /// Bytes a second in each direction.
    bandwidth: Option<Bandwidth>,
    /// Which direction is lost. Default "both".
    direction: Option<Direction>,
    /// The idle time after which a flow is forgotten.
    timeout: Option<Duration>,
    /// The server that `db` means from now on.
    to: Option<ServerName>,
    /// Which process of the app, from 1. Default: all.
    process: Option<u32>,
    /// The workload whose actors it is for.
    workload: Option<String>,
    /// A new process starts after this time. Default: none starts.
    restart_after: Option<Duration>,
    /// The manager's method.
    call: Option<Call>,
    /// Which connection: the n-th dial of the run, from 1.
    connection: Option<u32>,
    /// Which protocol message of the direction, from 1. StartupMessage is the app's first.
    message: Option<u32>,
    /// Before the message's first byte or after its last. Default "before".
    moment: Option<MessageMoment>,
    /// What befalls the connection.
    what: Option<AtMessage>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum Call {
    /// Makes a resource.
    Connect,
    /// Asks whether it works.
    Check,
    /// Makes it as good as new.
    Reset,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum MessageMoment {
    Before,
    After,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum AtMessage {
    /// Both ends get a RST.
    Cut,
    /// From here on its segments are dropped silently.
    Silence,
    /// What follows comes `by` later.
    Delay,
    /// Its backend is terminated: the server answers with 57P01 and closes.
    Terminate,
    /// `pg_cancel_backend`: a statement that runs ends with 57014; nothing happens where none runs.
    Cancel,
    /// Its backend finds no memory for the next message that it works on: ERROR 53200, or FATAL in a startup.
    Starve,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum ServerName {
    Db,
    Standby,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes files")]
enum Mode {
    /// Waits for the sessions to end.
    Smart,
    /// Ends the sessions with an error.
    Fast,
    /// Ends the processes; recovery follows at the next start.
    Immediate,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes files")]
enum State {
    #[schemars(rename = "idle")]
    Idle,
    #[schemars(rename = "active")]
    Active,
    #[schemars(rename = "idle in transaction")]
    IdleInTransaction,
    #[schemars(rename = "idle in transaction (aborted)")]
    Aborted,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "it describes files")]
enum Direction {
    Both,
    ToServer,
    ToApp,
}

/// A fault of one of the parser's kinds.
struct Fault;

impl JsonSchema for Fault {
    fn schema_name() -> Cow<'static, str> {
        "Fault".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let all = FaultKeys::json_schema(generator).to_value();
        let key = |name: &str| all["properties"][name].clone();
        let kinds: Vec<Value> = FAULTS
            .iter()
            .map(|kind| {
                let mut properties = Map::new();
                properties.insert("at".to_owned(), key("at"));
                properties.insert("every".to_owned(), key("every"));
                properties.insert("do".to_owned(), json!({ "const": kind.name, "description": kind.meaning }));
                for name in kind.needs.iter().chain(kind.takes) {
                    properties.insert((*name).to_owned(), key(name));
                }
                let required: Vec<&str> = ["at", "do"].iter().chain(kind.needs).copied().collect();
                json!({
                    "type": "object",
                    "description": kind.meaning,
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            })
            .collect();
        json_schema!({ "description": "What is done to the server, the network or an app.", "oneOf": kinds })
    }
}
