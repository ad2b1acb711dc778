"""The post's application on an in-memory broker, with a worker of threads, and the cases that are asked about it.

`python -m recorder.stories.celery_app CASE PORT` prints a case's observations as JSON.
"""

import gc
import json
import logging
import os
import sys
import threading
import time
from contextlib import contextmanager

import celery
import sqlalchemy
from celery.contrib.testing.worker import start_worker
from sqlalchemy.exc import IntegrityError, NoResultFound, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

from .world import SETTLED_S, at_port

# More than pool_size 10 and the default overflow of 10.
THREADS = 24

app = celery.Celery("proj", broker="memory://", backend="cache+memory://")
app.conf.update(
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle", "json"],
    worker_hijack_root_logger=False,
)
db_session = scoped_session(sessionmaker(autoflush=False))
# Where all threads of the worker meet: each then has one task.
barrier = threading.Barrier(THREADS)
attempts = []
kept = []
second_has_failed, committed = threading.Event(), threading.Event()


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class SqlAlchemyTask(celery.Task):
    """The post's: the session goes back when the task is over."""

    abstract = True

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        db_session.remove()


def find(id):
    return db_session.query(Account).filter(Account.id == id).one()


def told(error):
    return f"{type(error).__name__}: {str(getattr(error, 'orig', None) or error)}".split("(Background")[0].strip()


def read(id):
    """A task among many at once: each thread has exactly one."""
    barrier.wait(60)
    try:
        return find(id).balance
    except SQLAlchemyError as error:
        return told(error)
    finally:
        # Nobody's session goes back before the last one has asked.
        barrier.wait(60)


def read_fast(id):
    """The same, without the second meeting: where sessions go back, all are served in turn."""
    barrier.wait(60)
    return find(id).balance


def insert(id):
    """Fails when the row is there already; the application catches that, and goes on without a rollback."""
    db_session.add(Account(id=id, balance=1))
    try:
        db_session.flush()
    except IntegrityError as error:
        return told(error).split("\n")[0]


def balance(id):
    attempts.append(id)
    try:
        return find(id).balance
    except SQLAlchemyError as error:
        return told(error)


def keep(id):
    """Something (a cache, a global) still refers to the object when the task is over."""
    kept.append(find(id))


def balance_of(account):
    return account.balance


def retrying(self, id):
    attempts.append(id)
    try:
        return find(id).balance
    except NoResultFound as error:
        if len(attempts) == 2:
            # The website commits between the second attempt and the third; the clock shall not decide that.
            second_has_failed.set()
            committed.wait(30)
        raise self.retry(exc=error)


plain = {f.__name__: app.task(f, name=f.__name__) for f in (read, read_fast, insert, balance, keep, balance_of)}
removing = {
    f.__name__: app.task(f, name=f"removing.{f.__name__}", base=SqlAlchemyTask) for f in (read_fast, insert, balance)
}
retried_task = app.task(
    retrying, name="retrying", bind=True, base=SqlAlchemyTask, max_retries=10, default_retry_delay=1
)
hopeless_task = app.task(
    retrying, name="hopeless", bind=True, base=SqlAlchemyTask, max_retries=2, default_retry_delay=0.2
)


@contextmanager
def worker(threads):
    with start_worker(app, pool="threads", concurrency=threads, perform_ping_check=False, loglevel="CRITICAL"):
        yield


def activity(server):
    return server.query(
        "SELECT state, query, query_start FROM pg_stat_activity"
        " WHERE usename = 'app' AND backend_type = 'client backend'"
    )


def settled(observe):
    """What is observed when nothing changes any more: `after_return` runs after the result is there."""
    last, since = observe(), time.monotonic()
    while time.monotonic() - since < 2 * SETTLED_S:
        time.sleep(0.02)
        seen = observe()
        if seen != last:
            last, since = seen, time.monotonic()
    return last


def round_of(task):
    """One task for each thread; what each told, counted."""
    results = [task.delay(1) for _ in range(THREADS)]
    told = [result.get(timeout=60) for result in results]
    return {str(one): told.count(one) for one in sorted(set(told), key=str)}


def without_remove(engine, server):
    """Each thread keeps its session, and so a connection in a transaction. The threads that come late get none, ever."""
    engine.pool._timeout = 0.5
    with worker(THREADS):
        first = round_of(plain["read"])
        observations = {"threads": THREADS, "first_round": first, "backends": server.backends()}
        return observations | {
            "second_round": round_of(plain["read"]),
            "backends_then": server.backends(),
            "pool": engine.pool.status(),
        }


def with_remove(engine, server):
    """`after_return` removes the session: all threads are served, and nothing stays in a transaction."""
    with worker(THREADS):
        first = round_of(removing["read_fast"])
        settled(engine.pool.checkedout)
        return {
            "threads": THREADS,
            "first_round": first,
            "second_round": round_of(removing["read_fast"]),
            "in_a_transaction": server.backends().get("idle in transaction", 0),
            "lent": settled(engine.pool.checkedout),
        }


def failed_flush(task, server, engine):
    with worker(1):
        observations = {"failed_flush": task["insert"].delay(1).get(timeout=30)}
        before = settled(lambda: activity(server))
        observations |= {
            "server_after_it": [[state, query] for state, query, _ in before],
            "lent_after_it": settled(engine.pool.checkedout),
            "next_task": task["balance"].delay(2).get(timeout=30),
        }
        after = settled(lambda: activity(server))
        return observations | {
            "the_next_task_sent_anything": before != after,
            "the_task_after_that": task["balance"].delay(2).get(timeout=30),
            "lent_at_the_end": settled(engine.pool.checkedout),
        }


def failed_flush_without_remove(engine, server):
    """A failed flush leaves a session that refuses everything; the thread's later tasks inherit it. Other threads don't."""
    observations = failed_flush(plain, server, engine)
    # The scoped session is one a thread: this thread's own is untouched.
    return observations | {"another_thread": balance(2)}


def failed_flush_with_remove(engine, server):
    """Removed at the task's end, the failed session hurts nobody."""
    return failed_flush(removing, server, engine)


def create(id):
    """A request of the website adds a row; when it commits is the case's matter."""
    session = sessionmaker(bind=db_session.registry().get_bind())()
    session.add(Account(id=id, balance=5))
    session.flush()
    return session


def published_before_commit(engine, server):
    """The task is published inside the transaction that makes its row: it finds nothing."""
    with worker(1):
        request = create(9)
        found = removing["balance"].delay(9).get(timeout=30)
        request.commit()
        return {
            "found": found,
            "attempts": len(attempts),
            "after_the_commit": removing["balance"].delay(9).get(timeout=30),
        }


def published_after_commit(engine, server):
    """The first cure: publish when it is committed."""
    with worker(1):
        create(9).commit()
        return {"found": removing["balance"].delay(9).get(timeout=30), "attempts": len(attempts)}


def retried(engine, server):
    """The second cure: the task retries (max_retries 10, a countdown between) until it finds the row."""
    with worker(1):
        request = create(9)
        result = retried_task.delay(9)
        second_has_failed.wait(30)
        request.commit()
        committed.set()
        return {"found": result.get(timeout=30), "attempts": len(attempts)}


def retried_too_often(engine, server):
    """When the row never comes: the first try and max_retries more, then the task fails with its own exception."""
    with worker(1):
        committed.set()
        request = create(9)
        started = time.monotonic()
        try:
            hopeless_task.delay(9).get(timeout=30)
            failed = None
        except NoResultFound as error:
            failed = told(error)
        waited = time.monotonic() - started
        request.rollback()
        return {"max_retries": 2, "attempts": len(attempts), "failed": failed, "two_countdowns_of_0.2_s": waited >= 0.4}


def delayed(engine, server):
    """`apply_async(countdown=…)`: right when the guess is long enough, wrong when not."""
    with worker(1):
        request = create(9)
        too_short = removing["balance"].apply_async((9,), countdown=0.01).get(timeout=30)
        enough = removing["balance"].apply_async((9,), countdown=3)
        request.commit()
        return {"too_short": too_short, "long_enough": enough.get(timeout=30)}


def object_passed(engine, server):
    """An object in the message is as old as the message; the id is not."""
    session = sessionmaker(bind=engine)()
    account = session.get(Account, 1)
    session.expunge(account)
    session.close()
    server.query("UPDATE account SET balance = 7 WHERE id = 1")
    with worker(1):
        return {
            "the_object": plain["balance_of"].delay(account).get(timeout=30),
            "by_id": removing["balance"].delay(1).get(timeout=30),
        }


def stale_session(engine, server):
    """Without `remove()` even the id gives the old object, if something still refers to it: the session has it by its key.
    What nobody refers to is read anew, and the statement is the same."""
    with worker(1):
        observations = {"before_the_update": plain["balance"].delay(1).get(timeout=30)}
        plain["keep"].delay(2).get(timeout=30)
        server.query("UPDATE account SET balance = 7")
        return observations | {
            "after_it": plain["balance"].delay(1).get(timeout=30),
            "after_it_one_that_was_kept": plain["balance"].delay(2).get(timeout=30),
        }


def main():
    name, port = sys.argv[1], int(sys.argv[2])
    # When it collects would be part of what is seen.
    gc.disable()
    logging.disable(logging.CRITICAL)
    engine = sqlalchemy.create_engine(
        f"postgresql+psycopg2://app@127.0.0.1:{port}/app", pool_recycle=3600, pool_size=10
    )
    db_session.configure(bind=engine)
    observations = globals()[name](engine, at_port(port))
    print(json.dumps(observations), flush=True)
    # The worker's threads, and with them their sessions, would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
