//! Which features are in play in a scenario, and how strongly.
//!
//! A generator in which everything is always possible makes scenarios that are all alike: a bit of everything, in which one
//! feature hides what another would show. Here each scenario first draws its own few features (swarm testing: Groce and
//! others, ISSTA 2012), and only these are in it.

use std::fmt;

use super::dice::Dice;
use crate::pool::Capabilities;

macro_rules! features {
    ($($variant:ident $name:literal $meaning:literal,)*) => {
        /// Something that a scenario may have in it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Feature {
            $(#[doc = $meaning] $variant,)*
        }

        /// Every feature, its name, and what it brings.
        const FEATURES: &[(Feature, &str, &str)] = &[$((Feature::$variant, $name, $meaning),)*];
    };
}

features! {
    Long "long" "Minutes of sparse traffic instead of seconds of dense.",
    Crowd "crowd" "More callers than connections.",
    Cancel "cancel" "Callers who drop an acquire or a statement at an exact moment.",
    Deadline "deadline" "Callers with a deadline of their own.",
    Abandon "abandon" "Callers who are dropped in the middle.",
    Panic "panic" "Callers who panic with a lease.",
    Detach "detach" "Callers who take a connection out of the pool.",
    Invalidate "invalidate" "Callers who have a connection closed.",
    Resize "resize" "A pool that is resized.",
    ClosePool "close" "A pool that is closed while it is used.",
    OwnPool "own-pool" "Pools that are built and dropped by their callers.",
    Dirty "dirty" "Leases that end in a transaction or with session state.",
    Write "write" "Statements that write.",
    BadSql "bad-sql" "Statements that fail.",
    SlowSql "slow-sql" "Statements that take long.",
    Prepared "prepared" "Prepared statements.",
    Repeat "repeat" "Callers who acquire again and again.",
    MinIdle "min_idle" "Idle connections that are kept ready.",
    MaxIdle "max_idle" "Idle connections that are not kept.",
    Check "check" "Connections that are checked before they are handed out.",
    IdleTimeout "idle_timeout" "Connections that are closed when they are idle for too long.",
    Lifetime "lifetime" "Connections that are closed when they are too old.",
    Reset "reset" "Sessions that are reset when they are returned.",
    Order "order" "A chosen order of idle connections.",
    Processes "processes" "Several processes, each with its pool.",
    SlowFork "slow-fork" "A server that takes long to make a session ready.",
    Slots "slots" "A server with few slots.",
    Latency "latency" "A slow network.",
    ClientOptions "client-options" "Socket options and a limit for dials.",
    Interleave "interleave" "Another order of what is ready at the same time.",
    Stop "stop" "The server is stopped, and started by the healing.",
    Restart "restart" "The server is restarted.",
    Crash "crash" "Backends or the whole server crash.",
    PowerLoss "power-loss" "The server's host vanishes.",
    Slow "slow" "Every statement takes longer for a while.",
    Terminate "terminate" "Sessions are terminated.",
    CancelBackend "cancel-backend" "Statements are cancelled by the server.",
    Occupy "occupy" "Another client takes the server's slots.",
    NetSlow "net-slow" "The network becomes slower for a while.",
    Partition "partition" "The network is cut for a while.",
    Forget "forget" "Flows are forgotten silently.",
    NetReset "net-reset" "Flows are reset.",
    Refuse "refuse" "Connects are refused.",
    LoseConnects "lose-connects" "Connects are lost.",
    AcceptSilence "accept-silence" "Connects are accepted, and nobody answers.",
    AppKill "app-kill" "Processes of the application are killed.",
    ActorKill "actor-kill" "Callers are killed.",
    Manager "manager" "The manager of a pool of resources misbehaves.",
}

impl Feature {
    /// Every feature.
    pub fn all() -> impl Iterator<Item = Feature> {
        FEATURES.iter().map(|&(feature, ..)| feature)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        FEATURES[self as usize].1
    }

    /// What it brings, in a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        FEATURES[self as usize].2
    }

    /// Whether it is a fault.
    #[must_use]
    pub fn is_fault(self) -> bool {
        self >= Feature::Stop
    }

    /// Whether a pool that can do this can be asked for it.
    #[must_use]
    pub fn is_for(self, capabilities: &Capabilities) -> bool {
        match self {
            Feature::Detach => capabilities.detach,
            Feature::Invalidate => capabilities.invalidate,
            Feature::Resize => capabilities.resize,
            Feature::ClosePool => capabilities.close,
            Feature::MinIdle => capabilities.min_idle,
            Feature::MaxIdle => capabilities.max_idle,
            Feature::Check => capabilities.test_on_acquire,
            Feature::IdleTimeout => capabilities.idle_timeout,
            Feature::Lifetime => capabilities.max_lifetime,
            Feature::Reset | Feature::Dirty => capabilities.reset_rollback || capabilities.reset_discard,
            Feature::Order => capabilities.fifo || capabilities.lifo,
            Feature::Manager => capabilities.manager,
            _ => true,
        }
    }
}

/// The features of a scenario, each with its strength.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swarm {
    strengths: [u8; FEATURES.len()],
}

impl Swarm {
    /// Plain traffic and nothing else.
    #[must_use]
    pub fn none() -> Swarm {
        Swarm { strengths: [0; FEATURES.len()] }
    }

    /// Everything that makes sense with a pool that can do this, each feature as strong as any other.
    #[must_use]
    pub fn everything(capabilities: &Capabilities) -> Swarm {
        Feature::all().filter(|feature| feature.is_for(capabilities)).fold(Swarm::none(), |swarm, f| swarm.with(f, 1))
    }

    /// With this feature, of this strength: 0 is without it, 3 is strong.
    #[must_use]
    pub fn with(mut self, feature: Feature, strength: u8) -> Swarm {
        self.strengths[feature as usize] = strength;
        self
    }

    /// How strong a feature is; 0: it is not in play.
    #[must_use]
    pub fn strength(&self, feature: Feature) -> u32 {
        self.strengths[feature as usize].into()
    }

    /// Whether a feature is in play.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.strength(feature) > 0
    }

    /// Draws a few features that make sense with a pool that can do this.
    pub(crate) fn draw(dice: &mut Dice, capabilities: &Capabilities) -> Swarm {
        let mut swarm = Swarm::none();
        // How much of everything: some scenarios have very little in them.
        let callers = dice.one(&[8, 15, 25]);
        let pools = dice.one(&[10, 25, 45]);
        for feature in Feature::all().filter(|feature| feature.is_for(capabilities) && !feature.is_fault()) {
            if feature == Feature::Interleave {
                continue;
            }
            let percent = match feature {
                Feature::Long => 25,
                Feature::Crowd => 60,
                Feature::Cancel => callers * 2,
                Feature::SlowFork | Feature::Slots | Feature::Latency | Feature::ClientOptions => 8,
                Feature::Processes => 10,
                Feature::MinIdle
                | Feature::MaxIdle
                | Feature::Check
                | Feature::IdleTimeout
                | Feature::Lifetime
                | Feature::Reset
                | Feature::Order => pools,
                Feature::ClosePool => callers / 2,
                _ => callers,
            };
            if dice.chance(percent) {
                let strength = dice.number(1, 3);
                swarm = swarm.with(feature, u8::try_from(strength).unwrap_or(1));
            }
        }
        let faults: Vec<Feature> =
            Feature::all().filter(|feature| feature.is_for(capabilities) && feature.is_fault()).collect();
        for _ in 0..dice.weighted(&[(25, 0), (40, 1), (20, 2), (15, 3)]) {
            let strength = dice.number(1, 3);
            swarm = swarm.with(dice.one(&faults), u8::try_from(strength).unwrap_or(1));
        }
        // What ends dirty needs somebody who cleans up.
        if swarm.has(Feature::Dirty) && !swarm.has(Feature::Reset) {
            swarm = swarm.with(Feature::Reset, 1);
        }
        swarm
    }
}

/// `crowd*2 cancel refuse*3`
impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for feature in Feature::all().filter(|feature| self.has(*feature)) {
            let space = if first { "" } else { " " };
            first = false;
            match self.strength(feature) {
                1 => write!(f, "{space}{}", feature.name())?,
                strength => write!(f, "{space}{}*{strength}", feature.name())?,
            }
        }
        if first { f.write_str("plain") } else { Ok(()) }
    }
}
