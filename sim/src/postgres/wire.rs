//! Protocol v3: bytes become pgwire's messages and back.
//! <https://www.postgresql.org/docs/15/protocol-message-formats.html>
//!
//! A message is first cut out of the stream and its shape is checked by PostgreSQL's rules, with PostgreSQL's errors
//! (`pqformat.c`, `SocketBackend`); only then does pgwire decode it, since its decoder trusts the counts in a message.
//! What a statement answers at each execution is written straight into the one output buffer; everything else is
//! encoded by pgwire. Left out: the error fields F, L and R (places in PostgreSQL's source), and encodings other than
//! UTF-8.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse};
use pgwire::messages::response::{ErrorResponse, NoticeResponse, NotificationResponse};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey};
use pgwire::messages::{DecodeContext, Message, PgWireBackendMessage, ProtocolVersion};

use super::error::{PgError, Severity, SqlState};
use super::event::Pid;
use super::sql::{Column, Notification, Type, Value};
use super::transaction::TransactionStatus;

/// `PQ_LARGE_MESSAGE_LIMIT`, bytes.
const LARGE_MESSAGE: usize = 0x3fff_ffff - 1;
/// `PQ_SMALL_MESSAGE_LIMIT`, bytes.
const SMALL_MESSAGE: usize = 10_000;
/// `MAX_STARTUP_PACKET_LENGTH`, bytes, without the length word.
const STARTUP_PACKET: usize = 10_000;

/// What a client sent once its session is up.
#[derive(Debug)]
pub(super) enum Frontend {
    Query(QueryText),
    Parse(Parse),
    Bind(Bind),
    Describe(Describe),
    Execute(Execute),
    Close(Close),
    Flush,
    Sync,
    Terminate,
    FunctionCall,
    /// CopyData, CopyDone or CopyFail outside COPY: the remains of a COPY that failed, to be ignored.
    Copy,
}

/// The text of a simple query.
#[derive(Debug)]
pub(super) struct QueryText(BytesMut);

impl QueryText {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was checked when it was decoded")
    }
}

/// One message cut out of the stream.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    body: BytesMut,
}

/// What is wrong with the stream itself; the session cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// FATAL 08P01: no message begins with this byte.
    UnknownMessage(u8),
    /// A length out of bounds: PostgreSQL logs it and closes without a word.
    Length,
}

impl Frame {
    /// Cuts the next message out of `input`; `None` when it has not arrived in full.
    pub(super) fn cut(input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        let Some(&kind) = input.first() else {
            return Ok(None);
        };
        let limit = match kind {
            b'Q' | b'P' | b'B' | b'F' | b'd' => LARGE_MESSAGE,
            b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' => SMALL_MESSAGE,
            _ => return Err(Broken::UnknownMessage(kind)),
        };
        Frame::cut_body(input, kind, limit)
    }

    /// As [`Frame::cut`], while the server waits for a password message. Any type byte is accepted; the caller looks.
    pub(super) fn cut_password(input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        match input.first() {
            None => Ok(None),
            Some(&kind) => Frame::cut_body(input, kind, u16::MAX as usize),
        }
    }

    fn cut_body(input: &mut BytesMut, kind: u8, limit: usize) -> Result<Option<Frame>, Broken> {
        let Some(header) = input.get(1..5) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).map_err(|_| Broken::Length)?;
        if length < 4 || length > limit {
            return Err(Broken::Length);
        }
        if input.len() < length + 1 {
            return Ok(None);
        }
        input.advance(5);
        Ok(Some(Frame { kind, body: input.split_to(length - 4) }))
    }

    /// The raw body of a password message.
    pub(super) fn into_body(self) -> BytesMut {
        self.body
    }

    /// Decodes the body. Errors: 08P01 for a wrong shape, 22021 for text that is not UTF-8.
    pub(super) fn decode(mut self) -> Result<Frontend, PgError> {
        self.check()?;
        if self.kind == b'Q' {
            // The hot one, without a copy.
            self.body.truncate(self.body.len() - 1);
            return Ok(Frontend::Query(QueryText(self.body)));
        }
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        let length = self.body.len() + 4;
        let body = &mut self.body;
        let decoded = match self.kind {
            b'P' => Parse::decode_body(body, length, &context).map(Frontend::Parse),
            b'B' => Bind::decode_body(body, length, &context).map(Frontend::Bind),
            b'D' => Describe::decode_body(body, length, &context).map(Frontend::Describe),
            b'E' => Execute::decode_body(body, length, &context).map(Frontend::Execute),
            b'C' => Close::decode_body(body, length, &context).map(Frontend::Close),
            b'H' => Ok(Frontend::Flush),
            b'S' => Ok(Frontend::Sync),
            b'X' => Ok(Frontend::Terminate),
            b'F' => Ok(Frontend::FunctionCall),
            _ => Ok(Frontend::Copy),
        };
        decoded.map_err(|_| violation("invalid message format"))
    }

    fn check(&self) -> Result<(), PgError> {
        let mut shape = Shape(&self.body);
        match self.kind {
            b'Q' => shape.string()?,
            b'P' => {
                shape.string()?;
                shape.string()?;
                let types = shape.count()?;
                shape.skip(types * 4)?;
            }
            b'B' => {
                shape.string()?;
                shape.string()?;
                let formats = shape.count()?;
                shape.skip(formats * 2)?;
                for _ in 0..shape.count()? {
                    match shape.int()? {
                        -1 => (),
                        length => shape.skip(usize::try_from(length).map_err(|_| too_short())?)?,
                    }
                }
                let formats = shape.count()?;
                shape.skip(formats * 2)?;
            }
            b'D' | b'C' => {
                shape.skip(1)?;
                shape.string()?;
            }
            b'E' => {
                shape.string()?;
                shape.int()?;
            }
            b'H' | b'S' => (),
            // Terminate is obeyed whatever it holds; a FunctionCall is refused, COPY's remains are ignored.
            _ => return Ok(()),
        }
        shape.end()
    }
}

/// Walks a message's body without decoding it (`pqformat.c`).
struct Shape<'a>(&'a [u8]);

impl Shape<'_> {
    fn string(&mut self) -> Result<(), PgError> {
        let Some(end) = self.0.iter().position(|byte| *byte == 0) else {
            return Err(violation("invalid string in message"));
        };
        let (text, rest) = self.0.split_at(end);
        if let Err(error) = std::str::from_utf8(text) {
            return Err(invalid_utf8(&text[error.valid_up_to()..]));
        }
        self.0 = &rest[1..];
        Ok(())
    }

    fn count(&mut self) -> Result<usize, PgError> {
        let bytes = self.take(2)?;
        Ok(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn int(&mut self) -> Result<i32, PgError> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn skip(&mut self, length: usize) -> Result<(), PgError> {
        self.take(length).map(drop)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], PgError> {
        if self.0.len() < length {
            return Err(too_short());
        }
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(head)
    }

    fn end(&self) -> Result<(), PgError> {
        if self.0.is_empty() { Ok(()) } else { Err(violation("invalid message format")) }
    }
}

fn violation(message: &'static str) -> PgError {
    PgError::error(SqlState::PROTOCOL_VIOLATION, message)
}

fn too_short() -> PgError {
    violation("insufficient data left in message")
}

/// `report_invalid_encoding`: the bytes that the first one announces, as far as they are there.
pub(super) fn invalid_utf8(from: &[u8]) -> PgError {
    let announced = match from.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    let bytes: Vec<String> = from.iter().take(announced).map(|byte| format!("0x{byte:02x}")).collect();
    PgError::error(SqlState("22021"), format!("invalid byte sequence for encoding \"UTF8\": {}", bytes.join(" ")))
}

// ---- The first packet ----

/// What a client may send before it has a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// SSLRequest: answered with `N`.
    Ssl,
    /// GSSENCRequest: answered with `N`.
    Gss,
    /// CancelRequest.
    Cancel { pid: Pid, secret: i32 },
    /// StartupMessage: version and the raw parameters.
    Startup { major: u16, minor: u16, parameters: Bytes },
}

/// The packet has an impossible length, or ends too early: closed without a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPacket;

/// Cuts the first packet out of `input` (`ProcessStartupPacket`). pgwire's own decoder refuses some packets that
/// PostgreSQL answers with an error, so this is ours.
pub(super) fn cut_first(input: &mut BytesMut) -> Result<Option<First>, BadPacket> {
    let Some(header) = input.get(..4) else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let length = usize::try_from(length).map_err(|_| BadPacket)?;
    if !(8..=STARTUP_PACKET + 4).contains(&length) {
        return Err(BadPacket);
    }
    if input.len() < length {
        return Ok(None);
    }
    let mut packet = input.split_to(length);
    packet.advance(4);
    let major = packet.get_u16();
    let minor = packet.get_u16();
    match (major, minor) {
        (1234, 5678) if packet.len() == 8 => {
            Ok(Some(First::Cancel { pid: packet.get_i32(), secret: packet.get_i32() }))
        }
        (1234, 5678) => Err(BadPacket),
        (1234, 5679) => Ok(Some(First::Ssl)),
        (1234, 5680) => Ok(Some(First::Gss)),
        _ => Ok(Some(First::Startup { major, minor, parameters: packet.freeze() })),
    }
}

/// The name-value pairs of a StartupMessage, in order. Error: FATAL 08P01.
pub(super) fn startup_parameters(mut raw: &[u8]) -> Result<Vec<(String, String)>, PgError> {
    let layout = || {
        PgError::fatal(SqlState::PROTOCOL_VIOLATION, "invalid startup packet layout: expected terminator as last byte")
    };
    let mut string = || -> Option<String> {
        let end = raw.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&raw[..end]).into_owned();
        raw = &raw[end + 1..];
        Some(text)
    };
    let mut parameters = Vec::new();
    loop {
        match string() {
            None => return Err(layout()),
            Some(name) if name.is_empty() => break,
            Some(name) => match string() {
                None => return Err(layout()),
                Some(value) => parameters.push((name, value)),
            },
        }
    }
    if raw.is_empty() { Ok(parameters) } else { Err(layout()) }
}

// ---- What the server says ----

fn encode(out: &mut BytesMut, message: &PgWireBackendMessage) {
    message.encode(out).expect("messages that the server makes are within pgwire's limits");
}

/// AuthenticationOk.
pub(super) fn authentication_ok(out: &mut BytesMut) {
    authentication(out, Authentication::Ok);
}

/// Any Authentication message.
pub(super) fn authentication(out: &mut BytesMut, message: Authentication) {
    encode(out, &PgWireBackendMessage::Authentication(message));
}

/// NegotiateProtocolVersion. Like PostgreSQL 15, the whole version number is sent, not the minor one alone.
pub(super) fn negotiate(out: &mut BytesMut, unsupported: Vec<String>) {
    encode(out, &PgWireBackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion::new(3 << 16, unsupported)));
}

/// ParameterStatus.
pub(super) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    encode(out, &PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.to_owned(), value.to_owned())));
}

/// BackendKeyData.
pub(super) fn backend_key(out: &mut BytesMut, pid: Pid, secret: i32) {
    encode(out, &PgWireBackendMessage::BackendKeyData(BackendKeyData::new(pid, SecretKey::I32(secret))));
}

/// NotificationResponse.
pub(super) fn notification(out: &mut BytesMut, notification: Notification) {
    encode(
        out,
        &PgWireBackendMessage::NotificationResponse(NotificationResponse::new(
            notification.from,
            notification.channel,
            notification.payload,
        )),
    );
}

/// ErrorResponse for an ERROR or worse, NoticeResponse for the rest.
pub(super) fn report(out: &mut BytesMut, error: &PgError) {
    let mut fields = vec![
        (b'S', error.severity.as_str().to_owned()),
        (b'V', error.severity.as_str().to_owned()),
        (b'C', error.code.0.to_owned()),
        (b'M', error.message.clone().into_owned()),
    ];
    let mut optional = |kind: u8, value: Option<String>| {
        if let Some(value) = value {
            fields.push((kind, value));
        }
    };
    optional(b'D', error.detail.clone());
    optional(b'H', error.hint.clone());
    optional(b'P', error.position.map(|position| position.to_string()));
    optional(b'W', error.context.clone());
    if let Some(object) = &error.object {
        optional(b's', Some(object.schema.clone()));
        optional(b't', Some(object.table.clone()));
        optional(b'c', object.column.clone());
        optional(b'n', object.constraint.clone());
    }
    if matches!(error.severity, Severity::Notice | Severity::Warning) {
        encode(out, &PgWireBackendMessage::NoticeResponse(NoticeResponse::new(fields)));
    } else {
        encode(out, &PgWireBackendMessage::ErrorResponse(ErrorResponse::new(fields)));
    }
}

/// An error as protocols 1 and 2 had it: severity and text, no length (`send_message_to_frontend`).
pub(super) fn report_version_2(out: &mut BytesMut, error: &PgError) {
    out.extend_from_slice(format!("E{}:  {}\n\0", error.severity.as_str(), error.message).as_bytes());
}

/// Writes a message's type byte and length around what `body` writes.
fn message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let start = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - start).expect("a message is shorter than 2 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The messages that have no body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bare {
    ParseComplete = b'1' as isize,
    BindComplete = b'2' as isize,
    CloseComplete = b'3' as isize,
    NoData = b'n' as isize,
    EmptyQueryResponse = b'I' as isize,
    PortalSuspended = b's' as isize,
}

/// A message without a body.
pub(super) fn bare(out: &mut BytesMut, kind: Bare) {
    out.put_slice(&[kind as u8, 0, 0, 0, 4]);
}

/// ReadyForQuery.
pub(super) fn ready(out: &mut BytesMut, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::InTransaction => b'T',
        TransactionStatus::Failed => b'E',
    };
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// CommandComplete.
pub(super) fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| {
        out.put_slice(tag.as_bytes());
        out.put_u8(0);
    });
}

/// ParameterDescription.
pub(super) fn parameter_description(out: &mut BytesMut, types: &[Type]) {
    message(out, b't', |out| {
        out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        for kind in types {
            out.put_u32(kind.oid());
        }
    });
}

/// Which form each column of a result takes (Bind's result format codes).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Formats {
    /// Text, all of them.
    #[default]
    Text,
    /// Binary, all of them.
    Binary,
    /// One code a column.
    Each(Box<[bool]>),
}

impl Formats {
    /// Whether column `index` is binary.
    pub(super) fn binary(&self, index: usize) -> bool {
        match self {
            Formats::Text => false,
            Formats::Binary => true,
            Formats::Each(codes) => codes.get(index).copied().unwrap_or(false),
        }
    }
}

/// RowDescription.
pub(super) fn row_description(out: &mut BytesMut, columns: &[Column], formats: &Formats) {
    message(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (index, column) in columns.iter().enumerate() {
            out.put_slice(column.name.as_bytes());
            out.put_u8(0);
            let (table, number) = column.origin.unwrap_or((0, 0));
            out.put_u32(table);
            out.put_i16(number);
            out.put_u32(column.kind.oid());
            out.put_i16(column.kind.size());
            out.put_i32(column.modifier);
            out.put_u16(u16::from(formats.binary(index)));
        }
    });
}

/// DataRow.
pub(super) fn data_row(out: &mut BytesMut, columns: &[Column], row: &[Value], formats: &Formats) {
    message(out, b'D', |out| {
        out.put_u16(u16::try_from(row.len()).unwrap_or(u16::MAX));
        for (index, (column, value)) in columns.iter().zip(row).enumerate() {
            if matches!(value, Value::Null) {
                out.put_i32(-1);
                continue;
            }
            let start = out.len();
            out.put_i32(0);
            if formats.binary(index) {
                value.encode_binary(column.kind, out);
            } else {
                value.encode_text(column.kind, out);
            }
            let length = i32::try_from(out.len() - start - 4).expect("a value is shorter than 2 GiB");
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    });
}
