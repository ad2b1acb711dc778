"""Situations of SQLAlchemy's pools."""

import logging
import warnings
import weakref

import psycopg2
import sqlalchemy
from sqlalchemy import event

from .interpreter import Interpreter, first_line, forgotten

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

# create_engine puts `pool_` before the settings that are the pool's, but for these.
UNPREFIXED = ("pool_size", "max_overflow")


class SqlAlchemyPool(Interpreter):
    """An engine. What is taken is a fairy."""

    def __init__(self, situation, server, role):
        # SQLAlchemy logs and warns what it does with broken connections; that is no finding here.
        logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore", sqlalchemy.exc.SAWarning)
        super().__init__(situation, server, role)
        self.counted = situation.pool_class == "QueuePool"
        self.labels = weakref.WeakKeyDictionary()
        self.engine = self.make_engine(situation)

    def make_engine(self, situation):
        settings = {key if key in UNPREFIXED else f"pool_{key}": value for key, value in situation.pool.items()}
        if settings.get("pool_reset_on_return") == "none":
            settings["pool_reset_on_return"] = None
        engine = sqlalchemy.create_engine(
            f"postgresql+psycopg2://{self.role}@127.0.0.1:{self.port}/app",
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
                self.labels[connection] = self.new_label(connection.info.backend_pid)
            self.events.append(f"{name} {'none' if connection is None else self.labels[connection]}")

        return listen

    def condition(self):
        return self.engine.pool._pool.not_empty if self.counted else None

    def get(self):
        return self.engine.pool.connect()

    def pid_of(self, fairy):
        # It may be closed: a closed connection still knows the name that it was given, and has no pid any more.
        label = self.labels[fairy.dbapi_connection]
        return next(pid for pid, given in self.pids.items() if given == label)

    def give_back(self, name):
        self.taken[name].close()

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

    def invalidate(self, step):
        self.in_thread(step, lambda: self.taken[step.name].invalidate())

    def begin_invalidate(self, step):
        self.begin(step, lambda: self.taken[step.name].invalidate())

    def soft_invalidate(self, step):
        self.in_thread(step, lambda: self.taken[step.name].invalidate(soft=True))

    def detach(self, step):
        self.in_thread(step, lambda: self.taken[step.name].detach())

    def statement(self, name, statement, tell):
        connection = self.connection(name)
        try:
            result = connection.exec_driver_sql(statement)
            return tell(result.fetchall() if result.returns_rows else None)
        except sqlalchemy.exc.DBAPIError as error:
            return forgotten(error, statement_error)
        finally:
            # A Connection and its transaction refer to each other: the cycle would keep the fairy until a collection.
            connection._transaction = None

    def connection(self, name):
        """SQLAlchemy's own Connection over a fairy, so that its own code judges errors and invalidates."""
        return sqlalchemy.Connection(self.engine, connection=self.taken[name])

    def commit(self, step):
        return self.in_thread(step, lambda: self.end_transaction(step.name, "commit"))

    def rollback(self, step):
        return self.in_thread(step, lambda: self.end_transaction(step.name, "rollback"))

    def end_transaction(self, name, how):
        try:
            getattr(self.connection(name), f"_{how}_impl")()
        except sqlalchemy.exc.DBAPIError as error:
            return forgotten(error, statement_error)

    def dispose(self, step):
        self.engine.dispose()

    def dispose_without_closing(self, step):
        self.engine.dispose(close=False)

    def begin_dispose(self, step):
        """In a thread of its own."""
        self.owners[step.name] = step.name
        self.begin(step, self.engine.dispose)

    def connect_error(self, error):
        text = str(error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error)
        text = text.split(" (Background")[0]
        if isinstance(error, psycopg2.OperationalError):
            text = self.driver_text(text)
        return {"error": type(error).__name__, "text": first_line(text)}


def statement_error(error):
    if error.connection_invalidated:
        return {"error": "disconnect"}
    return {"error": error.orig.pgcode, "text": error.orig.diag.message_primary}
