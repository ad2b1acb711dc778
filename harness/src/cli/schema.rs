//! `schema`: the JSON Schema of scenario files.

use std::io::Write;

use super::engine::Engine;
use super::error::{Code, Result};

pub(super) fn schema(engine: &Engine) -> Result<Code> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", (engine.schema)().trim_end())?;
    Ok(Code::Expected)
}
