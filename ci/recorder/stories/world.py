"""Where a part of a story runs: a server made for it, real or simulated, and what one may look at there."""

import collections
import tempfile
import time
from contextlib import contextmanager

import sqlalchemy

from .. import servers

# Nothing may change for so long until it counts as settled.
SETTLED_S = 0.4

SETUP = (
    "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)",
    "INSERT INTO account VALUES (1, 100), (2, 100), (3, 100)",
)


def real_only(why):
    """Marks a part that `poolproof serve` can't do."""

    def mark(part):
        part.real_only = why
        return part

    return mark


class Real:
    real = True

    def __init__(self, template):
        self.template = template

    @contextmanager
    def server(self, name, **settings):
        """A server with role and database `app`, and the table `account`."""
        with self.template.server(name, **settings) as server:
            servers.execute(server.port, "CREATE ROLE app LOGIN", "ALTER DATABASE app OWNER TO app")
            servers.execute(server.port, "SET ROLE app", "GRANT ALL ON SCHEMA public TO app", *SETUP)
            yield Watched(server)


class Simulated:
    real = False

    def __init__(self, poolproof):
        self.poolproof = poolproof

    @contextmanager
    def server(self, name, max_connections=100, **settings):
        scenario = servers.SERVE.read_text().replace("max_connections = 100", f"max_connections = {max_connections}")
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(scenario)
            file.flush()
            with servers.served(self.poolproof, file.name) as server:
                yield Watched(server)


class Watched:
    """A server with eyes on the backends of role `app`. Each look is a superuser's session that ends with it: one that
    stayed would cost the applications a slot."""

    def __init__(self, server):
        self.server, self.port = server, server.port

    def url(self, driver="postgresql+psycopg2"):
        return f"{driver}://app@127.0.0.1:{self.port}/app"

    def engine(self, **settings):
        return sqlalchemy.create_engine(self.url(), **settings)

    def query(self, statement):
        connection = servers.superuser(self.port)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def backends(self):
        """How many backends role app has in each state, once nothing changes any more."""
        last, since = None, time.monotonic()
        while True:
            rows = self.query(
                "SELECT state FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'"
            )
            seen = dict(sorted(collections.Counter(state or "starting" for (state,) in rows).items()))
            if seen != last:
                last, since = seen, time.monotonic()
            elif time.monotonic() - since > SETTLED_S:
                return seen
            time.sleep(0.02)

    def count(self):
        return sum(self.backends().values())


def at_port(port):
    """The same for a process that knows a port only."""
    return Watched(servers.Served(port))


def error(exception):
    """A SQLAlchemy or driver error as an observation: class, first line, what psycopg2 says after `failed: `."""
    original = getattr(exception, "orig", None) or exception
    text = str(original).split(" (Background")[0].split("failed: ")[-1]
    return f"{type(exception).__name__}: {text.strip().splitlines()[0].strip()}"
