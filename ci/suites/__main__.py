"""driver-suites PATH-TO-POOLPROOF [--psycopg DIRECTORY] [--only SUITE…] [--write]

Runs each suite against a real server and against `poolproof serve`. What counts is what speaks with the server and passes
on the real one; the share of it that passes on the simulated one is told, and what fails there must be what known.toml
says, with the reason: a test that newly fails or newly passes is an exit code 1.
"""

import argparse
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recorder.servers import Template, execute, served

from . import known
from .run import run, steady
from .sources import source

HERE = Path(__file__).resolve().parent
# Most of a suite's time goes by in waits.
AT_ONCE = 4


def main():
    parser = argparse.ArgumentParser(prog="driver-suites")
    parser.add_argument("poolproof")
    parser.add_argument("--psycopg", metavar="DIRECTORY", help="a checkout of psycopg 3 at the version of suites.toml")
    parser.add_argument("--only", nargs="+", metavar="SUITE")
    parser.add_argument("--write", action="store_true", help="write known.toml anew, with '?' where a reason is missing")
    arguments = parser.parse_args()

    suites = tomllib.loads((HERE / "suites.toml").read_text())["suite"]
    chosen = []
    for suite in suites:
        if arguments.only and suite["name"] not in arguments.only:
            continue
        directory = source(suite, {"psycopg": arguments.psycopg})
        if directory is None:
            print(f"{suite['name']}: not run, for its tests are in no package; --psycopg names a checkout")
            continue
        chosen.append((suite, directory))

    template = Template()
    try:
        with ThreadPoolExecutor(AT_ONCE) as at_once:
            sides = [Sides(suite, directory, template, arguments.poolproof) for suite, directory in chosen]
            list(at_once.map(Sides.run, sides))
            # Alone: what watches the clock is tried again on a machine that does nothing else.
            compared = [of_suite.compared() for of_suite in sides]
    finally:
        template.remove()

    if arguments.write:
        known.write([(suite, found) for (suite, _), found in zip(chosen, compared)])
    failed = 0
    for (suite, _), found in zip(chosen, compared):
        counted = found.counted - known.expected(suite["name"]).unsteady.keys()
        total, passed = len(counted), len(counted - found.failing.keys())
        print(f"{suite['of']}: {passed} of {total} pass ({passed / total:.1%}); {found.aside} need no server")
        different = known.differences(suite["name"], found)
        for difference in different:
            print(f"  {difference}")
        failed += bool(different)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


class Found:
    """What a suite did on both servers."""

    def __init__(self, real, simulated):
        passing = {name for name, test in real.items() if test["outcome"] == "passed"}
        speaking = {name for tests in (real, simulated) for name, test in tests.items() if test["server"]}
        self.counted = passing & speaking
        self.aside = len(passing - speaking)
        lost = {"outcome": "failed", "message": "it did not run"}
        outcomes = {name: simulated.get(name, lost) for name in passing}
        # Also one that needs no server may not fail.
        self.failing = {name: test["message"] for name, test in outcomes.items() if test["outcome"] != "passed"}
        self.failing_on_real = {name: test["message"] for name, test in real.items() if test["outcome"] == "failed"}


class Sides:
    """A suite on both servers."""

    def __init__(self, suite, directory, template, poolproof):
        self.suite, self.directory = suite, directory
        self.template, self.poolproof = template, poolproof

    def run(self):
        with ThreadPoolExecutor(2) as both:
            real, simulated = both.submit(self.on_real), both.submit(self.on_simulated)
            self.real, self.simulated = real.result(), simulated.result()

    def on_real(self, tests=None):
        with self.template.server(f"{self.suite['name']}-{time.monotonic_ns()}", max_connections=200) as server:
            # SQLAlchemy's suite wants them to be there.
            execute(server.port, "CREATE SCHEMA test_schema", "CREATE SCHEMA test_schema_2")
            return run(self.suite, self.directory, server.port, tests)

    def on_simulated(self, tests=None):
        with served(self.poolproof, HERE.parent / "serve" / "suites.toml") as server:
            return run(self.suite, self.directory, server.port, tests)

    def compared(self):
        """To be called once nothing else runs."""
        expected = known.expected(self.suite["name"])

        def wrong_on_real():
            failed = {name for name, test in self.real.items() if test["outcome"] == "failed"}
            return failed ^ expected.on_real.keys()

        def wrong_on_simulated():
            return Found(self.real, self.simulated).failing.keys() ^ expected.on_simulated.keys()

        steady(self.real, wrong_on_real, self.on_real)
        steady(self.simulated, wrong_on_simulated, self.on_simulated)
        return Found(self.real, self.simulated)


main()
