"""Celery workers with a scoped session: one session a thread, and who gives it back.

The post's configuration: `pool_size=10, pool_recycle=3600`, `scoped_session`, and a Task whose `after_return` calls
`db_session.remove()`. The cases are in celery_app.py.
"""

from .application import Case

PARTS = [
    Case("celery_app", name)
    for name in (
        "without_remove",
        "with_remove",
        "failed_flush_without_remove",
        "failed_flush_with_remove",
        "published_before_commit",
        "published_after_commit",
        "retried",
        "retried_too_often",
        "delayed",
        "object_passed",
        "stale_session",
    )
]
