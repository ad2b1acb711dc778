//! The server's configuration file: `postgresql.conf`, its start and its reload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{self, CATALOGUE, Context};
use super::value::{self, Value};
use super::{check_custom_name, unchangeable, unrecognized};
use crate::postgres::error::PgError;

/// The settings of a server, from which every session starts.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    version: u32,
    pub(super) shared: Arc<Shared>,
}

/// What sessions share: a value for each setting of the catalogue, and which of them the file sets.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) values: Vec<Value>,
    pub(super) from_file: Vec<bool>,
    pub(super) custom: BTreeMap<String, Arc<str>>,
}

impl ServerSettings {
    /// The defaults of a major version (15, 16 or 17).
    ///
    /// # Panics
    ///
    /// For any other version.
    #[must_use]
    pub fn new(version: u32) -> Self {
        assert!((15..=17).contains(&version), "PostgreSQL {version} is not modelled");
        let values = CATALOGUE.iter().map(|variable| {
            let default = match (variable.name, version) {
                ("server_version", 16) => "16.14",
                ("server_version", 17) => "17.10",
                ("server_version_num", 16) => "160014",
                ("server_version_num", 17) => "170010",
                ("vacuum_buffer_usage_limit", 17) => "2048",
                _ => variable.default,
            };
            match value::parse(variable, variable.name, default, None, version) {
                Ok(value) => value,
                Err(error) => panic!("the default of {} is not valid: {error}", variable.name),
            }
        });
        ServerSettings {
            version,
            shared: Arc::new(Shared {
                values: values.collect(),
                from_file: vec![false; CATALOGUE.len()],
                custom: BTreeMap::new(),
            }),
        }
    }

    /// The names of all settings of this version, in PostgreSQL's order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        catalogue::names(self.version)
    }

    /// The major version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// A line of `postgresql.conf`, read when the server starts.
    ///
    /// # Errors
    ///
    /// 42704 for a name that is none, 22023 for a value that is none, 55P02 for what no file can set.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PgError> {
        self.assign(name, value, |context| context != Context::Internal)
    }

    /// A line of `postgresql.conf`, read on a reload (SIGHUP, `pg_reload_conf()`); sessions see it after
    /// [`super::Settings::reload`].
    ///
    /// # Errors
    ///
    /// As [`ServerSettings::set`], and 55P02 `parameter "…" cannot be changed without restarting the server`; the real
    /// server writes these to its log and goes on with the old value.
    pub fn reload(&mut self, name: &str, value: &str) -> Result<(), PgError> {
        self.assign(name, value, |context| !matches!(context, Context::Internal | Context::Postmaster))
    }

    /// Sets what the server itself decides (`in_hot_standby`, `server_version`).
    ///
    /// # Panics
    ///
    /// When there is no such setting, or this is no value for it.
    pub fn set_internal(&mut self, name: &str, value: &str) {
        if let Err(error) = self.assign(name, value, |_| true) {
            panic!("{error}");
        }
    }

    fn assign(&mut self, name: &str, text: &str, may: impl Fn(Context) -> bool) -> Result<(), PgError> {
        let Some(id) = catalogue::find(name, self.version) else {
            check_custom_name(name)?;
            let custom = &mut Arc::make_mut(&mut self.shared).custom;
            custom.insert(name.to_owned(), text.into());
            return Ok(());
        };
        let variable = &CATALOGUE[id];
        if !may(variable.context) {
            return Err(match variable.context {
                Context::Internal => unchangeable(name, "changed"),
                _ => unchangeable(name, "changed without restarting the server"),
            });
        }
        if variable.no_show_all || variable.no_reset_all {
            return Err(unchangeable(name, "changed"));
        }
        let current = &self.shared.values[id];
        let value = value::parse(variable, name, text, Some(current), self.version)?;
        let shared = Arc::make_mut(&mut self.shared);
        shared.values[id] = value;
        shared.from_file[id] = variable.context != Context::Internal;
        Ok(())
    }

    /// A setting as `SHOW` shows it.
    ///
    /// # Errors
    ///
    /// 42704 for a name that is none.
    pub fn get(&self, name: &str) -> Result<String, PgError> {
        if let Some(id) = catalogue::find(name, self.version) {
            return Ok(value::show(Some(&CATALOGUE[id]), &self.shared.values[id]));
        }
        let custom = self.shared.custom.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let custom = custom.ok_or_else(|| unrecognized(name))?;
        Ok(custom.1.to_string())
    }

    /// The number behind an integer setting, in its base unit; none for another kind of setting, or one that this version
    /// doesn't have.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        let id = catalogue::find(name, self.version)?;
        match self.shared.values[id] {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    fn count(&self, name: &str) -> u32 {
        self.integer(name).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
    }

    /// `max_connections`
    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.count("max_connections")
    }

    /// `superuser_reserved_connections`
    #[must_use]
    pub fn superuser_reserved_connections(&self) -> u32 {
        self.count("superuser_reserved_connections")
    }

    /// `reserved_connections`; 0 before version 16.
    #[must_use]
    pub fn reserved_connections(&self) -> u32 {
        self.count("reserved_connections")
    }

    /// `authentication_timeout`
    #[must_use]
    pub fn authentication_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.count("authentication_timeout")))
    }
}
