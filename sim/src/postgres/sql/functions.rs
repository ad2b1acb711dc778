//! The functions that SQL text can call: their names, argument types and results.

use super::plan::AggregateFunction;
use super::types::Type;

macro_rules! functions {
    ($($function:ident: $name:literal ($($argument:ident),*) -> $result:ident;)*) => {
        /// Every signature, ordered by name as far as overloads go together.
        static SIGNATURES: &[Signature] = &[
            $(Signature {
                name: $name,
                arguments: &[$(Type::$argument),*],
                result: Type::$result,
                function: Function::$function,
            },)*
        ];
    };
}

/// What a call does; the overloads of a name may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    ArrayLength,
    Ascii,
    Btrim,
    Cardinality,
    Ceil,
    Chr,
    ClockTimestamp,
    Concat,
    ConcatWs,
    CurrentDatabase,
    CurrentSchema,
    CurrentSchemas,
    CurrentSetting,
    CurrentUser,
    Currval,
    DatePart,
    EncodingToChar,
    Exp,
    Floor,
    FormatType,
    GetUserById,
    Greatest,
    InRecovery,
    Lastval,
    Least,
    Left,
    Length,
    Ln,
    Lower,
    Lpad,
    Ltrim,
    Md5,
    Mod,
    Nextval,
    Now,
    NullIf,
    OctetLength,
    Power,
    BackendPid,
    BlockingPids,
    CancelBackend,
    CurrentXactId,
    CurrentXactIdIfAssigned,
    Notify,
    PostmasterStart,
    QuoteIdent,
    QuoteLiteral,
    Random,
    Repeat,
    RegexpReplace,
    Replace,
    Reverse,
    Right,
    Round,
    RoundTo,
    Rpad,
    Rtrim,
    SessionUser,
    SetConfig,
    Setval,
    SetvalCalled,
    Sign,
    Sleep,
    SleepFor,
    SplitPart,
    Sqrt,
    Strpos,
    Substring,
    TableIsVisible,
    TerminateBackend,
    ToRegclass,
    ToRegtype,
    Trunc,
    Upper,
    Version,
    MyTempSchema,
    StatementTimestamp,
    TypeIsVisible,
    AdvisoryLock { exclusive: bool, transaction: bool, wait: bool },
    AdvisoryUnlock { exclusive: bool },
    AdvisoryUnlockAll,
}

impl Function {
    /// Whether a second call may give something else, or do something again: such results are kept when a statement is
    /// taken up after a wait.
    pub(super) fn is_volatile(self) -> bool {
        matches!(
            self,
            Function::Random
                | Function::Nextval
                | Function::Setval
                | Function::SetvalCalled
                | Function::Sleep
                | Function::SleepFor
                | Function::ClockTimestamp
                | Function::CancelBackend
                | Function::TerminateBackend
                | Function::SetConfig
                | Function::Notify
                | Function::AdvisoryLock { .. }
                | Function::AdvisoryUnlock { .. }
                | Function::AdvisoryUnlockAll
        )
    }

    /// Whether NULL arguments are the function's own business; all others give NULL for NULL.
    pub(super) fn takes_null(self) -> bool {
        matches!(
            self,
            Function::Concat
                | Function::ConcatWs
                | Function::Greatest
                | Function::Least
                | Function::NullIf
                | Function::SetConfig
                | Function::FormatType
                | Function::Notify
        )
    }
}

/// One overload.
#[derive(Debug)]
pub(super) struct Signature {
    name: &'static str,
    pub(super) arguments: &'static [Type],
    pub(super) result: Type,
    pub(super) function: Function,
}

functions! {
    Abs: "abs"(Int2) -> Int2;
    Abs: "abs"(Int4) -> Int4;
    Abs: "abs"(Int8) -> Int8;
    Abs: "abs"(Numeric) -> Numeric;
    Abs: "abs"(Float8) -> Float8;
    Ascii: "ascii"(Text) -> Int4;
    Btrim: "btrim"(Text) -> Text;
    Btrim: "btrim"(Text, Text) -> Text;
    Ltrim: "ltrim"(Text) -> Text;
    Ltrim: "ltrim"(Text, Text) -> Text;
    Rtrim: "rtrim"(Text) -> Text;
    Rtrim: "rtrim"(Text, Text) -> Text;
    Ceil: "ceil"(Numeric) -> Numeric;
    Ceil: "ceil"(Float8) -> Float8;
    Ceil: "ceiling"(Numeric) -> Numeric;
    Ceil: "ceiling"(Float8) -> Float8;
    Floor: "floor"(Numeric) -> Numeric;
    Floor: "floor"(Float8) -> Float8;
    Round: "round"(Numeric) -> Numeric;
    Round: "round"(Float8) -> Float8;
    RoundTo: "round"(Numeric, Int4) -> Numeric;
    Trunc: "trunc"(Numeric) -> Numeric;
    Trunc: "trunc"(Float8) -> Float8;
    Sign: "sign"(Float8) -> Float8;
    Chr: "chr"(Int4) -> Text;
    Mod: "mod"(Int2, Int2) -> Int2;
    Mod: "mod"(Int4, Int4) -> Int4;
    Mod: "mod"(Int8, Int8) -> Int8;
    Mod: "mod"(Numeric, Numeric) -> Numeric;
    Power: "power"(Float8, Float8) -> Float8;
    Power: "pow"(Float8, Float8) -> Float8;
    Sqrt: "sqrt"(Float8) -> Float8;
    Exp: "exp"(Float8) -> Float8;
    Ln: "ln"(Float8) -> Float8;
    Random: "random"() -> Float8;
    OctetLength: "length"(Bytea) -> Int4;
    Length: "length"(Text) -> Int4;
    Length: "char_length"(Text) -> Int4;
    Length: "character_length"(Text) -> Int4;
    OctetLength: "octet_length"(Bytea) -> Int4;
    OctetLength: "octet_length"(Text) -> Int4;
    Lower: "lower"(Text) -> Text;
    Upper: "upper"(Text) -> Text;
    Md5: "md5"(Text) -> Text;
    RegexpReplace: "regexp_replace"(Text, Text, Text) -> Text;
    RegexpReplace: "regexp_replace"(Text, Text, Text, Text) -> Text;
    Replace: "replace"(Text, Text, Text) -> Text;
    Repeat: "repeat"(Text, Int4) -> Text;
    Reverse: "reverse"(Text) -> Text;
    Left: "left"(Text, Int4) -> Text;
    Right: "right"(Text, Int4) -> Text;
    Lpad: "lpad"(Text, Int4) -> Text;
    Lpad: "lpad"(Text, Int4, Text) -> Text;
    Rpad: "rpad"(Text, Int4) -> Text;
    Rpad: "rpad"(Text, Int4, Text) -> Text;
    SplitPart: "split_part"(Text, Text, Int4) -> Text;
    Strpos: "strpos"(Text, Text) -> Int4;
    Substring: "substring"(Text, Int4) -> Text;
    Substring: "substring"(Text, Int4, Int4) -> Text;
    Substring: "substr"(Text, Int4) -> Text;
    Substring: "substr"(Text, Int4, Int4) -> Text;
    QuoteIdent: "quote_ident"(Text) -> Text;
    QuoteLiteral: "quote_literal"(Text) -> Text;
    DatePart: "extract"(Text, Timestamptz) -> Numeric;
    DatePart: "extract"(Text, Interval) -> Numeric;
    DatePart: "date_part"(Text, Timestamptz) -> Float8;
    DatePart: "date_part"(Text, Interval) -> Float8;
    Now: "now"() -> Timestamptz;
    Now: "transaction_timestamp"() -> Timestamptz;
    Now: "current_timestamp"() -> Timestamptz;
    StatementTimestamp: "statement_timestamp"() -> Timestamptz;
    ClockTimestamp: "clock_timestamp"() -> Timestamptz;
    Version: "version"() -> Text;
    CurrentDatabase: "current_database"() -> Name;
    CurrentDatabase: "current_catalog"() -> Name;
    CurrentSchema: "current_schema"() -> Name;
    CurrentSchemas: "current_schemas"(Bool) -> NameArray;
    CurrentUser: "current_user"() -> Name;
    CurrentUser: "current_role"() -> Name;
    CurrentUser: "user"() -> Name;
    SessionUser: "session_user"() -> Name;
    CurrentSetting: "current_setting"(Text) -> Text;
    CurrentSetting: "current_setting"(Text, Bool) -> Text;
    SetConfig: "set_config"(Text, Text, Bool) -> Text;
    BackendPid: "pg_backend_pid"() -> Int4;
    BlockingPids: "pg_blocking_pids"(Int4) -> Int4Array;
    CancelBackend: "pg_cancel_backend"(Int4) -> Bool;
    TerminateBackend: "pg_terminate_backend"(Int4) -> Bool;
    TerminateBackend: "pg_terminate_backend"(Int4, Int8) -> Bool;
    InRecovery: "pg_is_in_recovery"() -> Bool;
    PostmasterStart: "pg_postmaster_start_time"() -> Timestamptz;
    Sleep: "pg_sleep"(Float8) -> Void;
    SleepFor: "pg_sleep_for"(Interval) -> Void;
    Notify: "pg_notify"(Text, Text) -> Void;
    CurrentXactId: "txid_current"() -> Int8;
    CurrentXactIdIfAssigned: "txid_current_if_assigned"() -> Int8;
    CurrentXactId: "pg_current_xact_id"() -> Xid8;
    CurrentXactIdIfAssigned: "pg_current_xact_id_if_assigned"() -> Xid8;
    Nextval: "nextval"(Regclass) -> Int8;
    Currval: "currval"(Regclass) -> Int8;
    Lastval: "lastval"() -> Int8;
    Setval: "setval"(Regclass, Int8) -> Int8;
    SetvalCalled: "setval"(Regclass, Int8, Bool) -> Int8;
    ToRegclass: "to_regclass"(Text) -> Regclass;
    ToRegtype: "to_regtype"(Text) -> Regtype;
    FormatType: "format_type"(Oid, Int4) -> Text;
    TableIsVisible: "pg_table_is_visible"(Oid) -> Bool;
    TypeIsVisible: "pg_type_is_visible"(Oid) -> Bool;
    EncodingToChar: "pg_encoding_to_char"(Int4) -> Name;
    GetUserById: "pg_get_userbyid"(Oid) -> Name;
    MyTempSchema: "pg_my_temp_schema"() -> Oid;
    AdvisoryUnlockAll: "pg_advisory_unlock_all"() -> Void;
}

const fn advisory(name: &'static str, pair: bool, result: Type, function: Function) -> Signature {
    let arguments: &'static [Type] = if pair { &[Type::Int4, Type::Int4] } else { &[Type::Int8] };
    Signature { name, arguments, result, function }
}

const fn lock(exclusive: bool, transaction: bool, wait: bool) -> Function {
    Function::AdvisoryLock { exclusive, transaction, wait }
}

static ADVISORY: &[Signature] = &[
    advisory("pg_advisory_lock", false, Type::Void, lock(true, false, true)),
    advisory("pg_advisory_lock", true, Type::Void, lock(true, false, true)),
    advisory("pg_advisory_lock_shared", false, Type::Void, lock(false, false, true)),
    advisory("pg_advisory_lock_shared", true, Type::Void, lock(false, false, true)),
    advisory("pg_advisory_xact_lock", false, Type::Void, lock(true, true, true)),
    advisory("pg_advisory_xact_lock", true, Type::Void, lock(true, true, true)),
    advisory("pg_advisory_xact_lock_shared", false, Type::Void, lock(false, true, true)),
    advisory("pg_advisory_xact_lock_shared", true, Type::Void, lock(false, true, true)),
    advisory("pg_try_advisory_lock", false, Type::Bool, lock(true, false, false)),
    advisory("pg_try_advisory_lock", true, Type::Bool, lock(true, false, false)),
    advisory("pg_try_advisory_lock_shared", false, Type::Bool, lock(false, false, false)),
    advisory("pg_try_advisory_lock_shared", true, Type::Bool, lock(false, false, false)),
    advisory("pg_try_advisory_xact_lock", false, Type::Bool, lock(true, true, false)),
    advisory("pg_try_advisory_xact_lock", true, Type::Bool, lock(true, true, false)),
    advisory("pg_try_advisory_xact_lock_shared", false, Type::Bool, lock(false, true, false)),
    advisory("pg_try_advisory_xact_lock_shared", true, Type::Bool, lock(false, true, false)),
    advisory("pg_advisory_unlock", false, Type::Bool, Function::AdvisoryUnlock { exclusive: true }),
    advisory("pg_advisory_unlock", true, Type::Bool, Function::AdvisoryUnlock { exclusive: true }),
    advisory("pg_advisory_unlock_shared", false, Type::Bool, Function::AdvisoryUnlock { exclusive: false }),
    advisory("pg_advisory_unlock_shared", true, Type::Bool, Function::AdvisoryUnlock { exclusive: false }),
];

/// The overloads of a name.
pub(super) fn signatures(name: &str) -> impl Iterator<Item = &'static Signature> {
    SIGNATURES.iter().chain(ADVISORY).filter(move |signature| signature.name == name)
}

/// The aggregate function of a name.
pub(super) fn aggregate(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "avg" => AggregateFunction::Avg,
        "bool_and" | "every" => AggregateFunction::BoolAnd,
        "bool_or" => AggregateFunction::BoolOr,
        "string_agg" => AggregateFunction::StringAgg,
        "array_agg" => AggregateFunction::ArrayAgg,
        _ => return None,
    })
}

/// LIKE; `fold` for ILIKE. A backslash escapes.
pub(super) fn like(text: &str, pattern: &str, fold: bool) -> bool {
    let prepare = |s: &str| -> Vec<char> {
        if fold { s.chars().flat_map(char::to_lowercase).collect() } else { s.chars().collect() }
    };
    let (text, pattern) = (prepare(text), prepare(pattern));
    // Greedy matching with one point to come back to: the last %.
    let (mut t, mut p) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        let (literal, width) = match pattern.get(p) {
            Some('%') => {
                back = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('_') => {
                t += 1;
                p += 1;
                continue;
            }
            Some('\\') if p + 1 < pattern.len() => (Some(pattern[p + 1]), 2),
            other => (other.copied(), 1),
        };
        if literal == Some(text[t]) {
            t += 1;
            p += width;
        } else if let Some((after, from)) = back {
            p = after;
            t = from + 1;
            back = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

/// RFC 1321.
pub(super) fn md5(input: &[u8]) -> String {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut message = input.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(input.len() as u64 * 8).to_le_bytes());
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in message.chunks_exact(64) {
        let words: Vec<u32> =
            block.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64usize {
            let (mix, word) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "as RFC 1321 defines the table"
            )]
            let constant = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mix).wrapping_add(constant).wrapping_add(words[word]);
            a = d;
            d = c;
            c = b;
            b = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4]));
        }
        for (total, part) in state.iter_mut().zip([a, b, c, d]) {
            *total = total.wrapping_add(part);
        }
    }
    state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_patterns() {
        assert!(like("select * from t", "SELECT%", true));
        assert!(!like("select", "SELECT", false));
        assert!(like("a%b", "a\\%b", false));
        assert!(!like("axb", "a\\%b", false));
        assert!(like("abcabd", "%ab_", false));
        assert!(!like("", "_", false));
        assert!(like("", "%", false));
    }

    #[test]
    fn md5_of_known_texts() {
        assert_eq!(md5(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(md5(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    }
}
