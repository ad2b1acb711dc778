//! What the parts of one scenario have in common: its length, its moments, what its pools can do.

use std::time::Duration;

use super::dice::Dice;
use super::swarm::{Feature, Swarm};
use crate::pool::Capabilities;
use crate::scenario::model::{PoolSettings, Reset};

/// The common ground of a scenario that is being drawn.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// What is in play.
    pub(crate) swarm: Swarm,
    /// What the pool can do.
    pub(crate) capabilities: Capabilities,
    /// The end of the fault phase.
    pub(crate) until: Duration,
    /// Most moments are a multiple of this, so that things meet.
    pub(crate) unit: Duration,
    /// What pools do to returned sessions.
    pub(crate) reset: Reset,
    /// The smallest bound of a pool.
    pub(crate) max_size: u32,
    /// The table `note` is there.
    pub(crate) table: bool,
}

impl Stage {
    /// Of a scenario with these features; what its pools are is not known yet.
    pub(crate) fn draw(dice: &mut Dice, swarm: Swarm, capabilities: Capabilities) -> Stage {
        let (until, unit) = if swarm.has(Feature::Long) {
            (dice.millis(&[50_000, 60_000, 90_000, 120_000, 200_000]), dice.millis(&[1_000, 2_000, 5_000]))
        } else {
            (dice.millis(&[2_000, 3_000, 5_000, 8_000]), dice.millis(&[50, 100, 100, 200, 500]))
        };
        let table = swarm.has(Feature::Write) || swarm.has(Feature::Dirty);
        Stage { swarm, capabilities, until, unit, reset: Reset::None, max_size: 1, table }
    }

    /// Of a scenario with these pools.
    pub(crate) fn with_pools<'a>(mut self, pools: impl Iterator<Item = &'a PoolSettings>) -> Stage {
        let mut all = pools.peekable();
        self.reset = all.peek().map_or(Reset::None, |pool| pool.reset_on_return);
        self.max_size = all.map(|pool| pool.max_size).min().unwrap_or(1);
        self
    }

    /// How strong a feature is.
    pub(crate) fn strength(&self, feature: Feature) -> u32 {
        self.swarm.strength(feature)
    }

    /// Whether it goes on for minutes.
    pub(crate) fn is_long(&self) -> bool {
        self.swarm.has(Feature::Long)
    }

    /// Whether a lease may end in the middle of a transaction.
    pub(crate) fn may_end_dirty(&self) -> bool {
        matches!(self.reset, Reset::Rollback | Reset::Discard)
    }

    /// A moment in the fault phase: most often one at which other things happen too, or a few milliseconds after one.
    pub(crate) fn moment(&self, dice: &mut Dice) -> Duration {
        let unit = self.unit.as_millis().max(1);
        let count = u32::try_from(self.until.as_millis() * 9 / 10 / unit).unwrap_or(1);
        let base = self.unit * dice.number(0, count.max(1));
        let far = dice.number(6, 60).into();
        let shift = dice.weighted(&[(50, 0), (15, 1), (10, 2), (5, 3), (5, 4), (5, 5), (10, far)]);
        (base + Duration::from_millis(shift)).min(self.until - Duration::from_millis(1))
    }

    /// A stretch of time that is short beside the whole.
    pub(crate) fn stretch(&self, dice: &mut Dice) -> Duration {
        if self.is_long() {
            dice.millis(&[100, 1_000, 5_000, 20_000, 40_000])
        } else {
            dice.millis(&[5, 20, 50, 100, 200, 500, 1_000, 2_000])
        }
    }
}
