//! What can be done to a server's processes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use poolproof_sim::postgres::event::Pid;

use super::error::{ServerError, needs_control};
use super::folder::Dispose;
use super::life::Life;
use crate::scenario::model::StopMode;

/// A server's processes, where they can be got at.
#[async_trait]
pub(super) trait Control: Dispose {
    /// Where it listens, or will.
    fn address(&self) -> SocketAddr;

    /// Starts a process, and does not wait for it.
    async fn start(&self) -> Result<(), ServerError> {
        Err(needs_control())
    }

    /// The signal of `pg_ctl stop`.
    async fn signal_stop(&self, _mode: StopMode) -> Result<(), ServerError> {
        Err(needs_control())
    }

    /// SIGKILL for all processes.
    async fn kill(&self) -> Result<(), ServerError> {
        Err(needs_control())
    }

    /// SIGKILL for one backend.
    async fn kill_backend(&self, _pid: Pid) -> Result<(), ServerError> {
        Err(needs_control())
    }

    /// SIGSTOP for all processes.
    async fn pause(&self) -> Result<(), ServerError> {
        Err(needs_control())
    }

    /// SIGCONT for all processes.
    async fn unpause(&self) -> Result<(), ServerError> {
        Err(needs_control())
    }

    /// The signal of `pg_ctl promote`.
    async fn promote(&self) -> Result<(), ServerError> {
        Err(needs_control())
    }

    /// The processes of a standby that streams from it, with this life; started, as by
    /// [`Control::start`].
    async fn standby(&self, _life: &Arc<Life>) -> Result<Box<dyn Control>, ServerError> {
        Err(needs_control())
    }

    /// Its data directory, where that is on this machine.
    fn data_directory(&self) -> Option<&Path> {
        None
    }
}

/// `pg_ctl stop -m`, as a signal's name.
#[cfg(feature = "docker")]
pub(super) fn signal_name(mode: StopMode) -> &'static str {
    match mode {
        StopMode::Smart => "SIGTERM",
        StopMode::Fast => "SIGINT",
        StopMode::Immediate => "SIGQUIT",
    }
}
