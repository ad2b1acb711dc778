//! What ends a flow from outside: faults, the firewall's timer, and those of the kernels at both ends.

use std::future::pending;
use std::io;
use std::sync::atomic::Ordering;

use poolproof_sim::net::SocketOptions;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::super::path::Way;
use super::super::silence;
use super::{End, Flow, Host};

impl Flow {
    /// Waits for what ends the flow from outside, and for timers: the firewall's, and those of the kernels at both ends.
    pub(super) async fn watch(&self) -> End {
        let (mut fates, mut roads) = (self.fate.subscribe(), self.path.road.subscribe());
        let app_options = self.app.as_ref().map_or_else(SocketOptions::default, |app| app.options);
        let mut broken_since: [Option<Instant>; 2] = [None; 2];
        loop {
            let (fate, road) = (*fates.borrow_and_update(), *roads.borrow_and_update());
            let now = Instant::now();
            if fate.reset {
                return End::ResetBoth;
            }
            let cut = road.up_blocked || road.down_blocked || fate.forgotten;
            let (active, waiting) = {
                let mut state = self.state.lock();
                let silent = fate.forgotten || fate.app != Host::Up || fate.server != Host::Up;
                if silent && state.ended == 2 {
                    return End::Closed;
                }
                for (index, silent) in
                    [cut || fate.server == Host::Off, cut || fate.app == Host::Off].into_iter().enumerate()
                {
                    if silent {
                        broken_since[index].get_or_insert(now);
                    } else {
                        broken_since[index] = None;
                        state.waiting[index] = None;
                    }
                }
                (state.active, state.waiting)
            };
            let gives_up = |index: usize, options: &SocketOptions| {
                let heard = silence::heard(options, active, broken_since[index]?);
                silence::gives_up(options, heard, waiting[index])
            };
            // A keepalive that is answered is traffic.
            let kept = |options: &SocketOptions, timeout| options.keepalive.is_some_and(|k| k.idle < timeout);
            let forgets = road.idle_timeout.filter(|timeout| {
                !fate.forgotten && !kept(&app_options, *timeout) && !kept(&self.server.options, *timeout)
            });
            let forgets = forgets.map(|timeout| active + timeout);
            let app = gives_up(0, &app_options).filter(|_| fate.app == Host::Up && self.app.is_some());
            let server = gives_up(1, &self.server.options)
                .filter(|_| fate.server == Host::Up && !self.server_closed.load(Ordering::Relaxed));
            if forgets.is_some_and(|at| at <= now) {
                self.befall(|fate| fate.forgotten = true);
                continue;
            }
            if app.is_some_and(|at| at <= now) {
                self.befall(|fate| fate.app = Host::Stranger);
                if let Some(end) = &self.app {
                    end.take_away(io::ErrorKind::TimedOut);
                }
                continue;
            }
            if server.is_some_and(|at| at <= now) {
                self.befall(|fate| fate.server = Host::Stranger);
                return End::ResetServer(io::ErrorKind::TimedOut);
            }
            let next = [forgets, app, server].into_iter().flatten().min();
            tokio::select! {
                changed = fates.changed() => if changed.is_err() { return pending().await },
                changed = roads.changed() => if changed.is_err() { return pending().await },
                () = self.stirred.notified() => {}
                () = until(next) => {}
            }
        }
    }

    /// The server gave the connection up by its timers: the app is told when it next says something, and is heard.
    pub(super) async fn alone(&self, app: &TcpStream) {
        let mut byte = [0];
        let answered = async {
            if app.peek(&mut byte).await.is_ok_and(|bytes| bytes > 0) {
                self.passage(Way::Up, true).await;
                let _ = app.set_zero_linger();
            }
        };
        let mut fates = self.fate.subscribe();
        tokio::select! {
            () = answered => {}
            _ = fates.wait_for(|fate| fate.reset) => drop(app.set_zero_linger()),
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
