//! Statements and what a real PostgreSQL 15 answered; `answers.txt` was recorded by running each block on it.

use super::Lab;

/// Blocks are separated by an empty line: the query (`> …`), then the lines of the answer. A block runs in session 0 of one
/// lab, in the order of the file, as it did on the real server. Rows begin with a colon.
#[test]
fn a_real_server_said_the_same() {
    let mut lab = Lab::new();
    let mut wrong = Vec::new();
    for block in include_str!("answers.txt").split("\n\n") {
        let mut lines = block.trim_matches('\n').lines();
        let Some(query) = lines.next().and_then(|line| line.strip_prefix("> ")) else {
            continue;
        };
        let expected: Vec<&str> = lines.collect();
        let super::Now::Done(got) = lab.send(0, &query.replace("\\n", "\n")) else {
            wrong.push(format!("{query}\n  waits"));
            continue;
        };
        // The parser does not know where operators stand: a position may be missing, but not be another one.
        let same = got.len() == expected.len()
            && got.iter().zip(&expected).all(|(got, expected)| {
                got == expected
                    || (!got.contains(" @") && expected.rsplit_once(" @").is_some_and(|(text, _)| text == got))
            });
        if !same {
            wrong.push(format!("{query}\n  expected {expected:#?}\n  got      {got:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of the answers differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// What PostgreSQL has and this server has not is never told as missing there.
#[test]
fn what_a_real_server_has_is_called_unsupported() {
    let mut lab = Lab::new();
    for (query, what) in [
        ("SELECT relacl FROM pg_class", "the column pg_class.relacl"),
        ("SELECT d.datdba FROM pg_database AS d", "the column pg_database.datdba"),
        ("SELECT datname FROM pg_database ORDER BY datcollate", "the column pg_database.datcollate"),
        ("SELECT 1 FROM pg_class WHERE EXISTS (SELECT relpages)", "the column pg_class.relpages"),
        ("SELECT * FROM pg_tablespace", "the catalog pg_tablespace"),
        ("SELECT * FROM pg_catalog.pg_stat_database", "the catalog pg_catalog.pg_stat_database"),
        ("SELECT n_live_tup FROM pg_stat_user_tables", "the catalog pg_stat_user_tables"),
        ("SELECT * FROM information_schema.tables", "the catalog information_schema.tables"),
        ("DROP TABLE pg_class", "changing the catalog pg_class"),
        ("BEGIN; LOCK TABLE pg_class; ROLLBACK", "locking the catalog pg_class"),
        ("SELECT 'pg_class'::regclass", "the catalog pg_class as regclass"),
        ("SELECT inet_server_port()", "the function inet_server_port"),
        ("SELECT * FROM pg_stat_get_activity(NULL)", "the function pg_stat_get_activity"),
        ("SELECT format('%s', 1, 'x')", "the function format"),
        ("SELECT array_to_string(ARRAY[1, 2], ',')", "the function array_to_string"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("VACUUM", "VACUUM"),
    ] {
        let lines = lab.run(0, query);
        let error = lines.iter().find(|line| line.starts_with("ERROR")).unwrap_or_else(|| panic!("{query}: {lines:?}"));
        assert!(error.starts_with("ERROR 0A000") && error.contains(what), "{query}: {error}");
        lab.run(0, "ROLLBACK");
    }
}
