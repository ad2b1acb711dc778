//! The list of all settings, from a file beside this one.
//!
//! `catalogue.tsv` is `pg_settings` of a freshly made PostgreSQL 15.18 (without what only Debian has), with the settings
//! that `SHOW ALL` hides, and with those that versions 16 and 17 added or dropped. Its values are in base units, as in
//! `pg_settings.setting`.

use std::sync::LazyLock;

/// `pg_settings.context`: when a setting can be changed. See <https://www.postgresql.org/docs/15/view-pg-settings.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are PostgreSQL's")]
pub enum Context {
    Internal,
    Postmaster,
    Sighup,
    SuperuserBackend,
    Backend,
    Superuser,
    User,
}

impl Context {
    /// The text in `pg_settings.context`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Context::Internal => "internal",
            Context::Postmaster => "postmaster",
            Context::Sighup => "sighup",
            Context::SuperuserBackend => "superuser-backend",
            Context::Backend => "backend",
            Context::Superuser => "superuser",
            Context::User => "user",
        }
    }
}

/// The type of a setting, with its limits in base units.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Bool,
    Integer { min: i64, max: i64 },
    Real { min: f64, max: f64 },
    Text,
    Enum(Vec<&'static str>),
}

impl Kind {
    /// The text in `pg_settings.vartype`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Integer { .. } => "integer",
            Kind::Real { .. } => "real",
            Kind::Text => "string",
            Kind::Enum(_) => "enum",
        }
    }
}

/// What a setting's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Kilobytes,
    Megabytes,
    /// 8 kB
    Blocks,
    Milliseconds,
    Seconds,
    Minutes,
}

impl Unit {
    /// The text in `pg_settings.unit`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Unit::Bytes => "B",
            Unit::Kilobytes => "kB",
            Unit::Megabytes => "MB",
            Unit::Blocks => "8kB",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Minutes => "min",
        }
    }
}

/// One setting.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// First major version that has it, and first that has it no more.
    since: u32,
    until: u32,
    pub(super) default: &'static str,
    pub(super) unit: Option<Unit>,
    pub(super) context: Context,
    pub(super) kind: Kind,
    /// Announced to the client by ParameterStatus (`GUC_REPORT`).
    pub(super) report: bool,
    /// Takes a list of values (`GUC_LIST_INPUT`).
    pub(super) list: bool,
    /// Whose elements are identifiers, to be quoted (`GUC_LIST_QUOTE`).
    pub(super) quote: bool,
    /// Shown to superusers only.
    pub(super) secret: bool,
    pub(super) no_show_all: bool,
    pub(super) no_reset_all: bool,
    /// A file mode, shown with four octal digits.
    pub(super) octal: bool,
    pub(super) category: &'static str,
    pub(super) short_desc: &'static str,
}

impl Variable {
    pub(super) fn exists_in(&self, version: u32) -> bool {
        (self.since..self.until).contains(&version)
    }
}

/// All settings of all versions, by name without regard to case.
pub(super) static CATALOGUE: LazyLock<Vec<Variable>> = LazyLock::new(|| {
    let lines = include_str!("catalogue.tsv").lines().skip(1);
    let mut variables: Vec<Variable> =
        lines.map(|line| parse(line).expect("catalogue.tsv is as described in its first line")).collect();
    variables.sort_by_key(|variable| variable.name.to_ascii_lowercase());
    variables
});

/// The names of all settings of a version.
pub(super) fn names(version: u32) -> impl Iterator<Item = &'static str> + Clone + use<> {
    CATALOGUE.iter().filter(move |variable| variable.exists_in(version)).map(|variable| variable.name)
}

/// The place of a setting in the catalogue. `name` is taken without regard to ASCII case, and old names are known.
pub(super) fn find(name: &str, version: u32) -> Option<usize> {
    let wanted = match name.to_ascii_lowercase().as_str() {
        "sort_mem" => "work_mem".to_owned(),
        "vacuum_mem" => "maintenance_work_mem".to_owned(),
        "force_parallel_mode" if version >= 16 => "debug_parallel_query".to_owned(),
        lower => lower.to_owned(),
    };
    let place = CATALOGUE.binary_search_by(|variable| {
        let theirs = variable.name.bytes().map(|b| b.to_ascii_lowercase());
        theirs.cmp(wanted.bytes())
    });
    place.ok().filter(|&id| CATALOGUE[id].exists_in(version))
}

fn parse(line: &'static str) -> Option<Variable> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let name = next()?;
    let since = next()?.parse().unwrap_or(0);
    let until = next()?.parse().unwrap_or(u32::MAX);
    let default = next()?;
    let unit = match next()? {
        "B" => Some(Unit::Bytes),
        "kB" => Some(Unit::Kilobytes),
        "MB" => Some(Unit::Megabytes),
        "8kB" => Some(Unit::Blocks),
        "ms" => Some(Unit::Milliseconds),
        "s" => Some(Unit::Seconds),
        "min" => Some(Unit::Minutes),
        "" => None,
        _ => return None,
    };
    let context = match next()? {
        "internal" => Context::Internal,
        "postmaster" => Context::Postmaster,
        "sighup" => Context::Sighup,
        "superuser-backend" => Context::SuperuserBackend,
        "backend" => Context::Backend,
        "superuser" => Context::Superuser,
        "user" => Context::User,
        _ => return None,
    };
    let (vartype, min, max, enumvals) = (next()?, next()?, next()?, next()?);
    let kind = match vartype {
        "bool" => Kind::Bool,
        "integer" => Kind::Integer { min: min.parse().ok()?, max: max.parse().ok()? },
        "real" => Kind::Real { min: min.parse().ok()?, max: max.parse().ok()? },
        "string" => Kind::Text,
        "enum" => Kind::Enum(enumvals.split(',').collect()),
        _ => return None,
    };
    let flags: Vec<&str> = next()?.split(',').collect();
    Some(Variable {
        name,
        since,
        until,
        default,
        unit,
        context,
        kind,
        report: flags.contains(&"report"),
        list: flags.contains(&"list"),
        quote: flags.contains(&"quote"),
        secret: flags.contains(&"secret"),
        no_show_all: flags.contains(&"no_show_all"),
        no_reset_all: flags.contains(&"no_reset_all"),
        octal: flags.contains(&"octal"),
        category: next()?,
        short_desc: next()?,
    })
}
