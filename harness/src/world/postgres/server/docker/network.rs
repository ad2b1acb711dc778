//! How a server in a container is reached.
//!
//! Where the daemon shares this machine's network, so does the container: its server listens on a port of 127.0.0.1 itself, and
//! what it does to its sockets is what a client sees. A published port is answered by a program between (docker-proxy): it
//! accepts while nobody listens behind it, and passes ends on in its own time. So it is the way only where no other leads into
//! the container: Docker Desktop, whose containers are in a virtual machine, and daemons in namespaces of their own.

use std::net::Ipv4Addr;

use testcontainers::bollard::Docker as Daemon;
use testcontainers::core::IntoContainerPort as _;
use testcontainers::{ContainerRequest, GenericImage, ImageExt as _};

/// PostgreSQL's port in a network of the container's own.
const PORT: u16 = 5432;
/// Security options of daemons whose network, or whose users, are not this machine's.
const APART: [&str; 2] = ["name=rootless", "name=userns"];

/// The network that a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// This machine's.
    Shared,
    /// Its own, with a published port.
    Own,
}

impl Network {
    /// What this daemon can do. One that does not tell gets published ports, which all can.
    pub(super) async fn of(daemon: &Daemon) -> Network {
        match daemon.info().await {
            Ok(info) => {
                Network::by(info.operating_system.as_deref(), info.security_options.as_deref().unwrap_or_default())
            }
            Err(_) => Network::Own,
        }
    }

    fn by(system: Option<&str>, security: &[String]) -> Network {
        let here = cfg!(target_os = "linux") && system.is_some_and(|system| !system.contains("Docker Desktop"));
        let apart = security.iter().any(|option| APART.iter().any(|apart| option.starts_with(apart)));
        if here && !apart { Network::Shared } else { Network::Own }
    }

    /// What the server's configuration says of it, where it is to be reached on this port of 127.0.0.1.
    pub(super) fn configuration(self, port: u16) -> String {
        match self {
            Network::Shared => format!("port = {port}\nlisten_addresses = '{}'\n", Ipv4Addr::LOCALHOST),
            Network::Own => format!("port = {PORT}\nlisten_addresses = '*'\n"),
        }
    }

    /// Puts a container in it.
    pub(super) fn join(self, container: ContainerRequest<GenericImage>, port: u16) -> ContainerRequest<GenericImage> {
        match self {
            Network::Shared => container.with_host_config_modifier(|host| {
                host.network_mode = Some("host".to_owned());
                host.publish_all_ports = None;
            }),
            Network::Own => container.with_mapped_port(port, PORT.tcp()).with_host_config_modifier(|host| {
                // This machine's only.
                for binding in host.port_bindings.iter_mut().flat_map(|ports| ports.values_mut()).flatten().flatten() {
                    binding.host_ip = Some(Ipv4Addr::LOCALHOST.to_string());
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_network_is_shared_where_the_daemon_is_of_this_machine() {
        let by = |system, security: &[&str]| {
            let security: Vec<String> = security.iter().map(|option| (*option).to_owned()).collect();
            Network::by(Some(system), &security)
        };
        let debian = "Debian GNU/Linux 12 (bookworm)";
        assert_eq!(by(debian, &["name=seccomp,profile=builtin", "name=cgroupns"]), Network::Shared);
        assert_eq!(by(debian, &["name=seccomp,profile=builtin", "name=rootless"]), Network::Own);
        assert_eq!(by("Docker Desktop", &[]), Network::Own);
        assert_eq!(Network::by(None, &[]), Network::Own);
    }
}
