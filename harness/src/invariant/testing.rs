//! Runs made by hand: what happened, as a list of events, and what the judges say to it.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{BackendState, Gone, Lifecycle, ServerEvent, SessionReport};

use super::judge::Kind;
use super::{Jury, Terms, Violations, jury};
use crate::pool::{Capabilities, PoolErrorKind};
use crate::scenario::model::*;
use crate::trace::event::*;
use crate::trace::figures::Figures;
use crate::trace::story::Story;
use crate::trace::view::View;

/// Everything a pool can do.
pub(crate) const ABLE: Capabilities = Capabilities {
    max_size: true,
    unlimited: true,
    min_idle: true,
    max_idle: true,
    acquire_timeout: true,
    idle_timeout: true,
    max_lifetime: true,
    test_on_acquire: true,
    reset_rollback: true,
    reset_commit: true,
    reset_discard: true,
    close: true,
    resize: true,
    dispose: true,
    detach: true,
    invalidate: true,
    fair: true,
    fifo: true,
    lifo: true,
    unpooled: false,
    unaware: false,
    per_thread: false,
    shared: false,
    manager: false,
};

/// One app `web` with one process and one pool of two connections, one server, no workload, no fault.
pub(crate) fn scenario() -> Scenario {
    Scenario {
        title: "A run made by hand".into(),
        story: String::new(),
        seeds: vec![1],
        interleave: None,
        server: Server::default(),
        standby: None,
        network: Network {
            client: SocketOptions { keepalive: None, ..SocketOptions::default() },
            ..Network::default()
        },
        pools: Vec::new(),
        queues: IndexMap::new(),
        apps: IndexMap::from([(
            "web".to_owned(),
            App {
                processes: Processes::Fixed(1),
                collector: None,
                cooperative: true,
                user: "app".into(),
                pool: PoolSettings {
                    max_size: 2,
                    acquire_timeout: Some(Duration::from_secs(30)),
                    ..PoolSettings::default()
                },
            },
        )]),
        workloads: IndexMap::new(),
        faults: Vec::new(),
        expect: Expect::ending(Duration::from_secs(60), Duration::from_secs(120)),
    }
}

/// A fault of the scenario, at a time that does not matter here.
pub(crate) fn fault(action: FaultAction) -> Fault {
    Fault { at: Duration::ZERO, every: None, action }
}

/// A clean session.
pub(crate) fn session(state: BackendState) -> SessionReport {
    SessionReport {
        state,
        settings: Vec::new(),
        prepared: Vec::new(),
        temporary_tables: Vec::new(),
        channels: Vec::new(),
        advisory_locks: 0,
        portals: Vec::new(),
    }
}

/// A run in the making. Backend n serves connection n.
pub(crate) struct Case {
    pub(crate) view: View,
    jury: Jury,
    pub(crate) figures: Figures,
    pub(crate) story: Story,
    at: Duration,
    seq: u64,
}

impl Case {
    /// Of this scenario, its server running and its pool 1 built.
    pub(crate) fn of(scenario: &Scenario) -> Case {
        Case::with(scenario, ABLE)
    }

    pub(crate) fn with(scenario: &Scenario, capabilities: Capabilities) -> Case {
        let mut case = Case {
            view: View::new(scenario),
            jury: jury(&Terms::new(scenario, capabilities)),
            figures: Figures::default(),
            story: Story::default(),
            at: Duration::ZERO,
            seq: 0,
        };
        case.lifecycle(Lifecycle::Running);
        case.happens(What::Phase(Phase::Fault));
        case.happens(What::ProcessStart { process: ProcessId(1), app: "web".into(), seat: 0 });
        let max_size = scenario.apps["web"].pool.max_size;
        case.happens(What::PoolBuilt { pool: PoolId(1), process: ProcessId(1), max_size, own: false });
        case
    }

    pub(crate) fn new() -> Case {
        Case::of(&scenario())
    }

    /// The next events happen then.
    pub(crate) fn at(&mut self, millis: u64) -> &mut Case {
        assert!(Duration::from_millis(millis) >= self.at, "time goes forward");
        self.at = Duration::from_millis(millis);
        self
    }

    pub(crate) fn happens(&mut self, what: What) -> &mut Case {
        self.seq += 1;
        let event = Event { at: self.at, seq: self.seq, what };
        let kind = Kind::of(&event.what);
        self.jury.before(kind, &event, &self.view);
        self.view.apply(event.at, &event.what);
        self.jury.after(kind, &event, &self.view);
        self.figures.take(&event, &self.view);
        self.story.take(&event, &self.view, self.jury.violations());
        self
    }

    pub(crate) fn server(&mut self, event: ServerEvent) -> &mut Case {
        self.happens(What::Server { server: "db".into(), event })
    }

    pub(crate) fn lifecycle(&mut self, lifecycle: Lifecycle) -> &mut Case {
        self.server(ServerEvent::Lifecycle(lifecycle))
    }

    pub(crate) fn phase(&mut self, phase: Phase) -> &mut Case {
        self.happens(What::Phase(phase))
    }

    pub(crate) fn fault(&mut self, index: usize, begins: bool) -> &mut Case {
        let text: Arc<str> = "a fault".into();
        self.happens(if begins { What::FaultBegin { index, text } } else { What::FaultEnd { index, text } })
    }

    pub(crate) fn dial(&mut self, conn: u32) -> &mut Case {
        self.happens(What::Dial { conn: ConnId(conn), pool: PoolId(1) })
    }

    pub(crate) fn dial_fails(&mut self, conn: u32) -> &mut Case {
        self.happens(What::DialFailed { conn: ConnId(conn), message: "connection refused".into(), code: None })
    }

    pub(crate) fn pid(conn: u32) -> i32 {
        i32::try_from(conn).expect("small")
    }

    /// The dial is answered.
    pub(crate) fn connected(&mut self, conn: u32) -> &mut Case {
        let pid = Case::pid(conn);
        self.server(ServerEvent::Forked { pid, peer: "10.0.0.1:40000".parse().expect("an address") });
        self.state(conn, BackendState::Idle);
        self.happens(What::Connected { conn: ConnId(conn), pid })
    }

    pub(crate) fn open(&mut self, conn: u32) -> &mut Case {
        self.dial(conn).connected(conn)
    }

    pub(crate) fn state(&mut self, conn: u32, state: BackendState) -> &mut Case {
        self.server(ServerEvent::State { pid: Case::pid(conn), state })
    }

    pub(crate) fn gone(&mut self, conn: u32, reason: Gone) -> &mut Case {
        self.server(ServerEvent::Gone { pid: Case::pid(conn), reason })
    }

    pub(crate) fn broken(&mut self, conn: u32) -> &mut Case {
        self.happens(What::ConnBroken { conn: ConnId(conn), message: "connection closed".into() })
    }

    pub(crate) fn closed(&mut self, conn: u32) -> &mut Case {
        self.happens(What::ConnClosed { conn: ConnId(conn) })
    }

    pub(crate) fn asks(&mut self, actor: u32) -> &mut Case {
        self.happens(What::AcquireStart { actor: ActorId(actor), pool: PoolId(1) })
    }

    pub(crate) fn gets(&mut self, actor: u32, conn: u32) -> &mut Case {
        self.gets_session(actor, conn, session(BackendState::Idle))
    }

    pub(crate) fn gets_session(&mut self, actor: u32, conn: u32, session: SessionReport) -> &mut Case {
        let pid = Case::pid(conn);
        let result = Acquired::Lease { conn: ConnId(conn), pid, session: Some(session), unread: 0 };
        self.happens(What::AcquireEnd { actor: ActorId(actor), pool: PoolId(1), result })
    }

    pub(crate) fn leases(&mut self, actor: u32, conn: u32) -> &mut Case {
        self.asks(actor).gets(actor, conn)
    }

    pub(crate) fn fails(&mut self, actor: u32, kind: PoolErrorKind) -> &mut Case {
        let result = Acquired::Error { kind, message: kind.as_str().into() };
        self.happens(What::AcquireEnd { actor: ActorId(actor), pool: PoolId(1), result })
    }

    pub(crate) fn invalidates(&mut self, actor: u32, conn: u32) -> &mut Case {
        self.happens(What::Invalidated { actor: ActorId(actor), conn: ConnId(conn) })
    }

    pub(crate) fn releases(&mut self, actor: u32, conn: u32) -> &mut Case {
        self.happens(What::Released { actor: ActorId(actor), conn: ConnId(conn) })
    }

    pub(crate) fn ends(&mut self, actor: u32, end: ActorEnd) -> &mut Case {
        self.happens(What::ActorEnd { actor: ActorId(actor), end })
    }

    pub(crate) fn sql(&mut self, actor: u32, conn: u32, text: &str) -> &mut Case {
        self.happens(What::SqlStart { actor: ActorId(actor), conn: ConnId(conn), text: text.into() })
    }

    pub(crate) fn sql_ends(&mut self, actor: u32, conn: u32, result: SqlResult) -> &mut Case {
        self.happens(What::SqlEnd { actor: ActorId(actor), conn: ConnId(conn), result })
    }

    pub(crate) fn tag(&mut self, conn: u32, tag: &str) -> &mut Case {
        self.server(ServerEvent::StatementEnd { pid: Case::pid(conn), result: Ok(tag.into()) })
    }

    pub(crate) fn commits(&mut self, conn: u32) -> &mut Case {
        self.server(ServerEvent::Committed { pid: Case::pid(conn), xid: 700 })
    }

    /// Ends the run; what was found.
    pub(crate) fn over(&mut self) -> Violations {
        self.jury.finish(&self.view);
        self.figures.finish(&self.view);
        self.jury.violations().clone()
    }

    /// Ends the run, in which only this invariant may be violated, so many times.
    #[track_caller]
    pub(crate) fn violates(&mut self, invariant: &str, times: u64) {
        let found = self.over();
        let counts: Vec<(&str, u64)> = found.counts().iter().map(|(name, count)| (*name, *count)).collect();
        assert_eq!(counts, [(invariant, times)], "{:#?}", found.list());
    }

    /// Ends the run, in which nothing may be violated.
    #[track_caller]
    pub(crate) fn is_innocent(&mut self) {
        let found = self.over();
        assert!(found.is_empty(), "{:#?}", found.list());
    }
}

/// 57P01, as a backend's end.
pub(crate) fn terminated() -> Gone {
    Gone::Fatal(SqlState::ADMIN_SHUTDOWN)
}
