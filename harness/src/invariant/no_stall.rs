//! No busy loop and no blocked thread.
//!
//! A run that is stuck can't say so: whoever runs it sees from outside that it makes no progress, ends it, and adds
//! [`Violation::stall`](super::Violation::stall).

use super::judge::Meta;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "no-stall",
    meaning: "no task spins without yielding, and none blocks the thread",
    bound: "the wall-clock limit of a run",
    needs: None,
};

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Violation, Violations};
    use super::META;

    #[test]
    fn it_is_told_from_outside() {
        let mut violations = Violations::default();
        violations.push(Violation::stall(std::time::Duration::from_secs(3), "no progress in 10 s of real time"));
        assert_eq!(violations.counts()[META.name], 1);
        assert_eq!(violations.list()[0].to_string(), "no-stall at 3.000 s, run: no progress in 10 s of real time");
        Case::new().is_innocent();
    }
}
