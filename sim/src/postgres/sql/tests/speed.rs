//! Not a test of anything but a figure to look at: `cargo test --release -- --ignored --nocapture engine_speed`.

use std::time::Instant;

use super::{Lab, Step, Value};
use crate::postgres::sql::{Framing, Type};

#[test]
#[ignore = "a measurement"]
fn engine_speed() {
    let mut lab = Lab::new();
    lab.run(0, "CREATE TABLE t (id bigint PRIMARY KEY, v int NOT NULL)");
    lab.run(0, "INSERT INTO t SELECT g, 0 FROM generate_series(1, 10000) g");
    for (sql, parameter) in [
        ("SELECT 1", None),
        ("SELECT v FROM t WHERE id = $1", Some(Value::Int(5000))),
        ("UPDATE t SET v = v + 1 WHERE id = $1", Some(Value::Int(5000))),
    ] {
        let rounds = 200_000;
        let begin = Instant::now();
        for _ in 0..rounds {
            let session = lab.sessions.get_mut(&0).unwrap();
            let script = lab.engine.parse(sql).unwrap();
            lab.engine.statement_begin(&lab.host, session, Framing::Single);
            let types: &[Type] = if parameter.is_some() { &[Type::Int8] } else { &[] };
            let parameters = parameter.iter().cloned().collect();
            let mut exec = lab.engine.start(session, &script.statements[0], types, parameters);
            assert!(matches!(lab.engine.step(&lab.host, session, &mut exec), Ok(Step::Done(_))));
            lab.engine.commit_implicit(&lab.host, session).unwrap();
            lab.engine.take_events();
        }
        println!("{sql}: {:?} each", begin.elapsed() / rounds);
    }
}
