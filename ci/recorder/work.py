"""Does situations and parts of stories, many at a time, each in a process of its own, and compares them with the records."""

import importlib.metadata
import multiprocessing
import traceback
from typing import Any, NamedTuple

from . import interpreter, records, servers, situation

# By the names that PyPI knows them by.
LIBRARIES = ("SQLAlchemy", "psycopg2-binary", "Trac", "celery", "gevent", "psycogreen")

OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"


class Result(NamedTuple):
    name: str
    kind: str
    # What is wrong, or why it was skipped.
    told: str | None = None
    # A part's observations.
    seen: Any = None


def do(chosen, situations, world, jobs):
    """The result of each, in the order of `chosen`. `situations` does a situation, `world` is a story's."""
    fork = multiprocessing.get_context("fork")
    with fork.Pool(jobs, maxtasksperchild=1) as pool:
        pending = [
            pool.apply_async(situations, (one,))
            if isinstance(one, situation.Situation)
            else pool.apply_async(do_part, (*one, world, situations.record))
            for one in chosen
        ]
        return [one.get() for one in pending]


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
            return Result(one.name, FAILED, traceback.format_exc())

    def run(self, one, server):
        recorded = None if self.record else records.read(one.name)
        if recorded is None and not self.record:
            return unrecorded(one.name)
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
            steps = interpreter.run(one, server, role, recorded["steps"])
            return compared(one.name, records.differences(recorded["steps"], steps), recorded, server)
        steps = interpreter.run(one, server, role)
        records.write(one.name, versions(server, one.library, "psycopg2-binary"), steps)
        return Result(one.name, OK)


class Served:
    """Situations on `poolproof serve`, one server each."""

    record = False

    def __init__(self, poolproof):
        self.poolproof = poolproof

    def __call__(self, one):
        cannot = one.verbs() & situation.LIFE_CYCLE
        if cannot:
            return Result(one.name, SKIPPED, f"poolproof serve can't {', '.join(sorted(cannot))}")
        recorded = records.read(one.name)
        if recorded is None:
            return unrecorded(one.name)
        try:
            with servers.served(self.poolproof) as server:
                steps = interpreter.run(one, server, "app", recorded["steps"])
                return compared(one.name, records.differences(recorded["steps"], steps), recorded, server)
        except interpreter.Unsupported as error:
            return Result(one.name, SKIPPED, str(error))
        except Exception:
            return Result(one.name, FAILED, traceback.format_exc())


def do_part(story, part, world, record):
    """A part of a story: recorded ones are compared, or all are returned to be written."""
    name = f"{story}/{part.__name__}"
    why = getattr(part, "real_only", None)
    if why and not world.real:
        return Result(name, SKIPPED, why)
    try:
        seen = part(world)
    except Exception:
        return Result(name, FAILED, traceback.format_exc())
    if record:
        return Result(name, OK, seen=seen)
    recorded = records.read_story(story)
    if part.__name__ not in recorded["parts"]:
        return unrecorded(name)
    return compared(name, records.story_differences(recorded["parts"][part.__name__], seen), recorded)


def record_stories(results, server):
    """Writes the parts that were done; a story's other parts stay as they were."""
    for story in {result.name.split("/")[0] for result in results if result.seen is not None}:
        parts = records.read_story(story)["parts"]
        for result in results:
            if result.seen is not None and result.name.split("/")[0] == story:
                parts[result.name.split("/")[1]] = result.seen
        records.write_story(story, versions(server, *LIBRARIES), parts)


def unrecorded(name):
    return Result(name, FAILED, f"no record; `ci/truth --record {name}` makes it")


def compared(name, differences, recorded, server=None):
    """With the differences, the versions that are others than when it was recorded: they may be why."""
    if not differences:
        return Result(name, OK)
    libraries = [library for library in LIBRARIES if recorded_as(library) in recorded]
    for key, version in versions(server, *libraries).items():
        if recorded[key] != version:
            differences.append(f"recorded with {key} {recorded[key]}, seen with {version}")
    return Result(name, FAILED, "\n".join(["", *differences]))


def recorded_as(library):
    return library.removesuffix("-binary").lower()


def versions(server, *libraries):
    installed = {recorded_as(library): importlib.metadata.version(library) for library in libraries}
    return installed | ({"postgres": servers.version(server.port)} if server else {})
