//! The names in the system catalog of a PostgreSQL 15.18: what of them this server lacks fails with 0A000, and not as if the
//! real one had nothing of the kind either.
//!
//! `relations.txt` has the tables and views of `pg_catalog` and `information_schema`, `columns.txt` all columns of those that
//! [`super::sysviews`] has a part of, and `functions.txt` what SQL text can call, with the types of its arguments.

/// Tables and views, those of `information_schema` with their schema.
static RELATIONS: &str = include_str!("pg_catalog/relations.txt");
/// A relation and its columns.
static COLUMNS: &str = include_str!("pg_catalog/columns.txt");
/// `name(type,type) variadic defaults 2`, the last two where they are so.
static FUNCTIONS: &str = include_str!("pg_catalog/functions.txt");

/// Whether a name in a query means a relation of the system catalog.
pub(super) fn has_relation(schema: Option<&str>, name: &str) -> bool {
    RELATIONS.lines().any(|line| match line.split_once('.') {
        Some((of, line)) => schema == Some(of) && line == name,
        None => schema.is_none_or(|schema| schema == "pg_catalog") && line == name,
    })
}

/// Whether a relation of the catalog that this server has a part of has this column.
pub(super) fn has_column(relation: &str, column: &str) -> bool {
    let line = COLUMNS.lines().find_map(|line| line.strip_prefix(relation)?.strip_prefix(' '));
    line.is_some_and(|columns| columns.split(' ').any(|name| name == column))
}

/// The overloads of a function's name.
pub(super) fn overloads(name: &str) -> impl Iterator<Item = Overload> {
    FUNCTIONS.lines().filter_map(move |line| {
        let (types, rest) = line.strip_prefix(name)?.strip_prefix('(')?.split_once(')')?;
        let defaults = rest.rsplit_once("defaults ").and_then(|(_, count)| count.parse().ok()).unwrap_or(0);
        Some(Overload {
            types: types.split(',').filter(|name| !name.is_empty()).collect(),
            defaults,
            variadic: rest.starts_with(" variadic"),
        })
    })
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overload {
    /// `pg_type.typname` of each argument.
    types: Vec<&'static str>,
    /// How many of the last ones may be left out.
    defaults: usize,
    /// The last one stands for any number of arguments.
    variadic: bool,
}

impl Overload {
    /// The types that it wants of so many arguments, if it takes so many; `None` of an argument whose type does not matter.
    pub(super) fn takes(&self, count: usize) -> Option<Vec<Option<&'static str>>> {
        let most = if self.variadic { usize::MAX } else { self.types.len() };
        if count > most || count + self.defaults < self.types.len() {
            return None;
        }
        let open = |at: usize| self.variadic && at + 1 >= self.types.len();
        Some((0..count).map(|at| if open(at) { None } else { Some(self.types[at]) }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        assert!(has_relation(None, "pg_tablespace") && has_relation(Some("pg_catalog"), "pg_stat_user_tables"));
        assert!(has_relation(Some("information_schema"), "tables") && !has_relation(None, "tables"));
        assert!(!has_relation(Some("public"), "pg_class") && !has_relation(None, "pg_klass"));
        assert!(has_column("pg_class", "relacl") && has_column("pg_class", "xmin"));
        assert!(!has_column("pg_class", "datdba") && !has_column("pg_clas", "relacl"));
    }

    #[test]
    fn overloads_take_arguments() {
        let takes = |name, count| overloads(name).find_map(|overload| overload.takes(count));
        assert_eq!(takes("inet_server_port", 0), Some(vec![]));
        assert_eq!(takes("inet_server_port", 1), None);
        assert_eq!(takes("length", 1).map(|types| types.len()), Some(1));
        assert_eq!(takes("is_normalized", 1), Some(vec![Some("text")]), "it has a default");
        assert_eq!(takes("format", 4), Some(vec![Some("text"), None, None, None]));
        assert_eq!(takes("no_such_function", 0), None);
    }
}
