//! The virtual world that poolproof runs connection pools in: a clock, seeded entropy, a TCP network and a PostgreSQL
//! server, all on one thread and in virtual time.
//!
//! This crate knows no pool and no scenario. It can be used alone, to test any PostgreSQL client in virtual time.
//!
//! | module | what it models |
//! | --- | --- |
//! | [`clock`] | virtual time under tokio and under `std::time` |
//! | [`entropy`] | seeded entropy under `getrandom`, and named random streams |
//! | [`runtime`] | a run's own thread and tokio runtime |
//! | [`net`] | hosts, links, TCP streams with Linux's timers, and their faults |
//! | [`postgres`] | a PostgreSQL 15 server: protocol, sessions, transactions, locks, life cycle, SQL |

pub mod clock;
pub mod entropy;
pub mod net;
pub mod postgres;
pub mod runtime;
