"""Which durations of six queries give the post's figures: serial 24, 5 workers 8, 3 workers 9, 2 workers 15 seconds?

Workers take queries from one queue, first in, first out, each as soon as it is free: list scheduling.
"""

FIGURES = {1: 24, 5: 8, 3: 9, 2: 15}

# The one used: the only six different whole seconds that do.
DURATIONS = (1, 3, 8, 2, 4, 6)


def makespan(durations, workers):
    free = [0] * workers
    for duration in durations:
        first = free.index(min(free))
        free[first] += duration
    return max(free)


def vectors(total=FIGURES[1], queries=6, longest=FIGURES[5]):
    """Every way to divide the serial time among the queries, in whole seconds."""
    if queries == 1:
        if 1 <= total <= longest:
            yield (total,)
        return
    for first in range(1, min(longest, total - queries + 1) + 1):
        for rest in vectors(total - first, queries - 1, longest):
            yield (first, *rest)


def solutions(step=1):
    """All vectors, in units of 1/step seconds, for which the four figures come out."""
    scaled = {workers: seconds * step for workers, seconds in FIGURES.items()}
    return [
        vector
        for vector in vectors(scaled[1], 6, scaled[5])
        if all(makespan(vector, workers) == time for workers, time in scaled.items())
    ]
