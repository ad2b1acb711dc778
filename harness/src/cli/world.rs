//! Where runs take place, as the command line says it.

use clap::{Args, ValueEnum};

use super::error::{Failure, Result};
use crate::world::{Place, RealTime};

/// The worlds. They are explained at the end of a command's help: help of a value's own would make all of `--help` long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Name {
    Sim,
    Turmoil,
    Postgres,
}

/// What follows a command's help: its examples, and what its worlds are.
pub(super) fn with_worlds(examples: &str) -> String {
    format!(
        "{examples}

Worlds:
  sim       virtual time, the simulated network and server
  turmoil   virtual time, the simulated server on turmoil's network
  postgres  real time and a real PostgreSQL: of --url or POOLPROOF_POSTGRES_URL, else one of its own,
            of local programs or in Docker"
    )
}

#[derive(Debug, Args)]
pub(super) struct World {
    /// Where the scenarios run
    #[arg(long = "world", value_enum, value_name = "WORLD", default_value_t = Name::Sim)]
    name: Name,
    /// With --world postgres: this server, as a superuser, instead of one of its own
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// With --world postgres: how much of a scenario's time a run takes; assertions are widened
    #[arg(long, value_name = "FACTOR", value_parser = scale)]
    time_scale: Option<f64>,
}

/// What a server and its sockets need for themselves would be most of a scenario's time.
const LEAST_SCALE: f64 = 0.02;

fn scale(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && (LEAST_SCALE..=10.0).contains(&factor) => Ok(factor),
        _ => Err(format!("expected a factor from {LEAST_SCALE} to 10, as in 0.2")),
    }
}

impl World {
    pub(super) fn place(&self) -> Result<Place> {
        let World { name, url, time_scale } = self;
        if *name != Name::Postgres {
            let given = [("--url", url.is_some()), ("--time-scale", time_scale.is_some())];
            if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
                return Err(Failure::sentence(format!("{option} is for --world postgres: elsewhere time is virtual")));
            }
        }
        Ok(match name {
            Name::Sim => Place::Sim,
            Name::Turmoil => Place::Turmoil,
            Name::Postgres => Place::Postgres(RealTime { url: url.clone(), time_scale: time_scale.unwrap_or(1.0) }),
        })
    }
}

/// What a world needs for as long as a command goes on.
pub(super) struct Kept {
    #[cfg(feature = "postgres")]
    _servers: Option<std::sync::Arc<crate::world::postgres::Servers>>,
}

impl Place {
    /// Opens what runs there need. Where a real server comes from, and what was found of killed processes, is told.
    #[cfg(feature = "postgres")]
    pub(super) fn open(&self) -> Result<Kept> {
        let Place::Postgres(real) = self else { return Ok(Kept { _servers: None }) };
        let servers = crate::world::postgres::Servers::open(real.url.as_deref())
            .map_err(|error| Failure::sentence(error.to_string()))?;
        let source = servers.source();
        let swept = source.swept();
        eprintln!("{}", source.describe());
        for line in swept.removed.iter().map(|what| format!("a killed run had left {what}: it is removed")) {
            eprintln!("{line}");
        }
        for line in swept.left.iter().map(|what| format!("a killed run has left {what}")) {
            eprintln!("{line}");
        }
        Ok(Kept { _servers: Some(servers) })
    }

    #[cfg(not(feature = "postgres"))]
    pub(super) fn open(&self) -> Result<Kept> {
        match self {
            Place::Postgres(_) => Err(Failure::sentence(self.is_off())),
            Place::Sim | Place::Turmoil => Ok(Kept {}),
        }
    }

    /// What a command line that runs there has at its end.
    pub(super) fn words(&self) -> String {
        match self {
            Place::Sim => String::new(),
            Place::Turmoil => " --world turmoil".to_owned(),
            Place::Postgres(RealTime { url, time_scale }) => {
                let url = url.as_ref().map_or_else(String::new, |url| format!(" --url {url}"));
                let scale = if *time_scale == 1.0 { String::new() } else { format!(" --time-scale {time_scale}") };
                format!(" --world postgres{url}{scale}")
            }
        }
    }
}
