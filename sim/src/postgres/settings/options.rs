//! The `options` of a startup packet: command line switches that set settings.
//!
//! <https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>. Switches other than `-c name=value` and
//! `--name=value` are refused, as the real server refuses those it does not know.

use crate::postgres::error::{PgError, SqlState};

/// The names and values in `options`, in their order.
///
/// # Errors
///
/// 42601, with the texts of `process_postgres_switches`.
pub(super) fn split(options: &str) -> Result<Vec<(String, String)>, PgError> {
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let (switch, assignment) = if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            ("--", long.to_owned())
        } else if word == "-c" {
            ("-c ", words.next().ok_or_else(|| invalid(&word))?)
        } else if let Some(short) = word.strip_prefix("-c") {
            ("-c ", short.to_owned())
        } else {
            return Err(invalid(&word));
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(PgError::error(SqlState::SYNTAX_ERROR, format!("{switch}{assignment} requires a value")));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn invalid(word: &str) -> PgError {
    PgError::error(SqlState::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}"))
        .hint("Try \"postgres --help\" for more information.")
}

/// `pg_split_opts`: words separated by white space, which a backslash makes part of a word.
fn words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = options.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.get_or_insert_default().extend(letters.next()),
            letter if letter.is_ascii_whitespace() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
