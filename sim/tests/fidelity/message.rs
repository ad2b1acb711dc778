//! Protocol 3 on bytes: what a client's actions send, and what the server's messages say, in words.
//! <https://www.postgresql.org/docs/15/protocol-message-formats.html>

use crate::names::Names;
use crate::observe::FIRST_NORMAL_OID;
use crate::script::{bytes, pairs};

fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], packet(body).as_slice()].concat()
}

/// A message without a type byte: the first packet of a connection.
fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a message is short");
    [&length.to_be_bytes(), body].concat()
}

fn codes(of: &str) -> Result<Vec<u8>, String> {
    let codes = of.split(',').filter(|code| !code.is_empty());
    let codes: Vec<i16> = codes.map(|code| code.parse().map_err(|_| format!("{code} is no format code"))).collect::<Result<_, _>>()?;
    Ok([vec![codes.len() as u16 as i16], codes].concat().iter().flat_map(|code| code.to_be_bytes()).collect())
}

/// What an action sends. `parameters` are a StartupMessage's own words.
pub(crate) fn encode(words: &[String]) -> Result<Vec<u8>, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<i32>().map_err(|_| format!("{word} is no number"));
    Ok(match words.as_slice() {
        ["Startup", version, parameters @ ..] => startup(version, &pairs(parameters)?)?,
        ["SSLRequest"] => packet(&80_877_103_i32.to_be_bytes()),
        ["GSSENCRequest"] => packet(&80_877_104_i32.to_be_bytes()),
        ["Password", text] => message(b'p', &string(text)),
        ["Q", sql] => message(b'Q', &string(sql)),
        ["Parse", name, sql, oids @ ..] => {
            let oids: Vec<i32> = oids.iter().map(|oid| number(oid)).collect::<Result<_, _>>()?;
            let count = (oids.len() as u16).to_be_bytes().to_vec();
            let oids = oids.iter().flat_map(|oid| oid.to_be_bytes()).collect();
            message(b'P', &[string(name), string(sql), count, oids].concat())
        }
        ["Bind", portal, statement, rest @ ..] => bind(portal, statement, rest)?,
        ["Describe", kind @ ("S" | "P" | "X"), name] => message(b'D', &[kind.as_bytes(), &string(name)].concat()),
        ["Close", kind @ ("S" | "P" | "X"), name] => message(b'C', &[kind.as_bytes(), &string(name)].concat()),
        ["Execute", portal] => message(b'E', &[string(portal), vec![0; 4]].concat()),
        ["Execute", portal, rows] => message(b'E', &[string(portal), number(rows)?.to_be_bytes().to_vec()].concat()),
        ["Flush"] => message(b'H', b""),
        ["Sync"] => message(b'S', b""),
        ["Terminate"] => message(b'X', b""),
        ["CopyData", text] => message(b'd', text.as_bytes()),
        ["CopyDone"] => message(b'c', b""),
        ["CopyFail", text] => message(b'f', &string(text)),
        // No argument formats, no arguments, a result in text.
        ["FunctionCall", oid] => message(b'F', &[number(oid)?.to_be_bytes().as_slice(), &[0; 6]].concat()),
        ["message", kind, body] if kind.len() == 1 => message(kind.as_bytes()[0], &bytes(body)?),
        ["raw", text] => bytes(text)?,
        other => return Err(format!("{} is no action", other.join(" "))),
    })
}

pub(crate) fn startup(version: &str, parameters: &[(String, String)]) -> Result<Vec<u8>, String> {
    let numbers: Vec<u16> = version.split('.').filter_map(|number| number.parse().ok()).collect();
    let [major, minor] = numbers[..] else {
        return Err(format!("{version} is no protocol version"));
    };
    let mut body = [major.to_be_bytes(), minor.to_be_bytes()].concat();
    for (name, value) in parameters {
        body.extend([string(name), string(value)].concat());
    }
    body.push(0);
    Ok(packet(&body))
}

pub(crate) fn cancel_request(pid: i32, key: i32) -> Vec<u8> {
    packet(&[80_877_102_i32, pid, key].map(i32::to_be_bytes).concat())
}

fn bind(portal: &str, statement: &str, rest: &[&str]) -> Result<Vec<u8>, String> {
    let (mut formats, mut results, mut values) = ("", "", Vec::new());
    for word in rest {
        if let Some(given) = word.strip_prefix("formats=") {
            formats = given;
        } else if let Some(given) = word.strip_prefix("results=") {
            results = given;
        } else {
            values.push(*word);
        }
    }
    let mut body = [string(portal), string(statement), codes(formats)?].concat();
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        let value = match value.strip_prefix("hex:") {
            None if value == "null" => {
                body.extend((-1_i32).to_be_bytes());
                continue;
            }
            None => value.as_bytes().to_vec(),
            Some(hex) => (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).map_err(|error| format!("{hex}: {error}")))
                .collect::<Result<_, _>>()?,
        };
        body.extend((value.len() as i32).to_be_bytes());
        body.extend(value);
    }
    body.extend(codes(results)?);
    Ok(message(b'B', &body))
}

/// A message of the server.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

/// Cuts the next message off `input`, if all of it is there.
pub(crate) fn cut(input: &mut Vec<u8>) -> Option<Reply> {
    let length = u32::from_be_bytes(input.get(1..5)?.try_into().expect("four")) as usize;
    if input.len() <= length {
        return None;
    }
    let rest = input.split_off(length + 1);
    let whole = std::mem::replace(input, rest);
    Some(Reply { kind: whole[0], body: whole[5..].to_vec() })
}

/// Reads a body from the front. What is missing reads as 0 or nothing: the comparison will show it.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> &[u8] {
        let (head, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        head
    }
    fn number(&mut self, bytes: usize) -> i64 {
        let raw = self.take(bytes);
        let negative = raw.first().is_some_and(|byte| byte & 0x80 != 0);
        raw.iter().fold(if negative { -1 } else { 0 }, |number, byte| (number << 8) | i64::from(*byte))
    }
    fn string(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let text = String::from_utf8_lossy(self.take(end)).into_owned();
        self.take(1);
        text
    }
}

impl Reply {
    /// BackendKeyData: process id and key.
    pub(crate) fn key(&self) -> Option<(i32, i32)> {
        let mut reader = Reader(&self.body);
        (self.kind == b'K').then(|| (reader.number(4) as i32, reader.number(4) as i32))
    }

    /// The values of a DataRow.
    pub(crate) fn row(&self) -> Vec<Option<String>> {
        let mut reader = Reader(&self.body);
        let columns = reader.number(2);
        let value = |_| {
            let length = usize::try_from(reader.number(4)).ok()?;
            let raw = reader.take(length);
            Some(match std::str::from_utf8(raw) {
                Ok(text) if !text.contains(|c: char| c.is_control() && c != '\n') => text.replace('\n', "\\n"),
                _ => format!("hex:{}", raw.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            })
        };
        (0..columns).map(value).collect()
    }

    /// The message in words, on one line.
    pub(crate) fn words(&self, names: &Names) -> String {
        let mut reader = Reader(&self.body);
        match self.kind {
            b'R' => authentication(&mut reader),
            b'S' => format!("ParameterStatus {} = {}", reader.string(), names.value(&reader.string())),
            b'K' => "BackendKeyData".to_owned(),
            b'Z' => format!("ReadyForQuery {}", char::from(reader.take(1).first().copied().unwrap_or(b'?'))),
            b'T' => row_description(&mut reader, names),
            b't' => {
                let types = (0..reader.number(2)).map(|_| type_name(reader.number(4))).collect::<Vec<_>>();
                format!("ParameterDescription {}", types.join(", ")).trim_end().to_owned()
            }
            b'D' => {
                let values = self.row().into_iter().map(|value| value.map_or("NULL".to_owned(), |text| names.value(&text)));
                format!("DataRow {}", values.collect::<Vec<_>>().join(" | ")).trim_end().to_owned()
            }
            b'C' => format!("CommandComplete {}", reader.string()),
            b'E' => report("ErrorResponse", &mut reader, names),
            b'N' => report("NoticeResponse", &mut reader, names),
            b'A' => {
                let from = names.client(reader.number(4)).unwrap_or("somebody").to_owned();
                format!("NotificationResponse from {from}: {} {:?}", reader.string(), reader.string())
            }
            b'v' => {
                let version = reader.number(4);
                let options: Vec<String> = (0..reader.number(4)).map(|_| reader.string()).collect();
                format!("NegotiateProtocolVersion {}.{} [{}]", version >> 16, version & 0xffff, options.join(", "))
            }
            b'G' | b'H' => {
                let way = if self.kind == b'G' { "CopyInResponse" } else { "CopyOutResponse" };
                let (format, columns) = (reader.number(1), reader.number(2));
                format!("{way} format {format}, {columns} columns")
            }
            b'd' => format!("CopyData {:?}", String::from_utf8_lossy(&self.body)),
            b'V' => match reader.number(4) {
                -1 => "FunctionCallResponse NULL".to_owned(),
                _ => format!("FunctionCallResponse {}", String::from_utf8_lossy(reader.0)),
            },
            other => {
                let name = match other {
                    b'1' => "ParseComplete",
                    b'2' => "BindComplete",
                    b'3' => "CloseComplete",
                    b'n' => "NoData",
                    b'I' => "EmptyQueryResponse",
                    b's' => "PortalSuspended",
                    b'c' => "CopyDone",
                    _ => return format!("an unknown message {:?} {:?}", char::from(other), self.body),
                };
                name.to_owned()
            }
        }
    }
}

fn authentication(reader: &mut Reader<'_>) -> String {
    match reader.number(4) {
        0 => "AuthenticationOk".to_owned(),
        10 => {
            let mechanisms = std::iter::from_fn(|| Some(reader.string()).filter(|name| !name.is_empty()));
            format!("AuthenticationSASL {}", mechanisms.collect::<Vec<_>>().join(" "))
        }
        11 => "AuthenticationSASLContinue".to_owned(),
        12 => "AuthenticationSASLFinal".to_owned(),
        other => format!("Authentication {other}"),
    }
}

/// `name type(modifier) of table.number binary`; what has its usual value is left out.
fn row_description(reader: &mut Reader<'_>, names: &Names) -> String {
    let columns = reader.number(2);
    let column = |_| {
        let mut words = reader.string();
        let (table, number) = (reader.number(4), reader.number(2));
        words += &format!(" {}", type_name(reader.number(4)));
        let _size = reader.number(2);
        let modifier = reader.number(4);
        if modifier != -1 {
            words += &format!("({modifier})");
        }
        // The catalogues' columns have numbers of their own.
        if table >= FIRST_NORMAL_OID {
            words += &format!(" of {}.{number}", names.relation(table));
        }
        if reader.number(2) != 0 {
            words += " binary";
        }
        words
    };
    format!("RowDescription {}", (0..columns).map(column).collect::<Vec<_>>().join(", ")).trim_end().to_owned()
}

/// All fields but those that name a place in the server's source (F, L and R).
fn report(what: &str, reader: &mut Reader<'_>, names: &Names) -> String {
    let mut fields = Vec::new();
    while let Some(code) = reader.take(1).first().copied().filter(|code| *code != 0) {
        fields.push((char::from(code), names.text(&reader.string()).replace('\n', "\\n")));
    }
    let get = |code: char| fields.iter().find(|(c, _)| *c == code).map_or("", |(_, value)| value.as_str());
    let mut words = format!("{what} {} {} {}", get('S'), get('C'), get('M'));
    if get('V') != get('S') {
        words += &format!(" | V: {}", get('V'));
    }
    for (code, value) in fields.iter().filter(|(code, _)| !"SVCMFLR".contains(*code)) {
        let name = match code {
            'D' => "detail",
            'H' => "hint",
            'P' => "position",
            'p' => "internal position",
            'q' => "internal query",
            'W' => "where",
            's' => "schema",
            't' => "table",
            'c' => "column",
            'd' => "data type",
            'n' => "constraint",
            _ => "?",
        };
        words += &format!(" | {name}: {value}");
    }
    words
}

/// `pg_type.typname` of the types that situations use.
fn type_name(oid: i64) -> String {
    let name = match oid {
        16 => "bool",
        17 => "bytea",
        18 => "char",
        19 => "name",
        20 => "int8",
        21 => "int2",
        22 => "int2vector",
        23 => "int4",
        25 => "text",
        26 => "oid",
        28 => "xid",
        114 => "json",
        700 => "float4",
        701 => "float8",
        705 => "unknown",
        869 => "inet",
        1000 => "bool[]",
        1005 => "int2[]",
        1007 => "int4[]",
        1009 => "text[]",
        1016 => "int8[]",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1700 => "numeric",
        2205 => "regclass",
        2278 => "void",
        2950 => "uuid",
        3802 => "jsonb",
        0 => "0",
        other => return format!("type {other}"),
    };
    name.to_owned()
}
