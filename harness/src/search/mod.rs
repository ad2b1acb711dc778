//! Looks for what nobody wrote a scenario for, and hands it over as a scenario file: `poolproof search`.
//!
//! An input is a scenario, drawn by [`crate::strategy`], with one seed. It is run, judged by every invariant, and marked by
//! the interesting states that it came to ([`marks`]); what reaches a new mark is kept, and changed further ([`source`]).
//! What violates an invariant is shrunk ([`shrink`]), grouped with what came about in the same way ([`mechanism`],
//! [`findings`]), and written as a file ([`found`]). [`campaign`] puts these together, [`state`] keeps what must outlive it.
//!
//! All [`neighbours`] of a file are another source, which is finite. Others stand beside the random one behind [`source::Source`].

pub(crate) mod campaign;
pub(crate) mod findings;
mod found;
mod known;
pub(crate) mod marks;
mod mechanism;
pub(crate) mod neighbours;
mod shrink;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod table;
mod tell;
mod trial;

pub(crate) use trial::Trial;
