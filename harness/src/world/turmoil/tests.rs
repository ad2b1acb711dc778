//! What of turmoil's own behaviour reaches a run.

use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::pool::reference::Reference;
use crate::pool::{Adapter, Capabilities, Connector, Pool, PoolError};
use crate::scenario::model::PoolSettings;
use crate::verdict::Verdict;

/// The reference pool, with a task that panics after a second.
struct Panicking;

#[async_trait]
impl Adapter for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn version(&self) -> &'static str {
        "0.0.0"
    }

    fn capabilities(&self) -> Capabilities {
        Reference.capabilities()
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            panic!("a bug of the pool's");
        });
        Reference.build(settings, connector).await
    }
}

fn run_with(adapter: impl Adapter, network: &str) -> Told {
    let text = format!(
        "title = \"A test\"\nstory = \"A test.\"\n{network}\n[app.web]\n[workload.request]\napp = \"web\"\n\
         arrive = {{ every = \"100ms\" }}\nsteps = [\"acquire\", \"sql SELECT 1\", \"release\"]\n[expect]\nuntil = \"5s\"\n"
    );
    let scenario = Arc::new(crate::scenario::parse("a test", &text).expect("the text is a scenario"));
    run(&RunSpec { scenario, adapter: Arc::new(adapter), seed: 1 }, None)
}

#[test]
fn a_pools_panic_is_no_crash() {
    let told = run_with(Panicking, "");
    assert_eq!(told.bug, None);
    if cfg!(tokio_unstable) {
        let Verdict::Unknown { reason } = told.report.verdict else { panic!("{}", told.story) };
        assert!(
            reason.contains("turmoil gave the run up after 1.2") && reason.contains("a bug of the pool's"),
            "{reason}"
        );
    } else {
        assert_eq!(told.report.counts.get("no-panic"), Some(&1), "{}", told.story);
    }
}

#[test]
fn what_turmoil_lacks_makes_a_run_unsupported() {
    let told = run_with(Reference, "[network]\nbandwidth = \"1MiB/s\"\n");
    let Verdict::Unsupported { needs } = told.report.verdict else { panic!("{}", told.story) };
    assert_eq!(needs, ["turmoil's links have no bandwidth"]);
    assert!(told.story.contains("no bandwidth"), "{}", told.story);
}

#[test]
fn a_whole_run_passes_and_leaves_nothing() {
    let told = run_with(Reference, "");
    assert_eq!(told.report.verdict, Verdict::Pass, "{}", told.story);
    assert_eq!(told.report.figures.actors, 50);
    // As on poolproof's network: there and back in 1 ms each.
    assert_eq!(told.report.figures.statements.worst(), Duration::from_millis(2));
}
