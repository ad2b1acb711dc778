"""DrProject's hanging CGI processes, with the pool of Trac, from which DrProject was forked.

A timeline of 30 days gathers events of five subsystems; PooledConnections lost in reference cycles are never closed, requests
hang at the same point, their backends stay "idle in transaction" until no slot is left. A manual `gc.collect()` cures it.

What differs from 2006: Trac 1.6 is Python 3, where a cycle with `__del__` is collected (PEP 442), and its pool's lock may be
taken twice by the same thread. `deadlock_in_the_collector` gives it back the lock of 2006.
"""

import faulthandler
import gc
import tempfile
import threading
import time

from trac.db import pool as trac_pool
from trac.db.postgres_backend import PostgreSQLConnection

from .. import threads as threads_of
from ..proxy import Proxy
from . import processes
from .world import error

SUBSYSTEMS = ("milestone", "changeset", "wiki", "mail", "ticket")


class Connector:
    """Trac's PostgreSQLConnector, without the Environment that it is a component of."""

    def get_connection(self, **kwargs):
        return PostgreSQLConnection("/app", **kwargs)


class Pool:
    """Trac's pool for one server. `maxsize` was 5 in 2006, and is 10 today."""

    def __init__(self, server, maxsize=5, port=None):
        self.backend = trac_pool.ConnectionPoolBackend(maxsize)
        self.kwargs = {"user": "app", "host": "127.0.0.1", "port": port or server.port}

    def get_cnx(self, timeout=None):
        return self.backend.get_cnx(Connector(), self.kwargs, timeout)


def select(cnx):
    """Leaves a transaction open, as any SELECT of psycopg2 does."""
    return cnx.execute("SELECT balance FROM account WHERE id = 1")


def lose(cnx):
    """What DrProject's Record.select did: something that refers to itself refers to the connection too."""
    cycle = {"cnx": cnx}
    cycle["itself"] = cycle


def gather(pool):
    """A subsystem's events: takes a connection, reads, and loses it in a cycle."""
    cnx = pool.get_cnx()
    select(cnx)
    lose(cnx)


def lost_in_one_thread(world):
    """A CGI process has one thread, which always gets the same connection: it is lost once, and counted five times."""
    with world.server("lost_in_one_thread") as server:
        gc.disable()
        pool = Pool(server)
        for _ in SUBSYSTEMS:
            gather(pool)
        ((_, count),) = pool.backend._active.values()
        observations = {"times_lent": count, "backends": server.backends()}
        select(pool.get_cnx())
        observations["a_sixth_time"] = "served at once"
        gc.collect()
        return observations | {"after_a_collection": server.backends(), "active": len(pool.backend._active)}


def lost_in_five_threads(world):
    """Where each subsystem takes a connection of its own, five lost ones are the pool: the next waits for ever."""
    with world.server("lost_in_five_threads") as server:
        gc.disable()
        pool = Pool(server)
        threads = [threads_of.Worker(name) for name in SUBSYSTEMS]
        for thread in threads:
            thread.do(lambda: gather(pool))
        got = []
        # The argument is not honoured: Trac waits on its condition without a timeout.
        waiter = threading.Thread(target=lambda: got.append(select(pool.get_cnx(timeout=1))), daemon=True)
        waiter.start()
        waiter.join(3)
        observations = {
            "backends": server.backends(),
            "the_sixth_with_a_timeout_of_1_s_after_3_s": "waits" if waiter.is_alive() else "has ended",
            "waiters": pool.backend._waiters,
        }
        gc.collect()
        waiter.join(30)
        observations |= {"after_a_collection": "served" if got else "waits", "backends_then": server.backends()}
        for thread in threads:
            thread.end()
        return observations


def closed_properly(world):
    """The cure in the code: close() where the events were gathered."""
    with world.server("closed_properly") as server:
        gc.disable()
        pool = Pool(server)
        for _ in range(20):
            cnx = pool.get_cnx()
            select(cnx)
            cnx.close()
            lose(cnx)
        return {"backends": server.backends(), "active": len(pool.backend._active), "pooled": len(pool.backend._pool)}


def slots_exhausted(world):
    """A process a request: each hung one holds a slot, until the wiki fails too; what frees a slot, and what a process."""
    with world.server("slots_exhausted", max_connections=20) as server:
        requests = []

        def hung(ready):
            pool = Pool(server)
            gather(pool)
            ready()
            processes.hang()

        def wiki():
            def request(ready):
                try:
                    pool = Pool(server)
                    with_cnx = pool.get_cnx()
                    select(with_cnx)
                    with_cnx.close()
                    ready("served")
                except Exception as failure:
                    ready(f"{error(failure)} caused by {error(failure.__cause__)}")

            process = processes.Process(request)
            said = process.wait_ready()
            process.code()
            return said

        observations = {"wiki_at_first": wiki()}
        for _ in range(17):
            requests.append(processes.Process(hung))
            requests[-1].wait_ready()
        observations |= {
            "hung_requests": len(requests),
            "backends": server.backends(),
            "wiki_with_all_slots_taken": wiki(),
        }
        # The database's operator ends a backend: the slot is free, the process hangs on.
        server.query(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE usename = 'app' LIMIT 1) AS one"
        )
        observations |= {
            "after_terminating_a_backend": server.backends(),
            "processes_then": sum(process.alive() for process in requests),
            "wiki_then": wiki(),
        }
        # "requiring us to manually kill these processes"
        for process in requests:
            process.kill()
        return observations | {"after_killing_the_processes": server.backends(), "wiki_at_last": wiki()}


def collection_in_a_hung_process(world):
    """`gc.collect()` in the timeline code: the process keeps its backend, but no transaction."""
    with world.server("collection_in_a_hung_process") as server:
        gc.disable()
        pool = Pool(server)
        observed = []
        for _ in SUBSYSTEMS:
            gather(pool)
            before = server.backends()
            gc.collect()
            observed.append([before, server.backends()])
        return {"each_subsystem_before_and_after": observed}


def terminated_backend(world):
    """What the process sees when it goes on after its backend was terminated."""
    with world.server("terminated_backend") as server:
        pool = Pool(server)
        cnx = pool.get_cnx()
        select(cnx)
        server.query(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE usename = 'app') AS one"
        )
        server.backends()
        try:
            select(cnx)
            seen = "served"
        except Exception as failure:
            seen = error(failure)
        cnx.close()
        again = pool.get_cnx()
        return {
            "next_statement": seen,
            "next_connection": select(again)[0][0],
            "pooled_dead_ones": len(pool.backend._pool),
        }


def deadlock_in_the_collector(world):
    """The lock of 2006 can't be taken twice: a collection inside get_cnx closes a lost connection, which wants that lock.

    Trac's trunk of early 2006 had `Condition(Lock())` and `PooledConnection.__del__`; since 0.11 it is `Condition(RLock())`.
    Whether a collection falls into the few instructions under the lock depends on how much was allocated before: on how
    many events the timeline has. The same URL hangs each time, until there are more events.
    """
    with world.server("deadlock_in_the_collector") as server:
        numbers = range(300, 360)
        first = hung(server, numbers)
        if not first:
            raise RuntimeError("no timeline hangs with this interpreter; try other numbers of events")
        return {
            "timelines": len(numbers),
            "fewer_than_one_in_ten": len(first) < len(numbers) / 10,
            "the_same_hang_again": hung(server, first) == first,
            "of_these_with_one_more_event": "all"
            if len(hung(server, [n + 1 for n in first])) == len(first)
            else "not all",
            "of_these_with_a_collection_before_each_subsystem": len(hung(server, first, collect=True)),
            "of_these_with_the_lock_of_today": len(hung(server, first, lock=threading.RLock)),
            "a_hung_one": {"process_is_alive": True, "backends": backends_of_a_hung_one(server, first[0])},
        }


def hung(server, numbers, **options):
    """Those numbers of events with which the timeline never ends; each in a process of its own, a few at a time."""
    stuck = []
    for start in range(0, len(numbers), 15):
        batch = [(events, Timeline(server, events, **options)) for events in numbers[start : start + 15]]
        stuck += [events for events, timeline in batch if timeline.end() == "hung"]
    return stuck


class Timeline:
    """A request for the timeline, in a process of its own."""

    def __init__(self, server, events, lock=threading.Lock, collect=False):
        self.log = tempfile.TemporaryFile("w+")
        self.process = processes.Process(lambda ready: self.serve(server, events, lock, collect))

    def serve(self, server, events, lock, collect):
        # A watch without Python code, which would be counted among the allocations.
        faulthandler.dump_traceback_later(2, repeat=True, file=self.log)
        pool = Pool(server)
        pool.backend._available = threading.Condition(lock())
        gathered = []
        gc.collect()
        gc.set_threshold(700, 10, 10)
        gc.enable()
        for subsystem in SUBSYSTEMS:
            if collect:
                gc.collect()
            gather(pool)
            gathered.extend((subsystem, number) for number in range(events))

    def wait(self):
        """Until it has ended, or stands where it waits for itself."""
        while self.process.alive():
            self.log.seek(0)
            last = self.log.read().split("Timeout (")[-1]
            if all(f" in {function}\n" in last for function in ("get_cnx", "__del__", "_return_cnx", "__enter__")):
                return "hung"
            time.sleep(0.05)
        return "ended"

    def end(self):
        how = self.wait()
        if how == "hung":
            self.process.kill()
        return how


def backends_of_a_hung_one(server, events):
    timeline = Timeline(server, events)
    timeline.wait()
    seen = server.backends()
    timeline.process.kill()
    return seen


def rules_of_the_pool(world):
    """What today's pool does when all is well: one connection a thread, counted; the one that was returned first is next."""
    with world.server("rules_of_the_pool") as server:
        pool = Pool(server, maxsize=3)
        threads = [threads_of.Worker(name) for name in ("t1", "t2", "t3")]
        lent = [thread.do(pool.get_cnx) for thread in threads]
        pids = [cnx.get_backend_pid() for cnx in lent]
        first_again = threads[0].do(pool.get_cnx)
        observations = {"a_second_one_for_a_thread_is_the_same": first_again.get_backend_pid() == pids[0]}
        threads[0].do(first_again.close)
        observations["closing_one_of_the_two"] = {"active": len(pool.backend._active), "pooled": len(pool.backend._pool)}
        select(lent[0])
        observations["in_a_transaction"] = server.backends()
        for thread, cnx in zip(threads, lent, strict=True):
            thread.do(cnx.close)
        observations |= {
            "after_returning_all": {"active": len(pool.backend._active), "pooled": len(pool.backend._pool)},
            "rolled_back": server.backends(),
        }
        again = [threads[number].do(pool.get_cnx) for number in (1, 2, 0)]
        observations["next_are_those_returned"] = [pids.index(cnx.get_backend_pid()) + 1 for cnx in again]
        # Before it is lent again a connection is pinged, by a SELECT; that opens a transaction.
        observations["after_the_ping"] = server.backends()
        for number, cnx in zip((1, 2, 0), again, strict=True):
            threads[number].do(cnx.close)
        server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        server.backends()
        alive = threads[0].do(pool.get_cnx)
        observations["after_all_were_terminated"] = {
            "one_is_lent": select(alive)[0][0],
            "a_new_one": alive.get_backend_pid() not in pids,
            "dead_ones_left_in_the_pool": len(pool.backend._pool),
        }
        for thread in threads:
            thread.end()
        return observations


def failed_connect_strands_everyone(world):
    """A connect that fails wakes no waiter, and who comes later queues behind the waiter: an empty pool that lends nothing."""
    with world.server("failed_connect_strands_everyone") as server:
        proxy = Proxy(server.port)
        pool = Pool(server, maxsize=1, port=proxy.port)
        threads = [threads_of.Worker(name) for name in ("dials", "waits", "comes later")]

        def request():
            try:
                return select(pool.get_cnx())[0][0]
            except trac_pool.TimeoutError as failure:
                return f"TimeoutError caused by {error(failure.__cause__)}"

        proxy.silence()
        dials = threads[0].start(request)
        proxy.wait_for_held(1)
        waits = threads[1].start(request)
        while pool.backend._waiters < 1:
            time.sleep(0.01)
        proxy.speak()
        failed = dials.result()
        later = threads[2].start(request)
        stranded = [not pending.done.wait(2) for pending in (waits, later)]
        observations = {
            "the_one_that_dials": failed,
            "then_active": len(pool.backend._active),
            "then_pooled": len(pool.backend._pool),
            "backends": server.backends(),
            "the_waiter_still_waits": stranded[0],
            "who_comes_later_waits": stranded[1],
        }
        # Nobody will ever return a connection. By hand:
        with pool.backend._available:
            pool.backend._available.notify()
        return observations | {"notified_by_hand": waits.result()}


PARTS = [
    rules_of_the_pool,
    failed_connect_strands_everyone,
    lost_in_one_thread,
    lost_in_five_threads,
    closed_properly,
    slots_exhausted,
    collection_in_a_hung_process,
    terminated_backend,
    deadlock_in_the_collector,
]
