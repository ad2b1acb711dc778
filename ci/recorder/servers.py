"""Where situations and stories run: a real PostgreSQL made for it and gone with it, or `poolproof serve`."""

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg2

SERVE = Path(__file__).resolve().parent / "serve.toml"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def dsn(port, user="postgres", database="app"):
    return f"host=127.0.0.1 port={port} user={user} dbname={database}"


def superuser(port):
    """A superuser's session, in autocommit."""
    connection = psycopg2.connect(dsn(port))
    connection.autocommit = True
    return connection


def execute(port, *statements):
    connection = superuser(port)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


def version(port):
    """Major and minor version, as the server says them."""
    connection = superuser(port)
    try:
        return connection.get_parameter_status("server_version").split(" ")[0]
    finally:
        connection.close()


class Template:
    """A freshly made data directory, to be copied for each server: initdb takes seconds, a copy does not."""

    def __init__(self):
        binaries = glob.glob("/usr/lib/postgresql/*/bin")
        if not binaries:
            raise SystemExit("no PostgreSQL under /usr/lib/postgresql: run ci/install")
        self.bin = max(binaries, key=lambda path: int(path.split("/")[4]))
        # In memory where that can be: a busy disk would be all that is measured.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.home = tempfile.mkdtemp(prefix="poolproof-truth-", dir=memory)
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.home, account.pw_uid, account.pw_gid)
        self.data = f"{self.home}/template"
        initdb = [
            f"{self.bin}/initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "--wal-segsize=1",
        ]
        self.run(*initdb)

    def run(self, *command):
        if self.user:
            command = ["runuser", "-u", self.user, "--", *command]
        done = subprocess.run(command, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    @contextmanager
    def server(self, name, **settings):
        """A running server of its own, with these settings, and a database `app`."""
        server = Server(self, name, settings)
        try:
            server.start()
            connection = psycopg2.connect(dsn(server.port, database="postgres"))
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE app STRATEGY file_copy")
            connection.close()
            yield server
        finally:
            server.remove()

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)


class Server:
    """One real server. `settings` are PostgreSQL's own, beside those that make it quick and quiet."""

    real = True

    def __init__(self, template, name, settings):
        self.template = template
        self.port = free_port()
        self.data = f"{template.home}/{name}"
        self.running = False
        template.run("cp", "-a", template.data, self.data)
        fixed = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": template.home,
            "fsync": "off",
            # What is shared lies in the data directory, and goes with it.
            "dynamic_shared_memory_type": "mmap",
            "deadlock_timeout": "200ms",
        }
        self.options = " ".join(f"-c {key}={value}" for key, value in (fixed | settings).items())

    def start(self):
        self.control("-w", "-l", f"{self.data}.log", "-o", self.options, "start")
        self.running = True

    def stop(self, mode="fast"):
        self.running = False
        self.control("-w", "-m", mode, "stop")

    def control(self, *arguments):
        self.template.run(f"{self.template.bin}/pg_ctl", "-D", self.data, "-s", *arguments)

    def remove(self):
        if self.running:
            self.stop("immediate")
        shutil.rmtree(self.data, ignore_errors=True)


@contextmanager
def served(poolproof, file=SERVE):
    """The simulated server of a scenario file, ready for connections."""
    port = free_port()
    process = subprocess.Popen(
        [poolproof, "serve", str(file), "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg2.connect(dsn(port)).close()
                break
            except psycopg2.OperationalError:
                if process.poll() is not None:
                    raise RuntimeError(f"poolproof serve ended: {process.stderr.read()}") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield Served(port)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


class Served:
    """`poolproof serve`: a server that can't be stopped and started from outside."""

    real = False
    running = True

    def __init__(self, port):
        self.port = port
