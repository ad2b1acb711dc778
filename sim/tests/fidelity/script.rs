//! The language of situations: one step a line, each a client's or the server's.
//!
//! | step | meaning |
//! | --- | --- |
//! | `a: connect [user=app] [database=app] [NAME=VALUE…] [password=P]` | dials and starts a session (protocol 3.0) |
//! | `a: dial` | the TCP connection alone |
//! | `a: ACTION, ACTION…` | all of their bytes in one write |
//! | `a: vanish` / `a: RST` / `a: shutdown` | closes its socket / with a RST / its sending direction only |
//! | `a: stop reading` / `a: go on reading` | leaves in the socket what arrives |
//! | `cancel a [with a wrong key]` | a CancelRequest for `a` on a connection of its own |
//! | `await a b…` | until each has its answer or its end; what arrives is told in the order of arrival |
//! | `sleep 300ms` | lets time pass |
//! | `server: stop MODE`, `start`, `restart MODE` | MODE is smart, fast or immediate; `stop smart` does not wait for the end |
//! | `server: wait running` / `wait down` | until it takes sessions / is gone |
//! | `server: kill -9 backend of a` / `kill -9` | SIGKILL for one backend / for the postmaster and all its processes |
//! | `server: reload NAME VALUE` / `promote` | a changed setting, reread / `pg_promote` |
//!
//! Actions: `Startup 3.0 [NAME=VALUE…]`, `SSLRequest`, `GSSENCRequest`, `CancelRequest a`, `Password TEXT`, `Q SQL`,
//! `Parse NAME SQL [OID…]`, `Bind PORTAL STATEMENT [VALUE…] [formats=0,1] [results=0,1]`, `Describe S|P NAME`,
//! `Execute PORTAL [ROWS]`, `Close S|P NAME`, `Flush`, `Sync`, `Terminate`, `CopyData TEXT`, `CopyDone`, `CopyFail TEXT`,
//! `FunctionCall OID`, `message T BYTES`, `raw BYTES`.
//!
//! A word with blanks or commas stands in double quotes, in which `\"`, `\\`, `\n`, `\0` and `\xHH` are what they look like.
//! `{pid a}` in a word is the process id of a's backend. A VALUE of Bind is a text, `null`, or `hex:0000002a`.

use std::time::Duration;

/// One line of a script.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// As it was written.
    pub(crate) line: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Connect { client: String, options: Vec<(String, String)> },
    Dial(String),
    Send { client: String, actions: Vec<Vec<String>> },
    Vanish(String),
    Reset(String),
    Shutdown(String),
    StopReading(String),
    GoOnReading(String),
    Cancel { of: String, wrong_key: bool },
    Await(Vec<String>),
    Sleep(Duration),
    Server(ServerStep),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerStep {
    Stop(Mode),
    Start,
    Restart(Mode),
    WaitRunning,
    WaitDown,
    KillBackend(String),
    Kill,
    Reload(String, String),
    Promote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Smart,
    Fast,
    Immediate,
}

/// The steps of a script. Error: the line that can't be read, and why.
pub(crate) fn parse(script: &str) -> Result<Vec<Step>, String> {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match step(line) {
            Ok(kind) => Ok(Step { line: line.to_owned(), kind }),
            Err(why) => Err(format!("{line}: {why}")),
        })
        .collect()
}

fn step(line: &str) -> Result<Kind, String> {
    let actions = actions(line)?;
    let words: Vec<&str> = actions[0].iter().map(String::as_str).collect();
    let owned = |word: &str| word.to_owned();
    if let Some(client) = words[0].strip_suffix(':') {
        if client == "server" {
            return server(&words[1..]).map(Kind::Server);
        }
        return Ok(match &words[1..] {
            ["connect", options @ ..] => Kind::Connect { client: owned(client), options: pairs(options)? },
            ["dial"] => Kind::Dial(owned(client)),
            ["vanish"] => Kind::Vanish(owned(client)),
            ["RST"] => Kind::Reset(owned(client)),
            ["shutdown"] => Kind::Shutdown(owned(client)),
            ["stop", "reading"] => Kind::StopReading(owned(client)),
            ["go", "on", "reading"] => Kind::GoOnReading(owned(client)),
            [] => return Err("a client's step says what it does".to_owned()),
            _ => {
                let mut actions = actions.clone();
                actions[0].remove(0);
                Kind::Send { client: owned(client), actions }
            }
        });
    }
    match words.as_slice() {
        ["cancel", of] => Ok(Kind::Cancel { of: owned(of), wrong_key: false }),
        ["cancel", of, "with", "a", "wrong", "key"] => Ok(Kind::Cancel { of: owned(of), wrong_key: true }),
        ["await", names @ ..] if !names.is_empty() => Ok(Kind::Await(names.iter().map(|name| owned(name)).collect())),
        ["sleep", time] => milliseconds(time).map(Kind::Sleep),
        _ => Err("neither `CLIENT: …` nor `server: …`, `cancel`, `await` or `sleep`".to_owned()),
    }
}

fn server(words: &[&str]) -> Result<ServerStep, String> {
    Ok(match words {
        ["stop", how] => ServerStep::Stop(mode(how)?),
        ["start"] => ServerStep::Start,
        ["restart", how] => ServerStep::Restart(mode(how)?),
        ["wait", "running"] => ServerStep::WaitRunning,
        ["wait", "down"] => ServerStep::WaitDown,
        ["kill", "-9", "backend", "of", client] => ServerStep::KillBackend((*client).to_owned()),
        ["kill", "-9"] => ServerStep::Kill,
        ["reload", name, value] => ServerStep::Reload((*name).to_owned(), (*value).to_owned()),
        ["promote"] => ServerStep::Promote,
        _ => return Err("not something that is done to a server".to_owned()),
    })
}

fn mode(word: &str) -> Result<Mode, String> {
    match word {
        "smart" => Ok(Mode::Smart),
        "fast" => Ok(Mode::Fast),
        "immediate" => Ok(Mode::Immediate),
        other => Err(format!("{other} is neither smart, fast nor immediate")),
    }
}

fn milliseconds(word: &str) -> Result<Duration, String> {
    let number = word.strip_suffix("ms").ok_or("a time is given in ms")?;
    number.parse().map(Duration::from_millis).map_err(|error| format!("{number}: {error}"))
}

/// `NAME=VALUE` words.
pub(crate) fn pairs(words: &[impl AsRef<str>]) -> Result<Vec<(String, String)>, String> {
    let pair = |word: &str| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("{word} is not NAME=VALUE")),
    };
    words.iter().map(|word| pair(word.as_ref())).collect()
}

/// Splits a line at commas into actions, and each at blanks into words.
fn actions(line: &str) -> Result<Vec<Vec<String>>, String> {
    let mut actions = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            // In a list of format codes it is part of the word.
            ',' if word.as_ref().is_none_or(|word| !word.starts_with("formats=") && !word.starts_with("results=")) => {
                actions.last_mut().expect("one at least").extend(word.take());
                actions.push(Vec::new());
            }
            c if c.is_whitespace() => actions.last_mut().expect("one at least").extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    actions.last_mut().expect("one at least").extend(word);
    match actions.iter().any(Vec::is_empty) {
        true => Err("an action is missing".to_owned()),
        false => Ok(actions),
    }
}

/// The rest of a quoted word. A byte `\xHH` is kept as the character of that number; [`bytes`] makes it a byte again.
fn quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next().ok_or("a quote is not closed")? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or("a quote is not closed")? {
                'n' => word.push('\n'),
                '0' => word.push('\0'),
                'x' => {
                    let digits: String = chars.by_ref().take(2).collect();
                    let byte = u8::from_str_radix(&digits, 16).map_err(|error| format!("\\x{digits}: {error}"))?;
                    word.push(char::from(byte));
                }
                other => word.push(other),
            },
            other => word.push(other),
        }
    }
}

/// The bytes of a word that was written with `\xHH`.
pub(crate) fn bytes(word: &str) -> Result<Vec<u8>, String> {
    word.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| format!("{c} is no byte"))).collect()
}
