//! What the models of Python's pools stand on: the driver that they have below them, and the condition that they wait on.

pub(super) mod condition;
pub(super) mod psycopg2;
