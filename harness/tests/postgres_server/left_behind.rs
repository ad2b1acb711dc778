//! Nothing is left behind: by a drop, a panic, Ctrl-C; and what SIGKILL leaves, the next one takes away.
//!
//! For what ends a whole process this test runs itself again, with a server, and ends that process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use poolproof::world::postgres::server::{Kind, Source};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Place, Result, block_on, check, equal, setup, soon, wanted};

/// Says to this program that it is the process to be ended: `local` or `docker`.
const CHILD: &str = "POOLPROOF_TEST_CHILD";
/// And that it panics.
const PANIC: &str = "POOLPROOF_TEST_PANIC";

/// The process to be ended: makes a server, says where it is, and waits.
pub(crate) fn child() -> Option<ExitCode> {
    let kind = match std::env::var(CHILD).ok()?.as_str() {
        "docker" => Kind::Docker,
        _ => Kind::Local,
    };
    let outcome: Result = block_on(async {
        let source = Source::find(&wanted(kind)).await?;
        let server = source.server(setup("", "")?).await?;
        let data = server.data_directory().unwrap_or(Path::new("/")).display().to_string();
        println!("{} {data}", server.address().port());
        if std::env::var_os(PANIC).is_some() {
            panic!("as the test asks");
        }
        std::future::pending().await
    });
    if let Err(error) = outcome {
        eprintln!("{}", error.message().unwrap_or("it failed"));
    }
    Some(ExitCode::FAILURE)
}

/// A process of this program, and what it has.
struct Other {
    process: Child,
    port: u16,
    /// Of the server; `/` for one in a container.
    data: PathBuf,
}

impl Other {
    fn start(kind: Kind, panics: bool) -> Result<Other> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(CHILD, if kind == Kind::Docker { "docker" } else { "local" });
        if panics {
            command.env(PANIC, "1");
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let Some((port, data)) = line.trim_end().split_once(' ') else {
            let mut said = String::new();
            if let Some(mut stderr) = process.stderr.take() {
                stderr.read_to_string(&mut said)?;
            }
            process.wait()?;
            return Err(format!("it has no server: {said}").into());
        };
        Ok(Other { port: port.parse()?, data: data.into(), process })
    }

    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// The processes' folder.
    fn folder(&self) -> &Path {
        self.data.parent().unwrap_or(&self.data)
    }

    /// Neither a process nor a folder.
    fn nothing_is_left(&self) -> Result {
        check(!self.listens(), "the server still listens")?;
        if self.data != Path::new("/") {
            check(!self.folder().exists(), &format!("{} is left", self.folder().display()))?;
        }
        Ok(())
    }
}

pub(crate) fn nothing_by_a_drop(place: &Place) -> Result {
    block_on(async {
        let server = place.server("").await?;
        let address = server.address();
        let data = server.data_directory().map(Path::to_owned);
        check(data.as_ref().is_none_or(|data| data.is_dir()), "it has no data")?;
        equal(&data.is_some(), &(place.kind == Kind::Local))?;
        drop(server);
        check(TcpStream::connect(address).is_err(), "the server still listens")?;
        check(data.is_none_or(|data| !data.exists()), "its data are left")?;
        // Also one that was killed, and one that is paused.
        let (killed, paused) = (place.server("").await?, place.server("").await?);
        killed.kill().await?;
        paused.pause().await?;
        let left = [killed.data_directory().map(Path::to_owned), paused.data_directory().map(Path::to_owned)];
        let address = paused.address();
        drop((killed, paused));
        check(TcpStream::connect(address).is_err(), "the server still listens")?;
        check(left.iter().flatten().all(|data| !data.exists()), "its data are left")
    })
}

pub(crate) fn nothing_by_a_panic(_place: &Place) -> Result {
    let mut other = Other::start(Kind::Local, true)?;
    let status = other.process.wait()?;
    check(!status.success(), "it did not panic")?;
    other.nothing_is_left()
}

pub(crate) fn nothing_by_ctrl_c(_place: &Place) -> Result {
    for signal in [Signal::INT, Signal::TERM] {
        let mut other = Other::start(Kind::Local, false)?;
        check(other.listens() && other.folder().is_dir(), "it has no server")?;
        kill_process(Pid::from_child(&other.process), signal)?;
        let status = other.process.wait()?;
        equal(&status.code(), &Some(128 + signal.as_raw()))?;
        other.nothing_is_left()?;
    }
    Ok(())
}

pub(crate) fn nothing_after_sigkill_and_the_next_one(place: &Place) -> Result {
    let mut other = Other::start(place.kind, false)?;
    other.process.kill()?;
    other.process.wait()?;
    check(other.listens(), "the server did not outlive its process")?;
    block_on(async {
        let next = Source::find(&wanted(place.kind)).await?;
        // Another test's may have been faster, but at the same.
        soon("it is taken away", async || other.nothing_is_left().is_ok()).await?;
        equal(&next.swept().left, &Vec::new())?;
        // What lives is left alone.
        place.server("").await?.query("SELECT 1").await?;
        Ok(())
    })
}
