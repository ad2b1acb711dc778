//! Virtual time under `std::time`.
//!
//! tokio's clock can be paused; `std::time::Instant` and `SystemTime` can't. Pools read them for idle timeouts and
//! lifetimes, so without this they would never fire. `clock_gettime` is therefore defined here, for the whole program:
//! on the thread of a run it answers with the run's virtual time, on every other thread it asks the C library.
//!
//! The std clock of a run is not exactly tokio's. tokio's virtual clock stands still between two timers, while a real
//! clock always moves: sqlx's reaper, which compares two instants strictly, never fires under a clock that stands still.
//! So the std clock leads by a seeded 50 µs to 950 µs, and each reading moves it by 25 ns (what a reading costs). The lead never
//! shrinks: between any two readings of a run more time passes by std than by tokio, as on a real machine, where no sleep ends
//! before its time.
//!
//! The world asks for tokio's time several times an event, and tokio looks its clock up behind the runtime's context each time.
//! Virtual time moves only while the runtime is parked, so [`now`] and [`since`] ask once between two parks of a run.
//! Outside a run they ask each time. `tokio::time::advance` inside a run would go unnoticed until the next park; nothing
//! needs it there.
//!
//! Not covered: threads that a pool starts for itself (they see real time), `CLOCK_*_CPUTIME_ID`, and reading the time stamp
//! counter directly.
//!
//! Written for Linux and macOS (`clock_gettime(2)`); tested on Linux x86-64.
#![expect(unsafe_code, reason = "overrides a function of the C library")]

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// `CLOCK_MONOTONIC` at the start of a run: not zero, since programs subtract durations from instants.
const MONOTONIC_START: Duration = Duration::from_secs(1_000_000);

/// `CLOCK_REALTIME` at the start of a run: 2025-01-01 00:00 UTC.
pub const EPOCH_UNIX: Duration = Duration::from_secs(1_735_689_600);

/// What one reading moves the std clock.
const READING: Duration = Duration::from_nanos(25);

#[derive(Clone, Copy)]
struct Virtual {
    /// tokio's instant at the start of the run.
    start: Instant,
    /// The lead over tokio's elapsed time: at the start, and what readings added to it.
    lead: Duration,
    /// The last answer.
    last: Duration,
    /// Only readings inside of tasks move the clock: a run's several runtimes read it themselves, again and again while
    /// nothing happens (tokio's metrics), and it would run ahead.
    tasks_only: bool,
}

/// How many starts [`since`] keeps the elapsed time of: those of the network, the trace, the servers and the std clock.
const STARTS: usize = 4;

/// What is known of tokio's time until the runtime parks.
#[derive(Clone, Copy)]
enum Known {
    /// This is no run's thread, or its runtime is gone: nothing may be kept.
    Nothing,
    /// Nobody has asked since the last park.
    Stale,
    /// The time since then.
    At(Instant),
}

thread_local! {
    static KNOWN: Cell<Known> = const { Cell::new(Known::Nothing) };
    /// Times since some starts, for as long as `KNOWN` holds.
    static SINCE: [Cell<Option<(Instant, Duration)>>; STARTS] = const { [const { Cell::new(None) }; STARTS] };
    static VIRTUAL: Cell<Option<Virtual>> = const { Cell::new(None) };
    /// True while `VIRTUAL` or a run's runtimes are being set up: time stands at the start.
    static STARTING: Cell<bool> = const { Cell::new(false) };
}

/// Virtual time on this thread, from now until it is dropped.
pub(crate) struct Guard(());

impl Guard {
    /// To be called on a fresh thread, before its tokio runtime is built: the runtime's clock then starts at the same
    /// instant.
    pub(crate) fn enter(seed: u64) -> Guard {
        STARTING.set(true);
        let start = Instant::from_std(std::time::Instant::now());
        let lead = Duration::from_nanos(50_000 + splitmix(seed) % 900_000);
        VIRTUAL.set(Some(Virtual { start, lead, last: Duration::ZERO, tasks_only: false }));
        STARTING.set(false);
        forget(Known::Stale);
        Guard(())
    }

    /// The same for a run with several runtimes, which take turns on this thread: time stands at the start until
    /// [`Guard::go`], so that the clocks of all that are built until then agree. Nothing is kept of any of them.
    pub(crate) fn stand_still(seed: u64) -> Guard {
        let guard = Guard::enter(seed);
        forget(Known::Nothing);
        VIRTUAL.set(VIRTUAL.get().map(|v| Virtual { tasks_only: true, ..v }));
        STARTING.set(true);
        guard
    }

    /// From now on time is that of the runtime whose turn it is.
    pub(crate) fn go(&self) {
        STARTING.set(false);
    }

    /// The runtime is about to be dropped: from now on nothing is kept.
    pub(crate) fn runtime_ends(&self) {
        forget(Known::Nothing);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        forget(Known::Nothing);
        STARTING.set(false);
        VIRTUAL.set(None);
    }
}

/// The run's runtime parks, or did: time may have moved.
pub(crate) fn parked() {
    forget(Known::Stale);
}

fn forget(known: Known) {
    KNOWN.set(known);
    SINCE.with(|since| since.iter().for_each(|kept| kept.set(None)));
}

/// tokio's time, as [`Instant::now`]: the same, and cheaper on the thread of a run.
#[must_use]
#[inline]
pub fn now() -> Instant {
    match KNOWN.get() {
        Known::At(now) => now,
        Known::Nothing => Instant::now(),
        Known::Stale => {
            let now = Instant::now();
            KNOWN.set(Known::At(now));
            now
        }
    }
}

/// tokio's time since `start`, zero before it. On the thread of a run it costs a subtraction for the first who asks between
/// two parks.
#[must_use]
#[inline]
pub fn since(start: Instant) -> Duration {
    SINCE.with(|since| {
        // Nothing is kept where `KNOWN` is `Nothing`.
        for kept in since {
            match kept.get() {
                Some((known, elapsed)) if known == start => return elapsed,
                Some(_) => {}
                None => return ask_since(start, kept),
            }
        }
        now().saturating_duration_since(start)
    })
}

/// The first time that this start is asked for since the last park.
fn ask_since(start: Instant, place: &Cell<Option<(Instant, Duration)>>) -> Duration {
    let elapsed = now().saturating_duration_since(start);
    if !matches!(KNOWN.get(), Known::Nothing) {
        place.set(Some((start, elapsed)));
    }
    elapsed
}

/// Whether this thread is a run's.
#[must_use]
pub fn is_virtual() -> bool {
    VIRTUAL.try_with(|v| v.get().is_some()).unwrap_or(false)
}

/// The std clock's time since the start of the run, or `None` on a thread outside a run.
fn read() -> Option<Duration> {
    if STARTING.try_with(Cell::get).unwrap_or(false) {
        return Some(Duration::ZERO);
    }
    VIRTUAL
        .try_with(|cell| {
            let mut v = cell.get()?;
            // Outside the runtime's context (it is being built or dropped) the clock stands where it was. Asking
            // tokio there would ask std, and so this function. What is known was asked inside.
            if matches!(KNOWN.get(), Known::At(_)) || tokio::runtime::Handle::try_current().is_ok() {
                let elapsed = since(v.start);
                if !v.tasks_only || tokio::task::try_id().is_some() {
                    v.lead += READING;
                }
                v.last = elapsed + v.lead;
                cell.set(Some(v));
            }
            Some(v.last)
        })
        .ok()
        .flatten()
}

/// One number of SplitMix64.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> libc::c_int;

/// The C library's own `clock_gettime`.
fn real() -> Option<ClockGettime> {
    static REAL: AtomicUsize = AtomicUsize::new(0);
    let mut address = REAL.load(Ordering::Relaxed);
    if address == 0 {
        // SAFETY: the name is a C string. RTLD_NEXT looks behind this program's own definition.
        address = unsafe { libc::dlsym(libc::RTLD_NEXT, c"clock_gettime".as_ptr()) } as usize;
        REAL.store(address, Ordering::Relaxed);
    }
    if address == 0 {
        return None;
    }
    // SAFETY: the symbol has this signature by POSIX.
    Some(unsafe { std::mem::transmute::<usize, ClockGettime>(address) })
}

/// `clock_gettime(2)`: virtual on the thread of a run, the C library's own elsewhere.
///
/// # Safety
/// As the C function: `time` points to a writable `timespec`.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let virtual_time = match clock {
        libc::CLOCK_THREAD_CPUTIME_ID | libc::CLOCK_PROCESS_CPUTIME_ID => None,
        _ => read(),
    };
    let Some(elapsed) = virtual_time else {
        return match real() {
            // SAFETY: the caller's promise is passed on.
            Some(function) => unsafe { function(clock, time) },
            // A statically linked program has no next definition.
            #[cfg(target_os = "linux")]
            // SAFETY: as above; the system call has the same meaning.
            None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int },
            #[cfg(not(target_os = "linux"))]
            None => -1,
        };
    };
    #[cfg(target_os = "linux")]
    let is_realtime = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE;
    #[cfg(not(target_os = "linux"))]
    let is_realtime = clock == libc::CLOCK_REALTIME;
    let now = elapsed + if is_realtime { EPOCH_UNIX } else { MONOTONIC_START };
    // SAFETY: the caller's promise.
    unsafe {
        (*time).tv_sec = now.as_secs() as libc::time_t;
        (*time).tv_nsec = libc::c_long::from(now.subsec_nanos() as i32);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_between_two_parks_is_tokios_time() {
        crate::runtime::run(1, async || {
            let mut starts = Vec::new();
            // More starts than are kept, and time that moves by sleeping and by being yielded to other tasks.
            for n in 0..8 {
                starts.push(now());
                tokio::spawn(async { tokio::time::sleep(Duration::from_millis(3)).await });
                tokio::time::sleep(Duration::from_millis(n)).await;
                tokio::task::yield_now().await;
                assert_eq!(now(), Instant::now());
                for start in &starts {
                    assert_eq!(since(*start), start.elapsed());
                    assert_eq!(since(*start), start.elapsed(), "asked twice");
                }
            }
            assert_eq!(since(starts[0]), Duration::from_millis(28));
        })
        .expect("it does not panic");
    }

    #[test]
    fn no_sleep_ends_early_by_stds_clock() {
        for seed in 0..20 {
            crate::runtime::run(seed, async move || {
                let mut before = std::time::Instant::now();
                let started = (before, Instant::now());
                for n in 0..500u64 {
                    let sleep = Duration::from_millis(splitmix(seed + n) % 700_000);
                    let since = std::time::Instant::now();
                    assert!(since > before, "it stands still");
                    // Many readings at one instant of tokio's clock.
                    for _ in 0..n % 90 {
                        before = std::time::Instant::now();
                    }
                    tokio::time::sleep(sleep).await;
                    assert!(since.elapsed() > sleep, "{sleep:?} took {:?}", since.elapsed());
                    assert!(before.elapsed() > sleep, "{sleep:?} took {:?}", before.elapsed());
                }
                let (std, tokio) = (started.0.elapsed(), started.1.elapsed());
                assert!(std - tokio < Duration::from_millis(1), "{std:?} is far from {tokio:?}");
            })
            .expect("it does not panic");
        }
    }

    #[test]
    fn outside_a_run_nothing_is_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime needs nothing").block_on(async {
            let start = now();
            assert_eq!(since(start), Duration::ZERO);
            tokio::time::advance(Duration::from_millis(7)).await;
            assert_eq!((since(start), now()), (Duration::from_millis(7), Instant::now()));
        });
    }
}
