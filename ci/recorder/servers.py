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
    """A freshly made data directory with database `app`, to be copied: initdb takes seconds, a copy does not."""

    def __init__(self):
        binaries = glob.glob("/usr/lib/postgresql/*/bin")
        if not binaries:
            raise SystemExit("no PostgreSQL under /usr/lib/postgresql: run ci/install")
        self.bin = max(binaries, key=lambda path: int(path.split("/")[4]))
        self.home = tempfile.mkdtemp(prefix="poolproof-truth-")
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.home, account.pw_uid, account.pw_gid)
        self.data = f"{self.home}/template"
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync")
        with self.server("first") as first:
            connection = psycopg2.connect(dsn(first.port, database="postgres"))
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE app")
            connection.close()
            first.stop()
            shutil.rmtree(self.data)
            self.run("cp", "-a", first.data, self.data, program=False)

    def run(self, program_name, *arguments, program=True):
        command = [f"{self.bin}/{program_name}" if program else program_name, *arguments]
        if self.user:
            command = ["runuser", "-u", self.user, "--", *command]
        done = subprocess.run(command, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    @contextmanager
    def server(self, name, **settings):
        """A running server of its own, with these settings."""
        server = Server(self, name, settings)
        try:
            server.start()
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
        self.log = f"{template.home}/{name}.log"
        self.running = False
        template.run("cp", "-a", template.data, self.data, program=False)
        fixed = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": template.home,
            "fsync": "off",
            "deadlock_timeout": "200ms",
        }
        self.options = " ".join(f"-c {key}={value}" for key, value in (fixed | settings).items())

    def start(self):
        self.template.run("pg_ctl", "-D", self.data, "-s", "-w", "-l", self.log, "-o", self.options, "start")
        self.running = True

    def stop(self, mode="fast"):
        self.running = False
        self.template.run("pg_ctl", "-D", self.data, "-s", "-w", "-m", mode, "stop")

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
