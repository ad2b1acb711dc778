//! Statements that the server could not take for what they say: a feature that it does not have, and mistakes in their text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// 0A000: the simulated server answers so when it lacks what a statement asks for.
const NOT_SUPPORTED: &str = "0A000";

/// So many different texts are told apart; a statement with its actor's own values in it has more.
const MOST: usize = 200;

/// What became of the statements of one text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fate {
    succeeded: bool,
    failed: u64,
    code: String,
}

/// Statements that were refused for what they say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Refused {
    not_supported: u64,
    first_not_supported: Option<String>,
    texts: BTreeMap<String, Fate>,
}

impl Refused {
    /// A statement of this text failed.
    pub fn failed(&mut self, code: &str, text: Option<&Arc<str>>) {
        let Some(text) = text else { return };
        if code == NOT_SUPPORTED {
            self.not_supported += 1;
            self.first_not_supported.get_or_insert_with(|| text.to_string());
        }
        // Class 42: syntax error or access rule violation.
        if code.starts_with("42")
            && let Some(fate) = self.of(text)
        {
            fate.failed += 1;
            code.clone_into(&mut fate.code);
        }
    }

    /// A statement of this text succeeded.
    pub fn succeeded(&mut self, text: Option<&Arc<str>>) {
        if let Some(text) = text
            && let Some(fate) = self.of(text)
        {
            fate.succeeded = true;
        }
    }

    fn of(&mut self, text: &Arc<str>) -> Option<&mut Fate> {
        if !self.texts.contains_key(&**text) {
            if self.texts.len() >= MOST {
                return None;
            }
            let fate = Fate { succeeded: false, failed: 0, code: String::new() };
            self.texts.insert(text.to_string(), fate);
        }
        self.texts.get_mut(&**text)
    }

    /// The run is over: what succeeded is of no interest any more.
    pub fn finish(&mut self) {
        self.texts.retain(|_, fate| fate.failed > 0 && !fate.succeeded);
    }

    /// What the simulated server lacks, as a sentence.
    #[must_use]
    pub fn not_supported(&self) -> Option<String> {
        let first = self.first_not_supported.as_ref()?;
        let more = if self.not_supported > 1 { format!(" ({} times)", self.not_supported) } else { String::new() };
        Some(format!("the simulated server lacks what is asked, 0A000{more}: {first}"))
    }

    /// A statement that has a mistake in it, so that it failed each time, as a sentence.
    #[must_use]
    pub fn mistaken(&self) -> Option<String> {
        let (text, fate) = self.texts.iter().find(|(_, fate)| fate.failed > 0 && !fate.succeeded)?;
        Some(format!("failed each time with {} ({} times): {text}", fate.code, fate.failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_fails_each_time() {
        let mut refused = Refused::default();
        let (good, bad): (Arc<str>, Arc<str>) = ("SELECT 1".into(), "SELEC 1".into());
        refused.succeeded(Some(&good));
        refused.failed("42P01", Some(&good));
        refused.failed("23505", Some(&bad));
        assert_eq!((refused.mistaken(), refused.not_supported()), (None, None));
        refused.failed("42601", Some(&bad));
        refused.failed("42601", Some(&bad));
        assert_eq!(refused.mistaken().as_deref(), Some("failed each time with 42601 (2 times): SELEC 1"));
        refused.failed("0A000", Some(&good));
        let lacks = refused.not_supported();
        assert_eq!(lacks.as_deref(), Some("the simulated server lacks what is asked, 0A000: SELECT 1"));
    }
}
