//! The world's clock and entropy: virtual and seeded on the thread of a run, real everywhere else.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use poolproof_sim::runtime::{self, Failure};
use poolproof_sim::{clock, entropy};
use rand::Rng;

/// What a run can see of time, entropy, hash order, tokio's own randomness and the order of its tasks.
fn fingerprint(seed: u64) -> String {
    runtime::run(seed, async || {
        let mut seen = String::new();
        let map: HashMap<u32, u32> = (0..20).map(|n| (n, n)).collect();
        #[expect(clippy::iter_over_hash_type, reason = "the order is what is tested")]
        for key in map.keys() {
            seen += &format!("{key} ");
        }
        let mut bytes = [0u8; 8];
        getrandom::fill(&mut bytes).unwrap();
        seen += &format!("{bytes:?} ");
        for _ in 0..50 {
            let branch = tokio::select! { () = async {} => 0, () = async {} => 1, () = async {} => 2 };
            seen += &branch.to_string();
        }
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        for task in 0..20u64 {
            let sender = sender.clone();
            tokio::spawn(async move {
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_millis(7 - task % 3)).await;
                    sender.send(task).unwrap();
                }
            });
        }
        drop(sender);
        while let Some(task) = receiver.recv().await {
            seen += &format!(" {task}@{:?}", Instant::now().elapsed());
        }
        seen + &format!(" {:?}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
    })
    .unwrap()
}

#[test]
fn std_time_is_virtual_in_a_run_and_real_outside() {
    let outside = Instant::now();
    let (elapsed, wall) = runtime::run(1, async || {
        assert!(clock::is_virtual());
        let (instant, wall) = (Instant::now(), SystemTime::now());
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        (instant.elapsed(), wall.elapsed().unwrap())
    })
    .unwrap();
    let day = Duration::from_secs(86_400);
    assert!((day..day + Duration::from_millis(1)).contains(&elapsed), "{elapsed:?}");
    assert!((day..day + Duration::from_millis(1)).contains(&wall), "{wall:?}");
    assert!(!clock::is_virtual());
    assert!(outside.elapsed() < Duration::from_secs(3_600), "the test's own thread keeps real time");
    assert!(SystemTime::now().duration_since(UNIX_EPOCH).unwrap() > clock::EPOCH_UNIX + Duration::from_secs(86_400));
}

#[test]
fn the_std_clock_moves_between_two_readings_and_never_back() {
    runtime::run(3, async || {
        let mut last = Instant::now();
        for n in 0..10_000u64 {
            if n % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(n % 3)).await;
            }
            let now = Instant::now();
            assert!(now > last);
            last = now;
        }
    })
    .unwrap();
}

#[test]
fn a_run_sees_the_same_world_again_and_another_seed_another_one() {
    let first = fingerprint(7);
    assert_eq!(first, fingerprint(7));
    assert_ne!(first, fingerprint(8));
}

#[test]
fn runs_on_parallel_threads_do_not_disturb_each_other() {
    let expected: Vec<String> = (0..8).map(fingerprint).collect();
    let threads: Vec<_> = (0..8).map(|seed| std::thread::spawn(move || fingerprint(seed))).collect();
    for (thread, expected) in threads.into_iter().zip(expected) {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn another_process_sees_the_same_world() {
    const VARIABLE: &str = "POOLPROOF_TEST_PRINT_FINGERPRINT";
    if std::env::var_os(VARIABLE).is_some() {
        println!("<<{}>>", fingerprint(7));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process_sees_the_same_world", "--nocapture"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let other = text.split("<<").nth(1).unwrap().split(">>").next().unwrap();
    assert_eq!(other, fingerprint(7));
}

#[test]
fn entropy_outside_a_run_is_the_kernels() {
    let mut a = [0u8; 16];
    let mut b = [0u8; 16];
    getrandom::fill(&mut a).unwrap();
    getrandom::fill(&mut b).unwrap();
    assert_ne!(a, b);
}

#[test]
fn streams_of_different_names_are_independent_and_fixed() {
    let draw = |seed, name| entropy::stream(seed, name).next_u64();
    assert_eq!(draw(1, "network"), draw(1, "network"));
    assert_ne!(draw(1, "network"), draw(1, "server"));
    assert_ne!(draw(1, "network"), draw(2, "network"));
    // The value itself is part of the promise: a scenario's seed means the same in every version.
    assert_eq!(draw(1, "network"), STREAM_1_NETWORK);
}

const STREAM_1_NETWORK: u64 = 13_282_614_554_497_325_594;

#[test]
fn a_panic_of_the_run_is_its_result() {
    let failure = runtime::run(1, async || {
        runtime::on_panic(|_| {});
        panic!("the pool's lock is poisoned");
    })
    .unwrap_err();
    assert_eq!(failure, Failure::Panicked("the pool's lock is poisoned".to_owned()));
}

#[test]
fn panics_of_spawned_tasks_are_told_with_their_place() {
    let seen = runtime::run(1, async || {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        runtime::on_panic(move |text| sender.send(text.to_owned()).unwrap());
        tokio::spawn(async { panic!("reaper") }).await.unwrap_err();
        receiver.recv().await.unwrap()
    })
    .unwrap();
    assert!(seen.starts_with("reaper (") && seen.contains("determinism.rs:"), "{seen}");
}

#[test]
fn a_run_that_blocks_or_spins_is_told_from_a_slow_one() {
    let patience = Duration::from_millis(300);
    let spins = runtime::start(1, async || {
        loop {
            tokio::task::yield_now().await;
            if !clock::is_virtual() {
                break;
            }
        }
    })
    .unwrap();
    assert_eq!(spins.wait(patience), Err(Failure::Stalled(patience)));
    let slow = runtime::start(1, async || {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            std::thread::sleep(Duration::from_millis(100));
        }
        42
    })
    .unwrap();
    assert_eq!(slow.wait(patience), Ok(42));
}
