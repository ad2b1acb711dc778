"""What the server says: the backends of a role and their states, sampled when things have settled."""

import time

import psycopg2

from . import servers

# Nothing may change for so long until it counts as settled; the exit of a backend takes some milliseconds, more under load.
SETTLED_S = 0.05
SETTLED_TO_RECORD_S = 0.3
# How long a comparison waits for what the record says, before it says that it is different.
PATIENCE_S = 5.0


class Activity:
    """A role's client backends in pg_stat_activity, seen by a superuser session that survives the server's restarts."""

    def __init__(self, server, role):
        self.server = server
        self.role = role
        self.session = None

    def rows(self):
        """(pid, state) of each backend; none while the server is down."""
        if not self.server.running:
            self.close()
            return []
        for _ in range(2):
            try:
                if self.session is None:
                    self.session = servers.superuser(self.server.port)
                with self.session.cursor() as cursor:
                    cursor.execute(
                        "SELECT pid, state FROM pg_stat_activity"
                        f" WHERE usename = '{self.role}' AND backend_type = 'client backend'"
                    )
                    return cursor.fetchall()
            except psycopg2.OperationalError:
                # A restart ended the session; the second try is with a new one.
                self.close()
        raise RuntimeError("the server does not answer a superuser")

    def execute(self, statement):
        self.rows()
        with self.session.cursor() as cursor:
            cursor.execute(statement)

    def settled(self, observe, expected=None):
        """The observation (made by `observe` of the rows and whatever else) that does not change any more.

        With an expected one, it is waited for with patience: a busy machine is slow, not different.
        """
        end = time.monotonic() + PATIENCE_S
        needed = SETTLED_TO_RECORD_S if expected is None else SETTLED_S
        last, since = None, time.monotonic()
        while True:
            seen = observe(self.rows())
            now = time.monotonic()
            if seen != last:
                last, since = seen, now
            if now - since >= needed and (expected is None or seen == expected or now >= end):
                return seen
            time.sleep(0.01)

    def wait_gone(self, pid):
        end = time.monotonic() + 10
        while any(row[0] == pid for row in self.rows()):
            if time.monotonic() > end:
                raise RuntimeError(f"backend {pid} stays after its termination")
            time.sleep(0.005)

    def close(self):
        if self.session is not None:
            self.session.close()
            self.session = None
