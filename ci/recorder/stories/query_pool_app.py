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

from .durations import DURATIONS
from .world import at_port

# How long one second of the post is here. Long enough that a busy machine does not change who takes which query.
SECOND = 0.4


class QueryPool:
    """The post's class. What a case changes: `close` (the post forgets it)."""

    def __init__(self, engine, queries, pool_size=5, close=False):
        self.engine, self.queries, self.pool_max, self.close = engine, queries, pool_size, close
        self.tasks = JoinableQueue()
        self.output_queue = Queue()
        self.failed = []
        self.taken = []

    def query(self, query):
        connection = self.engine.connect()
        results = connection.execute(text(query)).fetchall()
        if self.close:
            connection.close()
        return results

    def executor(self, number):
        while not self.tasks.empty():
            query = self.tasks.get()
            self.taken.append((number, query))
            try:
                self.output_queue.put(self.query(query))
            except Exception as error:
                # "print exc_info; print 'Query failed :('"
                self.failed.append(
                    f"{type(error).__name__}: {str(getattr(error, 'orig', error))}".split(" (Background")[0]
                )
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


def took(durations, run):
    """How many seconds of the post it takes, by who took which query: the longest of the workers' sums.

    The clock is only asked whether it was not shorter. `pg_sleep` never is, and a busy machine only ever adds.
    """
    started = time.monotonic()
    taken = run(sleeps(*durations))
    elapsed = time.monotonic() - started
    seconds = dict(zip(sleeps(*durations), durations))
    sums = {}
    for number, query in taken:
        sums[number] = sums.get(number, 0) + seconds[query]
    if elapsed < max(sums.values()) * SECOND:
        raise RuntimeError(f"{elapsed} s is too short for {taken}")
    return max(sums.values())


def workers(engine, count):
    def run(queries):
        pool = QueryPool(engine, queries, count, close=True)
        pool.run()
        return pool.taken

    return run


def figures(engine, port):
    """The four figures of the post."""

    def serial(queries):
        for query in queries:
            with engine.connect() as connection:
                connection.execute(text(query))
        return [(0, query) for query in queries]

    return {
        "durations": list(DURATIONS),
        "serial": took(DURATIONS, serial),
        "5 workers": took(DURATIONS, workers(engine, 5)),
        "3 workers": took(DURATIONS, workers(engine, 3)),
        "2 workers": took(DURATIONS, workers(engine, 2)),
    }


def missing_close(engine, port):
    """As the post has it: nothing returns a connection but the collector."""
    engine.pool._timeout = 0.5
    six = QueryPool(engine, ["SELECT 1"] * 6)
    six.run()
    observations = {"after_six_queries": {"lent": engine.pool.checkedout(), "backends": at_port(port).backends()}}
    more = QueryPool(engine, ["SELECT 1"] * 12)
    more.run()
    observations["after_eighteen"] = {
        "lent": engine.pool.checkedout(),
        "results": more.output_queue.qsize(),
        "failed": more.failed,
    }
    gc.collect()
    observations["after_a_collection"] = {"lent": engine.pool.checkedout(), "backends": at_port(port).backends()}
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
        "aborted": at_port(port).backends().get("idle in transaction (aborted)", 0),
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
    """A worker is killed in its query: `except Exception` does not see that, `task_done` is not called, `join` never returns."""
    told = []
    for name in ("connect", "invalidate", "close", "reset", "checkin"):
        event.listen(engine, name, lambda *_, name=name: told.append(name))
    pool = QueryPool(engine, sleeps(5, 5, 5, 5), 2, close=True)
    pool.start()
    gevent.sleep(2 * SECOND)
    told.clear()
    pool.running[0].kill()
    events_at_the_kill = list(told)
    with gevent.Timeout(30 * SECOND, False):
        pool.tasks.join()
    observations = {
        "events_at_the_kill": events_at_the_kill,
        "results": pool.output_queue.qsize(),
        "unfinished": pool.tasks.unfinished_tasks,
        "queue_is_empty": pool.tasks.empty(),
        "workers_alive": sum(not runner.dead for runner in pool.running),
        "join_returned": pool.tasks.unfinished_tasks == 0,
        "backends": at_port(port).backends(),
        "lent": engine.pool.checkedout(),
    }
    gc.collect()
    return observations | {
        "lent_after_a_collection": engine.pool.checkedout(),
        "backends_then": at_port(port).backends(),
    }


def not_cooperative(engine, port):
    """psycopg2 without a wait callback: a worker that waits for the server blocks every greenlet."""
    ticks = []

    def clock():
        while True:
            ticks.append(1)
            gevent.sleep(SECOND / 4)

    ticking = gevent.spawn(clock)
    gevent.sleep(0)
    pool = QueryPool(engine, sleeps(*DURATIONS), 5, close=True)
    before = len(ticks)
    seconds = took(DURATIONS, lambda queries: pool.run() or pool.taken)
    ticking.kill()
    return {
        "5 workers": seconds,
        "serial": sum(DURATIONS),
        "workers_that_took_any": len({number for number, _ in pool.taken}),
        "ticks_of_a_clock_meanwhile": len(ticks) - before,
    }


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
