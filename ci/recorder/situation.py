"""The situations of harness/tests/truth/situations.toml, parsed: what a pool is, and which steps are done with it."""

import difflib
import re
import tomllib
from dataclasses import dataclass

# The classes of each library, and a pool's settings: SQLAlchemy's own names, without the `pool_` that create_engine puts before
# some; Trac's, and the timeout that its get_cnx is given.
SQLALCHEMY = ("QueuePool", "NullPool", "SingletonThreadPool", "StaticPool")
TRAC = ("ConnectionPool", "ConnectionPool2006")
SETTINGS = {
    "SQLAlchemy": ("pool_size", "max_overflow", "timeout", "recycle", "pre_ping", "use_lifo", "reset_on_return"),
    "Trac": ("maxsize", "timeout"),
}

# Each step's words, and what follows them.
STEPS = {
    "checkout": "NAME",
    "waiting checkout": "NAME",
    "dialling checkout": "NAME",
    "begin checkout": "NAME",
    "begin checkin": "NAME",
    "begin sql": "NAME STATEMENT",
    "begin dispose": "NAME",
    "begin invalidate": "NAME",
    "join": "NAME",
    "checkin": "NAME",
    "sql": "NAME STATEMENT",
    "ask": "NAME STATEMENT",
    "commit": "NAME",
    "rollback": "NAME",
    "invalidate": "NAME",
    "soft invalidate": "NAME",
    "detach": "NAME",
    "drop": "NAME",
    "lose": "NAME",
    "collect": "THREAD",
    "dispose": "",
    "dispose without closing": "",
    "shutdown": "",
    "terminate": "NAME",
    "lock": "",
    "unlock": "",
    "limit": "NUMBER",
    "stop": "",
    "start": "",
    "restart": "",
    "silence": "",
    "speak": "",
    "sleep": "NUMBER",
}

# What only one library has.
OF_SQLALCHEMY = {
    "invalidate",
    "soft invalidate",
    "begin invalidate",
    "detach",
    "dispose",
    "dispose without closing",
    "begin dispose",
}
OF_TRAC = {"shutdown"}

# What ends a server, or every connection of it, for others too: such a situation needs one of its own.
LIFE_CYCLE = {"stop", "start", "restart"}

THREAD = re.compile("in (main|t[0-9]+)")


class Mistake(Exception):
    """A situation that can't be read: where, what was expected, the nearest name."""


@dataclass(frozen=True)
class Step:
    text: str
    verb: str
    name: str | None = None
    statement: str | None = None
    number: float | None = None
    thread: str | None = None


@dataclass(frozen=True)
class Situation:
    name: str
    about: str
    pool_class: str
    pool: dict
    steps: tuple[Step, ...]

    @property
    def library(self):
        return "Trac" if self.pool_class in TRAC else "SQLAlchemy"

    def verbs(self):
        return {step.verb for step in self.steps}


def load(path):
    """Every situation of the file, in its order."""
    with open(path, "rb") as file:
        tables = tomllib.load(file).get("situation", [])
    situations = [parse(table) for table in tables]
    names = [situation.name for situation in situations]
    for name in names:
        if names.count(name) > 1:
            raise Mistake(f"two situations are called {name}")
    return situations


def parse(table):
    name = table.get("name", "without a name")
    place = f"situation {name}"
    for key in table:
        known(key, ("name", "about", "class", "pool", "steps"), f"{place}: key")
    for key in ("name", "about", "class", "steps"):
        if key not in table:
            raise Mistake(f"{place}: `{key}` is missing")
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise Mistake(f"{place}: a name is in snake case, since a file is called by it")
    known(table["class"], SQLALCHEMY + TRAC, f"{place}: class")
    steps = tuple(parse_step(text, f"{place}, step {number}") for number, text in enumerate(table["steps"], 1))
    situation = Situation(name, table["about"], table["class"], table.get("pool", {}), steps)
    for key in situation.pool:
        known(key, SETTINGS[situation.library], f"{place}: setting of the pool")
    for verb in situation.verbs() & (OF_SQLALCHEMY if situation.library == "Trac" else OF_TRAC):
        raise Mistake(f"{place}: {situation.library} has no `{verb}`")
    return situation


def parse_step(text, place):
    # The longest words first: `dispose without closing` before `dispose`.
    for verb in sorted(STEPS, key=len, reverse=True):
        if text == verb or text.startswith(verb + " "):
            return arguments(text, verb, text[len(verb) :].strip(), place)
    first = difflib.get_close_matches(text.rsplit(" ", 1)[0], STEPS, 1)
    hint = f"; did you mean `{first[0]}`?" if first else f"; the steps are {', '.join(STEPS)}"
    raise Mistake(f"{place}: `{text}` is no step{hint}")


def arguments(text, verb, rest, place):
    form = STEPS[verb]
    fail = Mistake(f"{place}: `{text}` should be `{verb} {form}`".rstrip("` ") + "`")
    if form == "":
        if rest:
            raise fail
        return Step(text, verb)
    if form == "THREAD":
        if rest and not THREAD.fullmatch(rest):
            raise fail
        return Step(text, verb, thread=rest[3:] or None)
    if form == "NUMBER":
        try:
            return Step(text, verb, number=float(rest))
        except ValueError:
            raise fail from None
    name, _, rest = rest.partition(" ")
    if not re.fullmatch("[a-z]|c[0-9]+", name) or (name[1:] and verb != "terminate"):
        raise fail
    if form == "NAME STATEMENT":
        if not rest:
            raise fail
        return Step(text, verb, name, statement=rest)
    if rest and not THREAD.fullmatch(rest):
        raise fail
    return Step(text, verb, name, thread=rest[3:] or None)


def known(value, names, place):
    if value not in names:
        near = difflib.get_close_matches(str(value), names, 1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise Mistake(f"{place} `{value}` is none of {', '.join(names)}{hint}")
