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
