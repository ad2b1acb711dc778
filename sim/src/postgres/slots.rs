//! Connection slots and the limits around them, in the order in which PostgreSQL looks at them.
//!
//! A slot (a `PGPROC`) is taken before authentication, by whoever sent a startup packet, and given back when the backend
//! is gone; so an attempt that will be refused holds one for a moment. After authentication come the role, its limit, the
//! reserved slots, the database and its limit (`InitPostgres`). Reserved slots count free slots, whoever holds the
//! others. <https://www.postgresql.org/docs/15/runtime-config-connection.html>

use std::collections::BTreeMap;
use std::sync::Arc;

use super::activity::Backend;
use super::config::{Config, Version};
use super::error::{PgError, SqlState};
use super::event::Pid;

/// The processes of a server.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// All of them, also those that have not sent a startup packet yet.
    pub(super) backends: BTreeMap<Pid, Arc<Backend>>,
    /// Slots taken.
    pub(super) slots: u32,
}

fn refused(message: impl Into<std::borrow::Cow<'static, str>>) -> PgError {
    PgError::fatal(SqlState::TOO_MANY_CONNECTIONS, message)
}

impl Registry {
    /// Takes a slot (`InitProcess`). Error: 53300.
    pub(super) fn take_slot(&mut self, config: &Config, backend: &Backend) -> Result<(), PgError> {
        if self.slots >= config.max_connections {
            return Err(refused("sorry, too many clients already"));
        }
        self.slots += 1;
        backend.activity.lock().slot = true;
        Ok(())
    }

    /// The process is gone.
    pub(super) fn leave(&mut self, backend: &Backend) {
        if self.backends.remove(&backend.pid).is_some() && backend.activity.lock().slot {
            self.slots -= 1;
        }
    }

    /// How many backends satisfy a condition on role and database.
    fn count(&self, matches: impl Fn(Option<&str>, Option<&str>) -> bool) -> u32 {
        let count = self
            .backends
            .values()
            .filter(|backend| {
                let activity = backend.activity.lock();
                activity.slot && matches(activity.user.as_deref(), activity.database.as_deref())
            })
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// May this role, whose backend has a slot, come in? `limit` is its connection limit, if it has one. Errors: 28000,
    /// 53300.
    pub(super) fn admit_role(
        &self,
        config: &Config,
        backend: &Backend,
        user: &str,
        limit: Option<u32>,
    ) -> Result<bool, PgError> {
        let Some(role) = config.roles.iter().find(|role| role.name == user) else {
            return Err(PgError::fatal(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{user}\" does not exist"),
            ));
        };
        backend.activity.lock().user = Some(user.to_owned());
        if role.superuser {
            return Ok(true);
        }
        if let Some(limit) = limit
            && self.count(|of, _| of == Some(user)) > limit
        {
            return Err(refused(format!("too many connections for role \"{user}\"")));
        }
        let free = config.max_connections - self.slots;
        if config.version == Version::V15 {
            if config.superuser_reserved_connections > 0 && free < config.superuser_reserved_connections {
                return Err(refused(
                    "remaining connection slots are reserved for non-replication superuser connections",
                ));
            }
        } else if free < config.superuser_reserved_connections {
            return Err(refused("remaining connection slots are reserved for roles with the SUPERUSER attribute"));
        } else if free < config.superuser_reserved_connections + config.reserved_connections {
            return Err(refused(
                "remaining connection slots are reserved for roles with privileges of the \
                 \"pg_use_reserved_connections\" role",
            ));
        }
        Ok(false)
    }

    /// May it use this database? Errors: 3D000, 53300.
    pub(super) fn admit_database(
        &self,
        config: &Config,
        backend: &Backend,
        superuser: bool,
        name: &str,
    ) -> Result<(), PgError> {
        let Some(database) = config.databases.iter().find(|database| database.name == name) else {
            return Err(PgError::fatal(SqlState::INVALID_CATALOG_NAME, format!("database \"{name}\" does not exist")));
        };
        backend.activity.lock().database = Some(name.to_owned());
        match database.connection_limit {
            Some(limit) if !superuser && self.count(|_, of| of == Some(name)) > limit => {
                Err(refused(format!("too many connections for database \"{name}\"")))
            }
            _ => Ok(()),
        }
    }
}
