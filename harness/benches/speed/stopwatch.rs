//! CPU time and wall-clock time of one thread, a run's own included.
//!
//! On the thread of a run every clock of the C library is virtual, so neither is read from there: CPU time comes from
//! `/proc/thread-self/schedstat` (nanoseconds on a CPU, proc(5)), wall-clock time from a thread that is started to look
//! at its watch. Linux only, as the figures are.

use std::time::{Duration, Instant};

/// Runs since when.
pub struct Stopwatch {
    cpu: Duration,
    wall: Instant,
}

/// What it showed.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    /// Time that the thread had a CPU.
    pub cpu: Duration,
    /// Time that passed.
    pub wall: Duration,
}

impl Stopwatch {
    /// Starts it, on the thread that does the work.
    pub fn start() -> Stopwatch {
        Stopwatch { wall: real_now(), cpu: on_cpu() }
    }

    /// Reads it, on the same thread.
    pub fn read(&self) -> Spent {
        Spent { cpu: on_cpu() - self.cpu, wall: real_now() - self.wall }
    }
}

fn real_now() -> Instant {
    std::thread::spawn(Instant::now).join().expect("reading a clock doesn't panic")
}

fn on_cpu() -> Duration {
    // The kernel brings the figure up to date when it schedules, and at each tick otherwise.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with /proc");
    let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("the first field is a number of nanoseconds"))
}

/// CPU time of the whole process so far, in the kernel's ticks of 10 ms (`utime` and `stime` of proc_pid_stat(5)).
pub fn process_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux with /proc");
    // The second field is the program's name in parentheses; it may hold blanks.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The most memory that the process ever had, in MiB (`VmHWM` of proc_pid_status(5)).
pub fn peak_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux with /proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has one");
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("a number of KiB");
    kib / 1024.0
}
