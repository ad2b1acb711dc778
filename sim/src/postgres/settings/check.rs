//! What strings a setting accepts, and how it spells them afterwards (the check hooks of guc.c and variable.c).

use std::sync::LazyLock;

use super::catalogue::Variable;
use super::value::{Value, invalid};
use crate::postgres::error::PgError;

/// Zone names as in `pg_timezone_names`.
static TIME_ZONES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("timezones.txt").lines().collect());

/// Client encodings besides UTF8 and SQL_ASCII, spelled without punctuation; the simulated server converts to none.
const OTHER_ENCODINGS: &[&str] = &[
    "euc_jp",
    "euc_cn",
    "euc_kr",
    "euc_tw",
    "euc_jis_2004",
    "mule_internal",
    "latin1",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "latin10",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win866",
    "win874",
    "koi8r",
    "koi8u",
    "iso_8859_1",
    "iso_8859_2",
    "iso_8859_5",
    "iso_8859_6",
    "iso_8859_7",
    "iso_8859_8",
    "iso_8859_9",
    "iso_8859_15",
    "sjis",
    "big5",
    "gbk",
    "uhc",
    "gb18030",
    "johab",
    "shift_jis_2004",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
    "alt",
    "win",
    "tcvn",
    "abc",
    "vscii",
];

/// Text search configurations of a fresh database.
const TEXT_SEARCH: &[&str] = &[
    "simple",
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hindi",
    "hungarian",
    "indonesian",
    "irish",
    "italian",
    "lithuanian",
    "nepali",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "serbian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
    "yiddish",
];

/// Checks `text` as a value of a string setting and returns it as it will be shown.
pub(super) fn text(
    variable: &Variable,
    text: &str,
    current: Option<&Value>,
    version: u32,
) -> Result<String, PgError> {
    let no = || invalid(variable.name, text, None);
    match variable.name {
        "TimeZone" | "log_timezone" => time_zone(text).ok_or_else(|| match text.parse::<f64>() {
            Ok(_) => no().detail("UTC timezone offset is out of range."),
            Err(_) => no(),
        }),
        "DateStyle" => {
            date_style(text, current, variable.default).map_err(|detail| no().detail(detail))
        }
        "client_encoding" => {
            let clean = |text: &str| -> String {
                let letters = text.chars().filter(char::is_ascii_alphanumeric);
                letters.map(|c| c.to_ascii_lowercase()).collect()
            };
            match clean(text).as_str() {
                // The one name that is kept, for the sake of old JDBC drivers.
                _ if text == "UNICODE" => Ok(text.to_owned()),
                "utf8" | "unicode" => Ok("UTF8".to_owned()),
                "sqlascii" => Ok("SQL_ASCII".to_owned()),
                known if OTHER_ENCODINGS.iter().any(|name| clean(name) == known) => {
                    Err(PgError::unsupported(format_args!("client_encoding {text}")))
                }
                _ => Err(no()),
            }
        }
        "application_name" | "cluster_name" => Ok(clean_ascii(text, version)),
        "lc_messages" | "lc_monetary" | "lc_numeric" | "lc_time" => match text {
            "" | "C" | "POSIX" | "C.UTF-8" | "C.utf8" | "en_US.UTF-8" | "en_US.utf8" => {
                Ok(text.to_owned())
            }
            _ => Err(no()),
        },
        "default_tablespace" => match text {
            "" | "pg_default" | "pg_global" => Ok(text.to_owned()),
            _ => Err(no().detail(format!("Tablespace \"{text}\" does not exist."))),
        },
        "default_table_access_method" => match text {
            "heap" => Ok(text.to_owned()),
            _ => Err(no().detail(format!("Table access method \"{text}\" does not exist."))),
        },
        "default_text_search_config" => {
            let bare = text.strip_prefix("pg_catalog.").unwrap_or(text);
            match TEXT_SEARCH.contains(&bare) {
                true => Ok(format!("pg_catalog.{bare}")),
                false => Err(no()),
            }
        }
        _ => Ok(text.to_owned()),
    }
}

/// Everything but printable ASCII is replaced, byte by byte: by `?`, since version 16 by `\x` and two digits.
fn clean_ascii(text: &str, version: u32) -> String {
    let mut clean = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' => clean.push(char::from(byte)),
            _ if version >= 16 => clean.push_str(&format!("\\x{byte:02x}")),
            _ => clean.push('?'),
        }
    }
    clean
}

/// `check_timezone`: a zone's name in its own spelling, a number of hours, or a POSIX zone.
fn time_zone(text: &str) -> Option<String> {
    if let Some(name) = TIME_ZONES
        .iter()
        .find(|name| name.eq_ignore_ascii_case(text))
    {
        return Some((*name).to_owned());
    }
    if let Ok(hours) = text.parse::<f64>()
        && text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
    {
        return offset_zone((hours * 3600.0) as i64);
    }
    if let Some(interval) = text.get(..8)
        && interval.eq_ignore_ascii_case("interval")
    {
        return interval_zone(text[8..].trim());
    }
    posix_zone(text).then(|| text.to_ascii_uppercase())
}

/// Whether it is a POSIX zone: a name, which may be empty, an offset, and perhaps the name and offset of summer time.
fn posix_zone(text: &str) -> bool {
    let after_name =
        |text: &str| text.find(|c: char| c.is_ascii_digit() || matches!(c, ',' | '-' | '+'));
    let Some(offset) = after_name(text) else {
        return false;
    };
    let Some(rest) = after_offset(&text[offset..]) else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    match after_name(rest) {
        Some(0) => false,
        Some(offset) => after_offset(&rest[offset..]) == Some(""),
        None => true,
    }
}

/// What follows `+hh:mm:ss` (sign, minutes and seconds may be missing), or nothing if it is no offset.
fn after_offset(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    for (part, max) in [(0, 167), (1, 59), (2, 60)] {
        if part > 0 {
            match rest.strip_prefix(':') {
                Some(after) => rest = after,
                None => break,
            }
        }
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let number: u32 = rest[..end].parse().ok()?;
        if number > max {
            return None;
        }
        rest = &rest[end..];
    }
    Some(rest)
}

/// `INTERVAL '+02:30' HOUR TO MINUTE`, as the parser hands it over: `interval '…'`.
fn interval_zone(text: &str) -> Option<String> {
    let text = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0;
    let mut parts = text.split(':');
    for unit in [3600, 60, 1] {
        if let Some(part) = parts.next() {
            seconds += part.parse::<i64>().ok()? * unit;
        }
    }
    if parts.next().is_some() {
        return None;
    }
    offset_zone(if negative { -seconds } else { seconds })
}

/// `pg_tzset_offset`: the zone "so many seconds east of Greenwich", such as `<+05:30>-05:30`.
fn offset_zone(seconds: i64) -> Option<String> {
    let absolute = seconds.unsigned_abs();
    if absolute > 167 * 3600 {
        return None;
    }
    let mut offset = format!("{:02}", absolute / 3600);
    if !absolute.is_multiple_of(3600) {
        offset.push_str(&format!(":{:02}", absolute % 3600 / 60));
        if !absolute.is_multiple_of(60) {
            offset.push_str(&format!(":{:02}", absolute % 60));
        }
    }
    let (east, posix) = if seconds < 0 { ('-', '+') } else { ('+', '-') };
    Some(format!("<{east}{offset}>{posix}{offset}"))
}

/// `check_datestyle`: a style, an order of day and month, or both; what is not named stays as it was.
fn date_style(text: &str, current: Option<&Value>, default: &str) -> Result<String, String> {
    let current = match current {
        Some(Value::Text(current)) => current.as_ref(),
        _ => default,
    };
    let (mut style, mut order) = current.split_once(", ").unwrap_or(("ISO", "MDY"));
    let (mut style_set, mut order_set, mut consistent) = (false, false, true);
    for word in text.split(',').map(str::trim) {
        let lower = word.to_ascii_lowercase();
        let mut set_style = |name| {
            consistent &= !style_set || style == name;
            style = name;
            style_set = true;
        };
        let named_order = match lower.as_str() {
            "iso" => {
                set_style("ISO");
                None
            }
            "sql" => {
                set_style("SQL");
                None
            }
            lower if lower.starts_with("postgres") => {
                set_style("Postgres");
                None
            }
            "german" => {
                set_style("German");
                // German means day first, unless an order is named.
                if !order_set {
                    order = "DMY";
                }
                None
            }
            "ymd" => Some("YMD"),
            "dmy" => Some("DMY"),
            lower if lower.starts_with("euro") => Some("DMY"),
            "mdy" | "us" => Some("MDY"),
            lower if lower.starts_with("noneuro") => Some("MDY"),
            "default" => {
                let (default_style, default_order) =
                    default.split_once(", ").unwrap_or(("ISO", "MDY"));
                if !style_set {
                    style = default_style;
                }
                if !order_set {
                    order = default_order;
                }
                None
            }
            _ => return Err(format!("Unrecognized key word: \"{lower}\".")),
        };
        if let Some(name) = named_order {
            consistent &= !order_set || order == name;
            order = name;
            order_set = true;
        }
    }
    match consistent {
        true => Ok(format!("{style}, {order}")),
        false => Err("Conflicting \"datestyle\" specifications.".to_owned()),
    }
}
