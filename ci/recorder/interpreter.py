"""Does a situation's steps for real: SQLAlchemy's own pool, psycopg2, a server; and writes down what each step shows."""

import gc
import logging
import re
import threading
import time
import traceback
import warnings
import weakref

import psycopg2
import sqlalchemy
from sqlalchemy import event

from .backends import Activity
from .proxy import Proxy
from .threads import Worker

EVENTS = (
    "first_connect",
    "connect",
    "checkout",
    "reset",
    "checkin",
    "invalidate",
    "soft_invalidate",
    "close",
    "close_detached",
    "detach",
)

# What is seen after each step, once it has settled: other threads go on when the step is done.
OBSERVED = ("status", "events", "backends")

# create_engine puts `pool_` before the settings that are the pool's, but for these.
UNPREFIXED = ("pool_size", "max_overflow")


class Unsupported(Exception):
    """The server says that it can't do what a step needs."""


def run(situation, server, role, expected=None):
    """The record's steps. `expected`, those of a record, tell how long to wait for the server to show the same."""
    # Only `collect` collects: what reference counting frees, and what it doesn't, is part of the truth.
    gc.disable()
    # SQLAlchemy logs and warns what it does with broken connections; that is no finding here.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore", sqlalchemy.exc.SAWarning)
    session = Interpreter(situation, server, role)
    try:
        steps = []
        for number, step in enumerate(situation.steps):
            known = expected[number] if expected and number < len(expected) else None
            try:
                steps.append(session.step(step, known))
            except psycopg2.errors.FeatureNotSupported as error:
                raise Unsupported(f"`{step.text}`: {error}".strip()) from error
            except Exception as error:
                raise RuntimeError(f"situation {situation.name}, step {number + 1} `{step.text}`: {error}") from error
        return steps
    finally:
        session.close()


class Interpreter:
    def __init__(self, situation, server, role):
        self.server = server
        self.role = role
        self.waits = threading.local()
        self.counted = situation.pool_class == "QueuePool"
        self.activity = Activity(server, role)
        self.proxy = Proxy(server.port) if "silence" in situation.verbs() else None
        self.fairies = {}
        self.owners = {}
        self.workers = {}
        self.pending = {}
        self.events = []
        self.labels = weakref.WeakKeyDictionary()
        self.pids = {}
        self.engine = self.make_engine(situation)

    def make_engine(self, situation):
        settings = {key if key in UNPREFIXED else f"pool_{key}": value for key, value in situation.pool.items()}
        if settings.get("pool_reset_on_return") == "none":
            settings["pool_reset_on_return"] = None
        port = self.proxy.port if self.proxy else self.server.port
        engine = sqlalchemy.create_engine(
            f"postgresql+psycopg2://{self.role}@127.0.0.1:{port}/app",
            poolclass=getattr(sqlalchemy.pool, situation.pool_class),
            **settings,
        )
        for name in EVENTS:
            event.listen(engine, name, self.listener(name))
        return engine

    def listener(self, name):
        # SQLAlchemy looks at a listener's argument names only for old signatures; *args gets them all.
        def listen(*args):
            connection = args[0]
            if name in ("first_connect", "connect") and connection not in self.labels:
                label = f"c{len(self.labels_given()) + 1}"
                self.labels[connection] = label
                self.pids[connection.info.backend_pid] = label
            self.events.append(f"{name} {self.label(connection)}")

        return listen

    def labels_given(self):
        return set(self.pids.values())

    def label(self, connection):
        return "none" if connection is None else self.labels[connection]

    def step(self, step, known):
        outcome = getattr(self, step.verb.replace(" ", "_"))(step)
        seen = self.activity.settled(self.observe, known and {key: known[key] for key in OBSERVED})
        del self.events[: len(seen["events"])]
        return {"step": step.text, "outcome": outcome} | seen

    def observe(self, rows):
        return {"status": self.status(), "events": list(self.events), "backends": self.describe(rows)}

    def status(self):
        if not self.counted:
            return None
        pool = self.engine.pool
        return {
            "size": pool.size(),
            "checkedin": pool.checkedin(),
            "checkedout": pool.checkedout(),
            "overflow": pool.overflow(),
        }

    def describe(self, rows):
        named = [(self.pids.get(pid, "unknown"), state or "starting") for pid, state in rows]
        named.sort(key=lambda row: (len(row[0]), row[0]))
        return [f"{label} {state}" for label, state in named]

    # Who does a step.

    def in_thread(self, step, function):
        """Runs it in the step's thread: the one that it names, else the one that checked the connection out."""
        thread = step.thread or self.owners.get(step.name, "main")
        if thread == "main":
            return function()
        return self.worker(thread).do(function)

    def worker(self, thread):
        if thread not in self.workers:
            self.workers[thread] = Worker(thread)
        return self.workers[thread]

    # Checking out and in.

    def checkout(self, step):
        self.owners[step.name] = step.thread or "main"
        return self.in_thread(step, lambda: self.take(step.name))

    def take(self, name):
        """Checks out as `name` and says what came of it."""
        self.watch_waits()
        try:
            # Not through a local variable: a frame of a later error could keep it alive.
            self.fairies[name] = self.engine.pool.connect()
        except Exception as error:
            return forgotten(error, self.connect_error)
        label = self.label(self.fairies[name].dbapi_connection)
        return {"got": label, "waited": self.waits.how} if self.waits.how else label

    def watch_waits(self):
        """Notes whether this thread's checkout waits in the queue, and whether for the whole timeout; no clock is asked."""
        self.waits.how = None
        if not self.counted:
            return
        condition = self.engine.pool._pool.not_empty
        if "wait" not in vars(condition):
            original = condition.wait

            def wait(timeout=None):
                woken = original(timeout)
                if self.waits.how != "timeout":
                    self.waits.how = "part" if woken else "timeout"
                return woken

            condition.wait = wait

    def waiting_checkout(self, step):
        condition = self.engine.pool._pool.not_empty
        before = len(condition._waiters)
        self.begin_checkout(step.name)
        end = time.monotonic() + 10
        while len(condition._waiters) <= before:
            if time.monotonic() > end:
                raise RuntimeError("it does not wait")
            time.sleep(0.002)
        return None

    def dialling_checkout(self, step):
        held = len(self.proxy.held)
        self.begin_checkout(step.name)
        self.proxy.wait_for_held(held + 1)
        return None

    def begin_checkout(self, name):
        worker = Worker(name)
        self.pending[name] = (worker, worker.start(lambda: self.take(name)))

    def join(self, step):
        worker, pending = self.pending.pop(step.name)
        outcome = pending.result()
        worker.end()
        return outcome

    def checkin(self, step):
        self.in_thread(step, lambda: self.fairies[step.name].close())

    def invalidate(self, step):
        self.in_thread(step, lambda: self.fairies[step.name].invalidate())

    def soft_invalidate(self, step):
        self.in_thread(step, lambda: self.fairies[step.name].invalidate(soft=True))

    def detach(self, step):
        self.in_thread(step, lambda: self.fairies[step.name].detach())

    # Losing, and being found by the collector.

    def drop(self, step):
        def drop():
            del self.fairies[step.name]

        self.in_thread(step, drop)

    def lose(self, step):
        def lose():
            cycle = {"fairy": self.fairies.pop(step.name)}
            cycle["itself"] = cycle

        self.in_thread(step, lose)

    def collect(self, step):
        gc.collect()

    # Statements.

    def sql(self, step):
        return self.in_thread(step, lambda: self.statement(step, lambda rows: None))

    def ask(self, step):
        return self.in_thread(step, lambda: self.statement(step, lambda rows: str(rows[0][0])))

    def statement(self, step, tell):
        connection = self.connection(step.name)
        try:
            result = connection.exec_driver_sql(step.statement)
            return tell(result.fetchall() if result.returns_rows else None)
        except sqlalchemy.exc.DBAPIError as error:
            return forgotten(error, statement_error)
        finally:
            # A Connection and its transaction refer to each other: the cycle would keep the fairy until a collection.
            connection._transaction = None

    def connection(self, name):
        """SQLAlchemy's own Connection over a fairy, so that its own code judges errors and invalidates."""
        return sqlalchemy.Connection(self.engine, connection=self.fairies[name])

    def commit(self, step):
        return self.in_thread(step, lambda: self.end_transaction(step.name, "commit"))

    def rollback(self, step):
        return self.in_thread(step, lambda: self.end_transaction(step.name, "rollback"))

    def end_transaction(self, name, how):
        try:
            getattr(self.connection(name), f"_{how}_impl")()
        except sqlalchemy.exc.DBAPIError as error:
            return forgotten(error, statement_error)

    # The engine and the world.

    def dispose(self, step):
        self.engine.dispose()

    def dispose_without_closing(self, step):
        self.engine.dispose(close=False)

    def terminate(self, step):
        label = step.name if step.name[1:] else self.label(self.fairies[step.name].dbapi_connection)
        pid = next(pid for pid, given in self.pids.items() if given == label)
        self.activity.execute(f"SELECT pg_terminate_backend({pid})")
        self.activity.wait_gone(pid)

    def limit(self, step):
        self.activity.execute(f"ALTER ROLE {self.role} CONNECTION LIMIT {int(step.number)}")

    def stop(self, step):
        self.activity.close()
        self.server.stop()

    def start(self, step):
        self.server.start()

    def restart(self, step):
        self.activity.close()
        self.server.stop()
        self.server.start()

    def silence(self, step):
        self.proxy.silence()

    def speak(self, step):
        self.proxy.speak()

    def sleep(self, step):
        time.sleep(step.number)

    # What went wrong.

    def connect_error(self, error):
        text = str(error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error)
        text = text.split(" (Background")[0]
        if isinstance(error, psycopg2.OperationalError):
            text = re.sub(r"^connection to server at .* failed: ", "", text)
            text = text.replace(f'"{self.role}"', '"app"')
        return {"error": type(error).__name__, "text": text.strip().split("\n")[0].strip()}

    def close(self):
        for _, pending in self.pending.values():
            pending.done.wait(1)
        for worker in self.workers.values():
            worker.end()
        self.fairies.clear()
        self.activity.close()
        if self.proxy:
            self.proxy.close()


def statement_error(error):
    if error.connection_invalidated:
        return {"error": "disconnect"}
    return {"error": error.orig.pgcode, "text": error.orig.diag.message_primary}


def forgotten(error, tell):
    """Tells an error, and clears the frames that it came through: they would keep what they refer to alive."""
    told = tell(error)
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__, error = None, error.__cause__ or error.__context__
    return told
