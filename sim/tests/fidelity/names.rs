//! Values that differ from server to server by nature get names: process ids, transaction ids, object ids.

use std::collections::BTreeMap;

use regex_lite::{Captures, Regex};

/// What is known by now.
#[derive(Debug)]
pub(crate) struct Names {
    /// Process ids, and whose they are.
    pids: BTreeMap<i64, String>,
    /// Transaction ids, and whose they are.
    transactions: BTreeMap<i64, String>,
    relations: BTreeMap<i64, String>,
    databases: BTreeMap<i64, String>,
    texts: [(Regex, Table); 5],
    bare: Regex,
    version: Regex,
}

#[derive(Debug, Clone, Copy)]
enum Table {
    Pids,
    Transactions,
    Relations,
    Databases,
}

impl Names {
    pub(crate) fn new() -> Names {
        let regex = |pattern: &str| Regex::new(pattern).expect("a good pattern");
        Names {
            pids: BTreeMap::new(),
            transactions: BTreeMap::new(),
            relations: BTreeMap::new(),
            databases: BTreeMap::new(),
            texts: [
                (regex(r"\b([Pp]rocess |PID )(\d+)"), Table::Pids),
                (regex(r"\b(transaction )(\d+)"), Table::Transactions),
                (regex(r"\b(relation )(\d+)"), Table::Relations),
                (regex(r"\b(database )(\d+)"), Table::Databases),
                (regex(r"\b(advisory lock \[)(\d+)"), Table::Databases),
            ],
            bare: regex(r"^\{?(\d+)(,\d+)*\}?$"),
            version: regex(r"^15\.\d+.*"),
        }
    }

    pub(crate) fn know_pid(&mut self, pid: i64, client: &str) {
        self.pids.insert(pid, client.to_owned());
    }

    pub(crate) fn know_transaction(&mut self, xid: i64, client: &str) {
        self.transactions.insert(xid, client.to_owned());
    }

    pub(crate) fn know_relation(&mut self, oid: i64, name: &str) {
        self.relations.insert(oid, name.to_owned());
    }

    pub(crate) fn know_database(&mut self, oid: i64, name: &str) {
        self.databases.insert(oid, name.to_owned());
    }

    pub(crate) fn pid(&self, client: &str) -> Option<i64> {
        self.pids.iter().rfind(|(_, name)| *name == client).map(|(pid, _)| *pid)
    }

    /// Whose backend that is.
    pub(crate) fn client(&self, pid: i64) -> Option<&str> {
        self.pids.get(&pid).map(String::as_str)
    }

    pub(crate) fn transaction(&self, xid: i64) -> String {
        name(&self.transactions, xid, "somebody")
    }

    pub(crate) fn relation(&self, oid: i64) -> String {
        name(&self.relations, oid, "a relation that is not visible")
    }

    /// A text of a message.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, table) in &self.texts {
            let replace = |found: &Captures<'_>| {
                let known = match table {
                    Table::Pids => &self.pids,
                    Table::Transactions => &self.transactions,
                    Table::Relations => &self.relations,
                    Table::Databases => &self.databases,
                };
                let name = found[2].parse().ok().and_then(|number: i64| known.get(&number));
                format!("{}{}", &found[1], name.map_or("N", String::as_str))
            };
            text = pattern.replace_all(&text, replace).into_owned();
        }
        text
    }

    /// A value of a row or a ParameterStatus: process ids, alone or in an array, and the version of the server.
    pub(crate) fn value(&self, value: &str) -> String {
        if self.bare.is_match(value) {
            let named = value.trim_matches(['{', '}']).split(',').map(|number| {
                let client = number.parse().ok().and_then(|pid| self.client(pid));
                client.map_or(number.to_owned(), |client| format!("pid({client})"))
            });
            let named = named.collect::<Vec<_>>().join(",");
            return if value.starts_with('{') { format!("{{{named}}}") } else { named };
        }
        self.version.replace(value, "15.x").into_owned()
    }
}

fn name(known: &BTreeMap<i64, String>, number: i64, otherwise: &str) -> String {
    known.get(&number).map_or(otherwise, String::as_str).to_owned()
}
