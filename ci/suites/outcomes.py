"""A plugin for pytest: writes what became of each test to the file that $SUITES_OUTCOMES names, a JSON object a line."""

import json
import os
import re

import pytest

# SQLAlchemy puts the database into its classes' names, with the server's minor version.
DATABASE = re.compile(r"_postgresql\+\w+_\d+_\d+(?=::|$)")

# Worse than what is before it.
ORDER = ["passed", "skipped", "failed"]


class Outcomes:
    def __init__(self, path):
        self.file = open(path, "a")
        self.outcome, self.message = "passed", ""
        # Whether somebody has spoken with a server, and whether a test itself did, where its fixtures don't tell.
        self.spoke = self.test_spoke = False

    def note(self, item, report):
        if report.when == "call":
            self.test_spoke = self.spoke
        if ORDER.index(report.outcome) > ORDER.index(self.outcome):
            self.outcome = report.outcome
            self.message = reason(report)
        if report.when == "teardown":
            fixtures = set(getattr(item, "fixturenames", ()))
            line = {
                "test": DATABASE.sub("", item.nodeid),
                "outcome": self.outcome,
                "message": self.message,
                "server": self.test_spoke or "session_dsn" in fixtures or os.environ.get("SUITES_ALL_SPEAK") == "1",
            }
            print(json.dumps(line), file=self.file, flush=True)
            self.outcome, self.message, self.test_spoke = "passed", "", False


def reason(report):
    """The last line of an error, or why a test is skipped."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return text[:2000]


def pytest_configure(config):
    config.outcomes = Outcomes(os.environ["SUITES_OUTCOMES"])
    if os.environ.get("SUITES_SQLALCHEMY") == "1":
        of_sqlalchemy(config.outcomes)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    # What fixtures have said to it does not tell.
    item.config.outcomes.spoke = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.config.outcomes.note(item, report)
    return report


def of_sqlalchemy(outcomes):
    """What SQLAlchemy's suite does before any test, and who of its tests has a real connection: many have a mock."""
    from sqlalchemy.dialects.postgresql import provision
    from sqlalchemy.engine.default import DefaultDialect

    # Two extensions for the tests of their types, made before the first test.
    provision._extensions[:] = []

    def watched(name):
        method = getattr(DefaultDialect, name)

        def call(self, first=None, *rest, **named):
            result = method(self, *([] if first is None else [first]), *rest, **named)
            for real in (first, result):
                outcomes.spoke |= type(real).__module__.partition(".")[0] in ("psycopg", "psycopg2")
            return result

        setattr(DefaultDialect, name, call)

    for name in ("connect", "do_execute", "do_rollback", "do_commit"):
        watched(name)
