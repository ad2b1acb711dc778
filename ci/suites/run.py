"""One run of a suite against one server."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Of a whole suite; a test has a minute.
PATIENCE = 900
ONE_TEST = 60
# How often what is unexpected is tried again.
TRIES = 2
MANY = 40


def run(suite, directory, port, tests=None):
    """What became of each test: its name to `outcome`, `message`, `server`. `tests` are names, instead of all."""

    def filled(text):
        return text.replace("{port}", str(port))

    with tempfile.TemporaryDirectory(prefix="poolproof-suites-") as scratch:
        outcomes = Path(scratch) / "outcomes"
        environment = os.environ | {name: filled(value) for name, value in suite["environment"].items()}
        environment["SUITES_OUTCOMES"] = str(outcomes)
        environment["PYTHONPATH"] = str(HERE.parent)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        # SQLAlchemy takes the isolation level of its tests out of a set.
        environment["PYTHONHASHSEED"] = "0"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "suites.outcomes", "--timeout", str(ONE_TEST)]
        command += ["-o", f"cache_dir={scratch}/cache", "--tb", "short"]
        command += [filled(argument) for argument in suite["arguments"]]
        # In a process group of its own: what a test has started goes with it.
        with open(Path(scratch) / "log", "w+") as log:
            process = subprocess.Popen(
                [*command, *(tests or suite["files"])],
                cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
            log.seek(0)
            text = log.read()
        if not outcomes.exists() or not outcomes.read_text():
            raise RuntimeError(f"{suite['name']} ran no test: {text[-3000:]}")
        lines = [json.loads(line) for line in outcomes.read_text().splitlines()]
    return {line["test"]: line for line in lines}


def steady(outcomes, wrong, again):
    """Tries again, alone, what did other than expected: much of it watches the clock, and this machine may be busy."""
    for _ in range(TRIES):
        unexpected = [name for name in sorted(wrong()) if name in outcomes]
        # So many are no accident.
        if not 0 < len(unexpected) <= MANY:
            return
        outcomes |= again(unexpected)
