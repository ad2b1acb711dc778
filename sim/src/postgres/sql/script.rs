//! From a query text to statements.
//!
//! `sqlparser` reads queries, INSERT, UPDATE, DELETE and DDL; [`super::utility`] reads the commands whose exact grammar and
//! wording pools depend on (BEGIN, SET, DISCARD, LOCK, …). The text is split at semicolons after tokenizing, so that a
//! mistake in any statement fails the whole text before any of it runs, as in PostgreSQL.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlparser::ast::{self, ObjectType};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::super::error::{PgError, SqlState};
use super::plan::CachedPlan;
use super::utility::{self, Utility};

/// One parsed query text.
#[derive(Debug)]
pub struct Script {
    /// Its statements, in order. Empty: EmptyQueryResponse.
    pub statements: Vec<Arc<Statement>>,
}

/// One statement of a script.
#[derive(Debug)]
pub struct Statement {
    pub(super) text: Arc<str>,
    pub(super) command: Command,
    /// The plan made last, if it still holds; see [`CachedPlan`].
    pub(super) plan: Mutex<Option<CachedPlan>>,
    /// What scenarios make it cost.
    pub(super) cost: Option<Arc<super::StatementCost>>,
}

/// What a statement is.
#[derive(Debug)]
pub(super) enum Command {
    Select(Box<ast::Query>),
    Insert(Box<ast::Insert>),
    Update(Box<ast::Update>),
    Delete(Box<ast::Delete>),
    CreateTable(Box<ast::CreateTable>),
    CreateIndex(Box<ast::CreateIndex>),
    AlterTable(Box<ast::AlterTable>),
    Drop { tables: bool, if_exists: bool, names: Vec<ast::ObjectName>, concurrently: bool },
    Truncate(Box<ast::Truncate>),
    Utility(Utility),
}

impl Statement {
    /// The whole text of the script it is part of (`pg_stat_activity.query`).
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether it is BEGIN, COMMIT, ROLLBACK, SAVEPOINT, …: after its Execute in a pipeline the session layer calls
    /// [`super::Engine::commit_implicit`], as PostgreSQL's `exec_execute_message` does.
    #[must_use]
    pub fn is_transaction_control(&self) -> bool {
        matches!(self.command, Command::Utility(Utility::Transaction(_)))
    }

    /// Whether it is COMMIT or ROLLBACK. Once they are at it, no interrupt counts: `CommitTransaction` and `AbortTransaction`
    /// hold them off.
    #[must_use]
    pub fn ends_transaction(&self) -> bool {
        use super::utility::TransactionCommand::{Commit, Rollback};
        matches!(self.command, Command::Utility(Utility::Transaction(Commit { .. } | Rollback { .. })))
    }

    /// Whether it may be parsed, bound and executed in a failed transaction: COMMIT, ROLLBACK and ROLLBACK TO.
    #[must_use]
    pub fn allowed_in_failed(&self) -> bool {
        match &self.command {
            Command::Utility(Utility::Transaction(command)) => command.allowed_in_failed(),
            Command::Utility(Utility::PrepareTransaction) => true,
            _ => false,
        }
    }
}

/// Positions in the text.
pub(super) struct Source<'a> {
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Source<'a> {
        Source { text }
    }

    /// 1-based, in characters, as the `P` field wants it; None for a location the parser did not know.
    pub(super) fn position(&self, location: Location) -> Option<u32> {
        if location.line == 0 {
            return None;
        }
        let mut offset = 0usize;
        for (index, line) in self.text.split('\n').enumerate() {
            if index as u64 + 1 == location.line {
                return u32::try_from(offset as u64 + location.column).ok();
            }
            offset += line.chars().count() + 1;
        }
        None
    }

    /// The position of what stands after something in parentheses that ends there.
    pub(super) fn behind(&self, location: Location) -> Option<u32> {
        let end = self.position(location)?;
        let rest = self.text.chars().skip(end as usize - 1);
        let between = rest.take_while(|next| next.is_whitespace() || *next == ')').count();
        u32::try_from(end as usize + between).ok()
    }

    fn slice(&self, span: Span) -> String {
        let start = self.position(span.start).unwrap_or(1) as usize - 1;
        let end = self.position(span.end).map_or(start + 1, |end| end as usize - 1);
        self.text.chars().skip(start).take(end.saturating_sub(start).max(1)).collect()
    }

    pub(super) fn syntax_error_at(&self, token: &TokenWithSpan) -> PgError {
        if token.token == Token::EOF {
            return self.syntax_error_at_end();
        }
        let near = self.slice(token.span);
        let error = PgError::error(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{near}\""));
        at(error, self.position(token.span.start))
    }

    pub(super) fn syntax_error_at_end(&self) -> PgError {
        let end = self.text.trim_end_matches(';').chars().count() + 1;
        PgError::error(SqlState::SYNTAX_ERROR, "syntax error at end of input").position(u32::try_from(end).unwrap_or(0))
    }

    /// PostgreSQL's wording for what sqlparser did not like.
    fn parser_error(&self, error: &ParserError, tokens: &[TokenWithSpan]) -> PgError {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
            ParserError::RecursionLimitExceeded => {
                return PgError::error(SqlState("54001"), "stack depth limit exceeded");
            }
        };
        let location = message.rsplit_once(" at Line: ").and_then(|(_, rest)| {
            let (line, column) = rest.split_once(", Column: ")?;
            Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
        });
        if let Some(location) = location
            && let Some(token) = tokens.iter().find(|token| token.span.start == location && token.token != Token::EOF)
        {
            return self.syntax_error_at(token);
        }
        self.syntax_error_at_end()
    }
}

/// Adds a position, if it is known.
pub(super) fn at(error: PgError, position: Option<u32>) -> PgError {
    match position {
        Some(position) => error.position(position),
        None => error,
    }
}

/// The marker in a locking clause's OF list that says which of the strengths unknown to sqlparser was written.
pub(super) const NO_KEY: &str = "\u{1}no key update";
/// As [`NO_KEY`].
pub(super) const KEY_SHARE: &str = "\u{1}key share";

fn word(token: &Token) -> Keyword {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// sqlparser knows neither FOR NO KEY UPDATE and FOR KEY SHARE nor a locking clause before LIMIT: writes the former as
/// FOR UPDATE and FOR SHARE with a marked OF, and moves clauses to the end of their query.
fn rewrite_locking(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| word(&token.token) == Keyword::FOR) {
        return tokens;
    }
    let made = |token: Token, like: &TokenWithSpan| TokenWithSpan { token, span: like.span };
    let mut out = Vec::with_capacity(tokens.len() + 4);
    let mut pending: Vec<Vec<TokenWithSpan>> = vec![Vec::new()];
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        match &token.token {
            Token::LParen => pending.push(Vec::new()),
            Token::RParen if pending.len() > 1 => out.extend(pending.pop().unwrap_or_default()),
            _ => {}
        }
        let kind = |n: usize| tokens.get(at + n).map_or(Keyword::NoKeyword, |token| word(&token.token));
        let clause = match (word(&token.token), kind(1), kind(2), kind(3)) {
            (Keyword::FOR, Keyword::UPDATE, ..) => Some((2, "UPDATE", None)),
            (Keyword::FOR, Keyword::SHARE, ..) => Some((2, "SHARE", None)),
            (Keyword::FOR, Keyword::NO, Keyword::KEY, Keyword::UPDATE) => Some((4, "UPDATE", Some(NO_KEY))),
            (Keyword::FOR, Keyword::KEY, Keyword::SHARE, _) => Some((3, "SHARE", Some(KEY_SHARE))),
            _ => None,
        };
        let Some((length, strength, marker)) = clause else {
            out.push(token.clone());
            at += 1;
            continue;
        };
        at += length;
        // OF name [, …], each becomes a clause of its own.
        let mut names: Vec<TokenWithSpan> = Vec::new();
        if tokens.get(at).is_some_and(|token| word(&token.token) == Keyword::OF) {
            at += 1;
            while let Some(name) = tokens.get(at) {
                names.push(name.clone());
                at += 1;
                if tokens.get(at).is_none_or(|token| token.token != Token::Comma) {
                    break;
                }
                at += 1;
            }
        }
        let mut wait: Vec<TokenWithSpan> = Vec::new();
        match tokens.get(at).map(|token| word(&token.token)) {
            Some(Keyword::NOWAIT) => {
                wait.push(tokens[at].clone());
                at += 1;
            }
            Some(Keyword::SKIP) => {
                wait.extend(tokens[at..].iter().take(2).cloned());
                at += 2;
            }
            _ => {}
        }
        let targets: Vec<Option<TokenWithSpan>> =
            if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        let top = pending.last_mut().expect("the outermost level is never popped");
        for target in targets {
            top.push(token.clone());
            top.push(made(Token::make_keyword(strength), token));
            if marker.is_some() || target.is_some() {
                top.push(made(Token::make_keyword("OF"), token));
            }
            if let Some(marker) = marker {
                top.push(made(Token::make_word(marker, Some('"')), token));
                if target.is_some() {
                    top.push(made(Token::Period, token));
                }
            }
            top.extend(target);
            top.extend(wait.iter().cloned());
        }
    }
    for clauses in pending.into_iter().rev() {
        out.extend(clauses);
    }
    out
}

/// Words that begin a statement that PostgreSQL knows and this server does not.
const UNSUPPORTED: [&str; 26] = [
    "ALTER",
    "ANALYZE",
    "ANALYSE",
    "CALL",
    "CHECKPOINT",
    "CLUSTER",
    "COMMENT",
    "COPY",
    "CREATE",
    "DO",
    "DROP",
    "EXPLAIN",
    "GRANT",
    "IMPORT",
    "LOAD",
    "MERGE",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "REVOKE",
    "SECURITY",
    "VACUUM",
    "TABLE",
    "WITH",
    "FETCH",
    "DECLARE",
];

/// What may follow the first word of those statements that don't take a name there: asked of a PostgreSQL 15 for each of its
/// keywords.
const SECOND_WORDS: [(&str, &str); 13] = [
    (
        "ALTER",
        "aggregate collation conversion database default domain event extension foreign function group index language \
         large materialized operator policy procedural procedure publication role routine rule schema sequence server \
         statistics subscription system table tablespace text trigger type user view",
    ),
    ("CHECKPOINT", ""),
    ("COMMENT", "on"),
    (
        "CREATE",
        "access aggregate assertion cast collation constraint conversion database default domain event extension foreign \
         function global group index language local materialized operator or policy procedural procedure publication \
         recursive role rule schema sequence server statistics subscription table tablespace temp temporary text \
         transform trigger trusted type unique unlogged user view",
    ),
    ("DO", "language"),
    (
        "DROP",
        "access aggregate cast collation conversion database domain event extension foreign function group index language \
         materialized operator owned policy procedural procedure publication role routine rule schema sequence server \
         statistics subscription table tablespace text transform trigger type user view",
    ),
    (
        "EXPLAIN",
        "analyse analyze create declare delete execute insert merge refresh select table update values verbose with",
    ),
    ("IMPORT", "foreign"),
    ("MERGE", "into"),
    ("REASSIGN", "owned"),
    ("REFRESH", "materialized"),
    ("REINDEX", "database index schema system table"),
    ("SECURITY", "label"),
];

/// Whether a query text can be run at all, whatever the tables are.
///
/// # Errors
/// 42601 with a position, or 0A000.
pub fn check_syntax(text: &str) -> Result<(), PgError> {
    parse(text, &[]).map(drop)
}

/// Parses a whole query text.
///
/// # Errors
/// 42601 with a position, or 0A000.
pub(super) fn parse(text: &str, costs: &[Arc<super::StatementCost>]) -> Result<Script, PgError> {
    let source = Source::new(text);
    let shared: Arc<str> = text.into();
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|error| {
        let position = if error.message.contains("multi-line comment") {
            text.rfind("/*").and_then(|at| u32::try_from(text[..at].chars().count() + 1).ok())
        } else {
            source.position(error.location)
        };
        let rest: String = text.chars().skip(position.unwrap_or(1) as usize - 1).collect();
        let what = if rest.starts_with("/*") {
            "unterminated /* comment"
        } else if rest.starts_with('"') {
            "unterminated quoted identifier"
        } else if rest.starts_with('\'') {
            "unterminated quoted string"
        } else {
            "syntax error"
        };
        at(PgError::error(SqlState::SYNTAX_ERROR, format!("{what} at or near \"{rest}\"")), position)
    })?;
    let cost = costs.iter().find(|cost| super::functions::like(text, &cost.like, true)).cloned();
    let mut statements = Vec::new();
    let significant = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut current: Vec<TokenWithSpan> = Vec::new();
    let mut depth = 0i32;
    let mut groups = Vec::new();
    for token in significant {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if token.token == Token::SemiColon && depth <= 0 {
            groups.push(std::mem::take(&mut current));
        } else {
            current.push(token);
        }
    }
    groups.push(current);
    for group in groups.into_iter().filter(|group| !group.is_empty()) {
        let command = parse_one(&source, &shared, group, cost.as_ref())?;
        statements.push(Arc::new(Statement {
            text: shared.clone(),
            command,
            plan: Mutex::new(None),
            cost: cost.clone(),
        }));
    }
    Ok(Script { statements })
}

/// One statement's tokens, without the semicolon.
pub(super) fn parse_one(
    source: &Source<'_>,
    text: &Arc<str>,
    tokens: Vec<TokenWithSpan>,
    cost: Option<&Arc<super::StatementCost>>,
) -> Result<Command, PgError> {
    if let Some(utility) = utility::parse(source, text, &tokens, cost)? {
        return Ok(Command::Utility(utility));
    }
    let first = match &tokens[0].token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        Token::LParen => "(".to_owned(),
        _ => return Err(source.syntax_error_at(&tokens[0])),
    };
    let known =
        matches!(first.as_str(), "(" | "SELECT" | "VALUES" | "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" | "WITH");
    if !known && !UNSUPPORTED.contains(&first.as_str()) {
        return Err(source.syntax_error_at(&tokens[0]));
    }
    if let Some((_, second)) = SECOND_WORDS.iter().find(|(word, _)| *word == first)
        && let Some(token) = tokens.get(1)
        && let Token::Word(word) = &token.token
        && !second.split(' ').any(|known| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(known))
    {
        return Err(source.syntax_error_at(token));
    }
    // SELECT of no columns, which sqlparser takes only with FROM.
    if let (1, "SELECT") = (tokens.len(), first.as_str()) {
        let mut query = Parser::new(&PostgreSqlDialect {})
            .try_with_sql("SELECT 1")
            .and_then(|mut parser| parser.parse_query())
            .map_err(|error| source.parser_error(&error, &tokens))?;
        if let ast::SetExpr::Select(select) = &mut *query.body {
            select.projection.clear();
        }
        return Ok(Command::Select(query));
    }
    let words: Vec<String> = tokens.iter().take(3).map(|token| token.token.to_string().to_ascii_uppercase()).collect();
    let tokens = rewrite_locking(tokens);
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens.clone());
    let parsed = parser.parse_statement().and_then(|statement| match parser.peek_token() {
        TokenWithSpan { token: Token::EOF, .. } => Ok(statement),
        extra => Err(ParserError::ParserError(format!(
            "unexpected at Line: {}, Column: {}",
            extra.span.start.line, extra.span.start.column
        ))),
    });
    let statement = match parsed {
        Ok(statement) => statement,
        Err(_)
            if !known
                && !matches!(
                    words.get(1).map(String::as_str),
                    Some("TABLE" | "INDEX" | "TEMP" | "TEMPORARY" | "UNIQUE")
                ) =>
        {
            return Err(PgError::unsupported(words.get(..2).unwrap_or(&words).join(" ")));
        }
        Err(error) => return Err(source.parser_error(&error, &tokens)),
    };
    Ok(match statement {
        ast::Statement::Query(query) => Command::Select(query),
        ast::Statement::Insert(insert) => Command::Insert(Box::new(insert)),
        ast::Statement::Update(update) => Command::Update(Box::new(update)),
        ast::Statement::Delete(delete) => Command::Delete(Box::new(delete)),
        ast::Statement::CreateTable(create) => Command::CreateTable(Box::new(create)),
        ast::Statement::CreateIndex(create) => Command::CreateIndex(Box::new(create)),
        ast::Statement::AlterTable(alter) => Command::AlterTable(Box::new(alter)),
        ast::Statement::Truncate(truncate) => Command::Truncate(Box::new(truncate)),
        ast::Statement::Drop {
            object_type: kind @ (ObjectType::Table | ObjectType::Index),
            if_exists,
            names,
            cascade,
            ..
        } => {
            if cascade {
                return Err(PgError::unsupported("DROP … CASCADE"));
            }
            let concurrently = words.get(2).is_some_and(|word| word == "CONCURRENTLY");
            Command::Drop { tables: kind == ObjectType::Table, if_exists, names, concurrently }
        }
        _ => {
            return Err(PgError::unsupported(words.get(..2).unwrap_or(&words).join(" ")));
        }
    })
}
