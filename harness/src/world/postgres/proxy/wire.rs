//! Cuts a byte stream into protocol messages without holding it up: the bytes are forwarded by others, as they come.
//!
//! A message that lies in one piece of the stream is looked at where it lies; one in several pieces is collected, up to what
//! the tap wants to know of it. <https://www.postgresql.org/docs/15/protocol-message-formats.html>

use std::collections::BTreeSet;

use parking_lot::Mutex;
use poolproof_sim::postgres::error::SqlState;

/// Of a message that is looked at whole (a query's text, an error), at most so many bytes are.
const WHOLE: usize = 1 << 20;

/// Of a row only the first column's first byte is of interest.
const ROW: usize = 16;

/// Cuts the typed messages of one direction.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// The beginning of a message whose end has not come.
    partial: Vec<u8>,
    /// Bytes to come of a message that was told already.
    skip: usize,
    broken: bool,
}

/// How much of a message's body the tap looks at.
fn wanted(kind: u8) -> usize {
    match kind {
        b'D' => ROW,
        // CopyData, in both directions.
        b'd' => 0,
        _ => WHOLE,
    }
}

impl Cutter {
    /// Calls `message` with the type and the body of each message that these bytes complete, in their order. A long body
    /// is cut short. A stream that is no protocol any more is not looked at again.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut message: impl FnMut(u8, &[u8])) {
        while !bytes.is_empty() && !self.broken {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            if self.partial.is_empty()
                && let Some((kind, length)) = header(bytes)
                && let Some(body) = length.and_then(|length| bytes.get(5..1 + length))
            {
                message(kind, body);
                bytes = &bytes[5 + body.len()..];
                continue;
            }
            let end = match header(&self.partial) {
                None => 5,
                Some((_, None)) => {
                    self.broken = true;
                    return;
                }
                Some((kind, Some(length))) => 5 + (length - 4).min(wanted(kind)),
            };
            let more = (end - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if let Some((kind, Some(length))) = header(&self.partial)
                && self.partial.len() == 5 + (length - 4).min(wanted(kind))
            {
                message(kind, &self.partial[5..]);
                self.skip = 1 + length - self.partial.len();
                self.partial.clear();
            }
        }
    }
}

/// Type and length (which counts itself); no length where there can be none.
fn header(bytes: &[u8]) -> Option<(u8, Option<usize>)> {
    let header: &[u8; 5] = bytes.first_chunk()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    Some((header[0], usize::try_from(length).ok().filter(|length| *length >= 4)))
}

/// A client's packet before the startup is over: it has no type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// SSLRequest or GSSENCRequest: answered by one byte.
    Encryption,
    /// CancelRequest: a connection of its own.
    Cancel,
    /// StartupMessage.
    Startup,
}

/// Takes the first packet off what was collected, if it is complete.
pub(super) fn first_packet(collected: &mut Vec<u8>) -> Option<First> {
    let header: &[u8; 8] = collected.first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes([header[0], header[1], header[2], header[3]])).ok()?;
    let code = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    if collected.len() < length {
        return None;
    }
    collected.drain(..length.max(8));
    Some(match code {
        80_877_103 | 80_877_104 => First::Encryption,
        80_877_102 => First::Cancel,
        _ => First::Startup,
    })
}

/// The zero-terminated string at the front, and what follows it. What is no UTF-8 is replaced.
pub(super) fn text(body: &[u8]) -> (String, &[u8]) {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    (String::from_utf8_lossy(&body[..end]).into_owned(), body.get(end + 1..).unwrap_or_default())
}

/// A big-endian number at the front.
pub(super) fn number(body: &[u8]) -> Option<i32> {
    body.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// Severity (`V`, else `S`) and SQLSTATE of an ErrorResponse or a NoticeResponse.
pub(super) fn report(mut body: &[u8]) -> (String, SqlState) {
    let (mut severity, mut plain, mut code) = (None, None, String::new());
    while let [field, rest @ ..] = body
        && *field != 0
    {
        let (value, after) = text(rest);
        match field {
            b'V' => severity = Some(value),
            b'S' => plain = Some(value),
            b'C' => code = value,
            _ => {}
        }
        body = after;
    }
    (severity.or(plain).unwrap_or_default(), sqlstate(&code))
}

/// The first byte of a DataRow's first column, if there is one and it is not null.
pub(super) fn first_column(body: &[u8]) -> Option<u8> {
    match body {
        [_, _, rest @ ..] if number(rest)? > 0 => rest.get(4).copied(),
        _ => None,
    }
}

/// A SQLSTATE with the lifetime that [`SqlState`] asks for. Each distinct one is kept once for ever; there are a few hundred.
pub(super) fn sqlstate(code: &str) -> SqlState {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    // Nothing but a SQLSTATE is kept.
    if code.len() != 5 || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return SqlState("XX000");
    }
    let mut known = KNOWN.lock();
    if let Some(known) = known.get(code) {
        return SqlState(known);
    }
    let kept: &'static str = Box::leak(code.to_owned().into_boxed_str());
    known.insert(kept);
    SqlState(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn the_pieces_do_not_matter() {
        let stream = [message(b'Q', b"SELECT 1\0"), message(b'S', b""), message(b'D', &[7; 100]), message(b'Z', b"I")];
        let stream = stream.concat();
        for piece in 1..=stream.len() {
            let mut cutter = Cutter::default();
            let mut seen = Vec::new();
            for bytes in stream.chunks(piece) {
                cutter.feed(bytes, |kind, body| seen.push((kind, body.len().min(ROW), body.first().copied())));
            }
            let expected = [(b'Q', 9, Some(b'S')), (b'S', 0, None), (b'D', ROW, Some(7)), (b'Z', 1, Some(b'I'))];
            assert_eq!(seen, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_protocol_is_left_alone() {
        let mut cutter = Cutter::default();
        cutter.feed(b"Q\0\0\0\x01xxxxxxxxx", |kind, _| panic!("message {kind}"));
        cutter.feed(&message(b'Z', b"I"), |kind, _| panic!("message {kind}"));
        assert!(cutter.broken);
    }

    #[test]
    fn reports_are_read() {
        let body = b"SFEHLER\0VFATAL\0C57P01\0Mterminating\0\0";
        assert_eq!(report(body), ("FATAL".to_owned(), SqlState("57P01")));
        assert_eq!(report(b"SERROR\0C00\0\0"), ("ERROR".to_owned(), SqlState("XX000")));
    }
}
