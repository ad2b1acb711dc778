//! poolproof runs real connection pools, with their real driver, in virtual time, against a simulated PostgreSQL server
//! and network that fail on script, and judges them by what the server saw.

pub use tokio_postgres;

pub mod apps;
pub mod campaign;
pub mod cli;
pub mod invariant;
pub mod pool;
pub mod report;
pub mod run;
pub mod scenario;
pub mod serve;
pub mod suite;
pub mod trace;
pub mod verdict;
pub mod worker;
pub mod workload;
pub mod world;
