"""A QueryPool on gevent: an input queue, an overseer, N workers, `task_done`, `join`, `kill`.

The author measured six queries: serial 24 s, 5 workers 8 s, 3 workers 9 s, 2 workers 15 s. His `__query` never closes its
connection. Each case runs in a process of its own (query_pool_app.py), since gevent patches what all others use.
"""

from . import durations
from .application import Case


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
    Case("query_pool_app", "figures"),
    Case("query_pool_app", "missing_close"),
    Case("query_pool_app", "exception_in_a_query"),
    Case("query_pool_app", "more_workers_than_connections"),
    Case("query_pool_app", "more_workers_unpatched"),
    Case("query_pool_app", "worker_killed"),
    Case("query_pool_app", "not_cooperative"),
]
