"""Does a situation's steps for real, on a real pool and a server, and writes down what each step shows.

What is the same for every library is here; `with_sqlalchemy` and `with_trac` do what a pool of theirs is asked to do.
"""

import gc
import re
import threading
import time
import traceback

import psycopg2

from . import servers
from .backends import Activity
from .proxy import Proxy
from .threads import Worker

# What is seen after each step, once it has settled: other threads go on when the step is done.
OBSERVED = ("status", "events", "backends")


class Unsupported(Exception):
    """The server says that it can't do what a step needs."""


def run(situation, server, role, expected=None):
    """The record's steps. `expected`, those of a record, tell how long to wait for the server to show the same."""
    from . import with_sqlalchemy, with_trac

    # Only `collect` collects: what reference counting frees, and what it doesn't, is part of the truth.
    gc.disable()
    library = with_trac.TracPool if situation.library == "Trac" else with_sqlalchemy.SqlAlchemyPool
    session = library(situation, server, role)
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
    """The steps that every library has. A subclass has a pool, and says how to take, return and use its connections."""

    def __init__(self, situation, server, role):
        self.server = server
        self.role = role
        self.waits = threading.local()
        self.activity = Activity(server, role)
        self.proxy = Proxy(server.port) if "silence" in situation.verbs() else None
        self.port = self.proxy.port if self.proxy else server.port
        self.other_session = None
        # What a name of the situation stands for, and the thread that took it.
        self.taken = {}
        self.owners = {}
        self.workers = {}
        self.pending = {}
        self.events = []
        self.pids = {}

    # What a subclass says.

    def condition(self):
        """The `threading.Condition` that checkouts wait on, or None."""
        raise NotImplementedError

    def get(self):
        """Checks out."""
        raise NotImplementedError

    def pid_of(self, taken):
        raise NotImplementedError

    def give_back(self, name):
        """Returns what was taken; tells what came of it."""
        raise NotImplementedError

    def statement(self, name, statement, tell):
        """Sends a statement, and tells what came of it; `tell` tells its rows."""
        raise NotImplementedError

    def connect_error(self, error):
        raise NotImplementedError

    def status(self):
        raise NotImplementedError

    # What is seen.

    def step(self, step, known):
        outcome = getattr(self, step.verb.replace(" ", "_"))(step)
        seen = self.activity.settled(self.observe, known and {key: known[key] for key in OBSERVED})
        del self.events[: len(seen["events"])]
        return {"step": step.text, "outcome": outcome} | seen

    def observe(self, rows):
        return {"status": self.status(), "events": list(self.events), "backends": self.describe(rows)}

    def describe(self, rows):
        named = [(self.pids.get(pid, "unknown"), state or "starting") for pid, state in rows]
        named.sort(key=lambda row: (len(row[0]), row[0]))
        return [f"{label} {state}" for label, state in named]

    def new_label(self, pid):
        """The name of a connection that was made now."""
        label = f"c{len(self.pids) + 1}"
        self.pids[pid] = label
        return label

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
            self.taken[name] = self.get()
        except Exception as error:
            return forgotten(error, self.connect_error)
        label = self.pids[self.pid_of(self.taken[name])]
        return {"got": label, "waited": self.waits.how} if self.waits.how else label

    def watch_waits(self):
        """Notes whether this thread's checkout waits in the queue, and whether for the whole timeout; no clock is asked."""
        self.waits.how = None
        condition = self.condition()
        if condition is not None and "wait" not in vars(condition):
            original = condition.wait

            def wait(timeout=None):
                woken = original(timeout)
                if self.waits.how != "timeout":
                    self.waits.how = "part" if woken else "timeout"
                return woken

            condition.wait = wait

    def waiting_checkout(self, step):
        condition = self.condition()
        before = len(condition._waiters)
        self.start_checkout(step.name)
        end = time.monotonic() + 10
        while len(condition._waiters) <= before:
            if time.monotonic() > end:
                raise RuntimeError("it does not wait")
            time.sleep(0.002)

    def dialling_checkout(self, step):
        held = len(self.proxy.held)
        self.start_checkout(step.name)
        self.proxy.wait_for_held(held + 1)

    def start_checkout(self, name):
        """In a thread of its own, which does whatever else is done with it."""
        self.owners[name] = name
        self.pending[name] = self.worker(name).start(lambda: self.take(name))

    def join(self, step):
        return self.pending.pop(step.name).result()

    def checkin(self, step):
        return self.in_thread(step, lambda: self.give_back(step.name))

    # Steps that block, each in the thread that would do it: `join` tells what came of it.

    def begin(self, step, function):
        thread = step.thread or self.owners.get(step.name, "main")
        if thread == "main":
            raise RuntimeError("what blocks needs a thread that is not main")
        self.pending[step.name] = self.worker(thread).start(function)

    def begin_checkout(self, step):
        self.owners[step.name] = step.thread or "main"
        self.begin(step, lambda: self.take(step.name))

    def begin_sql(self, step):
        self.begin(step, lambda: self.statement(step.name, step.statement, lambda rows: None))

    def begin_checkin(self, step):
        self.begin(step, lambda: self.give_back(step.name))

    # Losing, and being found by the collector.

    def drop(self, step):
        def drop():
            del self.taken[step.name]

        self.in_thread(step, drop)

    def lose(self, step):
        def lose():
            cycle = {"taken": self.taken.pop(step.name)}
            cycle["itself"] = cycle

        self.in_thread(step, lose)

    def collect(self, step):
        self.in_thread(step, gc.collect)

    # Statements.

    def sql(self, step):
        return self.in_thread(step, lambda: self.statement(step.name, step.statement, lambda rows: None))

    def ask(self, step):
        return self.in_thread(step, lambda: self.statement(step.name, step.statement, lambda rows: str(rows[0][0])))

    # The world.

    def terminate(self, step):
        if step.name[1:]:
            pid = next(pid for pid, given in self.pids.items() if given == step.name)
        else:
            pid = self.pid_of(self.taken[step.name])
        self.activity.execute(f"SELECT pg_terminate_backend({pid})")
        self.activity.wait_gone(pid)

    def lock(self, step):
        """Another session has the table."""
        self.other_session = servers.superuser(self.server.port)
        schema = f"{self.role}." if self.server.real else ""
        for statement in ("BEGIN", f"LOCK TABLE {schema}account"):
            self.other_session.cursor().execute(statement)

    def unlock(self, step):
        self.other_session.close()

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

    def driver_text(self, text):
        """What psycopg2 says of a failed connect, without where it was to."""
        text = re.sub(r"^connection to server at .* failed: ", "", text)
        return text.replace(f'"{self.role}"', '"app"')

    def close(self):
        for pending in self.pending.values():
            pending.done.wait(1)
        for worker in self.workers.values():
            worker.end()
        self.taken.clear()
        self.activity.close()
        if self.other_session is not None:
            self.other_session.close()
        if self.proxy:
            self.proxy.close()


def first_line(text):
    return text.strip().split("\n")[0].strip()


def forgotten(error, tell):
    """Tells an error, and clears the frames that it came through: they would keep what they refer to alive."""
    told = tell(error)
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__, error = None, error.__cause__ or error.__context__
    return told
