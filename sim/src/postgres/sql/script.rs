//! Scripts.
use std::sync::Arc;
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
        todo!()
    }
    /// Whether it may run in a failed transaction (COMMIT, ROLLBACK, ROLLBACK TO, PREPARE TRANSACTION): for Parse, Bind and Execute.
    #[must_use]
    pub fn allowed_in_failed(&self) -> bool {
        todo!()
    }
}
