//! Extended query: Parse, Bind, Describe, Execute and Close, prepared statements and portals.
//! <https://www.postgresql.org/docs/15/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>
//!
//! Follows `exec_parse_message` and its neighbours in `postgres.c`, the order of their checks included. A portal ends
//! with its transaction. Modelling choice: a portal's statement runs to its end at the first Execute, also when a row
//! limit then hands its rows out in parts; PostgreSQL reads on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse};

use super::activity::Backend;
use super::error::{PgError, SqlState};
use super::event::BackendState;
use super::link::Socket;
use super::session::{Connection, Stop};
use super::sql::{Column, Description, Framing, Prepared, Statement, Type, Value};
use super::transaction::TransactionStatus;
use super::wire::{self, Bare, Formats};

/// A statement bound to its parameters.
#[derive(Debug)]
struct Portal {
    /// `None` for an empty query.
    statement: Option<Arc<Statement>>,
    types: Vec<Type>,
    parameters: Vec<Value>,
    formats: RawFormats,
    progress: Progress,
}

/// Bind's result format codes, checked when they are used.
#[derive(Debug, Clone, Default)]
struct RawFormats(Vec<i16>);

/// How far a portal got.
#[derive(Debug)]
enum Progress {
    /// Not executed yet.
    Fresh,
    /// Executed; rows are left, or what it fails with behind them.
    Rows { columns: Arc<[Column]>, rows: std::vec::IntoIter<Vec<Value>>, tag: Arc<str>, fails: Option<Box<PgError>> },
    /// A SELECT whose rows are all handed out: it can be asked again, in vain.
    Exhausted,
    /// Cannot run again.
    Done,
}

/// A session's portals, and the prepared statements that the SQL level does not know.
#[derive(Debug, Default)]
pub(super) struct Portals {
    unnamed: Option<Portal>,
    named: BTreeMap<String, Portal>,
    unnamed_statement: Option<Prepared>,
    /// Prepared statements of an empty query text; the unnamed one as "".
    empty: BTreeSet<String>,
    /// Names of portals changed since they were last published.
    changed: bool,
}

impl Portals {
    fn get(&mut self, name: &str) -> Result<&mut Portal, PgError> {
        let portal = match name {
            "" => self.unnamed.as_mut(),
            name => self.named.get_mut(name),
        };
        portal.ok_or_else(|| PgError::error(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist")))
    }

    fn close(&mut self, name: &str) {
        match name {
            "" => self.unnamed = None,
            name => self.changed |= self.named.remove(name).is_some(),
        }
    }

    /// The transaction is over, and its portals with it.
    pub(super) fn end_transaction(&mut self) {
        self.unnamed = None;
        if !self.named.is_empty() {
            self.named.clear();
            self.changed = true;
        }
    }

    /// An error: portals are gone with an implicit transaction; in a block they stay, but cannot run.
    pub(super) fn fail(&mut self, transaction_over: bool) {
        if transaction_over {
            self.end_transaction();
        }
        for portal in self.named.values_mut().chain(self.unnamed.as_mut()) {
            portal.progress = Progress::Done;
        }
    }

    /// A simple query takes the place of the unnamed statement and the unnamed portal.
    pub(super) fn drop_unnamed(&mut self) {
        self.unnamed = None;
        self.unnamed_statement = None;
        if !self.empty.is_empty() {
            self.empty.remove("");
        }
    }

    /// Makes the names visible to whoever asks for a report of the session.
    pub(super) fn publish(&mut self, backend: &Backend) {
        if std::mem::take(&mut self.changed) {
            backend.activity.lock().portals = self.named.keys().cloned().collect();
        }
    }
}

impl RawFormats {
    /// Error: 22023 for a code that is neither text nor binary.
    fn parse(&self) -> Result<Formats, PgError> {
        Ok(match self.0.as_slice() {
            [] => Formats::Text,
            [one] if is_binary(*one)? => Formats::Binary,
            [_] => Formats::Text,
            several => Formats::Each(several.iter().map(|code| is_binary(*code)).collect::<Result<_, _>>()?),
        })
    }
}

fn is_binary(code: i16) -> Result<bool, PgError> {
    match code {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, format!("unsupported format code: {other}"))),
    }
}

fn violation(message: String) -> PgError {
    PgError::error(SqlState::PROTOCOL_VIOLATION, message)
}

fn no_statement(name: &str) -> PgError {
    let message = match name {
        "" => "unnamed prepared statement does not exist".to_owned(),
        name => format!("prepared statement \"{name}\" does not exist"),
    };
    PgError::error(SqlState::INVALID_SQL_STATEMENT_NAME, message)
}

/// A prepared statement as the protocol sees it.
enum Found {
    Empty,
    Statement(Prepared),
}

impl<S: Socket> Connection<S> {
    /// A message of an extended query: the backend is active with this text, and its transaction has begun.
    fn begin_message(&mut self, text: Option<&Arc<str>>) -> Result<(), Stop> {
        self.set_state(BackendState::Active, text);
        self.check_statement_timeout()?;
        self.begin_transaction()
    }

    fn begin_transaction(&mut self) -> Result<(), Stop> {
        if self.status == TransactionStatus::Failed {
            return Ok(());
        }
        let framing = match self.pipelining {
            true => Framing::Pipelined,
            false => Framing::Single,
        };
        self.engine(|engine, session, host| engine.statement_begin(host, session, framing))?;
        Ok(())
    }

    /// `exec_parse_message`
    pub(super) async fn parse(&mut self, parse: Parse) -> Result<(), Stop> {
        let name = parse.name.unwrap_or_default();
        if name.is_empty() {
            self.portals.unnamed_statement = None;
            self.portals.empty.remove("");
        }
        let script = match self.engine(|engine, _, _| engine.parse(&parse.query))? {
            Ok(script) => script,
            Err(error) => {
                self.begin_message(Some(&Arc::from(parse.query)))?;
                return Err(error.into());
            }
        };
        let statement = match script.statements.as_slice() {
            [] => {
                self.begin_message(Some(&Arc::from(parse.query)))?;
                self.refuse_duplicate(&name)?;
                self.portals.empty.insert(name);
                wire::bare(&mut self.link.output, Bare::ParseComplete);
                return Ok(());
            }
            [statement] => statement.clone(),
            _ => {
                self.begin_message(Some(&Arc::from(parse.query)))?;
                return Err(PgError::error(
                    SqlState::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                )
                .into());
            }
        };
        self.begin_message(Some(statement.text()))?;
        self.refuse_in_failed(statement.allowed_in_failed())?;
        self.lock_for_analysis(&statement, &parse.type_oids, true).await?;
        let (description, prepared_us) = self.engine(|engine, session, _| {
            (engine.describe(session, &statement, &parse.type_oids), session.statement_us())
        })?;
        let Description { parameters, columns } = description?;
        let prepared = Prepared { statement, parameters, columns, from_sql: false, prepared_us };
        if name.is_empty() {
            self.portals.unnamed_statement = Some(prepared);
        } else {
            self.refuse_duplicate(&name)?;
            self.engine(|_, session, _| session.prepared.insert(name, prepared))?;
        }
        wire::bare(&mut self.link.output, Bare::ParseComplete);
        Ok(())
    }

    /// 42P05, if there is a prepared statement of this name.
    fn refuse_duplicate(&mut self, name: &str) -> Result<(), Stop> {
        if name.is_empty() {
            return Ok(());
        }
        let taken =
            self.portals.empty.contains(name) || self.engine(|_, session, _| session.prepared.contains_key(name))?;
        if !taken {
            return Ok(());
        }
        Err(PgError::error(
            SqlState::DUPLICATE_PREPARED_STATEMENT,
            format!("prepared statement \"{name}\" already exists"),
        )
        .into())
    }

    fn find_statement(&mut self, name: &str) -> Result<Found, Stop> {
        if self.portals.empty.contains(name) {
            return Ok(Found::Empty);
        }
        let found = match name {
            "" => self.portals.unnamed_statement.clone(),
            name => self.engine(|_, session, _| session.prepared.get(name).cloned())?,
        };
        Ok(Found::Statement(found.ok_or_else(|| no_statement(name))?))
    }

    /// Whether a portal's name is that of a cursor of DECLARE, which is a portal, too.
    fn is_cursor(&mut self, name: &str) -> Result<bool, Stop> {
        Ok(!name.is_empty()
            && !self.portals.named.contains_key(name)
            && self.engine(|_, session, _| session.cursor_columns(name).is_some())?)
    }

    /// `exec_bind_message`
    pub(super) async fn bind(&mut self, bind: Bind) -> Result<(), Stop> {
        let portal_name = bind.portal_name.unwrap_or_default();
        let statement_name = bind.statement_name.unwrap_or_default();
        let found = self.find_statement(&statement_name)?;
        let prepared = match found {
            Found::Empty => None,
            Found::Statement(prepared) => Some(prepared),
        };
        let statement = prepared.as_ref().map(|prepared| prepared.statement.clone());
        let types = prepared.as_ref().map_or(Vec::new(), |prepared| prepared.parameters.clone());
        self.begin_message(statement.as_ref().map(|statement| statement.text()))?;

        let (formats, count) = (&bind.parameter_format_codes, bind.parameters.len());
        if formats.len() > 1 && formats.len() != count {
            return Err(violation(format!(
                "bind message has {} parameter formats but {count} parameters",
                formats.len()
            ))
            .into());
        }
        if count != types.len() {
            return Err(violation(format!(
                "bind message supplies {count} parameters, but prepared statement \"{statement_name}\" requires {}",
                types.len()
            ))
            .into());
        }
        let allowed = statement.as_ref().is_some_and(|statement| statement.allowed_in_failed());
        self.refuse_in_failed(allowed && count == 0)?;
        if !portal_name.is_empty() && (self.portals.named.contains_key(&portal_name) || self.is_cursor(&portal_name)?) {
            return Err(
                PgError::error(SqlState::DUPLICATE_CURSOR, format!("cursor \"{portal_name}\" already exists")).into()
            );
        }
        let mut parameters = Vec::with_capacity(count);
        for (index, (raw, kind)) in bind.parameters.iter().zip(&types).enumerate() {
            let format = match formats.as_slice() {
                [] => 0,
                [one] => *one,
                several => several[index],
            };
            parameters.push(decode_parameter(&portal_name, index, raw.as_deref(), *kind, format)?);
        }
        let formats = RawFormats(bind.result_column_format_codes);
        let oids: Vec<u32> = types.iter().map(|kind| kind.oid()).collect();
        if let Some(prepared) = &prepared {
            let statement = &prepared.statement;
            self.lock_for_analysis(statement, &oids, false).await?;
            self.engine(|engine, session, host| {
                engine.same_result(session, prepared)?;
                engine.plan_bound(host, session, statement, &oids, &parameters)
            })??;
        }
        if formats.0.len() > 1
            && let Some(statement) = &statement
        {
            let description = self.engine(|engine, session, _| engine.describe(session, statement, &oids))??;
            let columns = description.columns.map_or(0, |columns| columns.len());
            if columns != formats.0.len() {
                return Err(violation(format!(
                    "bind message has {} result formats but query has {columns} columns",
                    formats.0.len()
                ))
                .into());
            }
        }
        let portal = Portal { statement, types, parameters, formats, progress: Progress::Fresh };
        if portal_name.is_empty() {
            self.portals.unnamed = Some(portal);
        } else {
            self.portals.named.insert(portal_name, portal);
            self.portals.changed = true;
        }
        wire::bare(&mut self.link.output, Bare::BindComplete);
        Ok(())
    }

    /// `exec_describe_statement_message` and `exec_describe_portal_message`
    pub(super) async fn describe(&mut self, describe: &Describe) -> Result<(), Stop> {
        let name = describe.name.as_deref().unwrap_or_default();
        let mut prepared = None;
        let (statement, types, formats) = match describe.target_type {
            b'S' => {
                self.begin_transaction()?;
                match self.find_statement(name)? {
                    Found::Empty => (None, Vec::new(), None),
                    Found::Statement(found) => {
                        let found = prepared.insert(found);
                        (Some(found.statement.clone()), found.parameters.clone(), None)
                    }
                }
            }
            b'P' if self.is_cursor(name)? => {
                self.begin_transaction()?;
                self.refuse_in_failed(false)?;
                let columns = self.engine(|_, session, _| session.cursor_columns(name))?;
                wire::row_description(&mut self.link.output, &columns.unwrap_or_default(), &Formats::Text);
                return Ok(());
            }
            b'P' => {
                self.begin_transaction()?;
                let portal = self.portals.get(name)?;
                let formats = portal.formats.parse();
                (portal.statement.clone(), portal.types.clone(), Some(formats?))
            }
            other => {
                return Err(violation(format!("invalid DESCRIBE message subtype {other}")).into());
            }
        };
        let mut columns = None;
        if statement.is_none() && formats.is_none() {
            wire::parameter_description(&mut self.link.output, &types);
        }
        if let Some(statement) = statement {
            // In a failed transaction nothing may be looked up in the catalogue, but COMMIT and its like return no rows.
            self.refuse_in_failed(statement.allowed_in_failed())?;
            let oids: Vec<u32> = types.iter().map(|kind| kind.oid()).collect();
            if formats.is_none() {
                wire::parameter_description(&mut self.link.output, &types);
                self.lock_for_analysis(&statement, &oids, false).await?;
            }
            if let Some(prepared) = &prepared {
                self.engine(|engine, session, _| engine.same_result(session, prepared))??;
            }
            columns = self.engine(|engine, session, _| engine.describe(session, &statement, &oids))??.columns;
        }
        let formats = formats.unwrap_or(Formats::Text);
        match columns {
            Some(columns) => wire::row_description(&mut self.link.output, &columns, &formats),
            None => wire::bare(&mut self.link.output, Bare::NoData),
        }
        Ok(())
    }

    /// `exec_execute_message`
    pub(super) async fn execute(&mut self, execute: Execute) -> Result<(), Stop> {
        let name = execute.name.unwrap_or_default();
        if self.is_cursor(&name)? {
            return Err(PgError::unsupported("Execute of a cursor of DECLARE").into());
        }
        let portal = self.portals.get(&name)?;
        let Some(statement) = portal.statement.clone() else {
            wire::bare(&mut self.link.output, Bare::EmptyQueryResponse);
            return Ok(());
        };
        // Every portal but a failed one can be looked at; what it holds is taken out while it runs.
        let progress = std::mem::replace(&mut portal.progress, Progress::Done);
        let formats = portal.formats.clone();
        let fresh = matches!(progress, Progress::Fresh).then(|| (portal.types.clone(), portal.parameters.clone()));
        self.begin_message(Some(statement.text()))?;
        self.refuse_in_failed(statement.allowed_in_failed())?;
        let formats = formats.parse()?;
        let limit = usize::try_from(execute.max_rows).unwrap_or(0);

        let (columns, mut rows, tag, fails) = match progress {
            Progress::Fresh => {
                self.announce(statement.text());
                let (types, parameters) = fresh.expect("taken above");
                let output = self.run_statement(&statement, &types, parameters).await?;
                self.send_notices(&output);
                match output.rows {
                    None => {
                        self.finish_execute(&statement)?;
                        self.complete(output.tag);
                        return Ok(());
                    }
                    Some(mut rows) => {
                        self.engine(|engine, _, _| {
                            engine.name_relations(&rows.columns, &mut rows.rows, |at| formats.binary(at));
                        })?;
                        (rows.columns, rows.rows.into_iter(), output.tag, output.fails)
                    }
                }
            }
            Progress::Rows { columns, rows, tag, fails } => (columns, rows, tag, fails),
            Progress::Exhausted => {
                self.portals.get(&name)?.progress = Progress::Exhausted;
                self.complete(Arc::from("SELECT 0"));
                return Ok(());
            }
            Progress::Done => {
                return Err(PgError::error(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("portal \"{name}\" cannot be run"),
                )
                .into());
            }
        };

        let sent = if limit == 0 || limit > rows.len() { rows.len() } else { limit };
        self.send_rows(&columns, &rows.as_slice()[..sent], &formats).await?;
        rows.by_ref().take(sent).for_each(drop);
        let suspended = limit != 0 && sent == limit;
        if let (false, Some(error)) = (suspended, &fails) {
            return Err((**error).clone().into());
        }
        self.finish_execute(&statement)?;
        if suspended {
            self.portals.get(&name)?.progress = Progress::Rows { columns, rows, tag, fails };
            wire::bare(&mut self.link.output, Bare::PortalSuspended);
            self.announce_end(Ok(Arc::from("PortalSuspended")));
            return Ok(());
        }
        if tag.starts_with("SELECT ")
            && let Ok(portal) = self.portals.get(&name)
        {
            portal.progress = Progress::Exhausted;
        }
        // The tag counts the rows of this Execute alone.
        self.complete(match tag.rsplit_once(' ') {
            Some((word, count)) if count != sent.to_string() => Arc::from(format!("{word} {sent}")),
            _ => tag,
        });
        Ok(())
    }

    /// The end of an Execute that reached the end of its statement or its limit, before CommandComplete.
    fn finish_execute(&mut self, statement: &Statement) -> Result<(), Stop> {
        if !statement.ends_transaction() {
            self.check_signals()?;
        }
        if statement.is_transaction_control() {
            self.commit()?;
        } else {
            self.pipelining = true;
        }
        self.statement_deadline = None;
        Ok(())
    }

    fn complete(&mut self, tag: Arc<str>) {
        wire::command_complete(&mut self.link.output, &tag);
        self.announce_end(Ok(tag));
    }

    /// Close: of what does not exist, too.
    pub(super) fn close(&mut self, close: Close) -> Result<(), Stop> {
        let name = close.name.unwrap_or_default();
        match close.target_type {
            b'S' => {
                self.portals.empty.remove(&name);
                match name.as_str() {
                    "" => self.portals.unnamed_statement = None,
                    name => drop(self.engine(|_, session, _| session.prepared.remove(name))?),
                }
            }
            b'P' => {
                self.portals.close(&name);
                self.engine(|_, session, _| session.close_cursor(&name))?;
            }
            other => return Err(violation(format!("invalid CLOSE message subtype {other}")).into()),
        }
        wire::bare(&mut self.link.output, Bare::CloseComplete);
        Ok(())
    }
}

/// One parameter of Bind, with the CONTEXT that PostgreSQL adds to what is wrong with it.
fn decode_parameter(portal: &str, index: usize, raw: Option<&[u8]>, kind: Type, format: i16) -> Result<Value, PgError> {
    let whose = match portal {
        "" => "unnamed portal".to_owned(),
        name => format!("portal \"{name}\""),
    };
    let number = index + 1;
    let context = |error: PgError, value: &str| error.context(format!("{whose} parameter ${number}{value}"));
    let binary = is_binary(format).map_err(|error| context(error, ""))?;
    let Some(raw) = raw else {
        return Ok(Value::Null);
    };
    if binary {
        // The input functions read from the message, and end where the parameter does.
        if usize::try_from(kind.size()).is_ok_and(|size| raw.len() < size) {
            let error = violation("insufficient data left in message".to_owned());
            return Err(context(error, ""));
        }
        return Value::decode_binary(kind, raw).map_err(|mut error| {
            if error.code == SqlState::INVALID_BINARY_REPRESENTATION {
                error.message = format!("incorrect binary data format in bind parameter {number}").into();
            }
            context(error, "")
        });
    }
    let text = match std::str::from_utf8(raw) {
        Ok(text) => text,
        Err(error) => return Err(context(wire::invalid_utf8(&raw[error.valid_up_to()..]), "")),
    };
    let shown = if text.is_empty() { " = ''" } else { " = '...'" };
    Value::decode_text(kind, text).map_err(|error| context(error, shown))
}
