//! The types that the server can store and send, under the names and object ids of PostgreSQL's `pg_type`.
//!
//! Left out: types that no pool's driver asks for (date, timestamp without time zone, uuid, …): a column of such a type is
//! refused with 0A000. `regclass` and `regtype` are there as casts only.

/// A type; `oid` is `pg_type.oid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are PostgreSQL's")]
pub enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    Name,
    /// `"char"`, one byte.
    Char,
    Oid,
    Xid,
    Xid8,
    Timestamptz,
    Interval,
    Inet,
    Bytea,
    Json,
    Jsonb,
    Regclass,
    Regtype,
    Int2Array,
    Int4Array,
    Int8Array,
    OidArray,
    TextArray,
    NameArray,
    RegtypeArray,
    Void,
    Unknown,
}

/// One row of the table that all questions about types are answered from.
struct Entry {
    kind: Type,
    oid: u32,
    /// `pg_type.typname`.
    internal: &'static str,
    /// `format_type`: what error texts call it.
    display: &'static str,
    /// `typlen`: -1 for varying length.
    size: i16,
    /// `typarray`.
    array: u32,
}

const fn entry(kind: Type, oid: u32, internal: &'static str, display: &'static str, size: i16, array: u32) -> Entry {
    Entry { kind, oid, internal, display, size, array }
}

const TABLE: [Entry; 31] = [
    entry(Type::Bool, 16, "bool", "boolean", 1, 1000),
    entry(Type::Int2, 21, "int2", "smallint", 2, 1005),
    entry(Type::Int4, 23, "int4", "integer", 4, 1007),
    entry(Type::Int8, 20, "int8", "bigint", 8, 1016),
    entry(Type::Float4, 700, "float4", "real", 4, 1021),
    entry(Type::Float8, 701, "float8", "double precision", 8, 1022),
    entry(Type::Numeric, 1700, "numeric", "numeric", -1, 1231),
    entry(Type::Text, 25, "text", "text", -1, 1009),
    entry(Type::Varchar, 1043, "varchar", "character varying", -1, 1015),
    entry(Type::Name, 19, "name", "name", 64, 1003),
    entry(Type::Char, 18, "char", "\"char\"", 1, 1002),
    entry(Type::Oid, 26, "oid", "oid", 4, 1028),
    entry(Type::Xid, 28, "xid", "xid", 4, 1011),
    entry(Type::Xid8, 5069, "xid8", "xid8", 8, 271),
    entry(Type::Timestamptz, 1184, "timestamptz", "timestamp with time zone", 8, 1185),
    entry(Type::Interval, 1186, "interval", "interval", 16, 1187),
    entry(Type::Inet, 869, "inet", "inet", -1, 1041),
    entry(Type::Bytea, 17, "bytea", "bytea", -1, 1001),
    entry(Type::Json, 114, "json", "json", -1, 199),
    entry(Type::Jsonb, 3802, "jsonb", "jsonb", -1, 3807),
    entry(Type::Regclass, 2205, "regclass", "regclass", 4, 2210),
    entry(Type::Regtype, 2206, "regtype", "regtype", 4, 2211),
    entry(Type::Int2Array, 1005, "_int2", "smallint[]", -1, 0),
    entry(Type::Int4Array, 1007, "_int4", "integer[]", -1, 0),
    entry(Type::Int8Array, 1016, "_int8", "bigint[]", -1, 0),
    entry(Type::OidArray, 1028, "_oid", "oid[]", -1, 0),
    entry(Type::TextArray, 1009, "_text", "text[]", -1, 0),
    entry(Type::NameArray, 1003, "_name", "name[]", -1, 0),
    entry(Type::RegtypeArray, 2211, "_regtype", "regtype[]", -1, 0),
    entry(Type::Void, 2278, "void", "void", 4, 0),
    entry(Type::Unknown, 705, "unknown", "unknown", -2, 0),
];

impl Type {
    /// Every type, in the order of the enum.
    pub fn all() -> impl Iterator<Item = Type> {
        TABLE.iter().map(|entry| entry.kind)
    }

    fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// `pg_type.oid`.
    #[must_use]
    pub fn oid(self) -> u32 {
        self.entry().oid
    }

    /// The type with this oid, if the server has it.
    #[must_use]
    pub fn from_oid(oid: u32) -> Option<Type> {
        TABLE.iter().find(|entry| entry.oid == oid).map(|entry| entry.kind)
    }

    /// `pg_type.typname`.
    #[must_use]
    pub fn internal_name(self) -> &'static str {
        self.entry().internal
    }

    /// As `format_type` and error texts write it: `timestamp with time zone`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().display
    }

    /// `typlen`, as RowDescription carries it: -1 for varying length.
    #[must_use]
    pub fn size(self) -> i16 {
        self.entry().size
    }

    /// `pg_type.typarray`; 0 when there is none.
    #[must_use]
    pub fn array_oid(self) -> u32 {
        self.entry().array
    }

    /// The type of an array's elements.
    #[must_use]
    pub fn element(self) -> Option<Type> {
        Some(match self {
            Type::Int2Array => Type::Int2,
            Type::Int4Array => Type::Int4,
            Type::Int8Array => Type::Int8,
            Type::OidArray => Type::Oid,
            Type::TextArray => Type::Text,
            Type::NameArray => Type::Name,
            Type::RegtypeArray => Type::Regtype,
            _ => return None,
        })
    }

    /// The array type over this type.
    #[must_use]
    pub fn array(self) -> Option<Type> {
        Some(match self {
            Type::Int2 => Type::Int2Array,
            Type::Int4 => Type::Int4Array,
            Type::Int8 => Type::Int8Array,
            Type::Oid => Type::OidArray,
            Type::Text | Type::Varchar | Type::Unknown => Type::TextArray,
            Type::Name => Type::NameArray,
            Type::Regtype => Type::RegtypeArray,
            _ => return None,
        })
    }

    /// By one of the names SQL text may use: `int`, `bigint`, `timestamptz`, …; lower case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Type> {
        if let Some(element) = name.strip_suffix("[]") {
            return Type::from_name(element)?.array();
        }
        Some(match name {
            "int" => Type::Int4,
            "float" => Type::Float8,
            "decimal" => Type::Numeric,
            _ => TABLE.iter().find(|entry| entry.internal == name || entry.display == name)?.kind,
        })
    }

    /// Whether values are text inside.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Type::Text | Type::Varchar | Type::Name | Type::Char | Type::Unknown)
    }

    /// Whether values are whole numbers inside ([`super::Value::Int`]).
    #[must_use]
    pub fn is_integer(self) -> bool {
        matches!(self, Type::Int2 | Type::Int4 | Type::Int8 | Type::Oid | Type::Xid | Type::Regclass | Type::Regtype)
    }

    /// int2, int4, int8, float4, float8 and numeric, ascending as PostgreSQL promotes them.
    #[must_use]
    pub fn numeric_rank(self) -> Option<u8> {
        Some(match self {
            Type::Int2 => 1,
            Type::Int4 => 2,
            Type::Int8 => 3,
            Type::Numeric => 4,
            Type::Float4 => 5,
            Type::Float8 => 6,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, kind) in Type::all().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
            assert_eq!(Type::from_oid(kind.oid()), Some(kind));
            assert_eq!(Type::from_name(kind.internal_name()), Some(kind));
        }
    }
}
