"""What is known of the suites: known.toml, read, compared and written."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).resolve().parent / "known.toml"
# Begins a reason that is still to be written, before what the test said.
UNEXPLAINED = "?"


@dataclass
class Expected:
    """Of one suite: how many tests count, and the reasons of those that fail, by name."""

    tests: int = 0
    on_simulated: dict = field(default_factory=dict)
    on_real: dict = field(default_factory=dict)
    unsteady: dict = field(default_factory=dict)


def read():
    return tomllib.loads(FILE.read_text()) if FILE.exists() else {}


def expected(suite):
    of_suite = read().get(suite, {})
    found = Expected(of_suite.get("tests", 0))
    for key, reasons in (("fails", found.on_simulated), ("fails_on_real", found.on_real), ("unsteady", found.unsteady)):
        for group in of_suite.get(key, []):
            reasons |= {test: group["why"] for test in group["tests"]}
    return found


def differences(suite, found):
    """Sentences on what is not as known.toml says."""
    of_suite = expected(suite)
    told = []
    for where, known, seen in (
        ("", of_suite.on_simulated, found.failing),
        (" on the real server", of_suite.on_real, found.failing_on_real),
    ):
        for name in sorted(seen.keys() - known.keys() - of_suite.unsteady.keys()):
            told.append(f"fails{where}, and is not known to: {name}: {first_line(seen[name])}")
        for name in sorted(known.keys() - seen.keys()):
            told.append(f"passes{where}, and is known to fail ({known[name]}): {name}")
        told += [f"has no reason: {name}" for name, why in known.items() if why.startswith(UNEXPLAINED)]
    unsteady = of_suite.unsteady.keys()
    if len(found.counted - unsteady) != of_suite.tests:
        told.append(f"{len(found.counted - unsteady)} tests count, {of_suite.tests} are known")
    return told


def first_line(message):
    lines = [line for line in message.splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"


def write(found_of):
    """Writes known.toml anew: numbers and names as seen, reasons as they were."""
    old = read()
    text = FILE.read_text().split("\n[", 1)[0].rstrip() + "\n" if FILE.exists() else ""
    found_of = {suite["name"]: found for suite, found in found_of}
    for name in [*old, *(name for name in found_of if name not in old)]:
        found = found_of.get(name)
        of_suite = expected(name)
        if found:
            of_suite.tests = len(found.counted - of_suite.unsteady.keys())
            for known, seen in ((of_suite.on_simulated, found.failing), (of_suite.on_real, found.failing_on_real)):
                seen = {test: message for test, message in seen.items() if test not in of_suite.unsteady}
                now = {test: known.get(test, f"{UNEXPLAINED} {first_line(seen[test])}") for test in sorted(seen)}
                known.clear()
                known |= now
        text += f"\n[{name}]\ntests = {of_suite.tests}\n"
        for key, reasons in (
            ("fails", of_suite.on_simulated), ("fails_on_real", of_suite.on_real), ("unsteady", of_suite.unsteady)
        ):
            for why in dict.fromkeys(reasons.values()):
                tests = [test for test in reasons if reasons[test] == why]
                text += f"\n[[{name}.{key}]]\nwhy = {json.dumps(why, ensure_ascii=False)}\ntests = [\n"
                text += "".join(f"    {json.dumps(test, ensure_ascii=False)},\n" for test in tests) + "]\n"
    FILE.write_text(text)
