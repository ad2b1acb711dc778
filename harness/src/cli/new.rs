//! `new`: a scenario file to start from, which runs as it is.

use std::io::Write;
use std::path::PathBuf;

use super::NewArgs;
use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files;

const STARTER: &str = include_str!("starter.toml");

pub(super) fn new(engine: &Engine, args: &NewArgs) -> Result<Code> {
    let mut path: PathBuf = args.name.clone();
    if path.extension().is_none_or(|extension| extension != "toml") {
        let mut name = path.into_os_string();
        name.push(".toml");
        path = name.into();
    }
    let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).filter(|name| !name.starts_with('.')) else {
        return Err(Failure::sentence(format!("{} is not a name for a scenario", args.name.display())));
    };
    let text = STARTER.replace("{NAME}", &name.replace(['-', '_'], " "));
    if files::parse(engine, "starter.toml", &text).scenario.is_none() {
        // The name is in the title: a quote in it would end the string.
        return Err(Failure::sentence(format!("{name} is not a name for a scenario")));
    }
    files::write_new(&path, &text)?;
    let mut out = anstream::stdout().lock();
    writeln!(out, "wrote {}\nrun it with: poolproof run {}", path.display(), shell_word(&path.display().to_string()))?;
    Ok(Code::Expected)
}

/// As a shell reads it back.
fn shell_word(text: &str) -> String {
    if text.chars().all(|c| c.is_alphanumeric() || "/._-+:@%".contains(c)) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
