//! Ports for servers: such that a server finds its own free again after it was down for a while.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use parking_lot::Mutex;

use super::error::ServerError;

/// From here up ordinary servers live; below is root's.
const FIRST: u16 = 10_000;
/// Where ports of clients begin, if the system does not tell: below Linux' and macOS' own.
const CLIENTS: u16 = 32_768;

/// Those that this process gave out.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that is free now, and that the kernel gives to no client, so that no connection sits on it when
/// its server comes back. Another server may take it before that; then a start fails, and says so.
pub(super) fn free_port() -> Result<u16, ServerError> {
    let end = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let end = end.and_then(|range| range.split_whitespace().next()?.parse().ok()).unwrap_or(CLIENTS);
    let end = if end > FIRST { end } else { CLIENTS };
    let room = end - FIRST;
    // Processes begin at different places.
    let start = u64::from(std::process::id()) * 37 % u64::from(room);
    let mut given = GIVEN.lock();
    let mut ports = (0..room).map(|n| FIRST + ((start + u64::from(n)) % u64::from(room)) as u16);
    let port = ports.find(|port| !given.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let port =
        port.ok_or_else(|| ServerError::Failed(format!("no port of 127.0.0.1 is free from {FIRST} to {end}")))?;
    given.insert(port);
    Ok(port)
}

/// A server that is gone needs its port no more.
pub(super) fn give_back(port: u16) {
    GIVEN.lock().remove(&port);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_one() {
        let ports: Vec<u16> = (0..5).map(|_| free_port().expect("there are many")).collect();
        let different: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(different.len(), ports.len(), "{ports:?}");
        assert!(ports.iter().all(|port| *port >= FIRST), "{ports:?}");
        ports.into_iter().for_each(give_back);
    }
}
