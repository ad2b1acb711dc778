"""Situations of Trac's pools: 1.6's, and the one of March 2006 over 1.6's connections."""

import re
import sys

import psycopg2
from trac.db import pool as trac_pool
from trac.db.postgres_backend import PostgreSQLConnection

from . import trac_pool_2006
from .interpreter import Interpreter, first_line, forgotten


class TracPool(Interpreter):
    """A ConnectionPool. What is taken is a PooledConnection."""

    def __init__(self, situation, server, role):
        # A PooledConnection that is forgotten after a shutdown raises in its __del__, which would be printed.
        sys.unraisablehook = lambda _: None
        super().__init__(situation, server, role)
        self.timeout = situation.pool.get("timeout")
        maxsize = situation.pool.get("maxsize", 10)
        arguments = {"user": role, "host": "127.0.0.1", "port": self.port}
        connector = Connector(self)
        if situation.pool_class == "ConnectionPool2006":
            self.pool = trac_pool_2006.ConnectionPool(maxsize, connector, **arguments)
            self.backend = self.pool
        else:
            # Trac keeps one backend a process, with a size that its environment variables give.
            trac_pool._backend = trac_pool.ConnectionPoolBackend(maxsize)
            self.pool = trac_pool.ConnectionPool(maxsize, connector, **arguments)
            self.backend = trac_pool._backend

    def condition(self):
        return self.backend._available

    def get(self):
        return self.pool.get_cnx(self.timeout)

    def pid_of(self, taken):
        return taken.cnx.pid

    def give_back(self, name):
        try:
            self.taken[name].close()
        except Exception as error:
            return forgotten(error, close_error)

    def status(self):
        if self.backend is self.pool:
            return {
                "active": len(self.pool._active),
                "dormant": len(self.pool._dormant),
                "size": self.pool._cursize,
                "waiting": len(self.pool._available._waiters),
            }
        backend = self.backend
        return {"active": len(backend._active), "pooled": len(backend._pool), "waiting": backend._waiters}

    def statement(self, name, statement, tell):
        try:
            cursor = self.taken[name].cnx.cnx.cursor()
            cursor.execute(statement)
            return tell(cursor.fetchall() if cursor.description else None)
        except psycopg2.Error as error:
            return forgotten(error, statement_error)

    def commit(self, step):
        return self.in_thread(step, lambda: self.end_transaction(step.name, "commit"))

    def rollback(self, step):
        return self.in_thread(step, lambda: self.end_transaction(step.name, "rollback"))

    def end_transaction(self, name, how):
        try:
            getattr(self.taken[name].cnx.cnx, how)()
        except psycopg2.Error as error:
            return forgotten(error, statement_error)

    def shutdown(self, step):
        self.pool.shutdown()

    def connect_error(self, error):
        text = re.sub(r"within \d+ seconds", "within … seconds", first_line(self.driver_text(str(error))))
        return {"error": type(error).__name__, "text": text}


class Connector:
    """Trac's PostgreSQLConnector, without the Environment that it is a component of."""

    def __init__(self, interpreter):
        self.interpreter = interpreter

    def get_connection(self, **arguments):
        return Told(self.interpreter, arguments)


class Told(PostgreSQLConnection):
    """A connection that tells what its pool does with it."""

    def __init__(self, interpreter, arguments):
        super().__init__("/app", **arguments)
        self.interpreter = interpreter
        self.pid = self.cnx.get_backend_pid()
        self.label = interpreter.new_label(self.pid)
        self.tell("connect")

    def tell(self, what):
        self.interpreter.events.append(f"{what} {self.label}")

    def ping(self):
        self.tell("ping")
        super().ping()

    def rollback(self):
        self.tell("rollback")
        self.cnx.rollback()

    def close(self):
        self.tell("close")
        self.cnx.close()


def close_error(error):
    return statement_error(error) if isinstance(error, psycopg2.Error) else {"error": type(error).__name__}


def statement_error(error):
    if error.pgcode is None or error.pgcode.startswith("57P"):
        return {"error": "disconnect"}
    return {"error": error.pgcode, "text": error.diag.message_primary}
