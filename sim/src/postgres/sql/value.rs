//! Values.
use super::super::error::PgError;
use super::types::Type;
use bytes::BytesMut;
use std::sync::Arc;

/// A value; `Null` is of any type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of Type")]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Numeric(Arc<str>),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Microseconds since 2000-01-01 00:00 UTC.
    Timestamptz(i64),
    /// Microseconds.
    Interval(i64),
    Array(Arc<[Value]>),
    Void,
}

impl Value {
    /// Appends the text form, as DataRow carries it (without a length). Nothing for `Null`: the caller sends length -1.
    pub fn encode_text(&self, _kind: Type, _out: &mut BytesMut) {
        todo!()
    }
    /// Appends the binary form (without a length).
    pub fn encode_binary(&self, _kind: Type, _out: &mut BytesMut) {
        todo!()
    }
    /// Reads a parameter's text form; 22P02 and its like.
    pub fn decode_text(_kind: Type, _text: &str) -> Result<Value, PgError> {
        todo!()
    }
    /// Reads a parameter's binary form; 22P03.
    pub fn decode_binary(_kind: Type, _bytes: &[u8]) -> Result<Value, PgError> {
        todo!()
    }
}
