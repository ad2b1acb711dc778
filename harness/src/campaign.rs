//! A campaign: many runs, on several workers at once, with the results in the order of the requests.
//!
//! A run can't take the campaign with it: it is done by a worker process ([`crate::worker`]), and a worker that stalls,
//! aborts or says nothing is replaced. Left out: runs on other machines.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::worker::{Answer, Limits, Loss, MARK, Place, Request, VARIABLE, Work};

/// How long past its limits a worker may be silent before it is killed.
const SILENCE: Duration = Duration::from_secs(10);

/// How much of a worker's standard error is kept.
const STDERR_KEPT: usize = 4096;

/// How a campaign is carried out.
#[derive(Debug, Clone)]
pub struct Options {
    /// Runs at once; at least 1.
    pub jobs: usize,
    /// Limits of each run.
    pub limits: Limits,
    /// Where runs are done.
    pub place: Workers,
    /// After so many runs a worker is replaced by a fresh one.
    pub runs_per_worker: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::default(),
            place: Workers::ThisExecutable,
            // Without `rng_seed` tokio's generator depends on what the process did before.
            runs_per_worker: if cfg!(tokio_unstable) { 256 } else { 1 },
        }
    }
}

/// Where runs are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workers {
    /// On this process's threads: nothing is limited, and a run that never ends is a campaign that never ends.
    Here,
    /// In processes of this executable, whose `main` calls
    /// [`become_worker_if_asked`](crate::worker::become_worker_if_asked) first.
    ThisExecutable,
    /// In processes of another executable, or of this one with arguments.
    Executable {
        /// Its path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
}

/// Does all the work. `each` is told of every report, in the order of `all`, as soon as it and all before it are there;
/// `progress` of how many are done in any order.
///
/// # Errors
/// When a worker can't be started.
pub fn run_all<W: Work>(
    all: &[W],
    options: &Options,
    mut progress: impl FnMut(usize),
    mut each: impl FnMut(usize, &W, W::Report),
) -> io::Result<()> {
    let queue = Arc::new(Mutex::new((0..all.len()).collect::<VecDeque<usize>>()));
    let (done, results) = mpsc::channel();
    let jobs = options.jobs.clamp(1, all.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (queue, done) = (Arc::clone(&queue), done.clone());
            scope.spawn(move || {
                let mut seat = Seat::new(options);
                loop {
                    // A `let` of its own: in the head of a loop the lock would be held as long as the run.
                    let next = lock(&queue).pop_front();
                    let Some(index) = next else { return };
                    let result = seat.run(index as u64, &all[index]);
                    let failed = result.is_err();
                    if done.send((index, result)).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut waiting: Vec<Option<W::Report>> = all.iter().map(|_| None).collect();
        let mut next = 0;
        for (count, (index, result)) in (1..).zip(results) {
            match result {
                Ok(report) => waiting[index] = Some(report),
                Err(error) => {
                    // The others end after their present run.
                    lock(&queue).clear();
                    return Err(error);
                }
            }
            progress(count);
            while let Some(report) = waiting.get_mut(next).and_then(Option::take) {
                each(next, &all[next], report);
                next += 1;
            }
        }
        Ok(())
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A job's place: one worker at a time.
pub(crate) struct Seat<'a> {
    options: &'a Options,
    worker: Option<Worker>,
}

impl<'a> Seat<'a> {
    pub(crate) fn new(options: &'a Options) -> Seat<'a> {
        Seat { options, worker: None }
    }

    /// Does it, and waits for its report.
    pub(crate) fn run<W: Work>(&mut self, number: u64, work: &W) -> io::Result<W::Report> {
        if self.options.place == Workers::Here {
            return Ok(work.run());
        }
        // A worker that died between two runs is nobody's fault but its last one's, which is reported already.
        let fit = |worker: &mut Worker| worker.runs < self.options.runs_per_worker && worker.is_alive();
        let mut worker = match self.worker.take_if(fit) {
            Some(worker) => worker,
            None => Worker::start(&self.options.place, W::KIND)?,
        };
        match worker.run(number, work, self.options.limits) {
            Ok(report) => {
                self.worker = Some(worker);
                Ok(report)
            }
            Err(loss) => Ok(work.lost(&loss)),
        }
    }
}

/// A worker process, seen from its parent. Killed when it is dropped.
struct Worker {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    runs: u32,
}

impl Worker {
    fn start(place: &Workers, kind: &str) -> io::Result<Worker> {
        let (program, arguments) = match place {
            Workers::Executable { program, arguments } => (program.clone(), arguments.as_slice()),
            Workers::Here | Workers::ThisExecutable => (std::env::current_exe()?, [].as_slice()),
        };
        let mut command = Command::new(program);
        // A Ctrl-C is the parent's to hear: its workers end when their input does.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .args(arguments)
            .env(VARIABLE, kind)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || read_answers(stdout, &line));
        let stderr = std::thread::spawn(move || keep_end(stderr));
        Ok(Worker { child, stdin, lines, stderr: Some(stderr), runs: 0 })
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn run<W: Work>(&mut self, number: u64, work: &W, limits: Limits) -> Result<W::Report, Loss> {
        self.runs += 1;
        let request = Request { number, limits, work: work.clone() };
        let json = serde_json::to_string(&request).expect("a request is plain data");
        let mut place = Place::default();
        if writeln!(self.stdin, "{json}").and_then(|()| self.stdin.flush()).is_err() {
            return Err(self.death(place));
        }
        let patience = limits.stall.min(limits.total) + SILENCE;
        loop {
            let line = match self.lines.recv_timeout(patience) {
                Ok(line) => line,
                // Its watchdog would have spoken: the process itself gets no time.
                Err(RecvTimeoutError::Timeout) => return Err(Loss::Stalled(Place { in_pool: false, ..place })),
                Err(RecvTimeoutError::Disconnected) => return Err(self.death(place)),
            };
            let answer = serde_json::from_str::<Answer<W::Report>>(&line);
            match answer {
                Ok(Answer::Done { number: of, report }) if of == number => return Ok(report),
                Ok(Answer::Stalled { number: of, place }) if of == number => {
                    return Err(Loss::Stalled(place));
                }
                Ok(Answer::Panicked { number: of, message }) if of == number => return Err(Loss::Harness(message)),
                Ok(Answer::Alive { number: of, place: at }) => {
                    if of == number {
                        place = at;
                    }
                }
                Ok(_) => {
                    return Err(Loss::Harness(format!("a worker answered for another run: {line}")));
                }
                Err(error) => {
                    return Err(Loss::Harness(format!("a worker's answer is unreadable: {error}: {line}")));
                }
            }
        }
    }

    /// What the process died of.
    fn death(&mut self, place: Place) -> Loss {
        let _already_dead = self.child.kill();
        let status = self.child.wait();
        let stderr = self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        if stderr.contains("memory allocation of ") || stderr.contains("capacity overflow") {
            Loss::Memory(place)
        } else if stderr.contains("has overflowed its stack") {
            Loss::StackOverflow(place)
        } else {
            let how = status.map_or_else(|error| error.to_string(), describe);
            Loss::Died { place, how, stderr }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _status = self.child.wait();
    }
}

/// `signal 6 (SIGABRT)`, `exit code 1`.
fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            4 => " (SIGILL)",
            6 => " (SIGABRT)",
            9 => " (SIGKILL)",
            11 => " (SIGSEGV)",
            15 => " (SIGTERM)",
            _ => "",
        };
        return format!("signal {signal}{name}");
    }
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

/// Passes on what is the worker's own of its standard output.
fn read_answers(stdout: impl Read, lines: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Some(json) = line.strip_prefix(MARK.as_bytes()) else {
            continue;
        };
        if lines.send(String::from_utf8_lossy(json).into_owned()).is_err() {
            return;
        }
    }
}

/// Reads to the end, and keeps the last of it.
fn keep_end(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * STDERR_KEPT {
            kept.drain(..kept.len() - STDERR_KEPT);
        }
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests;
