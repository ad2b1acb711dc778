//! What containers are made with: a primary by the image's own initialisation, a standby by a base backup.

use std::time::Duration;

use testcontainers::core::{CmdWaitFor, ExecCommand, WaitFor};
use testcontainers::{ContainerRequest, CopyDataSource, GenericImage, ImageExt as _};

use super::super::session::ROLE;
use super::super::setup::Setup;
use super::network::Network;

/// How long a container has for its first start, `initdb` included.
const FIRST_START: Duration = Duration::from_secs(120);
/// The user as whom the server of an image runs.
const USER: &str = "postgres";
/// Where a standby's data lie in its container: a place that this user may make in every image.
const STANDBY_DATA: &str = "/tmp/poolproof-standby";

/// A primary with this setup, reached on this port.
pub(super) fn primary(
    image: GenericImage,
    network: Network,
    setup: &Setup,
    port: u16,
) -> ContainerRequest<GenericImage> {
    let script = configure(setup, &network.configuration(port));
    let container = image
        // The server of the initialisation writes to the standard output.
        .with_wait_for(WaitFor::message_on_stderr("database system is ready to accept connections"))
        .with_env_var("POSTGRES_USER", ROLE)
        .with_env_var("POSTGRES_DB", "postgres")
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_env_var("POSTGRES_INITDB_ARGS", "--no-sync --locale=C -E UTF8")
        .with_copy_to("/docker-entrypoint-initdb.d/poolproof.sh", CopyDataSource::Data(script))
        .with_startup_timeout(FIRST_START);
    network.join(container, port)
}

/// A standby that streams from the primary on one port, in the network that both share, and is reached on another one.
pub(super) fn standby(image: GenericImage, primary: u16, port: u16) -> ContainerRequest<GenericImage> {
    // The second start finds the data. The configuration is the primary's but for the port; the last word counts.
    let script = format!(
        "set -e\n\
         if [ ! -s {STANDBY_DATA}/PG_VERSION ]; then\n\
         pg_basebackup -R -X stream -c fast --no-sync -D {STANDBY_DATA} \
         -d 'host=127.0.0.1 port={primary} user={ROLE} application_name=standby'\n\
         fi\n\
         exec postgres -D {STANDBY_DATA} -c port={port}\n"
    );
    let container =
        image.with_entrypoint("/bin/sh").with_cmd(["-c", &script]).with_user(USER).with_startup_timeout(FIRST_START);
    Network::Shared.join(container, port)
}

/// `pg_ctl promote` in a standby's container, which needs no session.
pub(super) fn promote() -> ExecCommand {
    ExecCommand::new(["pg_ctl", "-D", STANDBY_DATA, "-W", "promote"]).with_cmd_ready_condition(CmdWaitFor::exit_code(0))
}

/// A script for the image's first start: what the server is configured with from then on.
fn configure(setup: &Setup, network: &str) -> Vec<u8> {
    let (configuration, authentication) = (setup.configuration(), setup.authentication());
    let script = format!(
        "#!/bin/bash\nset -e\n\
         cat >>\"$PGDATA/postgresql.conf\" <<'POOLPROOF-END'\n\n{configuration}{network}POOLPROOF-END\n\
         cat >\"$PGDATA/pg_hba.conf\" <<'POOLPROOF-END'\nlocal all all trust\n{authentication}POOLPROOF-END\n"
    );
    script.into_bytes()
}
