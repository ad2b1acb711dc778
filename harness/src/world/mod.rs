//! Where a scenario runs: hosts, servers and the network of the simulated world, and the faults that befall them.

pub mod faults;
pub mod schedule;
pub mod sentence;
pub mod sim;
pub mod tasks;

pub use sim::SimWorld;
