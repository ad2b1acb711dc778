//! r2d2 0.8.10. It blocks threads, so time is real here: what would last for ever is looked at for some times its timeout.

use std::sync::mpsc;
use std::thread;

use r2d2::{ManageConnection, NopErrorHandler, Pool};

use super::*;

impl Answer {
    fn block(self) -> io::Result<()> {
        match self {
            Answer::After(time) => {
                thread::sleep(time);
                Ok(())
            }
            Answer::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            Answer::Never => loop {
                thread::park();
            },
        }
    }
}

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = io::Error;

    fn connect(&self) -> io::Result<Connection> {
        self.0.dials.fetch_add(1, Ordering::Relaxed);
        let answer = *self.0.dial.lock();
        answer.block()?;
        Ok(Connection::default())
    }

    fn is_valid(&self, connection: &mut Connection) -> io::Result<()> {
        let answer = *self.0.check.lock();
        answer.block()?;
        if connection.broken.load(Ordering::Relaxed) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.broken.load(Ordering::Relaxed)
    }
}

const TIMEOUT: Duration = Duration::from_millis(500);

/// Dials when it has to, and lends what it has.
fn builder() -> r2d2::Builder<Manager> {
    let builder = Pool::builder().min_idle(Some(0)).connection_timeout(TIMEOUT).test_on_check_out(false);
    builder.error_handler(Box::new(NopErrorHandler))
}

/// `try_get_inner` (lib.rs) returns what it popped; `has_broken` is asked in `put_back` only.
#[test]
fn hands_out_what_its_driver_knows_to_be_broken() {
    for (test_on_check_out, broken) in [(false, true), (true, false)] {
        let pool = builder().test_on_check_out(test_on_check_out).build(Manager::new()).unwrap();
        let first = pool.get().unwrap().clone();
        first.broken.store(true, Ordering::Relaxed); // While it is idle in the pool.
        assert_eq!(pool.get().unwrap().broken.load(Ordering::Relaxed), broken);
    }
}

/// `put_back` (lib.rs) has a broken connection dropped by `drop_conns`, which dials what `min_idle` asks for, and nothing for
/// those who wait; nor does it wake one of them, who would dial. `get_timeout` dials before it waits, when there was no room.
#[test]
fn who_waits_is_not_told_of_the_room_that_a_broken_connection_left() {
    let waited = |min_idle| {
        let manager = Manager::new();
        let pool = builder().max_size(1).min_idle(min_idle).build(manager.clone()).unwrap();
        let held = pool.get().unwrap();
        held.broken.store(true, Ordering::Relaxed);
        let waiter = thread::spawn({
            let pool = pool.clone();
            move || pool.get().is_ok()
        });
        thread::sleep(TIMEOUT / 5);
        drop(held);
        let served = waiter.join().unwrap();
        // There was room all the time: who comes later is served.
        assert!(pool.get().is_ok());
        (served, manager.dials())
    };
    assert_eq!(waited(Some(0)), (false, 2));
    // As many idle ones as there may be, which is the default: one is dialled at once.
    assert_eq!(waited(None), (true, 2));
}

/// `add_connection` (lib.rs) calls `connect` on one of the three threads that `build_unchecked` (config.rs) starts, without a
/// timeout. A dial that hangs keeps its thread; three are all dials of the pool.
#[test]
fn three_hung_dials_are_the_last_ones() {
    let manager = Manager::new();
    let pool = builder().max_size(10).build(manager.clone()).unwrap();
    manager.set_dial(Answer::Never);
    for _ in 0..3 {
        assert!(pool.get().is_err());
    }
    manager.set_dial(Answer::After(Duration::from_millis(10)));
    for _ in 0..3 {
        assert!(pool.get().is_err(), "there is room for seven more");
    }
    assert_eq!((manager.dials(), pool.state().connections), (3, 0));
}

/// `get_timeout` (lib.rs) looks at its deadline when it waits; `try_get_inner` before it calls `is_valid` as often as there is
/// an idle connection, without one.
#[test]
fn a_check_has_no_timeout() {
    let manager = Manager::new();
    let pool = builder().test_on_check_out(true).build(manager.clone()).unwrap();
    drop(pool.get().unwrap());
    manager.set_check(Answer::Never);
    let (sender, got) = mpsc::channel();
    thread::spawn({
        let pool = pool.clone();
        move || sender.send(pool.get().is_ok())
    });
    assert!(got.recv_timeout(4 * TIMEOUT).is_err(), "nothing was answered");
    // It is one caller that hangs: another dials.
    manager.set_check(Answer::After(Duration::ZERO));
    assert!(pool.get().is_ok());
}

/// `add_connection` (lib.rs) pauses between failed dials, twice as long each time up to half of `connection_timeout`; nothing
/// wakes it, and the place of the one that pauses is taken.
#[test]
fn sleeps_on_after_the_server_is_back() {
    let manager = Manager::new();
    let long = Duration::from_secs(4);
    let pool = builder().max_size(1).connection_timeout(long).build(manager.clone()).unwrap();
    manager.set_dial(Answer::Refused);
    let began = std::time::Instant::now();
    let back = Duration::from_millis(1400);
    thread::spawn({
        let manager = manager.clone();
        move || {
            thread::sleep(back);
            manager.set_dial(Answer::After(Duration::ZERO));
        }
    });
    assert!(pool.get().is_ok());
    // After 0, 0.4, 1.2 and 2.8 s.
    let waited = began.elapsed();
    assert!((2 * back..long).contains(&waited), "{waited:?}");
    assert_eq!(manager.dials(), 4);
}

/// `get_timeout` (lib.rs) asks for a dial whenever it finds nothing idle, however many are under way for callers that gave up.
#[test]
fn dials_for_those_who_have_given_up() {
    let manager = Manager::new();
    let pool = builder().max_size(10).build(manager.clone()).unwrap();
    manager.set_dial(Answer::After(3 * TIMEOUT));
    // One caller, who tries again.
    for _ in 0..2 {
        assert!(pool.get().is_err());
    }
    thread::sleep(4 * TIMEOUT);
    assert_eq!((manager.dials(), pool.state().connections), (2, 2), "never was more than one wanted at once");
}

/// The same with two who share a connection while a second one is dialled: each time that one finds nothing idle is a dial.
#[test]
fn dials_for_those_who_are_served_by_a_return() {
    let manager = Manager::new();
    let pool = builder().max_size(10).build(manager.clone()).unwrap();
    drop(pool.get().unwrap());
    manager.set_dial(Answer::After(TIMEOUT));
    let callers = [(); 2].map(|()| {
        let pool = pool.clone();
        thread::spawn(move || {
            for _ in 0..20 {
                let lease = pool.get().unwrap();
                thread::sleep(Duration::from_millis(2));
                drop(lease);
            }
        })
    });
    for caller in callers {
        caller.join().unwrap();
    }
    thread::sleep(6 * TIMEOUT);
    let connections = pool.state().connections;
    assert!(connections > 2, "{connections}, and never were more than two wanted at once");
}

/// `put_back` (lib.rs) asks `has_broken` and nothing else, though `Builder::max_lifetime` (config.rs) says of a connection that
/// reaches its age while it is checked out that "it will be closed when it is returned to the pool". The reaper finds it, up to
/// 30 s later, unless it is lent again then.
#[test]
fn what_is_too_old_at_its_return_is_lent_again() {
    let manager = Manager::new();
    let pool = builder().max_lifetime(Some(Duration::from_millis(1))).build(manager.clone()).unwrap();
    for _ in 0..5 {
        let lease = pool.get().unwrap();
        thread::sleep(Duration::from_millis(5));
        drop(lease);
    }
    assert_eq!((manager.dials(), pool.state().idle_connections), (1, 1));
}
