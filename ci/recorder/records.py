"""The records beside the tests, one JSON file a situation: reading, writing so that a difference reads well, comparing."""

import json
from pathlib import Path

TRUTH = Path(__file__).resolve().parents[2] / "harness" / "tests" / "truth"
SITUATIONS = TRUTH / "situations.toml"
STORIES = TRUTH / "stories"


def path(name):
    return TRUTH / "records" / f"{name}.json"


def read(name):
    """A situation's record, or None."""
    try:
        return json.loads(path(name).read_text())
    except FileNotFoundError:
        return None


def write(name, versions, steps):
    """A step a line."""
    head = {"situation": name} | versions
    lines = [f'  "{key}": {json.dumps(value)},' for key, value in head.items()]
    told = ",\n".join("    " + json.dumps(step, ensure_ascii=False) for step in steps)
    path(name).parent.mkdir(exist_ok=True)
    path(name).write_text("\n".join(["{", *lines, '  "steps": [', told, "  ]", "}"]) + "\n")


def differences(recorded, seen):
    """Every difference of two lists of steps, each with both values."""
    found = []
    if [step["step"] for step in recorded] != [step["step"] for step in seen]:
        found.append("the situation's steps are not the record's: record it anew")
    for number, (old, new) in enumerate(zip(recorded, seen), 1):
        for key in ("outcome", "status", "events", "backends"):
            if old[key] != new[key]:
                found.append(
                    f"step {number} `{new['step']}`, {key}:\n"
                    f"    recorded {json.dumps(old[key], ensure_ascii=False)}\n"
                    f"    seen     {json.dumps(new[key], ensure_ascii=False)}"
                )
    return found


def read_story(name):
    """A story's record, or an empty one."""
    try:
        return json.loads((STORIES / f"{name}.json").read_text())
    except FileNotFoundError:
        return {"parts": {}}


def write_story(name, versions, parts):
    """An observation a line."""
    STORIES.mkdir(exist_ok=True)
    head = {"story": name} | versions
    lines = [f'  "{key}": {json.dumps(value)},' for key, value in head.items()]
    told = [
        f'    "{part}": {{\n'
        + ",\n".join(f'      "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in parts[part].items())
        + "\n    }"
        for part in parts
    ]
    (STORIES / f"{name}.json").write_text("\n".join(["{", *lines, '  "parts": {', ",\n".join(told), "  }", "}"]) + "\n")


def story_differences(recorded, seen):
    """Every observation of a part that is not the recorded one, with both values."""
    found = []
    for key in sorted(recorded.keys() | seen.keys()):
        if recorded.get(key) != seen.get(key):
            found.append(
                f"{key}:\n    recorded {json.dumps(recorded.get(key), ensure_ascii=False)}\n"
                f"    seen     {json.dumps(seen.get(key), ensure_ascii=False)}"
            )
    return found
