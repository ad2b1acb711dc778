"""Runs real drivers against `poolproof serve`: psql, psycopg 3 with psycopg_pool, and SQLAlchemy with psycopg2.

Usage: drivers.py PATH-TO-POOLPROOF
       drivers.py --real PORT      the same checks against a real server, to check the checks

Each check is one function; the last line counts them. Exit code 1 when one fails.
"""

import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import psycopg
import psycopg2
import psycopg_pool
import sqlalchemy
from sqlalchemy import text

HERE = Path(__file__).resolve().parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def serve(name):
    """The simulated server of ci/serve/NAME.toml, ready for connections."""
    port = free_port()
    process = subprocess.Popen(
        [sys.argv[1], "serve", str(HERE / "serve" / f"{name}.toml"), "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(dsn(port), connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) in (0, 130), "serve ends on Ctrl-C"


def dsn(port, user="app"):
    return f"host=127.0.0.1 port={port} user={user} dbname=app"


def psql(port, *commands, user="app"):
    arguments = [word for command in commands for word in ("-c", command)]
    return subprocess.run(
        ["psql", "-X", "-At", dsn(port, user), *arguments], capture_output=True, text=True, timeout=30
    )


def psql_selects_and_commits(port):
    done = psql(port, "SELECT id, balance FROM account WHERE id = 1")
    assert (done.returncode, done.stdout) == (0, "1|100\n"), done
    done = psql(port, "BEGIN", "UPDATE account SET balance = balance + 1 WHERE id = 1", "COMMIT")
    assert (done.returncode, done.stdout) == (0, "BEGIN\nUPDATE 1\nCOMMIT\n"), done
    assert psql(port, "SELECT balance FROM account WHERE id = 1").stdout == "101\n"
    done = psql(port, "SELECT nothing FROM nowhere")
    assert done.returncode == 1 and 'relation "nowhere" does not exist' in done.stderr, done


def psql_waits_for_a_lock(port):
    with psycopg.connect(dsn(port)) as holder:
        holder.execute("UPDATE account SET balance = 0 WHERE id = 2")
        waiter = subprocess.Popen(
            ["psql", "-X", "-At", dsn(port), "-c", "UPDATE account SET balance = balance + 7 WHERE id = 2 RETURNING balance"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(100):
            seen = psql(port, "SELECT wait_event_type, state FROM pg_stat_activity WHERE query LIKE '%+ 7%' AND pid <> pg_backend_pid()")
            if seen.stdout == "Lock|active\n":
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"pg_stat_activity never showed the waiter: {seen}")
        assert waiter.poll() is None
        holder.commit()
        assert waiter.communicate(timeout=10)[0].startswith("7\n")


def psql_is_cancelled_by_ctrl_c(port):
    sleeper = subprocess.Popen(
        ["psql", "-X", "-At", dsn(port), "-c", "SELECT pg_sleep(60)"], stderr=subprocess.PIPE, text=True
    )
    time.sleep(1)
    sleeper.send_signal(signal.SIGINT)
    stderr = sleeper.communicate(timeout=10)[1]
    assert "canceling statement due to user request" in stderr, stderr


def psql_is_terminated(port):
    victim = subprocess.Popen(
        ["psql", "-X", "-At", dsn(port), "-c", "SELECT pg_sleep(61)"], stderr=subprocess.PIPE, text=True
    )
    time.sleep(1)
    done = psql(
        port,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(61)%' AND pid <> pg_backend_pid()",
        user="postgres",
    )
    assert done.stdout == "t\n", done
    assert "terminating connection due to administrator command" in victim.communicate(timeout=10)[1]


def psycopg_uses_both_protocols(port):
    with psycopg.connect(dsn(port)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.execute("SELECT balance FROM account WHERE id = %s", (3,)).fetchone() == (100,)
        cursor = connection.cursor(binary=True)
        assert cursor.execute("SELECT %s::int8, %s::text, NULL::int", (2**40, "ä")).fetchone() == (2**40, "ä", None)
        for _ in range(8):  # prepared after the fifth
            connection.execute("SELECT balance FROM account WHERE id = %s", (3,), prepare=None)
        try:
            with connection.transaction():
                connection.execute("INSERT INTO account VALUES (3, 0)")
            raise AssertionError("a duplicate key was accepted")
        except psycopg.errors.UniqueViolation as error:
            assert error.diag.message_detail == "Key (id)=(3) already exists."
        assert connection.execute("SELECT 1").fetchone() == (1,)


def psycopg_sees_a_deadlock(port):
    errors = []

    def updates(first, second, barrier):
        with psycopg.connect(dsn(port)) as connection:
            try:
                connection.execute("UPDATE account SET balance = balance WHERE id = %s", (first,))
                barrier.wait()
                connection.execute("UPDATE account SET balance = balance WHERE id = %s", (second,))
            except psycopg.errors.DeadlockDetected as error:
                connection.rollback()
                errors.append(error)

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=updates, args=(a, b, barrier)) for a, b in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 1, errors


def psycopg_pool_serves_many_threads(port):
    done = []
    with psycopg_pool.ConnectionPool(dsn(port), min_size=2, max_size=4) as pool:
        pool.wait(10)

        def work():
            for _ in range(20):
                with pool.connection() as connection:
                    done.append(connection.execute("SELECT 1").fetchone()[0])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert len(done) == 160


def listen_and_notify_reach_another_session(port):
    with psycopg.connect(dsn(port), autocommit=True) as listener, psycopg.connect(dsn(port)) as sender:
        listener.execute("LISTEN news")
        sender.execute("NOTIFY news, 'first'")
        sender.commit()
        for notification in listener.notifies(timeout=5, stop_after=1):
            assert (notification.channel, notification.payload) == ("news", "first")
            break
        else:
            raise AssertionError("no notification came")


def sqlalchemy_works_with_psycopg2(port):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://app@127.0.0.1:{port}/app", pool_size=2, max_overflow=0)
    with engine.begin() as connection:
        connection.execute(text("UPDATE account SET balance = balance + 1 WHERE id = :id"), {"id": 3})
    with engine.connect() as connection:
        assert connection.execute(text("SELECT balance FROM account WHERE id = 3")).scalar() == 101
        assert connection.execute(text("SELECT count(*) FROM account")).scalar() == 3
    held = [engine.connect() for _ in range(2)]
    try:
        engine.pool._timeout = 0.3
        engine.connect()
        raise AssertionError("the third checkout of two was served")
    except sqlalchemy.exc.TimeoutError as error:
        assert "QueuePool limit of size 2 overflow 0 reached" in str(error)
    for connection in held:
        connection.close()
    engine.dispose()
    for _ in range(50):
        count = psql(port, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").stdout
        if count == "1\n":
            return
        time.sleep(0.1)
    raise AssertionError(f"dispose() left connections: {count}")


def pools_come_back_after_a_restart(port):
    """The fault of restart.toml: fast restart four seconds after the start, down for one second."""
    engine = sqlalchemy.create_engine(
        f"postgresql+psycopg2://app@127.0.0.1:{port}/app", pool_size=2, pool_pre_ping=True
    )
    seen, errors = 0, 0
    with psycopg_pool.ConnectionPool(
        dsn(port), min_size=2, max_size=4, timeout=2, check=psycopg_pool.ConnectionPool.check_connection
    ) as pool:
        deadline = time.monotonic() + 10
        after = 0
        while time.monotonic() < deadline and after < 20:
            try:
                with pool.connection() as connection:
                    connection.execute("SELECT 1")
                with engine.connect() as connection:
                    connection.execute(text("SELECT 1"))
                seen += 1
                after += errors > 0
            except (psycopg.OperationalError, psycopg_pool.PoolTimeout, sqlalchemy.exc.OperationalError):
                errors += 1
            time.sleep(0.05)
    engine.dispose()
    assert errors > 0, "the restart was not noticed"
    assert after >= 20, f"no recovery: {seen} before, {errors} errors, {after} after"


CALM = [
    psql_selects_and_commits,
    psql_waits_for_a_lock,
    psql_is_cancelled_by_ctrl_c,
    psql_is_terminated,
    psycopg_uses_both_protocols,
    psycopg_sees_a_deadlock,
    psycopg_pool_serves_many_threads,
    listen_and_notify_reach_another_session,
    sqlalchemy_works_with_psycopg2,
]


def run(checks, port):
    failed = 0
    for check in checks:
        try:
            check(port)
            print(f"ok      {check.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}", flush=True)
            traceback.print_exc()
    return len(checks) - failed, failed


def main():
    if sys.argv[1] == "--real":
        passed, failed = run(CALM, int(sys.argv[2]))
    else:
        with serve("calm") as port:
            passed, failed = run(CALM, port)
        with serve("restart") as port:
            more_passed, more_failed = run([pools_come_back_after_a_restart], port)
        passed, failed = passed + more_passed, failed + more_failed
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
