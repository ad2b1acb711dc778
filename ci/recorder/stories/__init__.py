"""The four seed stories with the real libraries: one file a story, each a few parts, each part some named observations.

A part is a function that is given the world (see world.py) and returns its observations: numbers, texts, short lists. Only
what comes out the same each time is an observation: times are rounded, and what races is brought in order or left out.
"""

from . import celery_tasks, drproject, query_pool, scheduler

STORIES = {
    "scheduler": scheduler.PARTS,
    "drproject": drproject.PARTS,
    "celery": celery_tasks.PARTS,
    "query_pool": query_pool.PARTS,
}
