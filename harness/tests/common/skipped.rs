//! A test that can't run here.

use libtest_mimic::Trial;

/// Told as ignored, with the reason; where nothing may be skipped (`CI=true`), a failure.
pub(crate) fn skipped(name: String, why: String) -> Trial {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Trial::test(name, move || Err(why.into()));
    }
    Trial::test(name, || Ok(())).with_kind(why).with_ignored_flag(true)
}
