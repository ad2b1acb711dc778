"""A CMS's scheduling server: a loop starts a check every few seconds, each in a thread of its own.

The author saw "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30" after hours, and
`engine.dispose()` at the end of each task made it go away; he guessed at imports, threads and the garbage collector.
"""

import gc
import threading
import time
import traceback
import weakref

import psycopg2
import sqlalchemy
from sqlalchemy import text

from .world import error, real_only

SELECT = text("SELECT balance FROM account WHERE id = 1")
# "an interval of few seconds": three, so twenty checks a minute.
CHECKS_A_MINUTE = 20


def in_thread(task):
    """Runs it in a thread of its own, to its end; its result, or its error as text."""
    outcome = []

    def run():
        try:
            outcome.append(task())
        except Exception as failure:
            outcome.append(error(failure))
            forget(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def forget(failure):
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure.__traceback__, failure = None, failure.__cause__ or failure.__context__


def by_minute(completed):
    """Tasks completed per minute, by the minute in which they were started."""
    return [sum(completed[start : start + CHECKS_A_MINUTE]) for start in range(0, len(completed), CHECKS_A_MINUTE)]


def leases_never_returned(world):
    """(a) One engine with the defaults; each task takes a connection and never returns it."""
    with world.server("leases_never_returned") as server:
        engine = server.engine(pool_size=5, max_overflow=10, pool_timeout=30)
        kept = []

        def task():
            connection = engine.connect()
            connection.execute(SELECT)
            kept.append(connection)
            return "done"

        outcomes = [in_thread(task) for _ in range(15)]
        started = time.monotonic()
        outcomes.append(in_thread(task))
        waited = time.monotonic() - started
        observations = {
            "succeeded": outcomes.count("done"),
            "first_failure": outcomes.index(outcomes[-1]) + 1,
            "waited_s": int(waited),
            "error": outcomes[-1],
            "backends": server.backends(),
            "status": engine.pool.status(),
        }
        # From here every task waits the whole timeout to fail; a shorter one shows the same in less time.
        engine.pool._timeout = 0.05
        outcomes += [in_thread(task) for _ in range(44)]
        observations["completed_per_minute"] = by_minute([outcome == "done" for outcome in outcomes])
        # What he tried: the timeout is no cure. Closing what was kept is.
        for connection in kept:
            connection.close()
        observations["after_closing"] = in_thread(task)
        return observations


def some_leases_never_returned(world):
    """(a) The same when only every fourth task (those of translations and backups) keeps its connection."""
    with world.server("some_leases_never_returned") as server:
        engine = server.engine(pool_size=5, max_overflow=10, pool_timeout=0.05)
        kept = []

        def task(number):
            connection = engine.connect()
            connection.execute(SELECT)
            if number % 4 == 0:
                kept.append(connection)
            else:
                connection.close()
            return "done"

        outcomes = [in_thread(lambda: task(number)) for number in range(1, 101)]
        return {
            "completed_per_minute": by_minute([outcome == "done" for outcome in outcomes]),
            "first_failure": next(n for n, outcome in enumerate(outcomes, 1) if outcome != "done"),
            "last_failure_is": outcomes[-1],
            "backends": server.count(),
        }


def an_engine_a_task(world):
    """(b) Each task imports the model afresh: an engine and a pool of its own, properly returned to, never disposed."""
    with world.server("an_engine_a_task", max_connections=20) as server:
        models, counts, outcomes = [], [], []

        def task():
            engine = server.engine()
            models.append(engine)
            with engine.connect() as connection:
                connection.execute(SELECT)
            return "done"

        for number in range(1, 61):
            outcomes.append(in_thread(task))
            if number in (1, 2, 5, 10, 16):
                counts.append([number, server.count()])
        first = next(n for n, outcome in enumerate(outcomes, 1) if outcome != "done")
        application = server.engine(poolclass=sqlalchemy.NullPool)
        return {
            "backends_after_task": counts,
            "first_failure": first,
            "error": outcomes[first - 1],
            "completed_per_minute": by_minute([outcome == "done" for outcome in outcomes]),
            "backends": server.backends(),
            # The website shares the server, and fails with it.
            "another_application": in_thread(lambda: application.connect()),
            "no_pool_is_exhausted": all(engine.pool.checkedout() == 0 for engine in models),
        }


def dispose_at_the_end(world):
    """(c) The author's cure: the same, and `engine.dispose()` at each task's end."""
    with world.server("dispose_at_the_end", max_connections=20) as server:
        models, during, outcomes = [], set(), []

        def task():
            engine = server.engine()
            models.append(engine)
            with engine.connect() as connection:
                connection.execute(SELECT)
                during.add(server.count())
            engine.dispose()
            return "done"

        outcomes = [in_thread(task) for _ in range(25)]
        return {
            "completed": outcomes.count("done"),
            "backends_during_a_task": sorted(during),
            "backends_at_the_end": server.count(),
        }


def dispose_hides_the_leak(world):
    """(c) The author's cure on one engine whose tasks never return: the pool is never exhausted, the server will be."""
    with world.server("dispose_hides_the_leak", max_connections=40) as server:
        gc.disable()
        engine = server.engine(pool_size=5, max_overflow=10, pool_timeout=0.05)
        kept = []

        def task():
            connection = engine.connect()
            kept.append(connection)
            connection.execute(SELECT)
            engine.dispose()
            return "done"

        outcomes = [in_thread(task) for _ in range(45)]
        observations = {
            "completed": outcomes.count("done"),
            "error": outcomes[-1],
            "backends": server.backends(),
            "pool": engine.pool.status(),
        }
        kept.clear()
        observations["when_nobody_refers_to_them"] = server.backends()
        gc.collect()
        observations["after_a_collection"] = server.backends()
        gc.collect()
        return observations | {"after_a_second_collection": server.backends(), "then": in_thread(task)}


def dispose_with_one_lent(world):
    """(d) `dispose()` while a connection is checked out: when does its backend go?"""
    with world.server("dispose_with_one_lent") as server:
        gc.disable()
        engine = server.engine()
        observed = []

        def look(when):
            observed.append([when, server.backends()])

        connection = engine.connect()
        connection.execute(SELECT)
        look("lent, in a transaction")
        engine.dispose()
        look("after dispose")
        connection.execute(SELECT)
        connection.close()
        look("after its return")
        del connection
        look("after its last reference")
        gc.collect()
        look("after a collection")
        # The author's way: the session is not closed at all, the thread just ends. A Connection and its transaction
        # refer to each other, so reference counting does not return it.
        in_thread(lambda: engine.connect().execute(SELECT) and None)
        engine.dispose()
        look("never closed: after dispose and the thread's end")
        gc.collect()
        look("never closed: after a collection")
        gc.collect()
        look("never closed: after a second collection")
        return {"backends": observed}


def dispose_shared_by_tasks(world):
    """(d) One engine for all tasks, each disposing it at its end while another one is at work."""
    with world.server("dispose_shared_by_tasks") as server:
        engine = server.engine(pool_size=1, max_overflow=0, pool_timeout=0.3)
        first = engine.connect()
        first.execute(SELECT)
        beyond = in_thread(lambda: engine.connect())
        engine.dispose()
        second = engine.connect()
        second.execute(SELECT)
        engine.dispose()
        third = engine.connect()
        third.execute(SELECT)
        return {
            "limit": engine.pool.size(),
            "before_dispose_a_second_one": beyond,
            "backends": server.backends(),
            "pool_says": engine.pool.status(),
            "all_go_on": [lent.execute(SELECT).scalar() for lent in (first, second, third)],
        }


@real_only("poolproof serve can't be restarted from outside")
def restart_after_a_restore(world):
    """(e) A restore, and a restart after it: what the tasks see, with and without pre_ping."""
    with world.server("restart_after_a_restore") as server:
        return {
            "without_pre_ping_in_turn": tasks_after_a_restart(server, in_turn),
            "without_pre_ping_at_once": tasks_after_a_restart(server, at_once),
            "with_pre_ping_in_turn": tasks_after_a_restart(server, in_turn, pool_pre_ping=True),
            "with_pre_ping_at_once": tasks_after_a_restart(server, at_once, pool_pre_ping=True),
            "without_pre_ping_while_down": tasks_while_down(server),
            "with_pre_ping_while_down": tasks_while_down(server, pool_pre_ping=True),
        }


def five_idle(server, **settings):
    engine = server.engine(pool_size=5, **settings)
    for connection in [engine.connect() for _ in range(5)]:
        connection.close()
    return engine


def tasks_after_a_restart(server, run, **settings):
    """Five connections are idle during the restart; then five tasks come."""
    engine = five_idle(server, **settings)
    server.server.stop()
    server.server.start()
    outcomes = run(engine)
    engine.dispose()
    return outcomes


def tasks_while_down(server, **settings):
    """Three tasks while the server is down, three after it is up."""
    engine = five_idle(server, **settings)
    server.server.stop()
    down = in_turn(engine)[:3]
    server.server.start()
    up = in_turn(engine)[:3]
    engine.dispose()
    return {"down": down, "up": up}


def in_turn(engine):
    def task():
        with engine.connect() as connection:
            return connection.execute(SELECT).scalar()

    return [in_thread(task) for _ in range(5)]


def at_once(engine):
    """Five tasks that all have their connection before the first one uses it."""
    connections = [engine.connect() for _ in range(5)]

    def task(connection):
        with connection:
            return connection.execute(SELECT).scalar()

    return [in_thread(lambda: task(connection)) for connection in connections]


@real_only("DROP DATABASE is no part of the simulated server")
def restore_meets_the_pool(world):
    """(e) A restore drops the database first: an idle pool is in its way."""
    with world.server("restore_meets_the_pool") as server:
        engine = server.engine()
        engine.connect().close()

        def drop(how=""):
            connection = psycopg2.connect(f"host=127.0.0.1 port={server.port} user=postgres dbname=postgres")
            connection.autocommit = True
            try:
                connection.cursor().execute(f"DROP DATABASE app{how}")
                return "dropped"
            except psycopg2.Error as failure:
                return [failure.pgcode, failure.diag.message_primary, failure.diag.message_detail]
            finally:
                connection.close()

        with_an_idle_pool = drop()
        forced = drop(" WITH (FORCE)")
        return {
            "with_an_idle_pool": with_an_idle_pool,
            "forced": forced,
            "the_pool_then": in_thread(lambda: engine.connect().execute(SELECT)),
            "and_then": in_thread(lambda: engine.connect().execute(SELECT)),
        }


def collector_alone(world):
    """(f) An engine a task, never disposed, but forgotten: only the garbage collector closes."""
    with world.server("collector_alone") as server:
        gc.collect()
        gc.disable()
        alive = weakref.WeakSet()

        def task():
            engine = server.engine()
            alive.add(engine)
            with engine.connect() as connection:
                connection.execute(SELECT)

        counts = []
        for number in range(1, 11):
            in_thread(task)
            if number in (1, 5, 10):
                counts.append([number, server.count()])
        before = len(alive)
        gc.collect()
        observations = {
            "without_a_collection": counts,
            "engines_before_and_after": [before, len(alive)],
            "after_a_collection": server.count(),
        }
        # With the interpreter's own thresholds: engines are collected in batches, when enough was allocated.
        gc.set_threshold(700, 10, 10)
        gc.enable()
        peak = 0
        for _ in range(40):
            in_thread(task)
            peak = max(peak, len(alive))
        gc.disable()
        gc.collect()
        observations["thresholds_700_10_10"] = {"more_than_one_at_a_time": peak > 1, "all_forty_at_a_time": peak >= 40}
        return observations


PARTS = [
    leases_never_returned,
    some_leases_never_returned,
    an_engine_a_task,
    dispose_at_the_end,
    dispose_hides_the_leak,
    dispose_with_one_lent,
    dispose_shared_by_tasks,
    restart_after_a_restore,
    restore_meets_the_pool,
    collector_alone,
]
