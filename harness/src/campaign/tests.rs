//! Campaigns of well-behaved and of hostile work. The worker is this test executable, asked for the one test
//! [`worker_entry`], which is a worker when it is started as one.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::*;
use crate::worker::{become_worker_if_asked, progress};

/// What a run of a test does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Deed {
    /// Answers with the number, after a while.
    Answer(u32, u64),
    /// Answers with how many of these were under way at once at most, for as long as the second does not come.
    Meet,
    /// Answers with the process's id.
    Pid,
    /// Prints half a line, and answers.
    Chatter,
    /// Spins for ever in a call of a pool's, at a virtual second 5.
    Spin,
    /// Calls a pool again and again, without end.
    AskAgain,
    /// Is an actor's without end.
    Busy,
    /// Makes events without end, in no time.
    Flood,
    /// Moves virtual time for ever.
    Crawl,
    /// Allocates without end, in a call of a pool's or not.
    Allocate { in_pool: bool },
    /// Calls itself without end.
    Recurse,
    /// Aborts.
    Abort,
    /// Leaves with an exit code.
    Exit,
    /// Panics outside everything.
    Panic,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Outcome {
    Number(u32),
    Lost(Loss),
}

impl Work for Deed {
    type Report = Outcome;

    fn run(&self) -> Outcome {
        match self {
            Deed::Answer(number, pause) => {
                std::thread::sleep(Duration::from_millis(*pause));
                Outcome::Number(*number)
            }
            Deed::Meet => {
                static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
                UNDER_WAY.fetch_add(1, Ordering::SeqCst);
                let patience = Instant::now() + Duration::from_secs(20);
                while UNDER_WAY.load(Ordering::SeqCst) < 2 && Instant::now() < patience {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Outcome::Number(UNDER_WAY.load(Ordering::SeqCst))
            }
            Deed::Pid => Outcome::Number(std::process::id()),
            Deed::Chatter => {
                // Past the test harness's capture.
                std::io::stdout().write_all(b"half a line, \x01poolproof and more").unwrap();
                Outcome::Number(1)
            }
            Deed::Spin => {
                progress::at(Duration::from_secs(5));
                progress::acquires(3);
                let _pools = progress::pools();
                loop {
                    std::hint::spin_loop();
                }
            }
            Deed::AskAgain => loop {
                let _ours = progress::ours();
                drop(progress::pools());
            },
            Deed::Busy => {
                let _ours = progress::ours();
                loop {
                    std::hint::spin_loop();
                }
            }
            Deed::Flood => loop {
                let _ours = progress::ours();
                progress::at(Duration::from_secs(5));
                drop(progress::pools());
            },
            Deed::Crawl => {
                for millis in 0.. {
                    progress::at(Duration::from_millis(millis));
                    std::thread::sleep(Duration::from_millis(1));
                }
                unreachable!("it crawls for ever")
            }
            Deed::Allocate { in_pool } => {
                let _whose = if *in_pool { progress::pools() } else { progress::ours() };
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1_u8; 1 << 20]);
                }
            }
            Deed::Recurse => Outcome::Number(u32::try_from(deeper(1)).unwrap()),
            Deed::Abort => std::process::abort(),
            Deed::Exit => std::process::exit(9),
            Deed::Panic => panic!("the harness is broken"),
        }
    }

    fn lost(&self, loss: &Loss) -> Outcome {
        Outcome::Lost(loss.clone())
    }
}

fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        return depth;
    }
    frame[0] + deeper(std::hint::black_box(depth + 1)) % 7
}

#[test]
fn worker_entry() {
    become_worker_if_asked::<Deed>();
}

fn options(jobs: usize) -> Options {
    let arguments = ["campaign::tests::worker_entry", "--exact", "--nocapture"];
    Options {
        jobs,
        limits: Limits { stall: Duration::from_millis(500), total: Duration::from_secs(3), memory: Some(1 << 30) },
        place: Workers::Executable {
            program: std::env::current_exe().unwrap(),
            arguments: arguments.map(OsString::from).to_vec(),
        },
        runs_per_worker: 100,
    }
}

fn outcomes(all: &[Deed], options: &Options) -> Vec<Outcome> {
    let (mut list, mut counts) = (Vec::new(), Vec::new());
    run_all(
        all,
        options,
        |count| counts.push(count),
        |index, work, report| {
            assert_eq!((index, work), (list.len(), &all[index]));
            list.push(report);
        },
    )
    .unwrap();
    assert_eq!(counts, (1..=all.len()).collect::<Vec<_>>());
    list
}

#[test]
fn results_come_in_the_order_of_the_requests() {
    let all: Vec<Deed> = (0..12).map(|n| Deed::Answer(n, u64::from(12 - n) * 5)).collect();
    let expected: Vec<Outcome> = (0..12).map(Outcome::Number).collect();
    for jobs in [1, 2, 5] {
        assert_eq!(outcomes(&all, &options(jobs)), expected, "{jobs} jobs");
    }
    let here = Options { place: Workers::Here, ..options(3) };
    assert_eq!(outcomes(&all, &here), expected);
    assert!(outcomes(&[], &options(2)).is_empty());
}

#[test]
fn a_stalled_run_is_given_up_where_it_stood_and_the_others_go_on() {
    let start = Instant::now();
    let all = [Deed::Answer(1, 0), Deed::Spin, Deed::Answer(2, 0)];
    let place = Place { virtual_ms: 5000, in_pool: true, acquires: 3 };
    assert_eq!(
        outcomes(&all, &options(1)),
        [Outcome::Number(1), Outcome::Lost(Loss::Stalled(place)), Outcome::Number(2)]
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_stall_is_the_pools_only_if_it_kept_the_thread() {
    let all = [Deed::AskAgain, Deed::Busy, Deed::Flood];
    let outcomes = outcomes(&all, &options(2));
    let in_pool = outcomes.iter().map(|outcome| match outcome {
        Outcome::Lost(Loss::Stalled(place)) => place.in_pool,
        other => panic!("{other:?}"),
    });
    assert_eq!(in_pool.collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn a_run_that_moves_but_never_ends_is_given_up_too() {
    let start = Instant::now();
    let outcomes = outcomes(&[Deed::Crawl], &options(1));
    assert!(
        matches!(outcomes[..], [Outcome::Lost(Loss::Stalled(place))] if place.virtual_ms > 100 && !place.in_pool),
        "{outcomes:?}"
    );
    assert!((2..20).contains(&start.elapsed().as_secs()));
}

#[test]
fn deaths_are_told_apart() {
    let mut patient = options(2);
    (patient.limits.stall, patient.limits.total) = (Duration::from_secs(20), Duration::from_secs(40));
    let memory = [Deed::Allocate { in_pool: true }, Deed::Allocate { in_pool: false }].map(|deed| {
        let [outcome] = &outcomes(&[deed], &patient)[..] else { panic!("one outcome") };
        let Outcome::Lost(Loss::Memory(place)) = outcome else { panic!("{outcome:?}") };
        place.in_pool
    });
    assert_eq!(memory, [true, false]);
    let all =
        [Deed::Allocate { in_pool: true }, Deed::Recurse, Deed::Abort, Deed::Exit, Deed::Panic, Deed::Answer(1, 0)];
    let outcomes = outcomes(&all, &patient);
    let [memory, stack, abort, exit, panic, well] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(matches!(memory, Outcome::Lost(Loss::Memory(_))), "{memory:?}");
    assert!(matches!(stack, Outcome::Lost(Loss::StackOverflow(_))), "{stack:?}");
    assert!(matches!(abort, Outcome::Lost(Loss::Died { how, .. }) if how == "signal 6 (SIGABRT)"), "{abort:?}");
    assert!(matches!(exit, Outcome::Lost(Loss::Died { how, .. }) if how == "exit code 9"), "{exit:?}");
    assert_eq!(*panic, Outcome::Lost(Loss::Harness("the harness is broken".into())));
    assert_eq!(*well, Outcome::Number(1));
}

#[test]
fn what_a_pool_prints_is_no_answer() {
    let all = [Deed::Chatter, Deed::Chatter];
    assert_eq!(outcomes(&all, &options(1)), [Outcome::Number(1), Outcome::Number(1)]);
}

#[test]
fn workers_are_kept_and_replaced() {
    let pids = |runs_per_worker| {
        let options = Options { runs_per_worker, ..options(1) };
        let mut pids = outcomes(&[Deed::Pid, Deed::Pid, Deed::Pid], &options);
        pids.dedup();
        pids.len()
    };
    assert_eq!(pids(100), 1);
    assert_eq!(pids(1), 3);
}

#[test]
fn a_worker_that_cannot_start_is_an_error() {
    let place = Workers::Executable { program: "/nowhere/at-all".into(), arguments: Vec::new() };
    let result = run_all(&[Deed::Pid], &Options { place, ..options(1) }, |_| (), |_, _, _| ());
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn two_jobs_are_two_runs_at_once() {
    let options = Options { jobs: 2, place: Workers::Here, ..Options::default() };
    let mut met = Vec::new();
    run_all(&[Deed::Meet, Deed::Meet], &options, |_| (), |_, _, outcome| met.push(outcome)).unwrap();
    assert_eq!(met, [Outcome::Number(2), Outcome::Number(2)]);
}
