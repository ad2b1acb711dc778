//! Pools' settings, at their boundaries.

use std::time::Duration;

use super::dice::Dice;
use super::stage::Stage;
use super::swarm::Feature;
use crate::scenario::model::{Order, PoolSettings, Reset};

/// Settings that the pool can have.
pub(super) fn settings(dice: &mut Dice, stage: &Stage) -> PoolSettings {
    let (swarm, can) = (&stage.swarm, &stage.capabilities);
    let max_size = dice.weighted(&[(45, 1), (35, 2), (12, 3), (8, 4)]);
    let millis = |millis: u64| Some(Duration::from_millis(millis));
    let short = [200, 500, 1_000, 1_000, 2_000, 2_000, 3_000, 3_000, 30_000];
    let acquire_timeout = match (can.acquire_timeout, stage.is_long()) {
        (false, _) => PoolSettings::default().acquire_timeout,
        (true, false) if dice.chance(5) => None,
        (true, false) => millis(dice.one(&short)),
        (true, true) => millis(dice.one(&[1_000, 3_000, 3_000, 5_000, 5_000, 30_000])),
    };
    let age = |dice: &mut Dice| {
        if stage.is_long() {
            dice.millis(&[2_000, 5_000, 10_000, 20_000])
        } else {
            dice.millis(&[200, 500, 1_000, 2_000])
        }
    };
    let min_idle = if swarm.has(Feature::MinIdle) { dice.number(1, max_size) } else { 0 };
    let max_idle = swarm.has(Feature::MaxIdle).then(|| dice.number(min_idle.max(1), max_size));
    let resets = [(can.reset_rollback, Reset::Rollback), (can.reset_discard, Reset::Discard)];
    let resets: Vec<Reset> = resets.into_iter().filter_map(|(can, reset)| can.then_some(reset)).collect();
    let orders = [(can.fifo, Order::Fifo), (can.lifo, Order::Lifo)];
    let orders: Vec<Order> = orders.into_iter().filter_map(|(can, order)| can.then_some(order)).collect();
    PoolSettings {
        max_size,
        min_idle,
        max_idle,
        acquire_timeout,
        idle_timeout: swarm.has(Feature::IdleTimeout).then(|| age(dice)),
        max_lifetime: swarm.has(Feature::Lifetime).then(|| age(dice)),
        test_on_acquire: swarm.has(Feature::Check),
        reset_on_return: if swarm.has(Feature::Reset) { dice.one(&resets) } else { Reset::None },
        order: (swarm.has(Feature::Order) && !orders.is_empty()).then(|| dice.one(&orders)),
    }
}
