//! What a scenario asks of its server, in the words of a real one: settings, `pg_hba.conf`, roles, databases, data.

use super::log::PREFIX;
use super::session::{DATABASE, ROLE, identifier, literal};
use crate::scenario::model::{Auth, Role, Scenario, Server};

/// What makes a server quick, and keeps it from doing anything of its own accord; a scenario may say otherwise. Nothing
/// is flushed to the disk, but the kernel keeps what was written, so that commits outlive everything but the machine.
const QUIET: [(&str, &str); 9] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("shared_buffers", "16MB"),
    ("jit", "off"),
    ("TimeZone", "Etc/UTC"),
    ("bgwriter_lru_maxpages", "0"),
    ("log_lock_waits", "on"),
    // What is shared lies in the data directory, and goes with it.
    ("dynamic_shared_memory_type", "mmap"),
];

/// What poolproof stands on; a scenario may not say otherwise. The port and the addresses come to it.
const FIXED: [(&str, &str); 11] = [
    // Poolproof's own session is a walsender's, and standbys have theirs. With `replica` an ACCESS EXCLUSIVE lock takes a
    // transaction id, which the simulated server does not show.
    ("wal_level", "replica"),
    ("max_wal_senders", "10"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("log_line_prefix", PREFIX),
    ("log_min_messages", "warning"),
    ("log_error_verbosity", "default"),
    ("log_connections", "on"),
    ("log_disconnections", "on"),
    ("lc_messages", "C"),
    ("ssl", "off"),
];

/// The places of a server, which are poolproof's, too.
const PLACES: [&str; 9] = [
    "port",
    "listen_addresses",
    "unix_socket_directories",
    "unix_socket_permissions",
    "data_directory",
    "config_file",
    "hba_file",
    "ident_file",
    "external_pid_file",
];

/// What a server is made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    server: Server,
    /// Whether it accepts sessions as a standby; `None`: the scenario has no standby.
    pub(super) hot_standby: Option<bool>,
}

impl Setup {
    /// What this scenario asks for; also of its standby, if it has one.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Setup {
        Setup {
            server: scenario.server.clone(),
            hot_standby: scenario.standby.as_ref().map(|standby| standby.hot_standby),
        }
    }

    /// What no real server of this major version does for this scenario, a reason each. A verdict on a run without it
    /// would be one on another scenario.
    #[must_use]
    pub fn unsupported(&self, major: u32) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.server.version > major {
            let version = self.server.version;
            reasons.push(format!("unsupported: the scenario is for PostgreSQL {version}, the server is {major}"));
        }
        for cost in &self.server.costs {
            let like = &cost.like;
            reasons.push(format!("unsupported: a real server takes its own time for `{like}` (server.cost)"));
        }
        let fixed = FIXED.iter().map(|(name, _)| *name).chain(PLACES);
        for name in fixed.filter(|fixed| self.server.settings.keys().any(|asked| asked.eq_ignore_ascii_case(fixed))) {
            reasons.push(format!("unsupported: the setting {name} is poolproof's own on a real server"));
        }
        if self.server.roles.contains_key(ROLE) {
            reasons.push(format!("unsupported: the role {ROLE} is poolproof's own on a real server"));
        }
        reasons
    }

    /// What is as the real server has it, whatever the scenario says; a verdict stands without.
    #[must_use]
    pub fn approximate(&self) -> Vec<String> {
        let server = &self.server;
        let default = Server::default();
        let times = [
            ("startup_time", server.startup_time, default.startup_time),
            ("recovery_time", server.recovery_time, default.recovery_time),
            ("fork_time", server.fork_time, default.fork_time),
        ];
        let asked = times.into_iter().filter(|(_, asked, default)| asked != default);
        asked.map(|(name, ..)| format!("the real server's own time instead of server.{name}")).collect()
    }

    /// The lines that are added to `postgresql.conf`.
    pub(super) fn configuration(&self) -> String {
        let server = &self.server;
        let mut settings: Vec<(&str, String)> =
            QUIET.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if let Some(hot) = self.hot_standby {
            settings.push(("hot_standby", if hot { "on" } else { "off" }.to_owned()));
            settings.push(("wal_retrieve_retry_interval", "100ms".to_owned()));
        }
        settings.push(("max_connections", server.max_connections.to_string()));
        settings.push(("superuser_reserved_connections", server.superuser_reserved_connections.to_string()));
        let asked = server.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let fixed = FIXED.iter().map(|(name, value)| (*name, (*value).to_owned()));
        // The last one of a name counts.
        let lines = settings.into_iter().chain(asked).chain(fixed).map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('\'', "''");
            format!("{name} = '{value}'\n")
        });
        lines.collect()
    }

    /// `pg_hba.conf`
    pub(super) fn authentication(&self) -> String {
        let method = match self.server.auth {
            Auth::Trust => "trust",
            Auth::ScramSha256 => "scram-sha-256",
        };
        format!("host all {ROLE} all trust\nhost replication {ROLE} all trust\nhost all all all {method}\n")
    }

    /// The roles: the default ones, and the scenario's.
    pub(super) fn roles(&self) -> impl Iterator<Item = (&str, Role)> {
        let asked = &self.server.roles;
        let defaults = [("postgres", true), ("app", false)].into_iter();
        let defaults = defaults.filter(|(name, _)| !asked.contains_key(*name));
        let defaults = defaults.map(|(name, superuser)| (name, Role { superuser, ..Role::default() }));
        defaults.chain(asked.iter().map(|(name, role)| (name.as_str(), role.clone())))
    }

    /// A role's password.
    #[must_use]
    pub fn password(&self, role: &str) -> Option<&str> {
        self.server.roles.get(role)?.password.as_deref()
    }

    /// Whether the scenario itself has this role.
    pub(super) fn names_role(&self, role: &str) -> bool {
        self.server.roles.contains_key(role)
    }

    /// The database's limit, with poolproof's own session, which counts, too.
    pub(super) fn database_limit(&self) -> Option<u32> {
        self.server.database_connection_limit.map(|limit| limit.saturating_add(1))
    }

    /// How the scenario's clients authenticate.
    pub(super) fn auth(&self) -> Auth {
        self.server.auth
    }

    /// Slots, as the scenario has them.
    pub(super) fn slots(&self) -> [(&'static str, u32); 2] {
        let server = &self.server;
        [
            ("max_connections", server.max_connections),
            ("superuser_reserved_connections", server.superuser_reserved_connections),
        ]
    }

    /// The scenario's settings.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.server.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Statements that make roles and the database, each to be run alone, by a superuser.
    pub(super) fn make_database(&self) -> Vec<String> {
        let mut statements = Vec::new();
        // What a scenario sets for everybody is not for poolproof's session.
        for timeout in ["statement_timeout", "lock_timeout", "idle_session_timeout"] {
            statements.push(format!("ALTER ROLE {ROLE} SET {timeout} = 0"));
        }
        statements.push(format!("ALTER ROLE {ROLE} SET default_transaction_read_only = off"));
        statements.extend(self.roles().map(|(name, role)| create_role(name, &role, self.password(name))));
        statements.push(create_database(self.database_limit()));
        statements
    }

    /// Statements that make the data, in the database, by a superuser. What they make belongs to the role `app`, and
    /// everybody may use it: the simulated server knows no privileges.
    pub(super) fn make_data(&self) -> Vec<String> {
        vec![
            "GRANT ALL ON SCHEMA public TO PUBLIC".to_owned(),
            self.server.sql.clone(),
            GIVE.to_owned(),
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC".to_owned(),
        ]
    }
}

pub(super) fn create_role(name: &str, role: &Role, password: Option<&str>) -> String {
    let superuser = if role.superuser { " SUPERUSER" } else { "" };
    let limit = role.connection_limit.map_or(String::new(), |limit| format!(" CONNECTION LIMIT {limit}"));
    let password = password.map_or(String::new(), |password| format!(" PASSWORD {}", literal(password)));
    format!("CREATE ROLE {} LOGIN{superuser}{limit}{password}", identifier(name))
}

pub(super) fn create_database(connection_limit: Option<u32>) -> String {
    let limit = connection_limit.map_or(String::new(), |limit| format!(" CONNECTION LIMIT {limit}"));
    format!("CREATE DATABASE {DATABASE} OWNER app TEMPLATE template0{limit}")
}

/// A sequence of a table goes with it.
const GIVE: &str = "DO $$ DECLARE made record; BEGIN \
     FOR made IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class c \
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') LOOP \
         EXECUTE format('GRANT ALL ON %s TO PUBLIC', made.name); \
         IF made.relkind <> 'S' THEN EXECUTE format('ALTER TABLE %s OWNER TO app', made.name); END IF; \
     END LOOP; END $$";

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(server: &str) -> Setup {
        let text = format!(
            "title = \"t\"\nstory = \"s\"\n[server]\n{server}\n[app.web]\n[workload.w]\napp = \"web\"\n\
             arrive = {{ every = \"1s\" }}\nsteps = [\"acquire\", \"release\"]\n[expect]\nuntil = \"10s\"\n"
        );
        Setup::of(&crate::scenario::parse("a test", &text).expect("it is right"))
    }

    #[test]
    fn the_scenario_speaks_last_but_for_what_is_poolproofs() {
        let setup = setup("max_connections = 7\nsettings = { autovacuum = true, idle_session_timeout = \"5s\" }");
        let lines = setup.configuration();
        let value = |name: &str| {
            let start = format!("{name} = ");
            lines.lines().rev().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        };
        assert_eq!(value("autovacuum").as_deref(), Some("'on'"));
        assert_eq!(value("idle_session_timeout").as_deref(), Some("'5s'"));
        assert_eq!(value("max_connections").as_deref(), Some("'7'"));
        assert_eq!(value("wal_level").as_deref(), Some("'replica'"));
        assert_eq!(setup.unsupported(15), Vec::<String>::new());
    }

    #[test]
    fn what_a_real_server_does_not_do_is_said() {
        let server = "version = 17\nstartup_time = \"3s\"\ncost = [{ like = \"UPDATE%\", takes = \"1s\" }]";
        let setup = setup(server);
        let reasons = setup.unsupported(15);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons.iter().all(|reason| reason.starts_with("unsupported: ")), "{reasons:?}");
        assert_eq!(setup.unsupported(17).len(), 1);
        assert_eq!(setup.approximate(), ["the real server's own time instead of server.startup_time"]);
    }

    #[test]
    fn names_and_passwords_are_quoted() {
        let role = Role { superuser: true, connection_limit: Some(3), password: None };
        let made = create_role("o\"dd", &role, Some("it's"));
        assert_eq!(made, "CREATE ROLE \"o\"\"dd\" LOGIN SUPERUSER CONNECTION LIMIT 3 PASSWORD 'it''s'");
    }
}
