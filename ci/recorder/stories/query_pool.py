"""A QueryPool on gevent: an input queue, an overseer, N workers, `task_done`, `join`, `kill`.

The author measured six queries: serial 24 s, 5 workers 8 s, 3 workers 9 s, 2 workers 15 s. His `__query` never closes its
connection. Each case runs in a process of its own (query_pool_app.py), since gevent patches what all others use.
"""

import json
import subprocess
import sys

from . import durations


class Case:
    """A part that runs a case of the application on a server."""

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, world):
        with world.server(f"query_pool_{self.__name__}") as server:
            return run(self.__name__, server)


def run(name, server):
    """A case's observations."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "recorder.stories.query_pool_app", name, str(server.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return json.loads(done.stdout)


def which_durations(world):
    """No server: which durations give the four figures, and is the vector unique?"""
    found = durations.solutions()
    multisets = {tuple(sorted(vector)) for vector in found}
    return {
        "figures": {f"{workers} workers": seconds for workers, seconds in durations.FIGURES.items()},
        "chosen": list(durations.DURATIONS),
        "vectors_of_whole_seconds": len(found),
        "up_to_order": len(multisets),
        "with_six_different_durations": [list(vector) for vector in found if len(set(vector)) == 6],
        "unique": False,
    }


PARTS = [
    which_durations,
    Case("figures"),
    Case("missing_close"),
    Case("exception_in_a_query"),
    Case("more_workers_than_connections"),
    Case("more_workers_unpatched"),
    Case("worker_killed"),
    Case("not_cooperative"),
]
