//! The pools that poolproof knows, by name.

use std::sync::Arc;

use super::Adapter;
use super::reference::{Plant, Planted, Reference};
use super::sqlalchemy::{PoolClass, SqlAlchemy};
use super::trac::Trac;

/// The names of the published pools. Each is a cargo feature, and may be missing in this build.
pub const PUBLISHED: &[&str] = &["bb8", "deadpool", "mobc", "sqlx", "fast_pool", "qp", "r2d2"];

/// The published pools of this build and the reference pool: what `run` and `cargo test` use when none is named, but for
/// those that [need real time](Adapter::needs_real_time) where there is none.
#[must_use]
pub fn published() -> Vec<Arc<dyn Adapter>> {
    vec![
        #[cfg(feature = "bb8")]
        Arc::new(super::bb8::Bb8),
        #[cfg(feature = "deadpool")]
        Arc::new(super::deadpool::Deadpool),
        #[cfg(feature = "mobc")]
        Arc::new(super::mobc::Mobc),
        #[cfg(feature = "sqlx")]
        Arc::new(super::sqlx::Sqlx),
        #[cfg(feature = "fast_pool")]
        Arc::new(super::fast_pool::FastPool),
        #[cfg(feature = "qp")]
        Arc::new(super::qp::Qp),
        #[cfg(feature = "r2d2")]
        Arc::new(super::r2d2::R2d2),
        Arc::new(Reference),
    ]
}

/// The models of pools that are not Rust: what runs when it is named.
#[must_use]
pub fn models() -> Vec<Arc<dyn Adapter>> {
    use PoolClass::{Null, Queue, SingletonThread, Static};
    let sqlalchemy =
        [Queue, Null, SingletonThread, Static].map(|class| Arc::new(SqlAlchemy(class)) as Arc<dyn Adapter>);
    let trac = [Trac::Today, Trac::Of2006].map(|pool| Arc::new(pool) as Arc<dyn Adapter>);
    sqlalchemy.into_iter().chain(trac).collect()
}

/// The pool of this name: a published one, `reference`, a model, or `planted:NAME`.
#[must_use]
pub fn by_name(name: &str) -> Option<Arc<dyn Adapter>> {
    all().find(|adapter| adapter.name() == name)
}

/// Every name that [`by_name`] knows, the planted bugs last.
#[must_use]
pub fn names() -> Vec<&'static str> {
    all().map(|adapter| adapter.name()).collect()
}

/// Every pool: the published ones, `reference`, the models, the planted bugs.
pub fn all() -> impl Iterator<Item = Arc<dyn Adapter>> {
    let planted = Plant::all().map(|plant| Arc::new(Planted(plant)) as Arc<dyn Adapter>);
    published().into_iter().chain(models()).chain(planted)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_pool() {
        for name in names() {
            assert_eq!(by_name(name).unwrap().name(), name);
        }
        assert!(by_name("bb9").is_none());
    }

    /// The versions that adapters claim are those that were compiled in.
    #[test]
    fn versions_are_those_of_the_lock_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let Ok(lock) = std::fs::read_to_string(path) else {
            return; // Packaged alone, as on crates.io: there is no workspace to compare with.
        };
        let lock: toml::Table = lock.parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let locked = |name: &str| {
            let package = packages.iter().find(|package| package["name"].as_str() == Some(name)).unwrap();
            package["version"].as_str().unwrap().to_owned()
        };
        for adapter in published() {
            let name = match adapter.name() {
                "reference" => continue,
                "deadpool" => "deadpool-postgres",
                "sqlx" => "sqlx-core",
                name => name,
            };
            assert_eq!(adapter.version(), locked(name), "{name}");
        }
    }

    /// With every feature, the two lists are the same.
    #[test]
    fn the_published_pools_are_those_that_are_named() {
        let built: Vec<_> = published().iter().map(|adapter| adapter.name()).collect();
        let (reference, built) = built.split_last().unwrap();
        assert_eq!(*reference, "reference");
        let mut named = PUBLISHED.iter();
        for name in built {
            assert!(named.any(|named| named == name), "{name} is not in PUBLISHED, or elsewhere");
        }
    }
}
