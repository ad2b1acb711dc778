"""`ci/truth`: compares what real pools do with the records, or records it."""

import argparse
import collections
import difflib
import os
import sys
import time

from . import records, servers, situation, work
from .stories import STORIES, world

# Most of the time is waiting.
JOBS = 8


def main():
    parser = argparse.ArgumentParser(prog="ci/truth", description=__doc__)
    parser.add_argument("names", nargs="*", help="situations, stories, or STORY/PART (default: all)")
    parser.add_argument("--record", action="store_true", help="write the records instead of comparing with them")
    parser.add_argument("--serve", metavar="POOLPROOF", help="compare on the simulated server of this executable")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"how many at a time (default {JOBS})")
    arguments = parser.parse_args()
    if arguments.record and arguments.serve:
        parser.error("the simulated server is compared with the records, it does not make them")
    try:
        chosen = choose(situation.load(records.SITUATIONS), arguments.names)
    except situation.Mistake as mistake:
        sys.exit(f"{records.SITUATIONS.name}: {mistake}")
    started = time.monotonic()
    if arguments.serve:
        poolproof = os.path.abspath(arguments.serve)
        results = work.do(chosen, work.Served(poolproof), world.Simulated(poolproof), arguments.jobs)
    else:
        template = servers.Template()
        try:
            with template.server("shared", max_connections=200) as shared:
                on_real = work.Real(template, shared, arguments.record)
                results = work.do(chosen, on_real, world.Real(template), arguments.jobs)
                if arguments.record:
                    work.record_stories(results, shared)
        finally:
            template.remove()
    sys.exit(tell(results, arguments, time.monotonic() - started))


def choose(situations, names):
    """What to do: situations and (story, part) pairs. The longest come first: stories."""
    parts = {f"{story}/{part.__name__}": (story, part) for story, all_parts in STORIES.items() for part in all_parts}
    by_name = {one.name: [one] for one in situations} | {name: [part] for name, part in parts.items()}
    for story in STORIES:
        by_name[story] = [part for part in parts.values() if part[0] == story]
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 1)
            raise situation.Mistake(f"no situation or story {name}" + (f"; did you mean {near[0]}?" if near else ""))
    return [one for name in names for one in by_name[name]] if names else [*parts.values(), *situations]


def tell(results, arguments, took):
    """Prints what is wrong, and returns the exit code: 1 when one differs or fails."""
    counted = collections.Counter(result.kind for result in results)
    for result in results:
        if result.kind != work.OK:
            print(f"{result.kind:8}{result.name}: {result.told}", flush=True)
    done = "recorded" if arguments.record else "as recorded"
    print(f"{counted[work.OK]} {done}, {counted[work.FAILED]} failed, {counted[work.SKIPPED]} skipped, {took:.0f} s")
    return 1 if counted[work.FAILED] else 0


main()
