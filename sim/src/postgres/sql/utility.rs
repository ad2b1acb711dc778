//! The grammar of commands that sqlparser does not know exactly: transaction control, SET and its kin, LOCK, LISTEN,
//! PREPARE, cursors. After `src/backend/parser/gram.y`.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::super::error::{PgError, SqlState};
use super::super::locks::Mode;
use super::super::transaction::{Isolation, Modes};
use super::cursor::{ALL, Direction};
use super::script::{Source, Statement};
use super::types::Type;

/// BEGIN and its kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TransactionCommand {
    Begin { start: bool, modes: Modes },
    Commit { chain: bool },
    Rollback { chain: bool },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
}

impl TransactionCommand {
    pub(super) fn allowed_in_failed(&self) -> bool {
        matches!(
            self,
            TransactionCommand::Commit { .. } | TransactionCommand::Rollback { .. } | TransactionCommand::RollbackTo(_)
        )
    }
}

/// What SET gives a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SetValue {
    Default,
    Values(Vec<String>),
}

/// What DISCARD discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discard {
    All,
    Plans,
    Temp,
    Sequences,
}

/// A utility command.
#[derive(Debug)]
pub(super) enum Utility {
    Transaction(TransactionCommand),
    Set {
        local: bool,
        name: String,
        value: SetValue,
    },
    SetTransaction(Modes),
    SetSessionCharacteristics(Modes),
    /// `None`: NONE.
    SetRole {
        local: bool,
        role: Option<String>,
    },
    /// `None`: DEFAULT.
    SetSessionAuthorization {
        local: bool,
        user: Option<String>,
    },
    SetConstraintsAll,
    /// `ALTER ROLE … CONNECTION LIMIT`
    LimitRole {
        role: String,
        limit: i32,
    },
    Show(String),
    ShowAll,
    Reset(String),
    ResetAll,
    Discard(Discard),
    Lock {
        tables: Vec<ast::ObjectName>,
        mode: Mode,
        nowait: bool,
    },
    Listen(String),
    /// `None`: all.
    Unlisten(Option<String>),
    Notify {
        channel: String,
        payload: String,
    },
    Prepare {
        name: String,
        types: Vec<Type>,
        statement: Arc<Statement>,
    },
    Execute {
        name: String,
        arguments: Vec<ast::Expr>,
    },
    /// `None`: ALL.
    Deallocate(Option<String>),
    Declare {
        name: String,
        hold: bool,
        /// SCROLL, NO SCROLL, or neither.
        scroll: Option<bool>,
        query: Arc<Statement>,
    },
    /// FETCH, or MOVE.
    Fetch {
        name: String,
        direction: Direction,
        moves: bool,
    },
    /// `PREPARE TRANSACTION`
    PrepareTransaction,
    /// `COMMIT PREPARED`, or `ROLLBACK PREPARED`.
    FinishPrepared {
        commit: bool,
        name: String,
    },
    /// `None`: ALL.
    Close(Option<String>),
}

struct Reader<'a> {
    source: &'a Source<'a>,
    tokens: &'a [TokenWithSpan],
    at: usize,
}

type Parsed<T> = Result<T, PgError>;

impl<'a> Reader<'a> {
    fn word_at(&self, at: usize) -> Option<String> {
        match &self.tokens.get(at)?.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn is(&self, word: &str) -> bool {
        self.word_at(self.at).is_some_and(|found| found == word)
    }

    fn accept(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.at += usize::from(found);
        found
    }

    fn error(&self) -> PgError {
        match self.tokens.get(self.at) {
            Some(token) => self.source.syntax_error_at(token),
            None => self.source.syntax_error_at_end(),
        }
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.accept(word) { Ok(()) } else { Err(self.error()) }
    }

    fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|next| next.token == *token);
        self.at += usize::from(found);
        found
    }

    fn end(&self) -> Parsed<()> {
        if self.at == self.tokens.len() { Ok(()) } else { Err(self.error()) }
    }

    /// An identifier, folded to lower case unless quoted.
    fn name(&mut self) -> Parsed<String> {
        match self.tokens.get(self.at).map(|token| &token.token) {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(match word.quote_style {
                    Some(_) => word.value.clone(),
                    None => word.value.to_ascii_lowercase(),
                })
            }
            _ => Err(self.error()),
        }
    }

    /// `a.b` as one name.
    fn dotted_name(&mut self) -> Parsed<String> {
        let mut name = self.name()?;
        while self.accept_token(&Token::Period) {
            name.push('.');
            name.push_str(&self.name()?);
        }
        Ok(name)
    }

    fn object_name(&mut self) -> Parsed<ast::ObjectName> {
        let mut parts = Vec::new();
        loop {
            match self.tokens.get(self.at).map(|token| (&token.token, token.span)) {
                Some((Token::Word(word), span)) => {
                    self.at += 1;
                    parts.push(word.clone().into_ident(span));
                }
                _ => return Err(self.error()),
            }
            if !self.accept_token(&Token::Period) {
                return Ok(ast::ObjectName::from(parts));
            }
        }
    }

    fn string(&mut self) -> Parsed<String> {
        match self.tokens.get(self.at).map(|token| &token.token) {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => Err(self.error()),
        }
    }

    /// A literal of SET: a word, a string or a signed number.
    fn literal(&mut self) -> Parsed<String> {
        let sign = if self.accept_token(&Token::Minus) { "-" } else { "" };
        let _ = sign.is_empty() && self.accept_token(&Token::Plus);
        match self.tokens.get(self.at).map(|token| &token.token) {
            Some(Token::Number(number, _)) => {
                self.at += 1;
                Ok(format!("{sign}{number}"))
            }
            Some(Token::Word(_)) if sign.is_empty() => self.name(),
            Some(_) if sign.is_empty() => self.string(),
            _ => Err(self.error()),
        }
    }

    fn chain(&mut self) -> Parsed<bool> {
        if !self.accept("and") {
            return Ok(false);
        }
        let no = self.accept("no");
        self.expect("chain")?;
        Ok(!no)
    }

    fn modes(&mut self, required: bool) -> Parsed<Modes> {
        let mut modes = Modes::default();
        let mut any = false;
        while self.at < self.tokens.len() {
            if any {
                let _ = self.accept_token(&Token::Comma);
            }
            if self.accept("isolation") {
                self.expect("level")?;
                modes.isolation = Some(if self.accept("serializable") {
                    Isolation::Serializable
                } else if self.accept("repeatable") {
                    self.expect("read")?;
                    Isolation::RepeatableRead
                } else {
                    self.expect("read")?;
                    if self.accept("committed") {
                        Isolation::ReadCommitted
                    } else {
                        self.expect("uncommitted")?;
                        Isolation::ReadUncommitted
                    }
                });
            } else if self.accept("read") {
                modes.read_only = Some(if self.accept("only") {
                    true
                } else {
                    self.expect("write")?;
                    false
                });
            } else if self.accept("not") {
                self.expect("deferrable")?;
                modes.deferrable = Some(false);
            } else if self.accept("deferrable") {
                modes.deferrable = Some(true);
            } else {
                return Err(self.error());
            }
            any = true;
        }
        if required && !any {
            return Err(self.error());
        }
        Ok(modes)
    }

    fn lock_mode(&mut self) -> Parsed<Mode> {
        let mode = if self.accept("access") {
            if self.accept("share") {
                Mode::AccessShare
            } else {
                self.expect("exclusive")?;
                Mode::AccessExclusive
            }
        } else if self.accept("row") {
            if self.accept("share") {
                Mode::RowShare
            } else {
                self.expect("exclusive")?;
                Mode::RowExclusive
            }
        } else if self.accept("share") {
            if self.accept("update") {
                self.expect("exclusive")?;
                Mode::ShareUpdateExclusive
            } else if self.accept("row") {
                self.expect("exclusive")?;
                Mode::ShareRowExclusive
            } else {
                Mode::Share
            }
        } else {
            self.expect("exclusive")?;
            Mode::Exclusive
        };
        self.expect("mode")?;
        Ok(mode)
    }

    fn set(&mut self) -> Parsed<Utility> {
        let mut local = false;
        if self.is("session") {
            match self.word_at(self.at + 1).as_deref() {
                Some("characteristics") => {
                    self.at += 2;
                    self.expect("as")?;
                    self.expect("transaction")?;
                    return Ok(Utility::SetSessionCharacteristics(self.modes(true)?));
                }
                Some("authorization") => {}
                _ => self.at += 1,
            }
        } else if self.accept("local") {
            local = true;
        }
        if self.accept("transaction") {
            if self.is("snapshot") {
                return Err(PgError::unsupported("SET TRANSACTION SNAPSHOT"));
            }
            return Ok(Utility::SetTransaction(self.modes(true)?));
        }
        if self.accept("constraints") {
            self.expect("all")?;
            if !self.accept("deferred") {
                self.expect("immediate")?;
            }
            return Ok(Utility::SetConstraintsAll);
        }
        if self.is("session") && self.word_at(self.at + 1).as_deref() == Some("authorization") {
            self.at += 2;
            let user = if self.accept("default") { None } else { Some(self.name().or_else(|_| self.string())?) };
            return Ok(Utility::SetSessionAuthorization { local, user });
        }
        if self.is("role") && !matches!(self.tokens.get(self.at + 1).map(|t| &t.token), Some(Token::Eq)) {
            self.at += 1;
            let _ = self.accept("to");
            let role = if self.accept("none") { None } else { Some(self.name().or_else(|_| self.string())?) };
            return Ok(Utility::SetRole { local, role });
        }
        let name = if self.accept("time") {
            self.expect("zone")?;
            let value = if self.accept("local") || self.accept("default") {
                SetValue::Default
            } else {
                SetValue::Values(vec![self.literal()?])
            };
            return Ok(Utility::Set { local, name: "timezone".to_owned(), value });
        } else if self.accept("names") {
            let value = if self.at == self.tokens.len() || self.accept("default") {
                SetValue::Default
            } else {
                SetValue::Values(vec![self.string()?])
            };
            return Ok(Utility::Set { local, name: "client_encoding".to_owned(), value });
        } else {
            self.dotted_name()?
        };
        if !self.accept("to") && !self.accept_token(&Token::Eq) {
            return Err(self.error());
        }
        if self.accept("default") {
            return Ok(Utility::Set { local, name, value: SetValue::Default });
        }
        let mut values = vec![self.literal()?];
        while self.accept_token(&Token::Comma) {
            values.push(self.literal()?);
        }
        Ok(Utility::Set { local, name, value: SetValue::Values(values) })
    }

    /// `ROLE name [WITH] CONNECTION LIMIT n`; nothing of any other ALTER.
    fn limit_role(&mut self) -> Option<Utility> {
        if !self.accept("role") && !self.accept("user") {
            return None;
        }
        let role = self.name().ok()?;
        let _ = self.accept("with");
        if !self.accept("connection") || !self.accept("limit") {
            return None;
        }
        let limit = self.literal().ok()?.parse().ok()?;
        (self.at == self.tokens.len()).then_some(Utility::LimitRole { role, limit })
    }

    /// The name of a setting after SHOW or RESET.
    fn setting(&mut self) -> Parsed<String> {
        if self.accept("time") {
            self.expect("zone")?;
            return Ok("timezone".to_owned());
        }
        if self.accept("transaction") {
            self.expect("isolation")?;
            self.expect("level")?;
            return Ok("transaction_isolation".to_owned());
        }
        if self.is("session") && self.word_at(self.at + 1).as_deref() == Some("authorization") {
            self.at += 2;
            return Ok("session_authorization".to_owned());
        }
        self.dotted_name()
    }

    /// A signed number, if there is one.
    fn signed(&mut self) -> Parsed<Option<i64>> {
        let sign = matches!(self.tokens.get(self.at).map(|token| &token.token), Some(Token::Minus | Token::Plus));
        let Some(Token::Number(number, _)) = self.tokens.get(self.at + usize::from(sign)).map(|token| &token.token)
        else {
            return if sign { Err(self.error()) } else { Ok(None) };
        };
        // What is no `int4` is no number of the grammar.
        let number: i64 = number.parse::<i32>().map_err(|_| self.error())?.into();
        let negative = self.accept_token(&Token::Minus);
        self.at += 1 + usize::from(sign && !negative);
        Ok(Some(if negative { -number } else { number }))
    }

    /// `fetch_args` without the cursor.
    fn direction(&mut self) -> Parsed<Direction> {
        if let Some(count) = self.signed()? {
            return Ok(Direction::Forward(count));
        }
        for (word, direction) in [
            ("next", Direction::Forward(1)),
            ("prior", Direction::Backward(1)),
            ("first", Direction::Absolute(1)),
            ("last", Direction::Absolute(-1)),
            ("all", Direction::Forward(ALL)),
        ] {
            if self.accept(word) {
                return Ok(direction);
            }
        }
        for (word, direction) in
            [("absolute", Direction::Absolute as fn(i64) -> Direction), ("relative", Direction::Relative)]
        {
            if self.accept(word) {
                return Ok(direction(self.signed()?.ok_or_else(|| self.error())?));
            }
        }
        for (word, direction) in
            [("forward", Direction::Forward as fn(i64) -> Direction), ("backward", Direction::Backward)]
        {
            if self.accept(word) {
                let count = if self.accept("all") { ALL } else { self.signed()?.unwrap_or(1) };
                return Ok(direction(count));
            }
        }
        Ok(Direction::Forward(1))
    }

    /// The rest of the tokens as a statement of its own.
    fn rest(&mut self, text: &Arc<str>, cost: Option<&Arc<super::StatementCost>>) -> Parsed<Arc<Statement>> {
        let tokens = self.tokens[self.at..].to_vec();
        if tokens.is_empty() {
            return Err(self.error());
        }
        self.at = self.tokens.len();
        let command = super::script::parse_one(self.source, text, tokens, cost)?;
        Ok(Arc::new(Statement { text: text.clone(), command, plan: Mutex::new(None), cost: cost.cloned() }))
    }
}

/// A utility command, or None when the tokens begin something else.
pub(super) fn parse(
    source: &Source<'_>,
    text: &Arc<str>,
    tokens: &[TokenWithSpan],
    cost: Option<&Arc<super::StatementCost>>,
) -> Parsed<Option<Utility>> {
    let mut reader = Reader { source, tokens, at: 1 };
    let Some(first) = reader.word_at(0) else {
        return Ok(None);
    };
    let utility = match first.as_str() {
        "begin" => {
            let _ = reader.accept("work") || reader.accept("transaction");
            let modes = reader.modes(false)?;
            Utility::Transaction(TransactionCommand::Begin { start: false, modes })
        }
        "start" => {
            reader.expect("transaction")?;
            let modes = reader.modes(false)?;
            Utility::Transaction(TransactionCommand::Begin { start: true, modes })
        }
        "commit" | "end" | "rollback" | "abort" => {
            if matches!(first.as_str(), "commit" | "rollback") && reader.accept("prepared") {
                let name = reader.string()?;
                reader.end()?;
                return Ok(Some(Utility::FinishPrepared { commit: first == "commit", name }));
            }
            let _ = reader.accept("work") || reader.accept("transaction");
            let commit = matches!(first.as_str(), "commit" | "end");
            if first == "rollback" && reader.accept("to") {
                let _ = reader.accept("savepoint");
                Utility::Transaction(TransactionCommand::RollbackTo(reader.name()?))
            } else {
                let chain = reader.chain()?;
                Utility::Transaction(if commit {
                    TransactionCommand::Commit { chain }
                } else {
                    TransactionCommand::Rollback { chain }
                })
            }
        }
        "savepoint" => Utility::Transaction(TransactionCommand::Savepoint(reader.name()?)),
        "release" => {
            let _ = reader.accept("savepoint");
            Utility::Transaction(TransactionCommand::Release(reader.name()?))
        }
        "set" => reader.set()?,
        "alter" => match reader.limit_role() {
            Some(limit) => limit,
            None => return Ok(None),
        },
        "show" => {
            if reader.accept("all") {
                Utility::ShowAll
            } else {
                Utility::Show(reader.setting()?)
            }
        }
        "reset" => {
            if reader.accept("all") {
                Utility::ResetAll
            } else {
                Utility::Reset(reader.setting()?)
            }
        }
        "discard" => Utility::Discard(if reader.accept("all") {
            Discard::All
        } else if reader.accept("plans") {
            Discard::Plans
        } else if reader.accept("temp") || reader.accept("temporary") {
            Discard::Temp
        } else {
            reader.expect("sequences")?;
            Discard::Sequences
        }),
        "lock" => {
            let _ = reader.accept("table");
            let _ = reader.accept("only");
            let mut tables = vec![reader.object_name()?];
            while reader.accept_token(&Token::Comma) {
                tables.push(reader.object_name()?);
            }
            let mode = if reader.accept("in") { reader.lock_mode()? } else { Mode::AccessExclusive };
            Utility::Lock { tables, mode, nowait: reader.accept("nowait") }
        }
        "listen" => Utility::Listen(reader.name()?),
        "unlisten" => {
            if reader.accept_token(&Token::Mul) {
                Utility::Unlisten(None)
            } else {
                Utility::Unlisten(Some(reader.name()?))
            }
        }
        "notify" => {
            let channel = reader.name()?;
            let payload = if reader.accept_token(&Token::Comma) { reader.string()? } else { String::new() };
            Utility::Notify { channel, payload }
        }
        "prepare" => {
            if reader.is("transaction") && reader.word_at(reader.at + 1).is_none() {
                reader.at += 1;
                reader.string()?;
                reader.end()?;
                return Ok(Some(Utility::PrepareTransaction));
            }
            let name = reader.name()?;
            let mut types = Vec::new();
            if reader.accept_token(&Token::LParen) {
                loop {
                    let (data_type, used) = data_type(&reader.tokens[reader.at..]).ok_or_else(|| reader.error())?;
                    reader.at += used;
                    types.push(super::bind::type_of(&data_type)?.0);
                    if !reader.accept_token(&Token::Comma) {
                        break;
                    }
                }
                if !reader.accept_token(&Token::RParen) {
                    return Err(reader.error());
                }
            }
            reader.expect("as")?;
            let statement = reader.rest(text, cost)?;
            if matches!(statement.command, super::script::Command::Utility(_)) {
                return Err(source.syntax_error_at(tokens.last().expect("PREPARE has tokens")));
            }
            Utility::Prepare { name, types, statement }
        }
        "execute" => {
            let name = reader.name()?;
            let mut arguments = Vec::new();
            if reader.accept_token(&Token::LParen) {
                let rest = reader.tokens[reader.at..].to_vec();
                let count = rest.len();
                let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(rest);
                let bad = |_| source.syntax_error_at(&tokens[tokens.len() - 1]);
                loop {
                    arguments.push(parser.parse_expr().map_err(bad)?);
                    if parser.peek_token().token != Token::Comma {
                        break;
                    }
                    parser.next_token();
                }
                if parser.next_token().token != Token::RParen || parser.peek_token().token != Token::EOF {
                    return Err(source.syntax_error_at(&parser.peek_token()));
                }
                reader.at += count;
            }
            Utility::Execute { name, arguments }
        }
        "deallocate" => {
            let _ = reader.accept("prepare");
            if reader.accept("all") { Utility::Deallocate(None) } else { Utility::Deallocate(Some(reader.name()?)) }
        }
        "declare" => {
            let name = reader.name()?;
            let mut scroll = None;
            loop {
                if reader.is("binary") {
                    return Err(PgError::unsupported("BINARY cursors"));
                }
                if reader.accept("insensitive") || reader.accept("asensitive") {
                    continue;
                }
                if reader.accept("no") {
                    reader.expect("scroll")?;
                    scroll = Some(false);
                } else if reader.accept("scroll") {
                    scroll = Some(true);
                } else {
                    break;
                }
            }
            reader.expect("cursor")?;
            let hold = if reader.accept("with") {
                reader.expect("hold")?;
                true
            } else if reader.accept("without") {
                reader.expect("hold")?;
                false
            } else {
                false
            };
            reader.expect("for")?;
            let query = reader.rest(text, cost)?;
            if !matches!(query.command, super::script::Command::Select(_)) {
                return Err(source.syntax_error_at(&tokens[tokens.len() - 1]));
            }
            Utility::Declare { name, hold, scroll, query }
        }
        "fetch" | "move" => {
            let direction = reader.direction()?;
            let _ = reader.accept("from") || reader.accept("in");
            Utility::Fetch { name: reader.name()?, direction, moves: first == "move" }
        }
        "close" => {
            if reader.accept("all") {
                Utility::Close(None)
            } else {
                Utility::Close(Some(reader.name()?))
            }
        }
        _ => return Ok(None),
    };
    reader.end()?;
    Ok(Some(utility))
}

/// A type at the head of `tokens`, and how many tokens it took.
fn data_type(tokens: &[TokenWithSpan]) -> Option<(ast::DataType, usize)> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens.to_vec());
    let parsed = parser.parse_data_type().ok()?;
    let next = parser.peek_token();
    let used = tokens.iter().position(|token| token.span.start == next.span.start).unwrap_or(tokens.len());
    Some((parsed, used))
}

/// 42704 for a type that does not exist.
pub(super) fn no_such_type(name: &str) -> PgError {
    PgError::error(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}
