//! The language of steps: `acquire within 2s`, `hold 5ms..20ms`, `cancel at poll 2: sql SELECT 1`.
//!
//! A step is one line of text, read word by word; a repetition is a table (`{ repeat = 3, steps = [...] }`). A mistake
//! points at the word that is wrong, not at the step.

use std::ops::Range;
use std::time::Duration;

use super::model::{Action, Cancel, Step};
use super::reader::{nearest, one_of};
use super::step_kinds::VERBS;
use super::units;

/// What is wrong in a text of this language, with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
}

impl Wrong {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Wrong { span, message: message.into(), label: label.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads a text word by word.
struct Words<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Words<'t> {
    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The next word and its place; at the end an empty one.
    fn next(&mut self) -> (&'t str, Range<usize>) {
        self.skip_space();
        let start = self.at;
        let rest = &self.text[start..];
        self.at += rest.find(char::is_whitespace).unwrap_or(rest.len());
        (&self.text[start..self.at], start..self.at)
    }

    fn peek(&self) -> &'t str {
        Words { ..*self }.next().0
    }

    /// All that is left, without the space around it.
    fn rest(&mut self) -> (&'t str, Range<usize>) {
        self.skip_space();
        let start = self.at;
        let rest = self.text[start..].trim_end();
        self.at = self.text.len();
        (rest, start..start + rest.len())
    }

    fn end(&mut self, after: &str) -> Result<(), Wrong> {
        let (rest, span) = self.rest();
        if rest.is_empty() {
            return Ok(());
        }
        Err(Wrong::new(span, format!("`{rest}` is too much after `{after}`"), "nothing is expected here"))
    }

    /// A given word.
    fn literal(&mut self, word: &str, form: &str) -> Result<(), Wrong> {
        let (found, span) = self.next();
        if found == word {
            return Ok(());
        }
        let message = if found.is_empty() {
            format!("`{word}` is missing")
        } else {
            format!("`{word}` was expected, not `{found}`")
        };
        Err(Wrong::new(span, message, format!("expected `{word}`")).help(format!("it is written `{form}`")))
    }

    fn duration(&mut self, form: &str) -> Result<Duration, Wrong> {
        let (text, span) = self.next();
        duration(text, span, form)
    }

    fn positive(&mut self, form: &str) -> Result<Duration, Wrong> {
        let (text, span) = self.next();
        let value = duration(text, span.clone(), form)?;
        if value.is_zero() {
            return Err(Wrong::new(span, "the time must be more than zero", "at least `1ms`"));
        }
        Ok(value)
    }

    fn number(&mut self, least: u32, most: u32, form: &str) -> Result<u32, Wrong> {
        let (text, span) = self.next();
        if text.is_empty() {
            return Err(
                Wrong::new(span, "a number is missing", "expected a number").help(format!("it is written `{form}`"))
            );
        }
        let digits = text.chars().all(|c| c.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && (least..=most).contains(&number) => Ok(number),
            _ if digits => {
                Err(Wrong::new(span, format!("`{text}` is out of range"), format!("expected {least} to {most}")))
            }
            _ => Err(Wrong::new(span, format!("`{text}` is not a number"), format!("expected {least} to {most}"))
                .help(format!("it is written `{form}`"))),
        }
    }
}

fn duration(text: &str, span: Range<usize>, form: &str) -> Result<Duration, Wrong> {
    if text.is_empty() {
        return Err(
            Wrong::new(span, "a duration is missing", "expected a duration").help(format!("it is written `{form}`"))
        );
    }
    units::duration(text)
        .map_err(|wrong| Wrong::new(span, format!("`{text}` is not a duration"), wrong.label).help(wrong.help))
}

/// The largest count that a step may name.
pub(super) const MOST: u32 = 1_000_000;

/// Reads one step. The mistakes' places are in `text`.
pub(super) fn step(text: &str) -> Result<Step, Wrong> {
    let mut words = Words { text, at: 0 };
    if words.peek() != "cancel" {
        return Ok(Step { action: action(&mut words)?, cancel: None });
    }
    let colon = text.find(':').ok_or_else(|| {
        Wrong::new(0..text.len(), "the step to cancel is missing", "expected `: STEP` after the time")
            .help("it is written `cancel after 10ms: acquire`, `cancel at poll 2: acquire`")
    })?;
    let mut head = Words { text: &text[..colon], at: 0 };
    head.next();
    let cancel = cancellation(&mut head)?;
    words.at = colon + 1;
    let (verb, span) = Words { ..words }.next();
    if verb == "cancel" {
        return Err(Wrong::new(span, "a step is cancelled once", "a second `cancel`"));
    }
    let action = action(&mut words)?;
    if !can_wait(&action) {
        return Err(Wrong::new(span, format!("`{verb}` can't be cancelled"), "it doesn't wait for anything").help(
            "what can be cancelled: acquire, sql, prepared, begin, commit, rollback, hold, expect row, flush, remove \
             session, take, join, close pool, dispose pool, new pool, spawn … and wait, repeat, while",
        ));
    }
    Ok(Step { action, cancel: Some(cancel) })
}

/// Whether the action is a future that can be pending.
pub(crate) fn can_wait(action: &Action) -> bool {
    match action {
        Action::Acquire { .. }
        | Action::ExpectRow(_)
        | Action::Flush(_)
        | Action::RemoveSession
        | Action::DisposePool
        | Action::Take(_)
        | Action::Join(_)
        | Action::While { .. }
        | Action::Sql(_)
        | Action::Prepared(_)
        | Action::Begin
        | Action::Commit
        | Action::Rollback
        | Action::Hold { .. }
        | Action::ClosePool
        | Action::NewPool
        | Action::Repeat { .. } => true,
        Action::Spawn { wait, .. } => *wait,
        Action::Release
        | Action::Leak
        | Action::Lose
        | Action::LosePool
        | Action::Collect
        | Action::Allocate { .. }
        | Action::Session
        | Action::Put { .. }
        | Action::Done(_)
        | Action::Kill(_)
        | Action::Abandon { .. }
        | Action::Panic
        | Action::Detach
        | Action::Invalidate
        | Action::DropPool
        | Action::Resize(_)
        | Action::Status => false,
    }
}

/// `after 10ms`, `at poll 2`, `at wake 1 of actor 3`, `at every poll`.
pub(super) fn cancel(text: &str) -> Result<Cancel, Wrong> {
    cancellation(&mut Words { text, at: 0 })
}

fn cancellation(words: &mut Words<'_>) -> Result<Cancel, Wrong> {
    const FORMS: &str = "it is `after DURATION`, `at poll N`, `at wake N` or `at every poll`";
    let (word, span) = words.next();
    let cancel = match word {
        "after" => Cancel::After(words.duration("cancel after 10ms: STEP")?),
        "at" => {
            let (what, span) = words.next();
            match what {
                "poll" => {
                    let poll = words.number(1, MOST, "cancel at poll 2: STEP")?;
                    of_actor(words)?.map_or(Cancel::AtPoll(poll), |actor| Cancel::AtPollOf { actor, poll })
                }
                "wake" => {
                    let wake = words.number(1, MOST, "cancel at wake 1: STEP")?;
                    of_actor(words)?.map_or(Cancel::AtWake(wake), |actor| Cancel::AtWakeOf { actor, wake })
                }
                "every" => {
                    words.literal("poll", "cancel at every poll: STEP")?;
                    Cancel::EveryPoll
                }
                _ => {
                    return Err(Wrong::new(
                        span,
                        "when to cancel is unclear",
                        "expected `poll`, `wake` or `every poll`",
                    )
                    .help(FORMS));
                }
            }
        }
        _ => {
            return Err(Wrong::new(span, "when to cancel is unclear", "expected `after` or `at`").help(FORMS));
        }
    };
    words.end("cancel …")?;
    Ok(cancel)
}

/// `of actor 3`, if it is there.
fn of_actor(words: &mut Words<'_>) -> Result<Option<u32>, Wrong> {
    const FORM: &str = "cancel at poll 2 of actor 3: STEP";
    if words.peek() != "of" {
        return Ok(None);
    }
    words.next();
    words.literal("actor", FORM)?;
    words.number(1, MOST, FORM).map(Some)
}

fn action(words: &mut Words<'_>) -> Result<Action, Wrong> {
    let (verb, span) = words.next();
    let action = match verb {
        "acquire" => {
            let deadline = if words.peek().is_empty() {
                None
            } else {
                words.literal("within", "acquire within 2s")?;
                Some(words.positive("acquire within 2s")?)
            };
            Action::Acquire { deadline }
        }
        "sql" => Action::Sql(statement(words, "sql SELECT 1")?),
        "prepared" => Action::Prepared(statement(words, "prepared SELECT 1")?),
        "expect" => {
            words.literal("row", "expect row SELECT 1")?;
            Action::ExpectRow(statement(words, "expect row SELECT 1")?)
        }
        "begin" => Action::Begin,
        "commit" => Action::Commit,
        "rollback" => Action::Rollback,
        "hold" => hold(words)?,
        "release" => Action::Release,
        "leak" => Action::Leak,
        "lose" if words.peek().is_empty() => Action::Lose,
        "lose" => {
            words.literal("pool", "lose pool")?;
            Action::LosePool
        }
        "abandon" => {
            words.literal("after", "abandon after 5ms")?;
            Action::Abandon { after: words.duration("abandon after 5ms")? }
        }
        "panic" => Action::Panic,
        "detach" => Action::Detach,
        "invalidate" => Action::Invalidate,
        "close" => {
            words.literal("pool", "close pool")?;
            Action::ClosePool
        }
        "new" => {
            words.literal("pool", "new pool")?;
            Action::NewPool
        }
        "drop" => {
            words.literal("pool", "drop pool")?;
            Action::DropPool
        }
        "dispose" => {
            words.literal("pool", "dispose pool")?;
            Action::DisposePool
        }
        "collect" => Action::Collect,
        "allocate" => allocate(words)?,
        "session" => Action::Session,
        "flush" => Action::Flush(statement(words, "flush INSERT INTO …")?),
        "remove" => {
            words.literal("session", "remove session")?;
            Action::RemoveSession
        }
        "put" => put(words)?,
        "take" => Action::Take(name(words, "queue", "take NAME")?),
        "done" => Action::Done(name(words, "queue", "done NAME")?),
        "join" => Action::Join(name(words, "queue", "join NAME")?),
        "kill" => Action::Kill(name(words, "workload", "kill NAME")?),
        "resize" => Action::Resize(words.number(0, 100_000, "resize 5")?),
        "status" => Action::Status,
        "spawn" => {
            let (workload, span) = words.next();
            if workload.is_empty() {
                return Err(Wrong::new(span, "the workload to spawn is missing", "expected a workload's name")
                    .help("it is written `spawn NAME` or `spawn NAME and wait`"));
            }
            let wait = !words.peek().is_empty();
            if wait {
                words.literal("and", "spawn NAME and wait")?;
                words.literal("wait", "spawn NAME and wait")?;
            }
            Action::Spawn { workload: workload.to_owned(), wait }
        }
        "repeat" | "while" => {
            return Err(Wrong::new(span, "a repetition is a table", "not a text").help(
                "it is written `{ repeat = 3, steps = [\"acquire\", \"release\"] }` or `{ while = \"QUEUE\", steps = […] }`",
            ));
        }
        "" => {
            return Err(Wrong::new(span, "the step is empty", "expected a step")
                .help(format!("steps begin with {}", one_of(VERBS))));
        }
        _ => {
            let lower = verb.to_ascii_lowercase();
            let help = match lower.as_str() {
                "select" | "insert" | "update" | "delete" | "set" | "lock" | "listen" | "truncate" | "discard" => {
                    format!("statements are sent by `sql`: `sql {}`", words.text.trim())
                }
                "sleep" | "wait" | "pause" => "did you mean `hold 5ms`?".to_owned(),
                "return" | "checkin" => "did you mean `release`?".to_owned(),
                "get" | "checkout" => "did you mean `acquire`?".to_owned(),
                _ => match nearest(verb, VERBS.into_iter().chain(["repeat", "while"])) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("steps begin with {}", one_of(VERBS)),
                },
            };
            return Err(Wrong::new(span, format!("`{verb}` is not a step"), "unknown step").help(help));
        }
    };
    words.end(verb)?;
    Ok(action)
}

fn statement(words: &mut Words<'_>, form: &str) -> Result<String, Wrong> {
    let (text, span) = words.rest();
    if text.is_empty() {
        return Err(Wrong::new(span, "the statement is missing", "expected a statement")
            .help(format!("it is written `{form}`")));
    }
    Ok(text.to_owned())
}

/// A name that the step needs.
fn name(words: &mut Words<'_>, what: &str, form: &str) -> Result<String, Wrong> {
    let (name, span) = words.next();
    if name.is_empty() {
        return Err(Wrong::new(span, format!("the {what} is missing"), format!("expected a {what}'s name"))
            .help(format!("it is written `{form}`")));
    }
    Ok(name.to_owned())
}

/// `put mail $actor`, `put mail after 5s $actor`
fn put(words: &mut Words<'_>) -> Result<Action, Wrong> {
    const FORM: &str = "put QUEUE after 5s PAYLOAD";
    let queue = name(words, "queue", FORM)?;
    let mut after = Duration::ZERO;
    if words.peek() == "after" {
        words.next();
        after = words.positive(FORM)?;
    }
    Ok(Action::Put { queue, after, payload: words.rest().0.to_owned() })
}

/// `allocate 100`, `allocate 100..300`
fn allocate(words: &mut Words<'_>) -> Result<Action, Wrong> {
    const FORM: &str = "allocate 100..300";
    let (text, span) = words.next();
    let split = text.find("..").unwrap_or(text.len());
    let number = |from: usize, to: usize| {
        let read = Words { text: &text[from..to], at: 0 }.number(1, MOST, FORM);
        let start = span.start + from;
        read.map_err(|wrong| Wrong { span: start + wrong.span.start..start + wrong.span.end, ..wrong })
    };
    let min = number(0, split)?;
    let max = if split == text.len() { min } else { number(split + 2, text.len())? };
    if max < min {
        return Err(Wrong::new(span, "the range is the wrong way round", "the smaller number comes first"));
    }
    Ok(Action::Allocate { min, max })
}

fn hold(words: &mut Words<'_>) -> Result<Action, Wrong> {
    const FORM: &str = "hold 5ms` or `hold 5ms..20ms";
    let (text, span) = words.next();
    let Some((least, most)) = text.split_once("..") else {
        let time = duration(text, span, FORM)?;
        return Ok(Action::Hold { min: time, max: time });
    };
    let min = duration(least, span.start..span.start + least.len(), FORM)?;
    let max = duration(most, span.end - most.len()..span.end, FORM)?;
    if min > max {
        return Err(Wrong::new(span, "the range is the wrong way round", "the shorter time comes first"));
    }
    Ok(Action::Hold { min, max })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn plain(action: Action) -> Step {
        Step { action, cancel: None }
    }

    #[test]
    fn steps_are_read() {
        let cases = [
            ("acquire", plain(Action::Acquire { deadline: None })),
            ("acquire within 2s", plain(Action::Acquire { deadline: Some(MS(2000)) })),
            ("sql  SELECT 1 ; ", plain(Action::Sql("SELECT 1 ;".to_owned()))),
            ("prepared SELECT ':'", plain(Action::Prepared("SELECT ':'".to_owned()))),
            ("hold 5ms", plain(Action::Hold { min: MS(5), max: MS(5) })),
            ("hold 5ms..20ms", plain(Action::Hold { min: MS(5), max: MS(20) })),
            ("abandon after 5ms", plain(Action::Abandon { after: MS(5) })),
            ("invalidate", plain(Action::Invalidate)),
            ("close pool", plain(Action::ClosePool)),
            ("dispose pool", plain(Action::DisposePool)),
            ("lose", plain(Action::Lose)),
            ("lose pool", plain(Action::LosePool)),
            ("allocate 5", plain(Action::Allocate { min: 5, max: 5 })),
            ("allocate 5..20", plain(Action::Allocate { min: 5, max: 20 })),
            ("session", plain(Action::Session)),
            ("remove session", plain(Action::RemoveSession)),
            ("flush INSERT INTO t VALUES (1)", plain(Action::Flush("INSERT INTO t VALUES (1)".to_owned()))),
            ("expect row SELECT 1", plain(Action::ExpectRow("SELECT 1".to_owned()))),
            (
                "put mail $actor and more ",
                plain(Action::Put { queue: "mail".to_owned(), after: MS(0), payload: "$actor and more".to_owned() }),
            ),
            (
                "put mail after 5s",
                plain(Action::Put { queue: "mail".to_owned(), after: MS(5000), payload: String::new() }),
            ),
            ("take mail", plain(Action::Take("mail".to_owned()))),
            ("done mail", plain(Action::Done("mail".to_owned()))),
            ("join mail", plain(Action::Join("mail".to_owned()))),
            ("kill worker", plain(Action::Kill("worker".to_owned()))),
            ("resize 5", plain(Action::Resize(5))),
            ("spawn job and wait", plain(Action::Spawn { workload: "job".to_owned(), wait: true })),
            ("spawn job", plain(Action::Spawn { workload: "job".to_owned(), wait: false })),
            (
                "cancel after 10ms: sql SELECT 'a:b'",
                Step { action: Action::Sql("SELECT 'a:b'".to_owned()), cancel: Some(Cancel::After(MS(10))) },
            ),
            (
                "cancel at poll 2: acquire",
                Step { action: Action::Acquire { deadline: None }, cancel: Some(Cancel::AtPoll(2)) },
            ),
            (
                "cancel at every poll: acquire within 1s",
                Step { action: Action::Acquire { deadline: Some(MS(1000)) }, cancel: Some(Cancel::EveryPoll) },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(step(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_mistake_points_at_the_word() {
        for (text, word, message) in [
            ("aquire", "aquire", "`aquire` is not a step"),
            ("acquire in 2s", "in", "`within` was expected, not `in`"),
            ("acquire within 2", "2", "`2` is not a duration"),
            ("hold 5ms..2", "2", "`2` is not a duration"),
            ("hold 20ms..5ms", "20ms..5ms", "the range is the wrong way round"),
            ("release it", "it", "`it` is too much after `release`"),
            ("SELECT 1", "SELECT", "`SELECT` is not a step"),
            ("sql", "", "the statement is missing"),
            ("cancel at pol 2: acquire", "pol", "when to cancel is unclear"),
            ("cancel at poll 0: acquire", "0", "`0` is out of range"),
            ("cancel after 5ms: release", "release", "`release` can't be cancelled"),
            ("cancel after 5ms: cancel after 5ms: acquire", "cancel", "a step is cancelled once"),
            ("cancel after 5ms acquire", "cancel after 5ms acquire", "the step to cancel is missing"),
            ("resize x", "x", "`x` is not a number"),
            ("allocate 5..x", "x", "`x` is not a number"),
            ("allocate 9..5", "9..5", "the range is the wrong way round"),
            ("invalidate it", "it", "`it` is too much after `invalidate`"),
            ("lose it", "it", "`pool` was expected, not `it`"),
            ("expect SELECT 1", "SELECT", "`row` was expected, not `SELECT`"),
            ("put", "", "the queue is missing"),
            ("put mail after noon", "noon", "`noon` is not a duration"),
            ("take mail now", "now", "`now` is too much after `take`"),
            ("kill", "", "the workload is missing"),
            ("cancel after 5ms: lose", "lose", "`lose` can't be cancelled"),
            ("spawn job and run", "run", "`wait` was expected, not `run`"),
            ("", "", "the step is empty"),
        ] {
            let wrong = step(text).unwrap_err();
            assert_eq!((&text[wrong.span.clone()], wrong.message.as_str()), (word, message), "{text}");
        }
    }
}
