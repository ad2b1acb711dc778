//! Which world a run takes place in.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::scenario::model::Scenario;

/// A world, as the command line names it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Place {
    /// Virtual time, the simulated network and server.
    #[default]
    Sim,
    /// Virtual time, turmoil's network, the simulated server.
    Turmoil,
    /// Real time, real sockets, a real PostgreSQL.
    Postgres(RealTime),
}

/// A real server, in real time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RealTime {
    /// The server, as a connection URL of a superuser; `None` starts one.
    pub url: Option<String>,
    /// How much of a scenario's time a run takes.
    pub time_scale: f64,
}

impl Place {
    /// Its name on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Place::Sim => "sim",
            Place::Turmoil => "turmoil",
            Place::Postgres(_) => "postgres",
        }
    }

    /// What is said where this build can't go there.
    #[must_use]
    pub fn is_off(&self) -> String {
        format!("this build has no world {0}: its cargo feature {0} is off", self.name())
    }

    /// Whether a run is a function of scenario, pool and seed there.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        !matches!(self, Place::Postgres(_))
    }

    /// How much of a scenario's time a run takes there.
    #[must_use]
    pub fn time_scale(&self) -> f64 {
        match self {
            Place::Sim | Place::Turmoil => 1.0,
            Place::Postgres(real) => real.time_scale,
        }
    }

    /// The scenario as it is run and judged there.
    #[must_use]
    pub fn scenario<'s>(&self, scenario: &'s Scenario) -> Cow<'s, Scenario> {
        match self {
            Place::Sim | Place::Turmoil => Cow::Borrowed(scenario),
            #[cfg(feature = "postgres")]
            Place::Postgres(real) => Cow::Owned(scenario.in_real_time(real.time_scale)),
            #[cfg(not(feature = "postgres"))]
            Place::Postgres(_) => Cow::Borrowed(scenario),
        }
    }
}
