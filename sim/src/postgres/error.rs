//! Errors and notices as PostgreSQL reports them: severity, SQLSTATE and text.
//!
//! <https://www.postgresql.org/docs/15/protocol-error-fields.html> and
//! <https://www.postgresql.org/docs/15/errcodes-appendix.html>

use std::borrow::Cow;

/// The severity field of an ErrorResponse or a NoticeResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// A message to be shown, nothing wrong.
    Notice,
    /// Likely a mistake; the command went on.
    Warning,
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// Every session ends.
    Panic,
}

impl Severity {
    /// The text in the `S` and `V` fields.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Panic => "PANIC",
        }
    }
}

/// A five-character SQLSTATE; the constants carry PostgreSQL's condition names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SqlState(pub &'static str);

macro_rules! sqlstates {
    ($($name:ident = $code:literal,)*) => {
        #[expect(missing_docs, reason = "the names are PostgreSQL's condition names")]
        impl SqlState { $(pub const $name: SqlState = SqlState($code);)* }
    };
}

sqlstates! {
    SUCCESSFUL_COMPLETION = "00000",
    CONNECTION_FAILURE = "08006",
    PROTOCOL_VIOLATION = "08P01",
    FEATURE_NOT_SUPPORTED = "0A000",
    CARDINALITY_VIOLATION = "21000",
    NUMERIC_VALUE_OUT_OF_RANGE = "22003",
    DIVISION_BY_ZERO = "22012",
    INVALID_PARAMETER_VALUE = "22023",
    INVALID_TEXT_REPRESENTATION = "22P02",
    INVALID_BINARY_REPRESENTATION = "22P03",
    STRING_DATA_RIGHT_TRUNCATION = "22001",
    NOT_NULL_VIOLATION = "23502",
    FOREIGN_KEY_VIOLATION = "23503",
    UNIQUE_VIOLATION = "23505",
    CHECK_VIOLATION = "23514",
    ACTIVE_SQL_TRANSACTION = "25001",
    READ_ONLY_SQL_TRANSACTION = "25006",
    NO_ACTIVE_SQL_TRANSACTION = "25P01",
    IN_FAILED_SQL_TRANSACTION = "25P02",
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03",
    TRANSACTION_TIMEOUT = "25P04",
    INVALID_SQL_STATEMENT_NAME = "26000",
    INVALID_AUTHORIZATION_SPECIFICATION = "28000",
    INVALID_PASSWORD = "28P01",
    DEPENDENT_OBJECTS_STILL_EXIST = "2BP01",
    INVALID_CURSOR_NAME = "34000",
    INVALID_CATALOG_NAME = "3D000",
    INVALID_SCHEMA_NAME = "3F000",
    INVALID_SAVEPOINT_SPECIFICATION = "3B001",
    SERIALIZATION_FAILURE = "40001",
    DEADLOCK_DETECTED = "40P01",
    SYNTAX_ERROR = "42601",
    INSUFFICIENT_PRIVILEGE = "42501",
    UNDEFINED_COLUMN = "42703",
    UNDEFINED_FUNCTION = "42883",
    UNDEFINED_TABLE = "42P01",
    UNDEFINED_PARAMETER = "42P02",
    UNDEFINED_OBJECT = "42704",
    AMBIGUOUS_COLUMN = "42702",
    DUPLICATE_COLUMN = "42701",
    DUPLICATE_CURSOR = "42P03",
    DUPLICATE_TABLE = "42P07",
    DUPLICATE_PREPARED_STATEMENT = "42P05",
    DATATYPE_MISMATCH = "42804",
    INDETERMINATE_DATATYPE = "42P18",
    GROUPING_ERROR = "42803",
    INVALID_COLUMN_REFERENCE = "42P10",
    OUT_OF_MEMORY = "53200",
    TOO_MANY_CONNECTIONS = "53300",
    CONFIGURATION_LIMIT_EXCEEDED = "53400",
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000",
    CANT_CHANGE_RUNTIME_PARAM = "55P02",
    LOCK_NOT_AVAILABLE = "55P03",
    QUERY_CANCELED = "57014",
    ADMIN_SHUTDOWN = "57P01",
    CRASH_SHUTDOWN = "57P02",
    CANNOT_CONNECT_NOW = "57P03",
    IDLE_SESSION_TIMEOUT = "57P05",
    INTERNAL_ERROR = "XX000",
}

impl std::fmt::Display for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// One ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgError {
    /// `S` and `V`.
    pub severity: Severity,
    /// `C`.
    pub code: SqlState,
    /// `M`, in PostgreSQL's own wording.
    pub message: Cow<'static, str>,
    /// `D`.
    pub detail: Option<String>,
    /// `H`.
    pub hint: Option<String>,
    /// `P`: 1-based, in characters of the query text.
    pub position: Option<u32>,
    /// `W`: what the server was doing, as `while updating tuple (0,1) in relation "t"`.
    pub context: Option<String>,
    /// `s`, `t`, `n`: schema, table and constraint of an integrity violation.
    pub object: Option<Box<ObjectFields>>,
}

/// The object named by an integrity violation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectFields {
    /// `s`
    pub schema: String,
    /// `t`
    pub table: String,
    /// `c`
    pub column: Option<String>,
    /// `n`
    pub constraint: Option<String>,
}

impl PgError {
    /// Any severity.
    pub fn new(severity: Severity, code: SqlState, message: impl Into<Cow<'static, str>>) -> PgError {
        PgError {
            severity,
            code,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            object: None,
        }
    }

    /// An ERROR: the statement fails, the session goes on.
    pub fn error(code: SqlState, message: impl Into<Cow<'static, str>>) -> PgError {
        PgError::new(Severity::Error, code, message)
    }

    /// A FATAL: the session ends.
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> PgError {
        PgError::new(Severity::Fatal, code, message)
    }

    /// A WARNING: the command goes on.
    pub fn warning(code: SqlState, message: impl Into<Cow<'static, str>>) -> PgError {
        PgError::new(Severity::Warning, code, message)
    }

    /// SQLSTATE 0A000, naming what this server does not model. `what` completes "poolproof's server does not support …".
    pub fn unsupported(what: impl std::fmt::Display) -> PgError {
        PgError::error(SqlState::FEATURE_NOT_SUPPORTED, format!("poolproof's server does not support {what}"))
    }

    /// The same as a FATAL: what any ERROR is before there is a session.
    #[must_use]
    pub fn into_fatal(self) -> PgError {
        PgError { severity: Severity::Fatal, ..self }
    }

    /// Adds the DETAIL line.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> PgError {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the HINT line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> PgError {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the CONTEXT line.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> PgError {
        self.context = Some(context.into());
        self
    }

    /// Adds the position (1-based, characters).
    #[must_use]
    pub fn position(mut self, position: u32) -> PgError {
        self.position = Some(position);
        self
    }
}

impl std::fmt::Display for PgError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.severity.as_str(), self.code, self.message)
    }
}

impl std::error::Error for PgError {}
