"""Where the suites' files come from: source packages at fixed versions, kept under target/."""

import subprocess
import sys
import tarfile
from pathlib import Path

KEPT = Path(__file__).resolve().parent.parent.parent / "target" / "driver-suites"


def source(suite, checkouts):
    """The directory of a suite's files, or None where it is not in a package and no checkout of it was given."""
    if "sdist" in suite:
        return unpacked(**suite["sdist"])
    return checkouts.get(suite["checkout"])


def unpacked(name, version, sha256):
    """A source package of PyPI, unpacked. pip compares what it gets with the hash."""
    directory = KEPT / f"{name}-{version}"
    if directory.is_dir():
        return directory
    KEPT.mkdir(parents=True, exist_ok=True)
    wanted = KEPT / f"{name}.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-binary", ":all:"]
        + ["--no-deps", "--no-build-isolation", "--require-hashes", "-d", str(KEPT), "-r", str(wanted)],
        check=True,
    )
    # First beside its place: what is interrupted must not look whole.
    beside = KEPT / "unpacking"
    with tarfile.open(KEPT / f"{name}-{version}.tar.gz") as archive:
        archive.extractall(beside, filter="data")
    (beside / f"{name}-{version}").rename(directory)
    return directory
