//! From the process's arguments to its exit code.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use super::engine::Engine;
use super::error::{Code, Failure};
use super::job::Job;
use super::{
    Cli, Command, agree, check, compare, list, new, run as run_command, schema, search, serve, show, terminal,
};
use crate::search::Trial;
use crate::worker::become_worker_if_asked;

/// The whole of `main` for an executable with this engine. Call it first: the process may be a worker.
#[must_use]
pub fn main(engine: Engine) -> ExitCode {
    engine.install();
    become_worker_if_asked::<Job>();
    become_worker_if_asked::<Trial>();
    run(engine, std::env::args_os()).into()
}

/// Carries out one command line, the executable's name first.
pub fn run(engine: Engine, arguments: impl IntoIterator<Item = OsString>) -> Code {
    let engine = engine.install();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Without an output there is nobody to tell.
            let _nobody_reads = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Code::Expected } else { Code::Wrong };
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| match &cli.command {
        Command::Run(args) => run_command::run(&engine, args),
        Command::Compare(args) => compare::compare(&engine, args),
        Command::Agree(args) => agree::agree(&engine, args),
        Command::Search(args) => search::search(&engine, args),
        Command::Check(args) => check::check(&engine, args),
        Command::Show(args) => show::show(&engine, args),
        Command::List(args) => list::list(&engine, args),
        Command::Schema => schema::schema(&engine),
        Command::New(args) => new::new(&engine, args),
        Command::Serve(args) => serve::serve(&engine, args),
    }));
    // The panic's message and place were printed by the hook.
    let result = result.unwrap_or_else(|_| Err(Failure::Bug("it panicked".to_owned())));
    result.unwrap_or_else(|failure| {
        terminal::print_failure(&failure);
        match failure {
            Failure::Files(_) | Failure::Sentence(_) => Code::Wrong,
            Failure::BrokenPipe => Code::Expected,
            Failure::Bug(_) => Code::Bug,
        }
    })
}
