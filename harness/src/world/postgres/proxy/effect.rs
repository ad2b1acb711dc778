//! What a statement's success leaves behind in its session, told by its text.
//!
//! The text is cut into words by sqlparser's tokenizer; the forms are those of PostgreSQL's manual. What text can't tell is
//! not told: what a function or a DO block does inside, what a view or a trigger calls, names that are put together at
//! run time, and a function below the top of a SELECT list.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

/// What is left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that the text tells.
    Nothing,
    /// `SET name`; also ROLE and SESSION AUTHORIZATION, `set_config`.
    Set(String),
    /// `SET LOCAL name`: until the transaction ends.
    SetLocal(String),
    /// `RESET name`, `SET name TO DEFAULT`.
    Reset(String),
    /// `RESET ALL`: the role stays.
    ResetAll,
    /// `DISCARD ALL`
    DiscardAll,
    /// `DISCARD TEMP`
    DiscardTemporary,
    /// `LISTEN channel`
    Listen(String),
    /// `UNLISTEN channel`
    Unlisten(String),
    /// `UNLISTEN *`
    UnlistenAll,
    /// `PREPARE name`
    Prepare(String),
    /// `DEALLOCATE name`
    Deallocate(String),
    /// `DEALLOCATE ALL`
    DeallocateAll,
    /// `CREATE TEMPORARY TABLE name`; not with ON COMMIT DROP.
    CreateTemporary(String),
    /// `DROP TABLE names`
    DropTables(Vec<String>),
    /// `DECLARE name CURSOR`
    Declare {
        /// The cursor.
        name: String,
        /// WITH HOLD
        hold: bool,
    },
    /// `CLOSE name`
    Close(String),
    /// `CLOSE ALL`
    CloseAll,
    /// `SAVEPOINT name`
    Savepoint(String),
    /// `RELEASE name`
    Release(String),
    /// `ROLLBACK TO name`
    RollbackTo(String),
    /// A session-level advisory lock was asked for; `tried` tells by its result whether it was got.
    AdvisoryLock {
        /// Its mode and the text of its arguments.
        key: String,
        /// `pg_try_advisory_lock`
        tried: bool,
    },
    /// `pg_advisory_unlock`; its result tells whether there was one.
    AdvisoryUnlock(String),
    /// `pg_advisory_unlock_all`
    AdvisoryUnlockAll,
}

/// The statements of a text, an effect each, in their order.
pub(super) fn effects(text: &str) -> Vec<Effect> {
    if is_plain(text) {
        return if text.trim().is_empty() { Vec::new() } else { vec![Effect::Nothing] };
    }
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize() else {
        return vec![Effect::Nothing];
    };
    let tokens: Vec<Token> = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    tokens
        .split(|token| *token == Token::SemiColon)
        .filter(|statement| !statement.is_empty())
        .map(|statement| of_statement(&Words(statement)))
        .collect()
}

/// Whether a text is one statement that leaves nothing behind, as nearly all are: seen without cutting it.
fn is_plain(text: &str) -> bool {
    let text = text.trim_end().trim_end_matches(';').trim();
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let one_of = |words: &[&str]| words.iter().any(|word| first.eq_ignore_ascii_case(word));
    let plain = one_of(&["INSERT", "UPDATE", "DELETE", "MERGE", "BEGIN", "COMMIT", "VALUES", "SHOW"])
        || (one_of(&["SELECT"]) && !contains(text, "advisory") && !contains(text, "set_config"));
    plain && !text.contains(';')
}

fn contains(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// The words of one statement.
struct Words<'t>(&'t [Token]);

impl Words<'_> {
    /// Whether the token at a place is this keyword.
    fn is(&self, at: usize, keyword: &str) -> bool {
        matches!(self.0.get(at), Some(Token::Word(word))
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword))
    }

    /// Whether all of these follow one another from a place on.
    fn are(&self, at: usize, keywords: &[&str]) -> bool {
        keywords.iter().enumerate().all(|(index, keyword)| self.is(at + index, keyword))
    }

    /// Where a keyword is.
    fn find(&self, keyword: &str) -> Option<usize> {
        (0..self.0.len()).find(|at| self.is(*at, keyword))
    }

    /// The identifier at a place, as PostgreSQL folds it.
    fn name(&self, at: usize) -> Option<String> {
        match self.0.get(at)? {
            Token::Word(word) if word.quote_style.is_some() => Some(word.value.clone()),
            Token::Word(word) => Some(word.value.to_lowercase()),
            _ => None,
        }
    }

    /// A name with its schema at a place, without the schema; and the place behind it.
    fn qualified(&self, at: usize) -> Option<(String, usize)> {
        let mut at = at;
        while self.0.get(at + 1) == Some(&Token::Period) {
            at += 2;
        }
        Some((self.name(at)?, at + 1))
    }

    /// The text of a call's arguments, from the place behind its parenthesis on.
    fn arguments(&self, at: usize) -> String {
        let tokens = self.0.get(at..).unwrap_or_default();
        tokens.iter().take_while(|token| **token != Token::RParen).map(ToString::to_string).collect()
    }

    /// A setting's name, its prefix included; and the place behind it.
    fn setting(&self, at: usize) -> Option<(String, usize)> {
        let (mut name, mut at) = (self.name(at)?, at + 1);
        while self.0.get(at) == Some(&Token::Period) {
            name = format!("{name}.{}", self.name(at + 1)?);
            at += 2;
        }
        Some((name, at))
    }
}

fn of_statement(words: &Words<'_>) -> Effect {
    let first = words.name(0).unwrap_or_default();
    match first.as_str() {
        "set" => set(words),
        "reset" if words.is(1, "ALL") => Some(Effect::ResetAll),
        "reset" if words.are(1, &["SESSION", "AUTHORIZATION"]) => {
            Some(Effect::Reset("session_authorization".to_owned()))
        }
        "reset" if words.are(1, &["TIME", "ZONE"]) => Some(Effect::Reset("timezone".to_owned())),
        "reset" => words.setting(1).map(|(name, _)| Effect::Reset(name)),
        "discard" if words.is(1, "ALL") => Some(Effect::DiscardAll),
        "discard" if words.is(1, "TEMP") || words.is(1, "TEMPORARY") => Some(Effect::DiscardTemporary),
        "listen" => words.name(1).map(Effect::Listen),
        "unlisten" if words.0.get(1) == Some(&Token::Mul) => Some(Effect::UnlistenAll),
        "unlisten" => words.name(1).map(Effect::Unlisten),
        "prepare" if !words.is(1, "TRANSACTION") => words.name(1).map(Effect::Prepare),
        "deallocate" => {
            let at = if words.is(1, "PREPARE") && words.0.len() > 2 { 2 } else { 1 };
            if words.is(at, "ALL") { Some(Effect::DeallocateAll) } else { words.name(at).map(Effect::Deallocate) }
        }
        "create" => create(words),
        "drop" if words.is(1, "TABLE") => Some(drop_tables(words)),
        "declare" => words.name(1).map(|name| Effect::Declare {
            name,
            hold: words.find("HOLD").is_some_and(|at| at > 0 && words.is(at - 1, "WITH")),
        }),
        "close" if words.is(1, "ALL") => Some(Effect::CloseAll),
        "close" => words.name(1).map(Effect::Close),
        "savepoint" => words.name(1).map(Effect::Savepoint),
        "release" => words.name(if words.is(1, "SAVEPOINT") { 2 } else { 1 }).map(Effect::Release),
        "rollback" | "abort" => words
            .find("TO")
            .and_then(|to| {
                words.name(if words.is(to + 1, "SAVEPOINT") && words.0.len() > to + 2 { to + 2 } else { to + 1 })
            })
            .map(Effect::RollbackTo),
        "select" => select(words),
        _ => None,
    }
    .unwrap_or(Effect::Nothing)
}

fn set(words: &Words<'_>) -> Option<Effect> {
    if words.is(1, "LOCAL") {
        return words.setting(2).map(|(name, _)| Effect::SetLocal(name));
    }
    let at =
        if words.is(1, "SESSION") && !words.is(2, "AUTHORIZATION") && !words.is(2, "CHARACTERISTICS") { 2 } else { 1 };
    if words.is(at, "TRANSACTION") || words.is(at, "CONSTRAINTS") {
        return None;
    }
    if words.are(at, &["SESSION", "CHARACTERISTICS"]) {
        return Some(Effect::Set("default_transaction_isolation".to_owned()));
    }
    let (name, value) = if words.are(at, &["SESSION", "AUTHORIZATION"]) {
        ("session_authorization".to_owned(), at + 2)
    } else if words.are(at, &["TIME", "ZONE"]) {
        ("timezone".to_owned(), at + 2)
    } else {
        let (name, behind) = words.setting(at)?;
        // `TO` or `=`; neither follows ROLE, NAMES, SCHEMA.
        let to = words.is(behind, "TO") || words.0.get(behind) == Some(&Token::Eq);
        (name, if to { behind + 1 } else { behind })
    };
    let name = match name.as_str() {
        "names" => "client_encoding".to_owned(),
        "schema" => "search_path".to_owned(),
        _ => name,
    };
    let default = words.is(value, "DEFAULT") || (name == "role" && words.is(value, "NONE"));
    Some(if default { Effect::Reset(name) } else { Effect::Set(name) })
}

fn create(words: &Words<'_>) -> Option<Effect> {
    let at = if words.is(1, "GLOBAL") || words.is(1, "LOCAL") { 2 } else { 1 };
    if !(words.is(at, "TEMP") || words.is(at, "TEMPORARY")) || !words.is(at + 1, "TABLE") {
        return None;
    }
    let at = if words.are(at + 2, &["IF", "NOT", "EXISTS"]) { at + 5 } else { at + 2 };
    let dropped = words.find("COMMIT").is_some_and(|commit| words.is(commit - 1, "ON") && words.is(commit + 1, "DROP"));
    words.qualified(at).filter(|_| !dropped).map(|(name, _)| Effect::CreateTemporary(name))
}

fn drop_tables(words: &Words<'_>) -> Effect {
    let mut at = if words.are(2, &["IF", "EXISTS"]) { 4 } else { 2 };
    let mut names = Vec::new();
    while let Some((name, behind)) = words.qualified(at) {
        names.push(name);
        if words.0.get(behind) != Some(&Token::Comma) {
            break;
        }
        at = behind + 1;
    }
    Effect::DropTables(names)
}

/// A call at the top of the SELECT list, the first that counts.
fn select(words: &Words<'_>) -> Option<Effect> {
    for at in 1..words.0.len() {
        if words.0.get(at + 1) != Some(&Token::LParen) {
            continue;
        }
        let name = words.name(at)?;
        let key = |shared: bool| format!("{}{}", if shared { "shared " } else { "" }, words.arguments(at + 2));
        match name.as_str() {
            "pg_advisory_lock" | "pg_advisory_lock_shared" => {
                return Some(Effect::AdvisoryLock { key: key(name.ends_with("shared")), tried: false });
            }
            "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => {
                return Some(Effect::AdvisoryLock { key: key(name.ends_with("shared")), tried: true });
            }
            "pg_advisory_unlock" | "pg_advisory_unlock_shared" => {
                return Some(Effect::AdvisoryUnlock(key(name.ends_with("shared"))));
            }
            "pg_advisory_unlock_all" => return Some(Effect::AdvisoryUnlockAll),
            "set_config" => {
                let local = words.find("TRUE").is_some();
                return match words.0.get(at + 2) {
                    Some(Token::SingleQuotedString(name)) if local => Some(Effect::SetLocal(name.to_lowercase())),
                    Some(Token::SingleQuotedString(name)) => Some(Effect::Set(name.to_lowercase())),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Effect {
        match effects(text).as_slice() {
            [effect] => effect.clone(),
            several => panic!("{text}: {several:?}"),
        }
    }

    #[test]
    fn the_forms_of_the_manual_are_known() {
        let name = str::to_owned;
        for (text, effect) in [
            ("SET work_mem = '4MB'", Effect::Set(name("work_mem"))),
            ("set session my.own to 1;", Effect::Set(name("my.own"))),
            ("SET LOCAL work_mem = '4MB'", Effect::SetLocal(name("work_mem"))),
            ("SET TRANSACTION READ ONLY", Effect::Nothing),
            ("SET ROLE dba", Effect::Set(name("role"))),
            ("SET ROLE NONE", Effect::Reset(name("role"))),
            ("SET SESSION AUTHORIZATION dba", Effect::Set(name("session_authorization"))),
            ("SET TIME ZONE 'UTC'", Effect::Set(name("timezone"))),
            ("SET work_mem TO DEFAULT", Effect::Reset(name("work_mem"))),
            ("RESET ALL", Effect::ResetAll),
            ("RESET work_mem", Effect::Reset(name("work_mem"))),
            ("DISCARD ALL", Effect::DiscardAll),
            ("DISCARD TEMP", Effect::DiscardTemporary),
            ("LISTEN \"Jobs\"", Effect::Listen(name("Jobs"))),
            ("UNLISTEN *", Effect::UnlistenAll),
            ("PREPARE q (int) AS SELECT $1", Effect::Prepare(name("q"))),
            ("DEALLOCATE PREPARE q", Effect::Deallocate(name("q"))),
            ("DEALLOCATE ALL", Effect::DeallocateAll),
            ("CREATE TEMP TABLE IF NOT EXISTS pg_temp.t (id int)", Effect::CreateTemporary(name("t"))),
            ("CREATE TEMPORARY TABLE t (id int) ON COMMIT DROP", Effect::Nothing),
            ("CREATE TABLE t (id int)", Effect::Nothing),
            ("DROP TABLE IF EXISTS a, s.b CASCADE", Effect::DropTables(vec![name("a"), name("b")])),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Effect::Declare { name: name("c"), hold: true }),
            ("ROLLBACK TO SAVEPOINT a", Effect::RollbackTo(name("a"))),
            ("ROLLBACK", Effect::Nothing),
            ("SELECT pg_advisory_lock(1)", Effect::AdvisoryLock { key: name("1"), tried: false }),
            ("SELECT pg_try_advisory_lock(1, 2)", Effect::AdvisoryLock { key: name("1,2"), tried: true }),
            ("SELECT pg_advisory_unlock_shared(7)", Effect::AdvisoryUnlock(name("shared 7"))),
            ("SELECT pg_advisory_unlock_all()", Effect::AdvisoryUnlockAll),
            ("SELECT set_config('work_mem', '4MB', false)", Effect::Set(name("work_mem"))),
            ("SELECT set_config('work_mem', '4MB', true)", Effect::SetLocal(name("work_mem"))),
            ("SELECT 'LISTEN advisory'", Effect::Nothing),
            ("-- a comment; with a semicolon\nLISTEN a", Effect::Listen(name("a"))),
        ] {
            assert_eq!(one(text), effect, "{text}");
        }
    }

    #[test]
    fn each_statement_has_its_own() {
        assert_eq!(effects("LISTEN a; SELECT ';'; UNLISTEN *;").len(), 3);
        assert_eq!(effects("  ; ; "), Vec::new());
        assert_eq!(effects(""), Vec::new());
    }
}
