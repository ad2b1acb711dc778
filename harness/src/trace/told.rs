//! The texts of a run's errors: how often each came, and when first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Acquired, SqlResult, What};

/// So many different texts are told apart; a run whose errors carry numbers has more.
const MOST: usize = 200;

/// A text that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// How often.
    pub count: u64,
    /// When first, in virtual time since the run's start.
    pub first: Duration,
}

/// The texts of errors: of acquires, dials and statements, of pools that could not be built, and of applications.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Texts(BTreeMap<String, Seen>);

impl Texts {
    /// Takes an event into account.
    pub fn take(&mut self, at: Duration, what: &What) {
        match what {
            What::AcquireEnd { result: Acquired::Error { message, .. }, .. }
            | What::DialFailed { message, .. }
            | What::PoolFailed { message, .. }
            | What::Raised { message, .. } => self.add(at, message),
            What::SqlEnd { result: SqlResult::Error(text) | SqlResult::Broken(text), .. } => self.add(at, text),
            _ => {}
        }
    }

    fn add(&mut self, at: Duration, text: &str) {
        if let Some(seen) = self.0.get_mut(text) {
            seen.count += 1;
        } else if self.0.len() < MOST {
            self.0.insert(text.to_owned(), Seen { count: 1, first: at });
        }
    }

    /// All that have this in them, as one; `None` if none has.
    #[must_use]
    pub fn with(&self, part: &str) -> Option<Seen> {
        let of = self.0.iter().filter(|(text, _)| text.contains(part)).map(|(_, seen)| *seen);
        of.reduce(|a, b| Seen { count: a.count + b.count, first: a.first.min(b.first) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_a_part_of_them() {
        let mut texts = Texts::default();
        for (at, text) in [(5, "timeout 30.00"), (3, "timeout 5.00"), (9, "timeout 30.00"), (1, "closed")] {
            let message = text.into();
            let conn = crate::trace::event::ConnId(1);
            texts.take(Duration::from_secs(at), &What::DialFailed { conn, message, code: None });
        }
        assert_eq!(texts.with("timeout 30"), Some(Seen { count: 2, first: Duration::from_secs(5) }));
        assert_eq!(texts.with("timeout"), Some(Seen { count: 3, first: Duration::from_secs(3) }));
        assert_eq!(texts.with("refused"), None);
    }
}
