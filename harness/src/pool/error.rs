//! The text of an error, with the causes that its own text leaves out.

use std::error::Error;

/// An error's own text, followed by those of its sources that it doesn't already end with, after colons.
///
/// The driver's text for everything a server reports is "db error", and pools repeat it; what happened is in the source.
#[must_use]
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
