//! README.md carries the comparison of all published pools, and it is what `poolproof compare` says today.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

/// `POOLPROOF_UPDATE_README=1 cargo test --test comparison -- --ignored` writes it anew.
#[test]
#[ignore = "runs every scenario once more, with every pool: ci/check does it, and `cargo test --test comparison -- --ignored`"]
fn the_readme_compares_the_pools_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("README.md");
    let output = Command::new(env!("CARGO_BIN_EXE_poolproof"))
        .args(["compare", "scenarios", "--markdown"])
        .current_dir(&root)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "a scenario does not come out as expected: `poolproof run` says which");
    let table = String::from_utf8(output.stdout).unwrap();
    let kept = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = kept.split_once("<!-- comparison:begin -->\n").expect("README.md has the mark");
    let (_, after) = rest.split_once("<!-- comparison:end -->").expect("the mark has an end");
    let current = format!("{before}<!-- comparison:begin -->\n{table}<!-- comparison:end -->{after}");
    if std::env::var_os("POOLPROOF_UPDATE_README").is_some() {
        std::fs::write(&path, current).unwrap();
        return;
    }
    assert!(kept == current, "{} is old: run this test with POOLPROOF_UPDATE_README=1", path.display());
}
