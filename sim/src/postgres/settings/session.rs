//! A session's settings: what it started with, what it set since, and what a rollback undoes.
//!
//! A session keeps only what differs from the server's settings. Each such setting has up to three values over the
//! server's: the one the session started with, the one set for the session, and the one set for the transaction (`SET
//! LOCAL`); the last of them counts. Every change goes on an undo log; COMMIT drops the log and the transaction's values,
//! ROLLBACK plays it back.

use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{self, CATALOGUE, Context, Unit, Variable};
use super::server::{ServerSettings, Shared};
use super::value::{self, Value};
use super::{check_custom_name, unchangeable, unrecognized};
use crate::postgres::error::{PgError, SqlState};

/// How long a `SET` lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `SET`: to the end of the session, if the transaction commits.
    Session,
    /// `SET LOCAL`: to the end of the transaction.
    Local,
}

/// `pg_settings.source`: where a value comes from. A later one overrides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are PostgreSQL's")]
pub enum Source {
    Default,
    ConfigurationFile,
    /// `ALTER DATABASE … SET`
    Database,
    /// `ALTER ROLE … SET`
    User,
    /// `ALTER ROLE … IN DATABASE … SET`
    DatabaseUser,
    /// The startup packet.
    Client,
    Override,
    Session,
}

impl Source {
    /// The text in `pg_settings.source`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::ConfigurationFile => "configuration file",
            Source::Database => "database",
            Source::User => "user",
            Source::DatabaseUser => "database user",
            Source::Client => "client",
            Source::Override => "override",
            Source::Session => "session",
        }
    }
}

/// What a session starts with besides the server's settings.
#[derive(Debug, Clone, Copy)]
pub struct Startup<'a> {
    /// The role that logs in.
    pub user: &'a str,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// `ALTER ROLE … SET` and `ALTER DATABASE … SET`: source, name and value.
    pub stored: &'a [(Source, &'a str, &'a str)],
    /// The startup packet's parameters. `user`, `database`, `replication` and protocol options (`_pq_.`) are passed
    /// over; `options` is split as the real server does.
    pub parameters: &'a [(&'a str, &'a str)],
}

/// A point in a transaction, for [`Settings::rollback_to`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// The settings that time a session out, ready for use; none is "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// `statement_timeout`
    pub statement: Option<Duration>,
    /// `lock_timeout`
    pub lock: Option<Duration>,
    /// `idle_in_transaction_session_timeout`
    pub idle_in_transaction: Option<Duration>,
    /// `idle_session_timeout`
    pub idle_session: Option<Duration>,
    /// `transaction_timeout`, since version 17.
    pub transaction: Option<Duration>,
    /// `deadlock_timeout`
    pub deadlock: Duration,
    /// `client_connection_check_interval`
    pub client_connection_check: Option<Duration>,
    /// `tcp_keepalives_idle`; none is the host's own.
    pub keepalives_idle: Option<Duration>,
    /// `tcp_keepalives_interval`; none is the host's own.
    pub keepalives_interval: Option<Duration>,
    /// `tcp_keepalives_count`; none is the host's own.
    pub keepalives_count: Option<u32>,
    /// `tcp_user_timeout`; none is the host's own.
    pub tcp_user: Option<Duration>,
}

/// A row of `pg_settings`, and the value that `SHOW` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are pg_settings' columns")]
pub struct SettingRow {
    pub name: String,
    pub setting: String,
    pub unit: Option<&'static str>,
    pub category: &'static str,
    pub short_desc: &'static str,
    pub context: &'static str,
    pub vartype: &'static str,
    pub source: &'static str,
    pub min_val: Option<String>,
    pub max_val: Option<String>,
    pub enumvals: Option<Vec<&'static str>>,
    pub boot_val: Option<&'static str>,
    pub reset_val: String,
    /// As `SHOW` and `SHOW ALL` print it, with a unit.
    pub shown: String,
}

/// The settings of one session.
#[derive(Debug, Clone)]
pub struct Settings {
    version: u32,
    server: Arc<Shared>,
    own: Vec<Own>,
    /// Names of settings made up by the client or the configuration file, in the order of their appearance.
    custom: Vec<Box<str>>,
    undo: Vec<Undo>,
    timeouts: Timeouts,
    /// `transaction_isolation`, `transaction_read_only` and `transaction_deferrable` of this transaction.
    characteristics: [Value; 3],
    ids: Ids,
    /// What the client was told last, for the settings that are reported.
    told: Vec<(usize, String)>,
    /// Whether one of those may have changed since.
    report_due: bool,
    /// Whether anything changed since the last [`Settings::take_changed`].
    changed: bool,
    /// Whether nothing changed since `characteristics` were last reset, so that doing it again is idle.
    fresh: bool,
}

/// A setting that differs from the server's, or did. Ids beyond the catalogue are those of custom settings.
#[derive(Debug, Clone)]
struct Own {
    id: usize,
    start: Option<(Value, Source)>,
    session: Option<Value>,
    local: Option<Value>,
}

#[derive(Debug, Clone)]
struct Undo {
    id: usize,
    session: Option<Value>,
    local: Option<Value>,
}

/// Catalogue places of the settings with a meaning of their own here.
#[derive(Debug, Clone, Copy)]
struct Ids {
    characteristics: [usize; 3],
    defaults: [usize; 3],
    timeouts: [usize; 10],
    transaction_timeout: Option<usize>,
}

impl Ids {
    fn new(version: u32) -> Ids {
        let id = |name| catalogue::find(name, version).expect("every modelled version has it");
        Ids {
            characteristics: ["transaction_isolation", "transaction_read_only", "transaction_deferrable"].map(id),
            defaults: [
                "default_transaction_isolation",
                "default_transaction_read_only",
                "default_transaction_deferrable",
            ]
            .map(id),
            timeouts: [
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "idle_session_timeout",
                "deadlock_timeout",
                "client_connection_check_interval",
                "tcp_keepalives_idle",
                "tcp_keepalives_interval",
                "tcp_keepalives_count",
                "tcp_user_timeout",
            ]
            .map(id),
            transaction_timeout: catalogue::find("transaction_timeout", version),
        }
    }
}

/// Who asks for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Server,
    Startup { superuser: bool },
    Session { superuser: bool },
}

impl Settings {
    /// The settings of a new session.
    ///
    /// # Errors
    ///
    /// The FATAL that ends the session: 42704, 22023, 42501 or 55P02 for a startup parameter, 42601 for a broken
    /// `options`.
    pub fn new(server: &ServerSettings, startup: Startup<'_>) -> Result<Self, PgError> {
        let ids = Ids::new(server.version());
        let mut settings = Settings {
            version: server.version(),
            server: Arc::clone(&server.shared),
            own: Vec::new(),
            custom: Vec::new(),
            undo: Vec::new(),
            timeouts: Timeouts::default(),
            characteristics: ids.defaults.map(|id| server.shared.values[id].clone()),
            ids,
            told: Vec::new(),
            report_due: true,
            changed: true,
            fresh: false,
        };
        settings.adopt_custom();
        let superuser = if startup.superuser { "on" } else { "off" };
        settings.start("is_superuser", superuser, Source::Override, Asker::Server).map_err(PgError::into_fatal)?;
        settings
            .start("session_authorization", startup.user, Source::Override, Asker::Server)
            .map_err(PgError::into_fatal)?;

        let client = Asker::Startup { superuser: startup.superuser };
        for &(source, name, value) in startup.stored {
            settings.start(name, value, source, client).map_err(PgError::into_fatal)?;
        }
        // The options come first, so that a parameter of its own overrides them.
        let options = startup.parameters.iter().filter(|(name, _)| *name == "options");
        for (_, options) in options {
            for (name, value) in super::options::split(options).map_err(PgError::into_fatal)? {
                settings.start(&name, &value, Source::Client, client).map_err(PgError::into_fatal)?;
            }
        }
        for &(name, value) in startup.parameters {
            let not_a_setting =
                matches!(name, "user" | "database" | "options" | "replication") || name.starts_with("_pq_.");
            if !not_a_setting {
                settings.start(name, value, Source::Client, client).map_err(PgError::into_fatal)?;
            }
        }
        settings.begin();
        settings.refresh_timeouts();
        Ok(settings)
    }

    /// `SHOW name`, for a superuser.
    ///
    /// # Errors
    ///
    /// 42704 for a name that is none.
    pub fn get(&self, name: &str) -> Result<String, PgError> {
        let id = self.find(name).ok_or_else(|| unrecognized(name))?;
        Ok(self.shown(id))
    }

    /// `SHOW name` and `current_setting(name)`.
    ///
    /// # Errors
    ///
    /// 42704 for a name that is none; 42501 for a setting that only superusers may see.
    pub fn examine(&self, name: &str, superuser: bool) -> Result<String, PgError> {
        let id = self.find(name).ok_or_else(|| unrecognized(name))?;
        match CATALOGUE.get(id) {
            Some(variable) if variable.secret && !superuser => Err(self.may_not_examine(variable)),
            _ => Ok(self.shown(id)),
        }
    }

    fn may_not_examine(&self, variable: &Variable) -> PgError {
        let name = variable.name;
        if self.version >= 16 {
            return PgError::error(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to examine \"{name}\""),
            )
            .detail("Only roles with privileges of the \"pg_read_all_settings\" role may examine this parameter.");
        }
        PgError::error(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("must be superuser or have privileges of pg_read_all_settings to examine \"{name}\""),
        )
    }

    /// The name in PostgreSQL's own spelling, as the column of `SHOW` is called.
    #[must_use]
    pub fn canonical_name(&self, name: &str) -> Option<&str> {
        let id = self.find(name)?;
        Some(self.name(id))
    }

    /// The value behind a setting, in its base unit.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.find(name).map(|id| self.effective(id))
    }

    /// The timeouts, without reading any text.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// `transaction_read_only` of the running transaction.
    #[must_use]
    pub fn read_only(&self) -> bool {
        *self.effective(self.ids.characteristics[1]) == Value::Bool(true)
    }

    /// `SET`, `SET LOCAL` and `set_config()`; none sets the default (`SET … TO DEFAULT`, `RESET`). What changed is undone
    /// by a rollback; a statement outside a transaction block is a transaction of its own.
    ///
    /// Whether a role exists, and whether it is too late for `transaction_isolation`, only the caller knows.
    ///
    /// # Errors
    ///
    /// 42704 for a name that is none, 22023 for a value that is none, 55P02 for what a session cannot change, 42501 for
    /// what only a superuser may.
    pub fn set(&mut self, name: &str, text: Option<&str>, scope: Scope, superuser: bool) -> Result<(), PgError> {
        self.change(name, text, scope, Asker::Session { superuser })
    }

    /// `RESET name`.
    ///
    /// # Errors
    ///
    /// As [`Settings::set`].
    pub fn reset(&mut self, name: &str, superuser: bool) -> Result<(), PgError> {
        self.set(name, None, Scope::Session, superuser)
    }

    /// `RESET ALL`: everything but the role and what belongs to the transaction.
    pub fn reset_all(&mut self) {
        for at in 0..self.own.len() {
            let own = &self.own[at];
            let spared = CATALOGUE.get(own.id).is_some_and(|variable| {
                variable.no_reset_all || !matches!(variable.context, Context::Superuser | Context::User)
            });
            if !spared && (own.session.is_some() || own.local.is_some()) {
                self.assign(own.id, None, Scope::Session);
            }
        }
    }

    /// Sets what follows from something else, such as `is_superuser` from the role; undone by a rollback as a `SET` is.
    ///
    /// # Panics
    ///
    /// When there is no such setting, or this is no value for it.
    pub fn set_internal(&mut self, name: &str, text: &str, scope: Scope) {
        if let Err(error) = self.change(name, Some(text), scope, Asker::Server) {
            panic!("{error}");
        }
    }

    /// A transaction begins, explicitly or with a statement outside a block: its characteristics are the defaults'.
    pub fn begin(&mut self) {
        if self.fresh {
            return;
        }
        let places = self.ids.characteristics;
        self.own.retain(|own| !places.contains(&own.id));
        self.characteristics = self.ids.defaults.map(|id| self.effective(id).clone());
        self.fresh = true;
    }

    /// COMMIT: what was set stays, but for `SET LOCAL`.
    pub fn commit(&mut self) {
        for undo in std::mem::take(&mut self.undo) {
            self.fresh = false;
            let own = self.own.iter_mut().find(|own| own.id == undo.id);
            if own.is_some_and(|own| own.local.take().is_some()) {
                self.touched(undo.id);
            }
        }
        self.begin();
    }

    /// ROLLBACK: what was set in this transaction is undone.
    pub fn rollback(&mut self) {
        self.rollback_to(Mark(0));
        self.begin();
    }

    /// The moment of a SAVEPOINT.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.undo.len())
    }

    /// ROLLBACK TO SAVEPOINT: what was set since is undone.
    pub fn rollback_to(&mut self, mark: Mark) {
        while self.undo.len() > mark.0 {
            let Some(undo) = self.undo.pop() else { break };
            self.fresh = false;
            if let Some(own) = self.own.iter_mut().find(|own| own.id == undo.id) {
                own.session = undo.session;
                own.local = undo.local;
            }
            self.touched(undo.id);
        }
    }

    /// The server's configuration was reloaded: what the session did not set itself takes the new values.
    pub fn reload(&mut self, server: &ServerSettings) {
        self.server = Arc::clone(&server.shared);
        self.adopt_custom();
        self.refresh_timeouts();
        self.report_due = true;
        self.changed = true;
        self.fresh = false;
    }

    /// Whether a setting may have changed since the last call, and with it what [`Settings::timeouts`] and
    /// [`Settings::take_reported`] answer.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The settings to be reported at startup, with their values, in the order of their names; later changes come from
    /// [`Settings::take_reported`].
    pub fn report_all(&mut self) -> Vec<(Arc<str>, String)> {
        self.told.clear();
        self.report_due = true;
        self.take_reported()
    }

    /// The reported settings whose value is another one than the client was told last. To be asked for before each
    /// ReadyForQuery: PostgreSQL sends ParameterStatus there, so that a `SET` undone in between is never heard of.
    pub fn take_reported(&mut self) -> Vec<(Arc<str>, String)> {
        let mut news = Vec::new();
        if !std::mem::take(&mut self.report_due) {
            return news;
        }
        for (id, variable) in CATALOGUE.iter().enumerate() {
            if !variable.report || !variable.exists_in(self.version) {
                continue;
            }
            let value = self.shown(id);
            match self.told.iter_mut().find(|(told, _)| *told == id) {
                Some((_, told)) if *told == value => continue,
                Some((_, told)) => told.clone_from(&value),
                None => self.told.push((id, value.clone())),
            }
            news.push((Arc::from(variable.name), value));
        }
        news
    }

    /// The names of settings whose value is not the one the session started with, role included, in the order in which
    /// they were first set. What ends with the transaction anyway (`transaction_isolation`) is left out.
    #[must_use]
    pub fn differing_from_startup(&self) -> Vec<String> {
        // What was neither set for the session nor for the transaction is what RESET goes back to.
        let set = self.own.iter().filter(|own| own.session.is_some() || own.local.is_some());
        let differing = set.filter(|own| {
            let seed = CATALOGUE.get(own.id).is_some_and(|variable| variable.name == "seed");
            !seed && !self.ids.characteristics.contains(&own.id) && self.effective(own.id) != self.reset_value(own.id)
        });
        differing.map(|own| self.name(own.id).to_owned()).collect()
    }

    /// `pg_settings` and `SHOW ALL`, in the order of the names; what only superusers may see is left out for others.
    #[must_use]
    pub fn all(&self, superuser: bool) -> Vec<SettingRow> {
        let known = CATALOGUE.iter().enumerate();
        let known = known.filter(|(_, variable)| {
            variable.exists_in(self.version) && !variable.no_show_all && (superuser || !variable.secret)
        });
        let known = known.map(|(id, variable)| self.row(id, variable));
        let custom = (0..self.custom.len()).map(|at| self.custom_row(CATALOGUE.len() + at));
        let mut rows: Vec<SettingRow> = known.chain(custom).collect();
        rows.sort_by_cached_key(|row| row.name.to_ascii_lowercase());
        rows
    }

    fn row(&self, id: usize, variable: &'static Variable) -> SettingRow {
        let limit = |pick: fn(&catalogue::Kind) -> Option<String>| pick(&variable.kind);
        SettingRow {
            name: variable.name.to_owned(),
            setting: self.shown_plain(id),
            unit: variable.unit.map(Unit::as_str),
            category: variable.category,
            short_desc: variable.short_desc,
            context: variable.context.as_str(),
            vartype: variable.kind.as_str(),
            source: self.source(id).as_str(),
            min_val: limit(|kind| match kind {
                catalogue::Kind::Integer { min, .. } => Some(min.to_string()),
                catalogue::Kind::Real { min, .. } => Some(min.to_string()),
                _ => None,
            }),
            max_val: limit(|kind| match kind {
                catalogue::Kind::Integer { max, .. } => Some(max.to_string()),
                catalogue::Kind::Real { max, .. } => Some(max.to_string()),
                _ => None,
            }),
            enumvals: match &variable.kind {
                catalogue::Kind::Enum(values) => Some(values.clone()),
                _ => None,
            },
            boot_val: Some(variable.default),
            reset_val: value::show_plain(Some(variable), self.reset_value(id)),
            shown: self.shown(id),
        }
    }

    fn custom_row(&self, id: usize) -> SettingRow {
        SettingRow {
            name: self.name(id).to_owned(),
            setting: self.shown(id),
            unit: None,
            category: "Customized Options",
            short_desc: "",
            context: Context::User.as_str(),
            vartype: "string",
            source: self.source(id).as_str(),
            min_val: None,
            max_val: None,
            enumvals: None,
            boot_val: None,
            reset_val: value::show_plain(None, self.reset_value(id)),
            shown: self.shown(id),
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        catalogue::find(name, self.version).or_else(|| {
            let custom = self.custom.iter().position(|known| known.eq_ignore_ascii_case(name));
            custom.map(|at| CATALOGUE.len() + at)
        })
    }

    fn name(&self, id: usize) -> &str {
        match CATALOGUE.get(id) {
            Some(variable) => variable.name,
            None => &self.custom[id - CATALOGUE.len()],
        }
    }

    fn own(&self, id: usize) -> Option<&Own> {
        self.own.iter().find(|own| own.id == id)
    }

    fn effective(&self, id: usize) -> &Value {
        let set = self.own(id).and_then(|own| own.local.as_ref().or(own.session.as_ref()));
        if let Some(value) = set {
            return value;
        }
        match self.ids.characteristics.iter().position(|&place| place == id) {
            Some(place) => &self.characteristics[place],
            None => self.reset_value(id),
        }
    }

    /// The value that RESET goes back to.
    fn reset_value(&self, id: usize) -> &Value {
        match self.own(id).and_then(|own| own.start.as_ref()) {
            Some((value, _)) => value,
            None => self.server.values.get(id).unwrap_or(&EMPTY),
        }
    }

    fn source(&self, id: usize) -> Source {
        let own = self.own(id);
        if self.ids.characteristics.contains(&id) {
            Source::Override
        } else if own.is_some_and(|own| own.session.is_some() || own.local.is_some()) {
            Source::Session
        } else if let Some((_, source)) = own.and_then(|own| own.start.as_ref()) {
            *source
        } else if self.server.from_file.get(id) == Some(&true) {
            Source::ConfigurationFile
        } else {
            Source::Default
        }
    }

    fn shown(&self, id: usize) -> String {
        self.hooked(id).unwrap_or_else(|| value::show(CATALOGUE.get(id), self.effective(id)))
    }

    fn shown_plain(&self, id: usize) -> String {
        self.hooked(id).unwrap_or_else(|| value::show_plain(CATALOGUE.get(id), self.effective(id)))
    }

    /// The values that PostgreSQL shows by a rule of their own (its show hooks).
    fn hooked(&self, id: usize) -> Option<String> {
        let variable = CATALOGUE.get(id)?;
        // Linux's own values stand behind a 0; these are shown without units.
        let host = match variable.name {
            "seed" => return Some("unavailable".to_owned()),
            "archive_command" if self.value("archive_mode") == Some(&Value::Text("off".into())) => {
                return Some("(disabled)".to_owned());
            }
            "tcp_keepalives_idle" => 7200,
            "tcp_keepalives_interval" => 75,
            "tcp_keepalives_count" => 9,
            "tcp_user_timeout" => 0,
            _ => return None,
        };
        match self.effective(id) {
            Value::Integer(0) => Some(host.to_string()),
            value => Some(value::show_plain(None, value)),
        }
    }

    /// A value from before the session's first statement.
    fn start(&mut self, name: &str, text: &str, source: Source, asker: Asker) -> Result<(), PgError> {
        let (id, value) = self.checked(name, Some(text), asker)?;
        let Some(value) = value else { return Ok(()) };
        let own = self.own_mut(id);
        if own.start.as_ref().is_none_or(|(_, earlier)| *earlier <= source) {
            own.start = Some((value, source));
        }
        Ok(())
    }

    fn change(&mut self, name: &str, text: Option<&str>, scope: Scope, asker: Asker) -> Result<(), PgError> {
        let (id, value) = self.checked(name, text, asker)?;
        self.assign(id, value, scope);
        Ok(())
    }

    /// Whether `asker` may change the setting, and to what.
    fn checked(&mut self, name: &str, text: Option<&str>, asker: Asker) -> Result<(usize, Option<Value>), PgError> {
        let Some(id) = self.find(name) else {
            check_custom_name(name)?;
            self.custom.push(name.into());
            let id = CATALOGUE.len() + self.custom.len() - 1;
            return Ok((id, text.map(|text| Value::Text(text.into()))));
        };
        let Some(variable) = CATALOGUE.get(id) else {
            return Ok((id, text.map(|text| Value::Text(text.into()))));
        };
        check_permission(variable, name, asker)?;
        let Some(text) = text else {
            return Ok((id, None));
        };
        let value = value::parse(variable, name, text, Some(self.effective(id)), self.version)?;
        Ok((id, Some(value)))
    }

    fn own_mut(&mut self, id: usize) -> &mut Own {
        self.fresh = false;
        let place = self.own.iter().position(|own| own.id == id).unwrap_or_else(|| {
            self.own.push(Own { id, start: None, session: None, local: None });
            self.own.len() - 1
        });
        &mut self.own[place]
    }

    fn assign(&mut self, id: usize, value: Option<Value>, scope: Scope) {
        let reset = self.reset_value(id).clone();
        let own = self.own_mut(id);
        let undo = Undo { id, session: own.session.clone(), local: own.local.clone() };
        match scope {
            Scope::Session => {
                own.session = value;
                own.local = None;
            }
            Scope::Local => own.local = Some(value.unwrap_or(reset)),
        }
        self.undo.push(undo);
        self.touched(id);
    }

    fn touched(&mut self, id: usize) {
        if self.ids.timeouts.contains(&id) || self.ids.transaction_timeout == Some(id) {
            self.refresh_timeouts();
        }
        self.report_due |= CATALOGUE.get(id).is_some_and(|variable| variable.report);
        self.changed = true;
    }

    fn refresh_timeouts(&mut self) {
        let number = |id: usize| match self.effective(id) {
            Value::Integer(number) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let some_ms = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
        let some_s = |s: u64| (s > 0).then(|| Duration::from_secs(s));
        let [statement, lock, idle_in_transaction, idle_session, deadlock, check, idle, interval, count, tcp_user] =
            self.ids.timeouts.map(number);
        self.timeouts = Timeouts {
            statement: some_ms(statement),
            lock: some_ms(lock),
            idle_in_transaction: some_ms(idle_in_transaction),
            idle_session: some_ms(idle_session),
            transaction: self.ids.transaction_timeout.and_then(|id| some_ms(number(id))),
            deadlock: Duration::from_millis(deadlock),
            client_connection_check: some_ms(check),
            keepalives_idle: some_s(idle),
            keepalives_interval: some_s(interval),
            keepalives_count: u32::try_from(count).ok().filter(|count| *count > 0),
            tcp_user: some_ms(tcp_user),
        };
    }

    /// Takes over the custom settings of the configuration file.
    fn adopt_custom(&mut self) {
        let server = Arc::clone(&self.server);
        for (name, text) in &server.custom {
            let id = self.find(name).unwrap_or_else(|| {
                self.custom.push(name.as_str().into());
                CATALOGUE.len() + self.custom.len() - 1
            });
            let own = self.own_mut(id);
            if own.start.as_ref().is_none_or(|(_, source)| *source <= Source::ConfigurationFile) {
                own.start = Some((Value::Text(Arc::clone(text)), Source::ConfigurationFile));
            }
        }
    }
}

/// A custom setting's value before and after it was set.
static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Text("".into()));

/// The rules of `set_config_option` on who may change what, and when.
fn check_permission(variable: &Variable, name: &str, asker: Asker) -> Result<(), PgError> {
    let denied =
        || PgError::error(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied to set parameter \"{name}\""));
    match (asker, variable.context) {
        (Asker::Server, _) | (_, Context::User) => Ok(()),
        (_, Context::Internal) => Err(unchangeable(name, "changed")),
        (_, Context::Postmaster) => Err(unchangeable(name, "changed without restarting the server")),
        (_, Context::Sighup) => Err(unchangeable(name, "changed now")),
        (Asker::Session { .. }, Context::Backend | Context::SuperuserBackend) => {
            Err(unchangeable(name, "set after connection start"))
        }
        (Asker::Startup { .. }, Context::Backend) => Ok(()),
        (Asker::Startup { superuser }, Context::SuperuserBackend)
        | (Asker::Startup { superuser } | Asker::Session { superuser }, Context::Superuser) => {
            if superuser {
                Ok(())
            } else {
                Err(denied())
            }
        }
    }
}
