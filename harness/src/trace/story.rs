//! The story of a run: at most about sixty lines, for review.
//!
//! A line is written where something changed that is worth telling; what repeats is folded into one line with a count,
//! until the next landmark (a phase, a fault, a change of a server's life). When there is still too much to tell, the
//! same things are folded across landmarks, and then the least interesting are left out, counted. Times are cut to
//! tenths of a second and large counts to two digits, so that a change of a few milliseconds in a run does not rewrite
//! its story; the exact values are in the full trace and in the figures.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use poolproof_sim::postgres::event::{Gone, ServerEvent};

mod application;

use super::event::{Acquired, ActorEnd, ConnId, Event, Phase, PoolId, ProcessId, SqlResult, What};
use super::figures::Figures;
use super::json::lifecycle_name;
use super::view::{ClientEnd, Totals, View};
use crate::invariant::Violations;
use crate::invariant::judge::KEPT as TOLD_IN_FULL;
use crate::invariant::nothing_left::excused;
use crate::scenario::model::{ErrorCheck, PoolSettings};

/// The most lines of events in a story; its head and its end need some twenty more.
const EVENT_LINES: usize = 38;
/// The most lines that are kept while a run goes on.
const KEPT: usize = 400;
/// So many violations of an invariant have a line each.
const SINGLE_VIOLATIONS: usize = 3;
/// An acquire that took at least this long is worth telling.
const LONG_WAIT: Duration = Duration::from_millis(100);

/// How much a line is worth: what is worth least is left out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// A phase, a fault: never left out.
    Cause,
    /// A change of a server's life.
    Landmark,
    Turn,
    Trouble,
    Detail,
}

#[derive(Debug, Clone)]
struct Line {
    at: Duration,
    last: Duration,
    worth: Worth,
    who: String,
    text: String,
    count: u64,
    longest: Duration,
    totals: Totals,
    // Connections that may be dead, or are.
    stale: u32,
}

/// Collects what is worth telling while a run goes on.
#[derive(Debug, Clone, Default)]
pub struct Story {
    lines: Vec<Line>,
    // Lines that may still be added to, in this stretch between two landmarks.
    open: Vec<usize>,
    exhausted: Option<(PoolId, usize)>,
    told: Told,
    // So many lines are kept before they are made fewer.
    kept: usize,
    left_out: u64,
    probe: Probed,
    awaits_success: Option<Duration>,
    was_healthy: bool,
}

/// The violations that have a line, or are counted in one.
#[derive(Debug, Clone, Default)]
struct Told {
    total: u64,
    listed: usize,
    beyond: BTreeMap<&'static str, u64>,
}

/// What the pools were asked for when every actor had ended.
#[derive(Debug, Clone, Copy, Default)]
struct Probed {
    lent: u64,
    dead: u64,
    failed: u64,
}

/// What stands above a story.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The scenario's title.
    pub title: &'a str,
    /// The pool's name.
    pub pool: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The run's seed.
    pub seed: u64,
    /// The errors that the scenario expects: how often each was seen, and when first, is told with its whole text.
    pub errors: &'a [ErrorCheck],
}

impl Story {
    /// Takes an event into account that the view has taken, and the violations found so far.
    pub fn take(&mut self, event: &Event, view: &View, violations: &Violations) {
        let at = event.at;
        match &event.what {
            What::AcquireStart { pool, .. } => {
                if let Some(pool_view) = view.pool(*pool)
                    && pool_view.in_use() >= pool_view.max_size
                {
                    self.exhausted(*pool, at, view);
                }
            }
            What::AcquireEnd { result, pool, .. } => self.acquired(result, *pool, at, view),
            What::SqlEnd { result, .. } => self.answered(result, at, view),
            What::Server { server, event } => self.server(server, event, at, view),
            What::Leaked { .. }
            | What::Lost { .. }
            | What::Kept { .. }
            | What::Resumed { .. }
            | What::PoolLost { .. }
            | What::Collected { .. }
            | What::Raised { .. }
            | What::Deadlocked { .. }
            | What::Job { .. }
            | What::Join { .. }
            | What::ThreadBlocked { .. }
            | What::ThreadFree { .. } => {
                if let Some((worth, who, text)) = application::line(&event.what) {
                    self.fold(at, worth, who.into(), &text, view);
                }
            }
            What::SqlStart { .. } | What::Released { .. } | What::ActorStart { .. } => {}
            What::Dial { .. } | What::DialDropped { .. } | What::ConnClosed { .. } | What::PoolStatus { .. } => {}
            What::Connected { .. } => {
                self.fold(at, Worth::Detail, "pool".into(), "opened a connection", view);
            }
            What::Phase(phase) => self.phase(*phase, at, view),
            What::FaultBegin { text, .. } | What::FaultEffect { text, .. } | What::FaultEnd { text, .. } => {
                self.landmark(at, Worth::Cause, "fault".into(), text, view);
            }
            What::ProcessStart { process, app, .. } => {
                self.fold(at, Worth::Turn, process_name(*process, view), &format!("starts ({app})"), view);
            }
            What::ProcessEnd { process } => {
                let app = view.process(*process).and_then(|process| view.apps.get(process.app));
                let text = app.map_or("ends".to_owned(), |app| format!("ends ({app})"));
                self.fold(at, Worth::Turn, process_name(*process, view), &text, view);
            }
            What::PoolBuilt { max_size, own, .. } => {
                let worth = if *own { Worth::Detail } else { Worth::Turn };
                let built = match *max_size {
                    PoolSettings::UNLIMITED => "is built, without a bound".to_owned(),
                    max_size => format!("is built, max_size {max_size}"),
                };
                self.fold(at, worth, "pool".into(), &built, view);
            }
            What::PoolFailed { message, .. } => {
                self.fold(at, Worth::Trouble, "pool".into(), &format!("could not be built: {message}"), view);
            }
            What::PoolResized { pool, max_size } => {
                self.fold(at, Worth::Turn, pool_name(*pool), &format!("is resized to {max_size}"), view);
            }
            What::PoolDisposed { .. } => {
                self.fold(at, Worth::Turn, "pool".into(), "lets go of all its connections", view)
            }
            What::PoolClosing { .. } => self.fold(at, Worth::Turn, "pool".into(), "is being closed", view),
            What::PoolClosed { .. } => self.fold(at, Worth::Turn, "pool".into(), "is closed", view),
            What::PoolCloseCancelled { .. } => {
                self.fold(at, Worth::Turn, "pool".into(), "its close is cancelled", view);
            }
            What::PoolDropped { .. } => self.fold(at, Worth::Detail, "pool".into(), "is dropped", view),
            What::DialFailed { message, code, .. } => {
                let text = match code {
                    Some(code) => format!("a dial failed: {code} {message}"),
                    None => format!("a dial failed: {message}"),
                };
                self.fold(at, Worth::Trouble, "pool".into(), &text, view);
            }
            // The driver of a dead process tells nobody.
            What::ConnBroken { conn, message }
                if view.conn(*conn).is_some_and(|conn| conn.end != ClientEnd::Closed) =>
            {
                self.fold(at, Worth::Trouble, "connection".into(), &format!("broke: {message}"), view);
            }
            What::ConnBroken { .. } => {}
            What::ActorEnd { end, .. } => {
                let text = match end {
                    ActorEnd::Done | ActorEnd::Failed => {
                        return self.violations(at, view, violations);
                    }
                    ActorEnd::Abandoned => "was dropped in the middle",
                    ActorEnd::Panicked(_) => "panicked",
                    ActorEnd::Killed => "died with its process",
                    ActorEnd::Stopped => "was killed",
                    ActorEnd::GivenUp => "was given up: healing is over",
                };
                self.fold(at, Worth::Trouble, "actor".into(), text, view);
            }
            What::Detached { .. } => {
                self.fold(at, Worth::Detail, "actor".into(), "took a connection out of the pool", view);
            }
            What::Invalidated { .. } => {
                self.fold(at, Worth::Detail, "actor".into(), "invalidated a connection", view);
            }
            What::DetachedDropped { .. } => {
                self.fold(at, Worth::Detail, "actor".into(), "dropped a detached connection", view);
            }
            What::StepCancelled { step, .. } => {
                self.fold(at, Worth::Detail, "actor".into(), &format!("was cancelled in: {step}"), view);
            }
            What::TaskPanicked { message } => {
                self.fold(at, Worth::Trouble, "run".into(), &format!("a task panicked: {message}"), view);
            }
            What::TasksLeft { count } => {
                if *count > 0 {
                    let why =
                        if *count as usize <= excused(view) { ", of connections that wait for an answer" } else { "" };
                    let text = format!("{} left{why}", counted(*count, "task is", "tasks are"));
                    self.fold(at, Worth::Trouble, "run".into(), &text, view);
                }
            }
        }
        self.violations(at, view, violations);
    }

    /// Whether there are violations that have no line yet.
    #[must_use]
    pub fn lags(&self, violations: &Violations) -> bool {
        violations.total() > self.told.total
    }

    /// Under load this is every acquire: the line is found without a search.
    fn exhausted(&mut self, pool: PoolId, at: Duration, view: &View) {
        if let Some((known, place)) = self.exhausted
            && known == pool
        {
            let line = &mut self.lines[place];
            line.count += 1;
            line.last = at;
            return;
        }
        self.fold(at, Worth::Trouble, pool_name(pool), "all connections are lent: an acquire must wait", view);
        self.exhausted = self.open.last().map(|&place| (pool, place));
    }

    fn acquired(&mut self, result: &Acquired, pool: PoolId, at: Duration, view: &View) {
        if view.phase == Phase::Capacity {
            match result {
                Acquired::Lease { session, .. } => {
                    self.probe.lent += 1;
                    self.probe.dead += u64::from(session.is_none());
                }
                _ => self.probe.failed += 1,
            }
        }
        let text: Cow<'_, str> = match result {
            Acquired::Lease { .. } => {
                if view.waited >= LONG_WAIT {
                    self.fold(at, Worth::Trouble, pool_name(pool), "an acquire succeeded after a long wait", view);
                    self.lengthen(view.waited);
                }
                return;
            }
            Acquired::Error { kind, message } => format!("an acquire failed ({}): {message}", kind.as_str()).into(),
            Acquired::Deadline => "an acquire was ended by the actor's own deadline".into(),
            Acquired::Cancelled | Acquired::GivenUp => return,
            Acquired::Panicked(message) => format!("an acquire panicked: {message}").into(),
        };
        self.fold(at, Worth::Trouble, pool_name(pool), &text, view);
        self.lengthen(view.waited);
    }

    fn answered(&mut self, result: &SqlResult, at: Duration, view: &View) {
        match result {
            SqlResult::Ok => {
                if let Some(since) = self.awaits_success
                    && view.is_healthy()
                    && at.saturating_sub(view.took) >= since
                {
                    self.awaits_success = None;
                    let text = format!("first success, {} after the world was whole again", exact(at - since));
                    self.fold(at, Worth::Turn, "actor".into(), &text, view);
                }
            }
            SqlResult::Error(code) => {
                self.fold(at, Worth::Trouble, "actor".into(), &format!("a statement failed: {code}"), view);
            }
            SqlResult::Broken(message) => {
                let text = format!("a statement was lost: {message}");
                self.fold(at, Worth::Trouble, "actor".into(), &text, view);
            }
            SqlResult::Cancelled => {}
        }
    }

    fn server(&mut self, server: &str, event: &ServerEvent, at: Duration, view: &View) {
        let text = match event {
            ServerEvent::Lifecycle(lifecycle) => {
                let text = format!("is {}", lifecycle_name(*lifecycle));
                return self.landmark(at, Worth::Landmark, server.to_owned(), &text, view);
            }
            ServerEvent::Promoted => {
                return self.landmark(at, Worth::Landmark, server.to_owned(), "is promoted: it takes writes", view);
            }
            ServerEvent::State { .. } | ServerEvent::Statement { .. } | ServerEvent::StatementEnd { .. } => return,
            ServerEvent::Refused { code, .. } => format!("refused a startup: {code}"),
            ServerEvent::Blocked { .. } => "a backend waits for a lock".to_owned(),
            ServerEvent::Gone { reason, .. } => match reason {
                Gone::Terminate => return,
                Gone::ClientClosed => "a backend's client vanished".to_owned(),
                Gone::SocketError(kind) => format!("a backend's socket failed ({kind})"),
                Gone::Fatal(code) => format!("ended a backend with FATAL {code}"),
                Gone::Crash(code) => format!("ended a backend ({code} notice, no error)"),
                Gone::Killed => "a backend was killed".to_owned(),
            },
            ServerEvent::Forked { .. }
            | ServerEvent::Unblocked { .. }
            | ServerEvent::Committed { .. }
            | ServerEvent::RolledBack { .. } => return,
        };
        self.fold(at, Worth::Trouble, server.to_owned(), &text, view);
    }

    fn phase(&mut self, phase: Phase, at: Duration, view: &View) {
        let text = match phase {
            Phase::Fault => "traffic and faults begin",
            Phase::Healing => "faults end, no actor arrives any more",
            Phase::Capacity => "every actor has ended; each pool is asked for max_size connections at once",
            Phase::Closing => {
                let Probed { lent, dead, failed } = self.probe;
                let dead = if dead > 0 { format!(" ({dead} dead)") } else { String::new() };
                let failed = if failed > 0 { format!(", {failed} acquires failed") } else { String::new() };
                let text = format!("{lent} lent at once{dead}{failed}; now the pools are dropped");
                return self.landmark(at, Worth::Cause, "run".into(), &text, view);
            }
            Phase::End => "the end",
        };
        self.landmark(at, Worth::Cause, "run".into(), text, view);
    }

    fn violations(&mut self, at: Duration, view: &View, violations: &Violations) {
        self.told.total = violations.total();
        while let Some(violation) = violations.list().get(self.told.listed) {
            self.told.listed += 1;
            let who = violation.who.to_string();
            let conn = violation.conn.map_or_else(String::new, |ConnId(id)| format!(", connection {id}"));
            // Told in full at the end: here it only has its place. After the first few there is nothing new in more.
            let seen = &violations.list()[..self.told.listed];
            let same = seen.iter().filter(|told| told.invariant == violation.invariant).count();
            let text = match same {
                ..=SINGLE_VIOLATIONS => format!("{} ({who}{conn})", violation.invariant),
                _ => format!("{}, again", violation.invariant),
            };
            self.fold(at, Worth::Turn, "VIOLATION".into(), &text, view);
        }
        for (&invariant, count) in violations.counts() {
            let beyond = count.saturating_sub(TOLD_IN_FULL);
            let known = self.told.beyond.get(invariant).copied().unwrap_or_default();
            if beyond > known {
                self.told.beyond.insert(invariant, beyond);
                self.fold(at, Worth::Turn, "VIOLATION".into(), &format!("{invariant}, again"), view);
                self.count_more(beyond - known - 1);
            }
        }
    }

    fn landmark(&mut self, at: Duration, worth: Worth, who: String, text: &str, view: &View) {
        self.open.clear();
        self.push(at, worth, who, text, view);
        self.open.clear();
        self.exhausted = None;
        match (self.was_healthy, view.is_healthy()) {
            (false, true) if at > Duration::ZERO => self.awaits_success = Some(at),
            (_, false) => self.awaits_success = None,
            _ => {}
        }
        self.was_healthy = view.is_healthy();
    }

    fn fold(&mut self, at: Duration, worth: Worth, who: String, text: &str, view: &View) {
        let known = self.open.iter().position(|&place| {
            let line = &self.lines[place];
            line.text == text && same_kind(&line.who, &who)
        });
        if let Some(known) = known {
            let place = self.open.remove(known);
            // The one added to last stands last: see `lengthen`.
            self.open.push(place);
            let line = &mut self.lines[place];
            line.count += 1;
            line.last = at;
            if line.who != who {
                line.who = kind(&who).to_owned();
            }
            return;
        }
        self.push(at, worth, who, text, view);
    }

    fn push(&mut self, at: Duration, worth: Worth, who: String, text: &str, view: &View) {
        if self.lines.len() >= self.kept.max(KEPT) {
            self.lines = shorten(std::mem::take(&mut self.lines), KEPT / 2, &mut self.left_out);
            // What may not be left out may be more.
            self.kept = self.lines.len() * 2;
            self.open.clear();
            self.exhausted = None;
        }
        let (idle, stale) = view.stale();
        self.open.push(self.lines.len());
        self.lines.push(Line {
            at,
            last: at,
            worth,
            who,
            text: text.to_owned(),
            count: 1,
            longest: Duration::ZERO,
            totals: Totals { idle: view.totals.idle - idle, ..view.totals },
            stale,
        });
    }

    /// The thing that was told last happened so many times more.
    fn count_more(&mut self, times: u64) {
        if let Some(&place) = self.open.last() {
            self.lines[place].count += times;
        }
    }

    /// Notes how long the thing took that was told last.
    fn lengthen(&mut self, took: Duration) {
        if let Some(&place) = self.open.last() {
            let line = &mut self.lines[place];
            line.longest = line.longest.max(took);
        }
    }

    /// The story, with its head, the figures, and the verdict as a sentence.
    #[must_use]
    pub fn render(&self, head: Head<'_>, figures: &Figures, violations: &Violations, verdict: &str) -> String {
        let mut left_out = self.left_out;
        let lines = shorten(self.lines.clone(), EVENT_LINES, &mut left_out);
        let mut out = String::new();
        let _ = writeln!(out, "{}\n{} {}, seed {}\n", head.title, head.pool, head.version, head.seed);
        // A column only where there is something in it.
        let has_stale = lines.iter().any(|line| line.stale > 0);
        let stale = |text: &str| if has_stale { format!(" {text:>5}") } else { String::new() };
        let _ = writeln!(
            out,
            "{:>8}  {:<12} {:<66} {:>5} {:>5} {:>5}{} {:>5} | {:>5} {:>7} {:>5}",
            "time",
            "who",
            "event",
            "wait",
            "used",
            "idle",
            stale("stale"),
            "dial",
            "srv",
            "idle tx",
            "block"
        );
        for line in &lines {
            let totals = &line.totals;
            let _ = writeln!(
                out,
                "{:>8}  {:<12} {:<66} {:>5} {:>5} {:>5}{} {:>5} | {:>5} {:>7} {:>5}",
                clock(line.at),
                cut(&line.who, 12),
                told(line),
                totals.waiting,
                totals.in_use,
                totals.idle,
                stale(&line.stale.to_string()),
                totals.dialling,
                totals.backends,
                totals.in_transaction,
                totals.blocked
            );
        }
        if left_out > 0 {
            let _ = writeln!(out, "          ({} smaller things are left out)", round(left_out));
        }
        let stale = if has_stale { ", stale: open ones that are dead or may be" } else { "" };
        let _ = writeln!(
            out,
            "          wait: acquires that wait, used: leases, idle and dial(ling): connections{stale} | srv: backends of the \
             server, idle tx: idle in a transaction, block: waiting for a lock\n"
        );
        end(&mut out, head.errors, figures, violations);
        let _ = writeln!(out, "verdict: {verdict}");
        out
    }
}

/// What follows the events: errors, times, connections, violations.
fn end(out: &mut String, expected: &[ErrorCheck], figures: &Figures, violations: &Violations) {
    let mut errors: Vec<(&String, &u64)> = figures.errors.iter().collect();
    errors.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let more = errors.len().saturating_sub(8);
    let mut list: Vec<String> = errors.iter().take(8).map(|(kind, count)| format!("{kind} {count}")).collect();
    if more > 0 {
        list.push(format!("and {more} more kinds"));
    }
    let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let cancelled = match figures.cancelled {
        0 => String::new(),
        count => format!(", {count} cancelled"),
    };
    let _ = writeln!(
        out,
        "done: {} actors, {} leases, {} statements{cancelled}; errors: {list}",
        figures.actors, figures.acquires_ok, figures.statements_ok
    );
    for text in expected.iter().map(|check| &check.text) {
        let _ = match figures.texts.with(text) {
            Some(seen) => writeln!(out, "error ×{}, first at {}: {text}", seen.count, clock(seen.first)),
            None => writeln!(out, "error never seen: {text}"),
        };
    }
    let times = |what: &super::figures::Histogram| {
        if what.is_empty() {
            return "none".to_owned();
        }
        let (median, p99) = (what.quantile(0.5), what.quantile(0.99));
        format!("median {}, 99% {}, worst {}", exact(median), exact(p99), exact(what.worst()))
    };
    let _ = writeln!(out, "wait for a lease: {}; statement: {}", times(&figures.waits), times(&figures.statements));
    for back in figures.comebacks.iter().take(3) {
        let first = back.first_success.map_or("never".to_owned(), |time| format!("after {} of asking", exact(time)));
        let quiet = back.quiet.map_or("never".to_owned(), |time| format!("after {}", exact(time)));
        let last = match back.full_capacity {
            Duration::ZERO => "none".to_owned(),
            time => format!("after {}", exact(time)),
        };
        let _ = writeln!(
            out,
            "whole again at {} after {}: first success {first}, last failure {last}, quiet {quiet}",
            clock(back.at),
            exact(back.outage)
        );
    }
    if figures.comebacks.len() > 3 {
        let _ = writeln!(out, "and {} more times whole again", figures.comebacks.len() - 3);
    }
    if let Some(pace) = figures.pace.line(figures.fault_phase) {
        let _ = writeln!(out, "actors done a minute: {pace}");
    }
    if let Some(share) = figures.goodput_share() {
        let _ = writeln!(
            out,
            "statements a second while the world was faulty: {:.0} % of those while it was whole",
            share * 100.0
        );
    }
    let peaks = &figures.peaks;
    let _ = writeln!(
        out,
        "connections: {} opened in all, at most {} at once ({} dials at once); backends: at most {}, {} idle \
         in a transaction, {} blocked, {} orphaned",
        figures.connections_opened,
        peaks.connections,
        peaks.dialling,
        peaks.backends,
        peaks.in_transaction,
        peaks.blocked,
        peaks.orphans
    );
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines = 0;
    for violation in violations.list() {
        let seen = shown.entry(violation.invariant).or_default();
        *seen += 1;
        if *seen <= 2 && lines < 6 {
            lines += 1;
            let _ = writeln!(out, "violation: {violation}");
        }
    }
    let total: u64 = violations.counts().values().sum();
    if total > lines {
        let counts: Vec<String> = violations.counts().iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(out, "violations in all: {}", counts.join(", "));
    }
}

/// Makes at most so many lines of them: folds the same things across landmarks, those worth least first, then leaves out
/// what is worth least.
fn shorten(mut lines: Vec<Line>, most: usize, left_out: &mut u64) -> Vec<Line> {
    for worth in [Worth::Detail, Worth::Trouble, Worth::Turn, Worth::Landmark, Worth::Cause] {
        if lines.len() <= most {
            return lines;
        }
        lines = fold_across(lines, worth);
    }
    for worth in [Worth::Detail, Worth::Trouble, Worth::Turn, Worth::Landmark] {
        while lines.len() > most {
            // The rarest goes first, and of those the latest.
            let least = lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.worth == worth)
                .min_by_key(|(place, line)| (line.count, std::cmp::Reverse(*place)))
                .map(|(place, _)| place);
            let Some(least) = least else { break };
            *left_out += lines.remove(least).count;
        }
    }
    lines
}

fn fold_across(lines: Vec<Line>, worth: Worth) -> Vec<Line> {
    let mut folded: Vec<Line> = Vec::with_capacity(lines.len());
    for line in lines {
        let known = folded.iter_mut().find(|known| {
            line.worth == worth && known.worth == worth && known.text == line.text && same_kind(&known.who, &line.who)
        });
        match known {
            Some(known) => {
                known.count += line.count;
                known.last = known.last.max(line.last);
                known.longest = known.longest.max(line.longest);
                if known.who != line.who {
                    known.who = kind(&line.who).to_owned();
                }
            }
            None => folded.push(line),
        }
    }
    folded
}

/// `pool 3` is a `pool`.
fn kind(who: &str) -> &str {
    who.split(' ').next().unwrap_or(who)
}

fn same_kind(a: &str, b: &str) -> bool {
    kind(a) == kind(b)
}

fn pool_name(PoolId(id): PoolId) -> String {
    format!("pool {id}")
}

/// By its place, as scenarios name it: a restarted process has its predecessor's.
fn process_name(id: ProcessId, view: &View) -> String {
    format!("process {}", view.process(id).map_or(id.0, |process| process.seat + 1))
}

/// The text of a line, with its count and span, no longer than its column.
fn told(line: &Line) -> String {
    const WIDTH: usize = 66;
    let mut tail = String::new();
    if !line.longest.is_zero() {
        let _ = write!(tail, ", up to {}", about(line.longest));
    }
    if line.count > 1 && line.last.as_millis() / 100 > line.at.as_millis() / 100 {
        let _ = write!(tail, ", until {}", clock(line.last));
    }
    let head = if line.count > 1 { format!("×{} ", round(line.count)) } else { String::new() };
    let room = WIDTH.saturating_sub(head.chars().count() + tail.chars().count());
    format!("{head}{}{tail}", cut(&line.text, room))
}

fn cut(text: &str, width: usize) -> String {
    let text = text.lines().next().unwrap_or_default();
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A moment: `12.3 s`, cut; from an hour on `1:23:45`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 3600 {
        return format!("{seconds}.{} s", time.subsec_millis() / 100);
    }
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// How long something took: short times in milliseconds, others in tenths of a second, rounded.
fn exact(time: Duration) -> String {
    let tenths = (time.as_millis() + 50) / 100;
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{}.{} s", tenths / 10, tenths % 10)
    }
}

/// The same, of short times the first digit: it changes with everything.
fn about(time: Duration) -> String {
    let millis = time.as_millis();
    if (100..1000).contains(&millis) { format!("{} ms", millis / 100 * 100) } else { exact(time) }
}

/// `1 task is`, `2 tasks are`.
fn counted(count: u32, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Small counts as they are, others cut to two digits.
fn round(count: u64) -> String {
    if count < 100 {
        return count.to_string();
    }
    let unit = 10_u64.pow(count.ilog10() - 1);
    format!("{}+", count / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::testing::{Case, scenario, terminated};
    use crate::pool::PoolErrorKind;
    use poolproof_sim::postgres::event::{BackendState, Lifecycle};

    const HEAD: Head<'_> =
        Head { title: "A fast restart of the server under load", pool: "bb8", version: "0.9.1", seed: 7, errors: &[] };

    /// A restart every twenty seconds under load, as often as asked.
    fn restarts(times: u32) -> Case {
        let mut case = Case::of(&scenario());
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
        let (mut actor, mut conn) = (3, 3);
        for n in 0..times {
            let start = u64::from(n) * 20_000;
            for k in 0..300_u64 {
                case.at(start + 20 + k * 20).sql(1, 1, "SELECT 1").sql_ends(1, 1, SqlResult::Ok).asks(actor);
                case.fails(actor, PoolErrorKind::Timeout);
                actor += 1;
            }
            case.at(start + 12_000)
                .happens(What::FaultBegin { index: 0, text: "server.restart, fast, down for 3 s".into() });
            case.lifecycle(Lifecycle::ShuttingDown).asks(actor).at(start + 12_040).lifecycle(Lifecycle::Down);
            for k in 0..5_u64 {
                case.at(start + 12_100 + k * 100).dial(conn).dial_fails(conn);
                conn += 1;
            }
            case.at(start + 15_000).lifecycle(Lifecycle::StartingUp).at(start + 15_200).lifecycle(Lifecycle::Running);
            case.at(start + 15_300).state(1, BackendState::Active).sql(1, 1, "SELECT 1");
            case.at(start + 15_310).sql_ends(1, 1, SqlResult::Ok).fails(actor, PoolErrorKind::Timeout);
            actor += 1;
        }
        case
    }

    fn told(case: &mut Case) -> String {
        let found = case.over();
        case.story.render(HEAD, &case.figures, &found, "as expected: every invariant held")
    }

    #[test]
    fn a_restart_reads_as_it_happened() {
        let mut case = restarts(1);
        case.at(18_000).gone(1, terminated()).broken(1);
        let story = told(&mut case);
        println!("{story}");
        for part in [
            "×300+ an acquire failed (timeout)",
            "db",
            "is starting up",
            "first success, 110 ms after",
            "×5 a dial failed",
        ] {
            assert!(story.contains(part), "{part} is missing in\n{story}");
        }
        assert!(story.lines().count() <= 60);
    }

    #[test]
    fn it_stays_short_and_bounded_however_long_the_run() {
        let mut case = restarts(500);
        assert!(case.story.lines.len() <= KEPT);
        let story = told(&mut case);
        println!("{story}");
        assert!(story.lines().count() <= 60, "{story}");
        assert!(story.contains("is starting up"), "{story}");
    }

    #[test]
    fn every_fault_and_phase_is_told() {
        let mut case = Case::of(&scenario());
        for n in 0..60_u64 {
            let text = format!("fault number {n}.").into();
            case.at(n * 1_000).happens(What::FaultBegin { index: 0, text }).lifecycle(Lifecycle::Down);
            case.at(n * 1_000 + 500).lifecycle(Lifecycle::Running);
        }
        case.at(90_000).phase(Phase::Healing).phase(Phase::Capacity).phase(Phase::Closing).phase(Phase::End);
        let story = told(&mut case);
        assert!((0..60).all(|n| story.contains(&format!("fault number {n}."))), "{story}");
        assert!(story.contains("no actor arrives any more") && story.contains("the end"), "{story}");
    }

    #[test]
    fn every_violation_is_counted() {
        let mut case = Case::new();
        for n in 0..50 {
            case.at(n).happens(What::TaskPanicked { message: "index out of bounds".into() });
        }
        let story = told(&mut case);
        assert!(story.contains("×47 no-panic, again"), "{story}");
    }

    #[test]
    fn what_may_be_dead_is_not_idle() {
        use crate::scenario::model::FaultAction;
        let mut scenario = scenario();
        let action = FaultAction::NetForget { older_than: None, app: None };
        scenario.faults = vec![crate::scenario::model::Fault { at: Duration::ZERO, every: None, action }];
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).open(1).gets(1, 1).releases(1, 1).at(20).fault(0, true);
        case.at(30).phase(Phase::Healing);
        let story = told(&mut case);
        let columns = |of: &str| {
            let line = story.lines().find(|line| line.contains(of)).expect("it is told");
            line.split_whitespace().rev().take(9).map(str::to_owned).collect::<Vec<_>>()
        };
        // From the right: block, idle tx, srv, |, dial, stale, idle, used, wait.
        assert_eq!(columns("no actor arrives"), ["0", "0", "1", "|", "0", "1", "0", "0", "0"], "{story}");
        assert!(!told(&mut restarts(1)).contains("stale"));
    }

    #[test]
    fn times_are_rounded_and_moments_cut() {
        let millis = Duration::from_millis;
        assert_eq!([4, 250, 999, 1_956].map(|time| exact(millis(time))), ["4 ms", "250 ms", "999 ms", "2.0 s"]);
        assert_eq!([4, 256, 1_956].map(|time| about(millis(time))), ["4 ms", "200 ms", "2.0 s"]);
        assert_eq!([1_999, 3_600_000, 10_861_000].map(|time| clock(millis(time))), ["1.9 s", "1:00:00", "3:01:01"]);
    }

    #[test]
    fn a_few_milliseconds_change_few_lines() {
        let run = |shift: u64| {
            let mut case = Case::new();
            case.at(1_000 + shift).asks(1).open(1).gets(1, 1).at(5_010 + shift).lifecycle(Lifecycle::Down);
            case.at(8_020 + shift).lifecycle(Lifecycle::Running);
            told(&mut case)
        };
        let body = |story: String| {
            story.lines().take_while(|line| !line.starts_with("done")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(body(run(0)), body(run(7)));
    }
}
