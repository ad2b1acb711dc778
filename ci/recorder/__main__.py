"""`ci/truth`: compares what real pools do with the records, or records it."""

import argparse
import collections
import difflib
import multiprocessing
import os
import sys
import time
import traceback

import psycopg2
import sqlalchemy

from . import interpreter, records, servers, situation

# Most of a situation's time is waiting.
JOBS = 8

OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"


def main():
    parser = argparse.ArgumentParser(prog="ci/truth", description=__doc__)
    parser.add_argument("names", nargs="*", help="situations (default: all)")
    parser.add_argument("--record", action="store_true", help="write the records instead of comparing with them")
    parser.add_argument("--serve", metavar="POOLPROOF", help="compare on the simulated server of this executable")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"situations at a time (default {JOBS})")
    arguments = parser.parse_args()
    if arguments.record and arguments.serve:
        parser.error("the simulated server is compared with the records, it does not make them")
    try:
        situations = situation.load(records.SITUATIONS)
        situations = chosen(situations, arguments.names)
    except situation.Mistake as mistake:
        sys.exit(f"{records.SITUATIONS.name}: {mistake}")
    sys.exit(run_situations(situations, arguments))


def chosen(situations, names):
    known = [one.name for one in situations]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise situation.Mistake(f"no situation {name}" + (f"; did you mean {near[0]}?" if near else ""))
    return [one for one in situations if not names or one.name in names]


def run_situations(situations, arguments):
    """The exit code: 1 when one differs or fails."""
    started = time.monotonic()
    if arguments.serve:
        results = in_parallel(Served(arguments.serve), situations, arguments.jobs)
    else:
        template = servers.Template()
        try:
            with template.server("shared", max_connections=200) as shared:
                results = in_parallel(Real(template, shared, arguments.record), situations, arguments.jobs)
        finally:
            template.remove()
    counted = collections.Counter(kind for _, kind, _ in results)
    for name, kind, told in results:
        if kind != OK:
            print(f"{kind:8}{name}: {told}", flush=True)
    done = "recorded" if arguments.record else "as recorded"
    took = time.monotonic() - started
    print(f"{counted[OK]} situations {done}, {counted[FAILED]} failed, {counted[SKIPPED]} skipped, {took:.0f} s")
    return 1 if counted[FAILED] else 0


def in_parallel(world, situations, jobs):
    """(name, outcome, what is wrong or why not) of each, in the file's order; each in a process of its own."""
    fork = multiprocessing.get_context("fork")
    with fork.Pool(jobs, maxtasksperchild=1) as pool:
        return pool.map(world, situations, chunksize=1)


class Real:
    """Situations on a real server: a shared one with a role for each, or one of its own where it is stopped."""

    def __init__(self, template, shared, record):
        self.template, self.shared, self.record = template, shared, record

    def __call__(self, one):
        try:
            if one.verbs() & situation.LIFE_CYCLE:
                with self.template.server(one.name) as server:
                    return self.run(one, server)
            return self.run(one, self.shared)
        except Exception:
            return one.name, FAILED, traceback.format_exc()

    def run(self, one, server):
        recorded = None if self.record else records.read(one.name)
        if recorded is None and not self.record:
            return unrecorded(one)
        role = f"app_{one.name}"
        servers.execute(
            server.port,
            f"CREATE ROLE {role} LOGIN",
            f"CREATE SCHEMA AUTHORIZATION {role}",
            f"CREATE TABLE {role}.account (id int PRIMARY KEY, balance int NOT NULL)",
            f"INSERT INTO {role}.account VALUES (1, 100), (2, 100), (3, 100)",
            f"ALTER TABLE {role}.account OWNER TO {role}",
        )
        if not self.record:
            return compared(one, recorded, interpreter.run(one, server, role, recorded["steps"]))
        records.write(one.name, versions(server), interpreter.run(one, server, role))
        return one.name, OK, None


class Served:
    """Situations on `poolproof serve`, one server each."""

    def __init__(self, poolproof):
        self.poolproof = os.path.abspath(poolproof)

    def __call__(self, one):
        cannot = one.verbs() & situation.LIFE_CYCLE
        if cannot:
            return one.name, SKIPPED, f"poolproof serve can't {', '.join(sorted(cannot))}"
        recorded = records.read(one.name)
        if recorded is None:
            return unrecorded(one)
        try:
            with servers.served(self.poolproof) as server:
                return compared(one, recorded, interpreter.run(one, server, "app", recorded["steps"]))
        except interpreter.Unsupported as error:
            return one.name, SKIPPED, str(error)
        except Exception:
            return one.name, FAILED, traceback.format_exc()


def unrecorded(one):
    return one.name, FAILED, f"no record; `ci/truth --record {one.name}` makes it"


def compared(one, recorded, steps):
    differences = records.differences(recorded["steps"], steps)
    return (one.name, FAILED, "\n".join(["", *differences])) if differences else (one.name, OK, None)


def versions(server):
    return {
        "sqlalchemy": sqlalchemy.__version__,
        "psycopg2": psycopg2.__version__.split(" ")[0],
        "postgres": servers.version(server.port),
    }


main()
