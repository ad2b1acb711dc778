"""The QueryPool itself, as the post has it, in today's Python, and the cases that are asked about it.

`python -m recorder.stories.query_pool_app CASE PORT` prints a case's observations as JSON.
"""

import gc
import json
import sys
import time

import gevent
import psycogreen.gevent
import sqlalchemy
from gevent import monkey
from gevent.queue import JoinableQueue, Queue
from sqlalchemy import event, text

from .. import servers
from .durations import DURATIONS

# How long one second of the post is here.
SECOND = 0.25


class QueryPool:
    """The post's class. What a case changes: `close` (the post forgets it)."""

    def __init__(self, engine, queries, pool_size=5, close=False):
        self.engine, self.queries, self.pool_max, self.close = engine, queries, pool_size, close
        self.tasks = JoinableQueue()
        self.output_queue = Queue()
        self.failed = []

    def query(self, query):
        connection = self.engine.connect()
        results = connection.execute(text(query)).fetchall()
        if self.close:
            connection.close()
        return results

    def executor(self, number):
        while not self.tasks.empty():
            query = self.tasks.get()
            try:
                self.output_queue.put(self.query(query))
            except Exception as error:
                # "print exc_info; print 'Query failed :('"
                self.failed.append(f"{type(error).__name__}: {str(getattr(error, 'orig', error))}".split(" (Background")[0])
            self.tasks.task_done()

    def overseer(self):
        for query in self.queries:
            self.tasks.put(query)

    def start(self):
        gevent.spawn(self.overseer).join()
        self.running = [gevent.spawn(self.executor, number) for number in range(self.pool_max)]

    def run(self):
        self.start()
        self.tasks.join()
        for runner in self.running:
            runner.kill()


def sleeps(*seconds):
    return [f"SELECT pg_sleep({seconds * SECOND})" for seconds in seconds]


def backends(port):
    time.sleep(0.3)
    connection = servers.superuser(port)
    with connection.cursor() as cursor:
        cursor.execute("SELECT state FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'")
        states = sorted(state for (state,) in cursor.fetchall())
    connection.close()
    return {state: states.count(state) for state in sorted(set(states))}


def timed(function):
    """How long it takes, in whole seconds of the post: the better of two, and no rounding up. `pg_sleep` is never shorter
    than asked for, and a busy machine only ever adds."""
    took = []
    for _ in range(2):
        started = time.monotonic()
        function()
        took.append(time.monotonic() - started)
    return int(min(took) / SECOND)


def figures(engine, port):
    """The four figures of the post."""
    for connection in [engine.connect() for _ in range(5)]:
        connection.close()

    def serial():
        for query in sleeps(*DURATIONS):
            with engine.connect() as connection:
                connection.execute(text(query))

    return {
        "durations": list(DURATIONS),
        "serial": timed(serial),
        "5 workers": timed(QueryPool(engine, sleeps(*DURATIONS), 5, close=True).run),
        "3 workers": timed(QueryPool(engine, sleeps(*DURATIONS), 3, close=True).run),
        "2 workers": timed(QueryPool(engine, sleeps(*DURATIONS), 2, close=True).run),
    }


def missing_close(engine, port):
    """As the post has it: nothing returns a connection but the collector."""
    engine.pool._timeout = 0.5
    six = QueryPool(engine, ["SELECT 1"] * 6)
    six.run()
    observations = {"after_six_queries": {"lent": engine.pool.checkedout(), "backends": backends(port)}}
    more = QueryPool(engine, ["SELECT 1"] * 12)
    more.run()
    observations["after_eighteen"] = {
        "lent": engine.pool.checkedout(),
        "results": more.output_queue.qsize(),
        "failed": more.failed,
    }
    gc.collect()
    observations["after_a_collection"] = {"lent": engine.pool.checkedout(), "backends": backends(port)}
    closing = QueryPool(engine, ["SELECT 1"] * 18, close=True)
    closing.run()
    observations["with_close"] = {"lent": engine.pool.checkedout(), "results": closing.output_queue.qsize()}
    return observations


def exception_in_a_query(engine, port):
    """A query fails: the worker tells it and goes on; `close()` after it is skipped, so the transaction stays failed."""
    pool = QueryPool(engine, ["SELECT 1", "SELECT 1 / 0", "SELECT 2", "SELECT 3"], 2, close=True)
    pool.run()
    return {
        "results": sorted(rows[0][0] for rows in [pool.output_queue.get() for _ in range(pool.output_queue.qsize())]),
        "failed": [failure.split("\n")[0] for failure in pool.failed],
        "join_returned": True,
        "lent": engine.pool.checkedout(),
        "aborted": backends(port).get("idle in transaction (aborted)", 0),
    }


def more_workers_than_connections(engine, port):
    """Five workers, three connections: the others wait, time out, and their queries are lost."""
    engine = sqlalchemy.create_engine(engine.url, pool_size=2, max_overflow=1, pool_timeout=3 * SECOND)
    pool = QueryPool(engine, sleeps(9, 9, 9, 9, 9, 9), 5, close=True)
    pool.run()
    return {"results": pool.output_queue.qsize(), "failed": sorted(pool.failed)}


def more_workers_unpatched(engine, port):
    """The same without monkey patching: who waits for a connection blocks them all, those too that could return one."""
    engine = sqlalchemy.create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=5 * SECOND)
    started = time.monotonic()
    ticks = []

    def clock():
        while True:
            ticks.append(time.monotonic() - started)
            gevent.sleep(SECOND / 4)

    ticking = gevent.spawn(clock)
    pool = QueryPool(engine, sleeps(1, 1), 2, close=True)
    pool.run()
    ticking.kill()
    stood = max(later - earlier for earlier, later in zip(ticks, ticks[1:]))
    return {
        "results": pool.output_queue.qsize(),
        "failed": pool.failed,
        "everything_stood_for_the_whole_timeout": stood >= 5 * SECOND,
    }


def worker_killed(engine, port):
    """A worker is killed in its query: `except Exception` does not see that, `task_done` is never called, `join` never returns."""
    told = []
    for name in ("connect", "invalidate", "close", "reset", "checkin"):
        event.listen(engine, name, lambda *_, name=name: told.append(name))
    pool = QueryPool(engine, sleeps(5, 5, 5, 5), 2, close=True)
    pool.start()
    gevent.sleep(2 * SECOND)
    told.clear()
    pool.running[0].kill()
    events_at_the_kill = list(told)
    with gevent.Timeout(40 * SECOND, False):
        pool.tasks.join()
    observations = {
        "events_at_the_kill": events_at_the_kill,
        "results": pool.output_queue.qsize(),
        "unfinished": pool.tasks.unfinished_tasks,
        "queue_is_empty": pool.tasks.empty(),
        "workers_alive": sum(not runner.dead for runner in pool.running),
        "join_returned": pool.tasks.unfinished_tasks == 0,
        "backends": backends(port),
        "lent": engine.pool.checkedout(),
    }
    gc.collect()
    return observations | {"lent_after_a_collection": engine.pool.checkedout(), "backends_then": backends(port)}


def not_cooperative(engine, port):
    """psycopg2 without a wait callback: a worker that waits for the server blocks every greenlet."""
    ticks = []

    def clock():
        while True:
            ticks.append(1)
            gevent.sleep(SECOND / 4)

    ticking = gevent.spawn(clock)
    gevent.sleep(0)
    took = timed(QueryPool(engine, sleeps(*DURATIONS), 5, close=True).run)
    ticking.kill()
    return {"5 workers": took, "serial": sum(DURATIONS)}


UNPATCHED = ("more_workers_unpatched",)
BLOCKING = ("not_cooperative",)


def main():
    name, port = sys.argv[1], int(sys.argv[2])
    # When it collects would be part of what is seen.
    gc.disable()
    if name not in UNPATCHED:
        monkey.patch_all()
    if name not in BLOCKING:
        psycogreen.gevent.patch_psycopg()
    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://app@127.0.0.1:{port}/app")
    print(json.dumps(globals()[name](engine, port)))


if __name__ == "__main__":
    main()
