//! `serve`: a scenario's simulated server in real time, for psql or any driver. What it does is the engine's: here are only
//! the arguments.

use super::ServeArgs;
use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files;

pub(super) fn serve(engine: &Engine, args: &ServeArgs) -> Result<Code> {
    if !args.listen.ip().is_loopback() {
        let address = args.listen.ip();
        return Err(Failure::sentence(format!(
            "{address} is not a loopback address: the simulated server asks nobody for a password that is worth the name"
        )));
    }
    let (file, report) = files::read(engine, &args.file)?;
    let Some(file) = file else {
        return Err(Failure::Files(vec![report]));
    };
    (engine.serve)(&file.scenario, args.listen)
        .map_err(|error| Failure::sentence(format!("can't serve on {}: {error}", args.listen)))?;
    Ok(Code::Expected)
}
