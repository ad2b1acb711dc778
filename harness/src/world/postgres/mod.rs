//! The world `postgres`: a real server on real sockets, in real time.

pub mod server;
