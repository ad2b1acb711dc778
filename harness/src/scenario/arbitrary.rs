//! Any valid scenario, for proptest: what the parser can yield, no more.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::model::*;

/// The end of the fault phase is never before this, and every fault before it.
const END_MS: u64 = 3_600_000;

pub(crate) fn scenario() -> impl Strategy<Value = Scenario> {
    let people = (server(), option::of(standby()), network(), btree_map(name("a"), app(), 1..4));
    (people, any::<proptest::sample::Index>()).prop_flat_map(|((mut server, standby, network, apps), index)| {
        let mut apps: IndexMap<String, App> = apps.into_iter().collect();
        // A role beyond the default ones is used by an app.
        if let Some(role) = server.roles.keys().next() {
            let chosen = index.index(apps.len());
            apps[chosen].user.clone_from(role);
        }
        server.superuser_reserved_connections = server.superuser_reserved_connections.min(server.max_connections - 1);
        let pools = vec(select(vec!["bb8", "queuepool"]).prop_map(str::to_owned), 0..3);
        let texts = (line(), text(), seeds(), option::of(0u64..1_000), pools, queue());
        let traffic = workloads(apps.keys().cloned().collect());
        let faults = vec(fault(apps.clone(), standby.is_some()), 0..6);
        (texts, traffic, faults, expect()).prop_map(move |(texts, workloads, faults, expect)| {
            let (title, story, seeds, interleave, pools, queue) = texts;
            let queues = IndexMap::from([(QUEUE.to_owned(), queue)]);
            let workloads = with_workers(workloads, &apps);
            Scenario {
                title,
                story,
                seeds,
                interleave,
                server: server.clone(),
                standby: standby.clone(),
                network: network.clone(),
                pools,
                queues,
                apps: apps.clone(),
                workloads,
                faults,
                expect,
            }
        })
    })
}

/// Workers only where processes are there for them, and some for the queue.
fn with_workers(mut workloads: IndexMap<String, Workload>, apps: &IndexMap<String, App>) -> IndexMap<String, Workload> {
    for workload in workloads.values_mut() {
        if apps[&workload.app].processes == Processes::PerRequest && matches!(workload.arrive, Arrive::Workers { .. }) {
            workload.arrive = Arrive::Every(Duration::from_secs(1));
        }
    }
    if let Some((app, _)) = apps.iter().find(|(_, app)| app.processes != Processes::PerRequest) {
        let mailer = Workload {
            app: app.clone(),
            arrive: Arrive::Jobs { queue: QUEUE.to_owned(), workers: 2 },
            from: Duration::ZERO,
            until: None,
            steps: vec![plain(Action::Collect)],
            on_error: OnError::Stop,
            finally: vec![plain(Action::Status)],
        };
        workloads.insert("mailer".to_owned(), mailer);
    }
    workloads
}

/// The queue that every scenario has.
const QUEUE: &str = "tasks";

/// In a broker, which every app reaches.
fn queue() -> impl Strategy<Value = Queue> {
    let acknowledge = select(vec![Acknowledge::Early, Acknowledge::Late]);
    (acknowledge, 0u32..9, millis(90_000)).prop_map(|(acknowledge, max_retries, countdown)| Queue {
        app: None,
        acknowledge,
        max_retries,
        countdown,
    })
}

/// A plain name.
fn name(prefix: &'static str) -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{0,8}".prop_map(move |tail| format!("{prefix}{tail}"))
}

/// One line of text, with all that needs escapes.
fn line() -> impl Strategy<Value = String> {
    "[ -~éß→\\t\"\\\\']{0,20}[!-~]".prop_map(|text| text.trim().to_owned())
}

/// Lines of text.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        line(),
        vec(line(), 2..5).prop_map(|lines| lines.join("\n")),
        Just("a\r\nb\u{1}\"\"\"\u{7f}c".to_owned()),
    ]
}

/// A setting with a value that every version takes, at any time.
fn setting() -> impl Strategy<Value = (String, String)> {
    let known =
        [("statement_timeout", "30s"), ("log_connections", "on"), ("seq_page_cost", "1.5"), ("Work_Mem", "64MB")];
    let known = select(known.to_vec()).prop_map(|(name, value)| (name.to_owned(), value.to_owned()));
    // Those of extensions may be anything.
    prop_oneof![known, ("[a-z_]{1,4}\\.[a-z_]{1,4}", text())]
}

/// A statement that runs on any server, with all that needs escapes.
fn statement() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("SELECT '{}'", text.replace('\'', "''")))
}

fn millis(most: u64) -> impl Strategy<Value = Duration> {
    prop_oneof![0..most.min(100), 0..most].prop_map(Duration::from_millis)
}

fn positive() -> impl Strategy<Value = Duration> {
    millis(400 * 3_600_000).prop_map(|time| time.max(Duration::from_millis(1)))
}

fn maybe() -> impl Strategy<Value = Option<Duration>> {
    option::of(positive())
}

fn seeds() -> impl Strategy<Value = Vec<u64>> {
    let any_seed = 0..=u64::try_from(i64::MAX).expect("it is positive");
    prop_oneof![vec(any_seed, 1..5), (0u64..9, 1u64..9).prop_map(|(from, n)| (from..from + n).collect())]
}

fn server() -> impl Strategy<Value = Server> {
    let slots = (15u32..=17, 1u32..200, 0u32..10, any::<bool>());
    let role = (any::<bool>(), option::of(0u32..50), option::of(line()))
        .prop_map(|(superuser, connection_limit, password)| Role { superuser, connection_limit, password });
    let tables = (
        vec(setting(), 0..3),
        btree_map(name("r"), role, 0..3),
        option::of(0u32..100),
        prop_oneof![Just(String::new()), statement()],
        vec((line(), positive(), millis(1000)), 0..3),
    );
    (slots, tables, millis(9000), millis(9000), millis(90)).prop_map(
        |((version, slots, reserved, scram), (settings, roles, limit, sql, costs), startup, recovery, fork)| Server {
            version,
            max_connections: slots,
            superuser_reserved_connections: reserved,
            auth: if scram { Auth::ScramSha256 } else { Auth::Trust },
            settings: settings.into_iter().collect(),
            roles: roles.into_iter().collect(),
            database_connection_limit: limit,
            sql,
            costs: costs
                .into_iter()
                .map(|(like, takes, per_row)| Cost { like: format!("{}%", like.replace('\\', "")), takes, per_row })
                .collect(),
            startup_time: startup,
            recovery_time: recovery,
            fork_time: fork,
        },
    )
}

fn standby() -> impl Strategy<Value = Standby> {
    (any::<bool>(), millis(9000)).prop_map(|(hot_standby, promotion_time)| Standby { hot_standby, promotion_time })
}

fn bandwidth() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..10_000, (1u64..1000).prop_map(|n| n << 10), (1u64..1000).prop_map(|n| n << 20)]
}

fn network() -> impl Strategy<Value = Network> {
    let keepalive =
        (positive(), positive(), 1u32..=127).prop_map(|(idle, interval, count)| Keepalive { idle, interval, count });
    let client = (option::of(keepalive), maybe(), maybe()).prop_map(|(keepalive, user_timeout, connect_timeout)| {
        SocketOptions { keepalive, user_timeout, connect_timeout }
    });
    (millis(500), millis(500), option::of(bandwidth()), maybe(), millis(90_000), client).prop_map(
        |(latency, jitter, bandwidth, idle_flow_timeout, dns_ttl, client)| Network {
            latency,
            jitter,
            bandwidth,
            idle_flow_timeout,
            dns_ttl,
            client,
        },
    )
}

fn app() -> impl Strategy<Value = App> {
    let times = (maybe(), maybe(), maybe(), any::<bool>());
    let reset = select(vec![Reset::None, Reset::Rollback, Reset::Commit, Reset::Discard]);
    let order = option::of(select(vec![Order::Fifo, Order::Lifo]));
    let sizes = (prop_oneof![1u32..30, Just(PoolSettings::UNLIMITED)], 0u32..30, option::of(0u32..30)).prop_map(
        |(max_size, min_idle, max_idle)| {
            let max_idle = max_idle.map(|max_idle| max_idle.min(max_size));
            (max_size, min_idle.min(max_idle.unwrap_or(max_size)), max_idle)
        },
    );
    let processes = prop_oneof![9 => (1u32..5).prop_map(Processes::Fixed), 1 => Just(Processes::PerRequest)];
    let collector = (1u32..900, 0u32..9).prop_map(|(threshold, acquire)| Collector { threshold, acquire });
    let process = (processes, option::of(collector), any::<bool>());
    (process, sizes, times, reset, order, any::<bool>()).prop_map(
        |(process, (max_size, min_idle, max_idle), times, reset_on_return, order, superuser)| App {
            processes: process.0,
            collector: process.1,
            cooperative: process.2,
            user: if superuser { "postgres" } else { "app" }.to_owned(),
            pool: PoolSettings {
                max_size,
                min_idle,
                max_idle,
                acquire_timeout: times.0,
                idle_timeout: times.1,
                max_lifetime: times.2,
                test_on_acquire: times.3,
                reset_on_return,
                order,
            },
        },
    )
}

fn plain(action: Action) -> Step {
    Step { action, cancel: None }
}

fn cancel() -> impl Strategy<Value = Option<Cancel>> {
    option::of(prop_oneof![
        millis(5000).prop_map(Cancel::After),
        (1u32..9).prop_map(Cancel::AtPoll),
        (1u32..9).prop_map(Cancel::AtWake),
        (1u32..9, 1u32..9).prop_map(|(actor, poll)| Cancel::AtPollOf { actor, poll }),
        (1u32..9, 1u32..9).prop_map(|(actor, wake)| Cancel::AtWakeOf { actor, wake }),
        Just(Cancel::EveryPoll),
    ])
}

/// Steps that need a lease, and steps that need nothing.
fn work(spawns: Vec<String>) -> impl Strategy<Value = Step> {
    let statement = prop_oneof![
        Just("SELECT $actor, $process".to_owned()),
        text().prop_map(|sql| sql.replace('$', "").trim().to_owned())
    ]
    .prop_filter("a statement has some text", |sql| !sql.trim().is_empty());
    let waits = prop_oneof![
        statement.clone().prop_map(Action::Sql),
        statement.clone().prop_map(Action::ExpectRow),
        statement.prop_map(Action::Prepared),
        select(vec![Action::Begin, Action::Commit, Action::Rollback, Action::ClosePool, Action::DisposePool]),
        select(vec![Action::Take(QUEUE.to_owned()), Action::Join(QUEUE.to_owned())]),
        (millis(900), millis(900)).prop_map(|(a, b)| Action::Hold { min: a.min(b), max: a.max(b) }),
    ];
    let waits = (waits, cancel()).prop_map(|(action, cancel)| Step { action, cancel });
    let instant = prop_oneof![
        (0u32..20).prop_map(Action::Resize),
        select(vec![Action::Status, Action::Collect]),
        (1u32..900, 1u32..900).prop_map(|(a, b)| Action::Allocate { min: a.min(b), max: a.max(b) }),
        (millis(900), "[a-z$]{0,9}").prop_map(|(after, payload)| Action::Put {
            queue: QUEUE.to_owned(),
            after,
            payload
        }),
        millis(900).prop_map(|after| Action::Abandon { after }),
    ];
    let spawn = (any::<proptest::sample::Index>(), any::<bool>()).prop_map(move |(index, wait)| match spawns.len() {
        0 => Action::Status,
        len => Action::Spawn { workload: spawns[index.index(len)].clone(), wait },
    });
    prop_oneof![4 => waits, 1 => instant.prop_map(plain), 1 => spawn.prop_map(plain)]
}

/// A lease from its acquire to its end.
fn lease(spawns: Vec<String>) -> impl Strategy<Value = Vec<Step>> {
    let acquire =
        (maybe(), cancel()).prop_map(|(deadline, cancel)| Step { action: Action::Acquire { deadline }, cancel });
    let end = select(vec![Action::Release, Action::Leak, Action::Lose, Action::Invalidate]).prop_map(plain);
    (acquire, 0u32..4, vec(work(spawns), 0..5), end).prop_map(|(acquire, kind, work, end)| {
        let work = work.into_iter();
        match kind {
            0 => [acquire, plain(Action::Detach)].into_iter().chain(work).chain([end]).collect(),
            1 => {
                let flush = plain(Action::Flush("INSERT INTO t VALUES (1)".to_owned()));
                let session = [plain(Action::Session), flush].into_iter();
                session.chain(work).chain([plain(Action::RemoveSession)]).collect()
            }
            2 => {
                let steps = std::iter::once(acquire).chain(work).chain([end]).collect();
                vec![plain(Action::While { queue: QUEUE.to_owned(), steps })]
            }
            _ => std::iter::once(acquire).chain(work).chain([end]).collect(),
        }
    })
}

fn steps(spawns: Vec<String>) -> impl Strategy<Value = Vec<Step>> {
    let leases = vec(lease(spawns), 1..3).prop_map(|leases| leases.concat()).boxed();
    let repeated = (leases.clone(), 1u32..1000, cancel(), any::<bool>()).prop_map(|(steps, times, cancel, deeper)| {
        let repeat = |steps, cancel| Step { action: Action::Repeat { times, steps }, cancel };
        let inner = repeat(steps, cancel);
        if deeper { repeat(vec![inner], None) } else { inner }
    });
    let whole = prop_oneof![2 => leases, 1 => repeated.prop_map(|step| vec![step])];
    let lost = select(vec![Action::DropPool, Action::LosePool]);
    (whole, option::of(lost), any::<bool>()).prop_map(|(mut steps, own_pool, panics)| {
        if let Some(end) = own_pool {
            steps.insert(0, plain(Action::NewPool));
            steps.push(plain(end));
        }
        if panics {
            steps.push(plain(Action::Panic));
        }
        steps
    })
}

fn arrive() -> impl Strategy<Value = Arrive> {
    prop_oneof![
        vec(millis(END_MS), 1..4).prop_map(Arrive::At),
        positive().prop_map(Arrive::Every),
        (1u32..100_000).prop_map(|n| Arrive::Poisson { per_second: f64::from(n) / 7.0 }),
        (1u32..1000, maybe()).prop_map(|(count, every)| Arrive::Burst { count, every }),
        (1u32..1000, millis(9000)).prop_map(|(count, pause)| Arrive::Workers { count, pause }),
    ]
}

/// Workloads that arrive, and others that they spawn.
fn workloads(apps: Vec<String>) -> impl Strategy<Value = IndexMap<String, Workload>> {
    let spawned: Vec<String> = vec!["job".to_owned(), "other-job".to_owned()];
    let one = move |arrive: BoxedStrategy<Arrive>, spawns: Vec<String>| {
        let on_error = select(vec![OnError::Stop, OnError::Continue, OnError::Rollback]);
        let finally = vec(select(vec![Action::RemoveSession, Action::Rollback, Action::Collect]).prop_map(plain), 0..2);
        (select(apps.clone()), arrive, millis(9000), maybe(), steps(spawns), on_error, finally).prop_map(
            |(app, arrive, from, until, steps, on_error, finally)| Workload {
                app,
                arrive,
                from,
                until: until.map(|until| until + from),
                steps,
                on_error,
                finally,
            },
        )
    };
    let never = one(Just(Arrive::Never).boxed(), Vec::new());
    let arriving = btree_map(name("w"), one(arrive().boxed(), spawned.clone()), 1..4);
    (arriving, vec(never, spawned.len()))
        .prop_map(move |(arriving, never)| arriving.into_iter().chain(spawned.iter().cloned().zip(never)).collect())
}

fn filter(apps: Vec<String>) -> impl Strategy<Value = BackendFilter> {
    let state = select(vec!["idle", "active", "idle in transaction"]).prop_map(str::to_owned);
    (option::of(select(apps)), option::of(state), maybe(), option::of(1u32..9))
        .prop_map(|(app, state, older_than, count)| BackendFilter { app, state, older_than, count })
}

fn fault(apps: IndexMap<String, App>, standby: bool) -> impl Strategy<Value = Fault> {
    (millis(END_MS), maybe(), action(apps, standby)).prop_map(|(at, every, action)| Fault { at, every, action })
}

fn message() -> impl Strategy<Value = FaultAction> {
    let what = prop_oneof![
        select(AtMessage::ALL.into_iter().filter(|what| !matches!(what, AtMessage::Delay(_))).collect::<Vec<_>>()),
        positive().prop_map(AtMessage::Delay),
    ];
    let place = (1u32..99, any::<bool>(), 1u32..99, any::<bool>())
        .prop_map(|(connection, to_server, message, after)| MessagePlace { connection, to_server, message, after });
    (place, what).prop_map(|(place, what)| FaultAction::NetMessage { place, what })
}

fn action(apps: IndexMap<String, App>, standby: bool) -> BoxedStrategy<FaultAction> {
    let names: Vec<String> = apps.keys().cloned().collect();
    let servers = if standby { vec![ServerName::Primary, ServerName::Standby] } else { vec![ServerName::Primary] };
    let server = || select(servers.clone());
    let mode = || select(vec![StopMode::Smart, StopMode::Fast, StopMode::Immediate]);
    let backends = || (server(), filter(names.clone()));
    let app = || option::of(select(names.clone()));
    let process = || {
        let apps = apps.clone();
        let pick = (select(names.clone()), any::<proptest::sample::Index>(), any::<bool>(), option::of(millis(9000)));
        pick.prop_map(move |(app, index, all, restart_after)| {
            let processes = usize::try_from(apps[&app].processes.fixed()).expect("it is small");
            let process =
                (!all && processes > 0).then(|| u32::try_from(index.index(processes) + 1).expect("it is small"));
            (app, process, restart_after)
        })
    };
    let of_server = prop_oneof![
        (server(), mode()).prop_map(|(server, mode)| FaultAction::ServerStop { server, mode }),
        server().prop_map(|server| FaultAction::ServerStart { server }),
        (server(), mode(), millis(9000))
            .prop_map(|(server, mode, down_for)| { FaultAction::ServerRestart { server, mode, down_for } }),
        backends().prop_map(|(server, filter)| FaultAction::ServerCrashBackend { server, filter }),
        backends().prop_map(|(server, filter)| FaultAction::ServerTerminate { server, filter }),
        backends().prop_map(|(server, filter)| FaultAction::ServerCancel { server, filter }),
        (server(), option::of(millis(9000)))
            .prop_map(|(server, down_for)| FaultAction::ServerKill { server, down_for }),
        (server(), option::of(millis(9000)))
            .prop_map(|(server, down_for)| FaultAction::ServerPowerLoss { server, down_for }),
        (server(), positive(), maybe()).prop_map(|(server, by, lasts)| FaultAction::ServerSlow { server, by, lasts }),
        (server(), setting())
            .prop_map(|(server, (setting, value))| { FaultAction::ServerSet { server, setting, value } }),
        (server(), statement(), maybe()).prop_map(|(server, sql, lasts)| FaultAction::ServerSql { server, sql, lasts }),
        (server(), 1u32..99, select(vec!["app", "postgres"]), maybe()).prop_map(|(server, sessions, user, lasts)| {
            FaultAction::ServerOccupy { server, sessions, user: user.to_owned(), lasts }
        }),
    ];
    let direction = select(vec![Direction::Both, Direction::ToServer, Direction::ToApp]);
    let of_network = prop_oneof![
        (millis(900), millis(900), maybe())
            .prop_map(|(latency, jitter, lasts)| { FaultAction::NetLatency { latency, jitter, lasts } }),
        (bandwidth(), maybe())
            .prop_map(|(bytes_per_second, lasts)| FaultAction::NetBandwidth { bytes_per_second, lasts }),
        (app(), direction, maybe()).prop_map(|(app, direction, lasts)| FaultAction::NetPartition {
            app,
            direction,
            lasts
        }),
        (maybe(), app()).prop_map(|(older_than, app)| FaultAction::NetForget { older_than, app }),
        (maybe(), app()).prop_map(|(older_than, app)| FaultAction::NetReset { older_than, app }),
        message(),
        maybe().prop_map(|lasts| FaultAction::NetRefuse { lasts }),
        maybe().prop_map(|lasts| FaultAction::NetLoseConnects { lasts }),
        maybe().prop_map(|lasts| FaultAction::NetAcceptSilence { lasts }),
        (positive(), maybe()).prop_map(|(timeout, lasts)| FaultAction::NetIdleFlowTimeout { timeout, lasts }),
        server().prop_map(|to| FaultAction::DnsRepoint { to }),
    ];
    let call = select(vec![ManagerCall::Connect, ManagerCall::Check, ManagerCall::Reset]);
    let how = prop_oneof![
        select(vec![Misbehaviour::Fail, Misbehaviour::Hang, Misbehaviour::Panic]),
        positive().prop_map(Misbehaviour::Slow),
    ];
    let of_app = prop_oneof![
        (process(), maybe()).prop_map(|((app, process, restart_after), older_than)| FaultAction::AppKill {
            app,
            process,
            older_than,
            restart_after
        }),
        (maybe(), option::of(1u32..9)).prop_map(|(older_than, count)| FaultAction::ActorKill {
            workload: "job".to_owned(),
            older_than,
            count
        }),
        process().prop_map(|(app, process, restart_after)| FaultAction::AppPowerLoss { app, process, restart_after }),
        (call, how, maybe()).prop_map(|(call, how, lasts)| FaultAction::Manager { call, how, lasts }),
    ];
    if standby {
        prop_oneof![of_server, of_network, of_app, Just(FaultAction::ServerPromote)].boxed()
    } else {
        prop_oneof![of_server, of_network, of_app].boxed()
    }
}

fn comparison() -> impl Strategy<Value = Comparison> {
    let operator = select(vec![Operator::Equal, Operator::AtMost, Operator::AtLeast, Operator::Below, Operator::Above]);
    let number = prop_oneof![
        (0u32..100_000).prop_map(|n| (f64::from(n) / 4.0, FigureUnit::Count)),
        (0u32..=1000).prop_map(|n| (f64::from(n) / 10.0 / 100.0, FigureUnit::Share)),
        millis(400 * 3_600_000).prop_map(|time| (time.as_secs_f64(), FigureUnit::Seconds)),
    ];
    (operator, number).prop_map(|(operator, (value, unit))| Comparison { operator, value, unit })
}

fn expect() -> impl Strategy<Value = Expect> {
    let within = (select(vec!["recovery", "deadline"]), millis(900_000).prop_map(BoundValue::Within));
    let at_most = (Just("bounded-bypass"), (0u64..100).prop_map(BoundValue::AtMost));
    let bounds = vec(prop_oneof![within, at_most], 0..4).prop_map(BTreeMap::from_iter);
    let pool = || select(vec!["bb8", "deadpool"]).prop_map(str::to_owned);
    let excuse = (select(vec!["demand", "no-stall"]), option::of(pool()), text());
    let known = (pool(), select(vec!["<=0.9.1", ">=0.8, <0.9", "*"]), select(vec!["demand", "effects"]), line());
    let end = (END_MS..2 * END_MS, positive());
    let checks = vec((text(), text()), 0..3);
    let needs = vec(select(vec!["close", "resize"]).prop_map(str::to_owned), 0..3);
    let figures = btree_map("[a-z_.]{1,12}", comparison(), 0..4);
    let declared = (select(vec!["demand", "effects"]), option::of(pool()), text());
    let error = (line(), option::of(comparison()), option::of(comparison()));
    let error = error.prop_map(|(text, count, first)| ErrorCheck { text, count, first });
    let told = (vec(declared, 0..3), vec(error, 0..3));
    (end, bounds, vec(excuse, 0..3), vec(known, 0..3), told, checks, (needs, figures)).prop_map(
        |((until, healing), bounds, excuses, known, (declared, errors), checks, (needs, figures))| Expect {
            violations: declared
                .into_iter()
                .map(|(invariant, pool, because)| Declared { invariant: invariant.to_owned(), pool, because })
                .collect(),
            errors,
            until: Duration::from_millis(until),
            healing,
            bounds: bounds
                .into_iter()
                .map(|(invariant, value)| Bound { invariant: invariant.to_owned(), value })
                .collect(),
            excuses: excuses
                .into_iter()
                .map(|(invariant, pool, why)| Excuse { invariant: invariant.to_owned(), pool, why })
                .collect(),
            known: known
                .into_iter()
                .map(|(pool, versions, violates, path)| Known {
                    pool,
                    versions: versions.to_owned(),
                    violates: violates.to_owned(),
                    link: format!("https://example.org/{path}"),
                })
                .collect(),
            sql: checks.into_iter().map(|(query, equals)| SqlCheck { query, equals }).collect(),
            needs,
            figures: figures.into_iter().collect(),
            lateness: Duration::ZERO,
        },
    )
}
