//! What a PostgreSQL 15.18 answered to the same statements, unless a test says otherwise.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;

fn session(version: u32) -> Settings {
    with_parameters(version, true, &[]).unwrap()
}

fn with_parameters(
    version: u32,
    superuser: bool,
    parameters: &[(&str, &str)],
) -> Result<Settings, PgError> {
    let startup = Startup {
        user: "app",
        superuser,
        stored: &[],
        parameters,
    };
    Settings::new(&ServerSettings::new(version), startup)
}

/// `SET name = 'value'`, then what `SHOW name` shows.
fn set(settings: &mut Settings, name: &str, value: &str) -> Result<String, PgError> {
    settings.set(name, Some(value), Scope::Session, true)?;
    settings.get(name)
}

/// SQLSTATE, message, and DETAIL and HINT behind bars.
fn text(error: &PgError) -> String {
    let mut text = format!("{}: {}", error.code, error.message);
    for more in [&error.detail, &error.hint].into_iter().flatten() {
        text.push_str(" | ");
        text.push_str(more);
    }
    text
}

#[test]
fn values_are_read_and_shown_as_postgresql_does() {
    let mut s = session(15);
    for (name, value, shown) in [
        ("statement_timeout", "1.5min", "90s"),
        ("statement_timeout", "5000", "5s"),
        ("statement_timeout", "1500", "1500ms"),
        ("statement_timeout", "0x10", "16ms"),
        ("statement_timeout", "010", "8ms"),
        ("statement_timeout", "1h", "1h"),
        ("statement_timeout", "1.0001s", "1s"),
        ("statement_timeout", "500us", "0"),
        ("statement_timeout", "501us", "1ms"),
        ("statement_timeout", "  7 s  ", "7s"),
        ("statement_timeout", "1 d", "1d"),
        ("statement_timeout", "7.5", "8ms"),
        ("statement_timeout", "1e3", "1s"),
        ("jit", "1", "on"),
        ("synchronous_commit", "true", "on"),
        ("client_min_messages", "debug", "debug2"),
        ("DateStyle", "german, ymd", "German, YMD"),
        ("client_encoding", "utf-8", "UTF8"),
        ("geqo_seed", "0.25", "0.25"),
        ("vacuum_cost_delay", "1500us", "1500us"),
        ("temp_buffers", "3MB", "3MB"),
        ("work_mem", "64", "64kB"),
        ("application_name", "ümlaut", "??mlaut"),
        (
            "default_transaction_isolation",
            "SERIALIZABLE",
            "serializable",
        ),
        ("seed", "0.5", "unavailable"),
        ("tcp_keepalives_idle", "5", "5"),
        ("tcp_user_timeout", "3s", "3000"),
        ("TimeZone", "europe/berlin", "Europe/Berlin"),
        ("TimeZone", "5", "<+05>-05"),
        ("TimeZone", "+3", "<+03>-03"),
        ("TimeZone", "-3", "<-03>+03"),
        ("TimeZone", "5.5", "<+05:30>-05:30"),
        ("TimeZone", "INTERVAL '+02:30'", "<+02:30>-02:30"),
        ("TimeZone", "UTC+3", "UTC+3"),
        ("TimeZone", "XYZ3", "XYZ3"),
        ("TimeZone", "utc", "UTC"),
        ("TimeZone", "est5edt", "EST5EDT"),
        ("TimeZone", "est5", "EST5"),
        ("TimeZone", "+05:30", "+05:30"),
        ("TimeZone", "ab3", "AB3"),
        ("TimeZone", "UTC+25", "UTC+25"),
        ("app.user_id", "42", "42"),
        ("constraint_exclusion", "yes", "on"),
        ("backslash_quote", "1", "on"),
        ("force_parallel_mode", "false", "off"),
        ("client_min_messages", "info", "info"),
        ("compute_query_id", "true", "on"),
        ("wal_compression", "1", "pglz"),
        ("log_min_messages", "debug", "debug2"),
        ("DateStyle", "iso, mdy", "ISO, MDY"),
        ("DateStyle", "postgres", "Postgres, MDY"),
        ("DateStyle", "dmy", "Postgres, DMY"),
        ("DateStyle", "german", "German, DMY"),
        ("DateStyle", "euro, sql", "SQL, DMY"),
        ("DateStyle", "default", "ISO, MDY"),
        ("jit", "of", "off"),
        ("jit", "ye", "on"),
        ("default_text_search_config", "simple", "pg_catalog.simple"),
        ("client_encoding", "sql-ascii", "SQL_ASCII"),
        ("client_encoding", "UNICODE", "UNICODE"),
        ("random_page_cost", "1.23456789", "1.23457"),
        ("random_page_cost", "1e9", "1e+09"),
        ("cpu_tuple_cost", "0.00001", "1e-05"),
        ("work_mem", "1.5MB", "1536kB"),
        ("work_mem", "2047MB", "2047MB"),
        ("work_mem", "1.1GB", "1126MB"),
    ] {
        assert_eq!(
            set(&mut s, name, value).as_deref(),
            Ok(shown),
            "{name} = {value:?}"
        );
    }
}

#[test]
fn defaults_are_shown_with_units() {
    let s = session(15);
    for (name, shown) in [
        ("data_directory_mode", "0700"),
        ("unix_socket_permissions", "0777"),
        ("shared_buffers", "128MB"),
        ("autovacuum_vacuum_cost_delay", "2ms"),
        ("log_rotation_age", "1d"),
        ("wal_segment_size", "16MB"),
        ("archive_command", "(disabled)"),
        ("max_wal_size", "1GB"),
        ("checkpoint_timeout", "5min"),
        ("track_activity_query_size", "1kB"),
        ("log_temp_files", "-1"),
        ("seq_page_cost", "1"),
        ("jit_above_cost", "100000"),
        ("log_min_duration_statement", "-1"),
        ("tcp_keepalives_idle", "7200"),
        ("tcp_keepalives_interval", "75"),
        ("tcp_keepalives_count", "9"),
        ("deadlock_timeout", "1s"),
        ("statement_timeout", "0"),
        ("transaction_isolation", "read committed"),
        ("role", "none"),
        ("session_authorization", "app"),
        ("is_superuser", "on"),
        ("search_path", "\"$user\", public"),
    ] {
        assert_eq!(s.get(name).as_deref(), Ok(shown), "{name}");
    }
}

#[test]
fn wrong_values_are_refused_in_postgresqls_words() {
    let mut s = session(15);
    for (name, value, expected) in [
        (
            "statement_timeout",
            "x",
            "22023: invalid value for parameter \"statement_timeout\": \"x\"",
        ),
        (
            "Statement_Timeout",
            "x",
            "22023: invalid value for parameter \"Statement_Timeout\": \"x\"",
        ),
        (
            "statement_timeout",
            "5 foo",
            "22023: invalid value for parameter \"statement_timeout\": \"5 foo\" | Valid units for this parameter are \
             \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".",
        ),
        (
            "statement_timeout",
            "-1",
            "22023: -1 ms is outside the valid range for parameter \"statement_timeout\" (0 .. 2147483647)",
        ),
        (
            "statement_timeout",
            "99999999999",
            "22023: invalid value for parameter \"statement_timeout\": \"99999999999\" | Value exceeds integer range.",
        ),
        (
            "statement_timeout",
            "25d",
            "22023: invalid value for parameter \"statement_timeout\": \"25d\" | Value exceeds integer range.",
        ),
        (
            "statement_timeout",
            "",
            "22023: invalid value for parameter \"statement_timeout\": \"\"",
        ),
        (
            "statement_timeout",
            "nan",
            "22023: invalid value for parameter \"statement_timeout\": \"nan\"",
        ),
        (
            "statement_timeout",
            "1e400",
            "22023: invalid value for parameter \"statement_timeout\": \"1e400\"",
        ),
        (
            "work_mem",
            "1 foo",
            "22023: invalid value for parameter \"work_mem\": \"1 foo\" | Valid units for this parameter are \"B\", \
             \"kB\", \"MB\", \"GB\", and \"TB\".",
        ),
        (
            "work_mem",
            "1",
            "22023: 1 kB is outside the valid range for parameter \"work_mem\" (64 .. 2147483647)",
        ),
        (
            "extra_float_digits",
            "99",
            "22023: 99 is outside the valid range for parameter \"extra_float_digits\" (-15 .. 3)",
        ),
        (
            "geqo_selection_bias",
            "9",
            "22023: 9 is outside the valid range for parameter \"geqo_selection_bias\" (1.5 .. 2)",
        ),
        (
            "geqo_selection_bias",
            "q",
            "22023: invalid value for parameter \"geqo_selection_bias\": \"q\"",
        ),
        (
            "vacuum_cost_delay",
            "101",
            "22023: 101 ms is outside the valid range for parameter \"vacuum_cost_delay\" (0 .. 100)",
        ),
        (
            "jit",
            "maybe",
            "22023: parameter \"jit\" requires a Boolean value",
        ),
        (
            "jit",
            "2",
            "22023: parameter \"jit\" requires a Boolean value",
        ),
        (
            "synchronous_commit",
            "maybe",
            "22023: invalid value for parameter \"synchronous_commit\": \"maybe\" | Available values: local, \
             remote_write, remote_apply, on, off.",
        ),
        (
            "password_encryption",
            "on",
            "22023: invalid value for parameter \"password_encryption\": \"on\" | Available values: md5, \
             scram-sha-256.",
        ),
        (
            "client_min_messages",
            "fatal",
            "22023: invalid value for parameter \"client_min_messages\": \"fatal\" | Available values: debug5, debug4, \
             debug3, debug2, debug1, log, notice, warning, error.",
        ),
        (
            "timezone",
            "foo",
            "22023: invalid value for parameter \"TimeZone\": \"foo\"",
        ),
        (
            "timezone",
            "interval 2",
            "22023: invalid value for parameter \"TimeZone\": \"interval 2\"",
        ),
        (
            "datestyle",
            "foo",
            "22023: invalid value for parameter \"DateStyle\": \"foo\" | Unrecognized key word: \"foo\".",
        ),
        (
            "datestyle",
            "iso, mdy, ymd",
            "22023: invalid value for parameter \"DateStyle\": \"iso, mdy, ymd\" | Conflicting \"datestyle\" \
             specifications.",
        ),
        (
            "client_encoding",
            "foo",
            "22023: invalid value for parameter \"client_encoding\": \"foo\"",
        ),
        (
            "lc_messages",
            "foo",
            "22023: invalid value for parameter \"lc_messages\": \"foo\"",
        ),
        (
            "default_tablespace",
            "nope",
            "22023: invalid value for parameter \"default_tablespace\": \"nope\" | Tablespace \"nope\" does not exist.",
        ),
        (
            "foo",
            "1",
            "42704: unrecognized configuration parameter \"foo\"",
        ),
        (
            "transaction_timeout",
            "1",
            "42704: unrecognized configuration parameter \"transaction_timeout\"",
        ),
        (
            "app.1x",
            "1",
            "42602: invalid configuration parameter name \"app.1x\" | Custom parameter names must be two or more simple \
             identifiers separated by dots.",
        ),
        (
            "max_connections",
            "5",
            "55P02: parameter \"max_connections\" cannot be changed without restarting the server",
        ),
        (
            "server_version",
            "5",
            "55P02: parameter \"server_version\" cannot be changed",
        ),
        (
            "is_superuser",
            "maybe",
            "55P02: parameter \"is_superuser\" cannot be changed",
        ),
        (
            "authentication_timeout",
            "5",
            "55P02: parameter \"authentication_timeout\" cannot be changed now",
        ),
        (
            "log_connections",
            "on",
            "55P02: parameter \"log_connections\" cannot be set after connection start",
        ),
        (
            "post_auth_delay",
            "1",
            "55P02: parameter \"post_auth_delay\" cannot be set after connection start",
        ),
    ] {
        let error = set(&mut s, name, value).unwrap_err();
        assert_eq!(text(&error), expected);
    }
    for name in ["foo", "app.x"] {
        let error = s.get(name).unwrap_err();
        assert_eq!(
            text(&error),
            format!("42704: unrecognized configuration parameter \"{name}\"")
        );
    }
}

#[test]
fn a_settings_value_without_superuser() {
    let mut s = with_parameters(15, false, &[]).unwrap();
    assert_eq!(s.get("is_superuser").as_deref(), Ok("off"));
    let mut denied = |name: &str, value: Option<&str>| {
        text(&s.set(name, value, Scope::Session, false).unwrap_err())
    };
    let expected = "42501: permission denied to set parameter \"deadlock_timeout\"";
    assert_eq!(denied("deadlock_timeout", Some("5")), expected);
    assert_eq!(denied("deadlock_timeout", None), expected);
    assert_eq!(
        text(&s.examine("data_directory", false).unwrap_err()),
        "42501: must be superuser or have privileges of pg_read_all_settings to examine \"data_directory\""
    );
    assert_eq!(s.examine("deadlock_timeout", false).as_deref(), Ok("1s"));
}

#[test]
fn startup_parameters_and_options() {
    let refused = |superuser, name: &str, value: &str| {
        let error = with_parameters(15, superuser, &[("user", "app"), (name, value)]).unwrap_err();
        assert_eq!(error.severity, crate::postgres::error::Severity::Fatal);
        text(&error)
    };
    assert_eq!(
        refused(false, "options", "-cfoo=1"),
        "42704: unrecognized configuration parameter \"foo\""
    );
    assert_eq!(
        refused(true, "max_connections", "3"),
        "55P02: parameter \"max_connections\" cannot be changed without restarting the server"
    );
    let denied = |name: &str| format!("42501: permission denied to set parameter \"{name}\"");
    assert_eq!(
        refused(false, "options", "-cdeadlock_timeout=3"),
        denied("deadlock_timeout")
    );
    assert_eq!(
        refused(false, "log_connections", "on"),
        denied("log_connections")
    );
    assert_eq!(
        refused(false, "options", "-z"),
        "42601: invalid command-line argument for server process: -z | Try \"postgres --help\" for more information."
    );
    assert_eq!(
        refused(false, "options", "-cstatement_timeout"),
        "42601: -c statement_timeout requires a value"
    );

    let options = "-c app.x=a\\ b  --lock-timeout=3s -cstatement_timeout=1s";
    let parameters = [
        ("options", options),
        ("statement_timeout", "2s"),
        ("_pq_.foo", "1"),
        ("database", "d"),
    ];
    let mut s = with_parameters(15, false, &parameters).unwrap();
    assert_eq!(s.get("app.x").as_deref(), Ok("a b"));
    assert_eq!(s.timeouts().lock, Some(Duration::from_secs(3)));
    assert_eq!(s.timeouts().statement, Some(Duration::from_secs(2)));
    assert_eq!(s.differing_from_startup(), Vec::<String>::new());
    set(&mut s, "lock_timeout", "1s").unwrap();
    s.reset("lock_timeout", false).unwrap();
    assert_eq!(s.get("lock_timeout").as_deref(), Ok("3s"));
}

/// The same steps in psql gave the same values; a SET LOCAL under a savepoint lives to the end of the transaction.
#[test]
fn transactions_undo_what_was_set() {
    let mut s = session(15);
    let local = |s: &mut Settings, value: &str| {
        s.set("lock_timeout", Some(value), Scope::Local, true)
            .unwrap()
    };
    s.begin();
    set(&mut s, "lock_timeout", "1s").unwrap();
    local(&mut s, "2s");
    assert_eq!(s.get("lock_timeout").as_deref(), Ok("2s"));
    assert_eq!(s.timeouts().lock, Some(Duration::from_secs(2)));
    s.commit();
    assert_eq!(s.get("lock_timeout").as_deref(), Ok("1s"));
    assert_eq!(s.timeouts().lock, Some(Duration::from_secs(1)));

    s.begin();
    local(&mut s, "2s");
    let savepoint = s.mark();
    set(&mut s, "lock_timeout", "3s").unwrap();
    set(&mut s, "app.x", "1").unwrap();
    s.rollback_to(savepoint);
    assert_eq!(s.get("lock_timeout").as_deref(), Ok("2s"));
    // A custom setting goes on to exist, empty.
    assert_eq!(s.get("app.x").as_deref(), Ok(""));
    let _released = s.mark();
    set(&mut s, "lock_timeout", "4s").unwrap();
    local(&mut s, "5s");
    s.commit();
    assert_eq!(s.get("lock_timeout").as_deref(), Ok("4s"));

    s.begin();
    set(&mut s, "lock_timeout", "9s").unwrap();
    s.reset_all();
    assert_eq!(s.timeouts().lock, None);
    s.rollback();
    assert_eq!(s.get("lock_timeout").as_deref(), Ok("4s"));
    assert_eq!(s.differing_from_startup(), ["lock_timeout"]);
    s.reset_all();
    s.commit();
    assert_eq!(s.differing_from_startup(), Vec::<String>::new());
}

#[test]
fn a_transactions_characteristics_come_from_the_defaults_and_end_with_it() {
    let mut s = session(15);
    // Outside a block: gone with the statement.
    set(&mut s, "transaction_isolation", "serializable").unwrap();
    s.commit();
    assert_eq!(
        s.get("transaction_isolation").as_deref(),
        Ok("read committed")
    );

    set(&mut s, "default_transaction_read_only", "on").unwrap();
    assert!(!s.read_only());
    s.commit();
    s.begin();
    assert!(s.read_only());
    set(&mut s, "transaction_read_only", "off").unwrap();
    assert!(!s.read_only());
    s.commit();
    assert!(s.read_only());
    assert_eq!(
        s.differing_from_startup(),
        ["default_transaction_read_only"]
    );
}

#[test]
fn the_client_is_told_of_thirteen_settings_and_of_real_changes_only() {
    let mut s = with_parameters(
        15,
        false,
        &[("application_name", "x"), ("client_encoding", "utf8")],
    )
    .unwrap();
    let told: Vec<String> = s
        .report_all()
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let expected = "application_name=x client_encoding=UTF8 DateStyle=ISO, MDY default_transaction_read_only=off \
                    in_hot_standby=off integer_datetimes=on IntervalStyle=postgres is_superuser=off \
                    server_encoding=UTF8 server_version=15.18 session_authorization=app \
                    standard_conforming_strings=on TimeZone=Etc/UTC";
    assert_eq!(told.join(" "), expected);
    assert!(s.take_reported().is_empty());

    s.begin();
    set(&mut s, "application_name", "y").unwrap();
    set(&mut s, "work_mem", "1MB").unwrap();
    assert_eq!(
        s.take_reported(),
        [("application_name".into(), "y".to_owned())]
    );
    set(&mut s, "application_name", "y").unwrap();
    assert!(s.take_reported().is_empty());
    s.rollback();
    assert_eq!(
        s.take_reported(),
        [("application_name".into(), "x".to_owned())]
    );
    assert_eq!(session(16).report_all().len(), 14);
}

#[test]
fn lists_are_joined_and_identifiers_quoted() {
    let join = |name, values: &[&str]| join_values(name, values).map_err(|error| text(&error));
    assert_eq!(join("search_path", &["a", "b"]).as_deref(), Ok("a, b"));
    assert_eq!(join("search_path", &["a, b"]).as_deref(), Ok("\"a, b\""));
    assert_eq!(
        join("search_path", &["a", "B c"]).as_deref(),
        Ok("a, \"B c\"")
    );
    assert_eq!(join("search_path", &[""]).as_deref(), Ok("\"\""));
    assert_eq!(
        join("DateStyle", &["ISO", "DMY"]).as_deref(),
        Ok("ISO, DMY")
    );
    assert_eq!(
        join("work_mem", &["1", "2"]),
        Err("22023: SET work_mem takes only one argument".to_owned())
    );
}

#[test]
fn a_reload_reaches_the_sessions_that_did_not_choose_for_themselves() {
    let mut server = ServerSettings::new(15);
    server.set("statement_timeout", "30s").unwrap();
    server.set("max_connections", "7").unwrap();
    assert_eq!(server.max_connections(), 7);
    let startup = Startup {
        user: "app",
        superuser: false,
        stored: &[(Source::User, "lock_timeout", "3s")],
        parameters: &[],
    };
    let mut untouched = Settings::new(&server, startup).unwrap();
    let mut chosen = Settings::new(&server, startup).unwrap();
    set(&mut chosen, "statement_timeout", "1s").unwrap();
    chosen.commit();

    let error = server.reload("max_connections", "9").unwrap_err();
    assert_eq!(
        text(&error),
        "55P02: parameter \"max_connections\" cannot be changed without restarting the server"
    );
    server.reload("statement_timeout", "10s").unwrap();
    server.reload("lock_timeout", "8s").unwrap();
    for settings in [&mut untouched, &mut chosen] {
        settings.reload(&server);
        assert_eq!(settings.get("lock_timeout").as_deref(), Ok("3s"));
    }
    assert_eq!(
        untouched.timeouts().statement,
        Some(Duration::from_secs(10))
    );
    assert_eq!(chosen.timeouts().statement, Some(Duration::from_secs(1)));
    chosen.reset("statement_timeout", false).unwrap();
    assert_eq!(chosen.get("statement_timeout").as_deref(), Ok("10s"));
}

/// From the release notes and guc_tables.c of the versions; no such server was at hand.
#[test]
fn later_versions_know_other_settings() {
    assert_eq!(session(16).get("reserved_connections").as_deref(), Ok("0"));
    assert!(session(15).get("reserved_connections").is_err());
    assert!(session(16).get("transaction_timeout").is_err());
    let mut s = session(17);
    assert_eq!(
        set(&mut s, "transaction_timeout", "2s").as_deref(),
        Ok("2s")
    );
    assert_eq!(s.timeouts().transaction, Some(Duration::from_secs(2)));
    assert!(s.get("old_snapshot_threshold").is_err());
    assert_eq!(
        set(&mut s, "application_name", "ü").as_deref(),
        Ok("\\xc3\\xbc")
    );
}

#[test]
fn every_setting_is_listed_with_its_default() {
    let rows = session(15).all(true);
    // 354 in Debian's build, one of which is Debian's own.
    assert_eq!(rows.len(), 353);
    let row = rows.iter().find(|row| row.name == "work_mem").unwrap();
    assert_eq!(
        (row.setting.as_str(), row.unit, row.shown.as_str()),
        ("4096", Some("kB"), "4MB")
    );
    assert_eq!(
        (row.context, row.vartype, row.source),
        ("user", "integer", "default")
    );
    assert_eq!(session(15).all(false).len(), 353 - 20);
}
