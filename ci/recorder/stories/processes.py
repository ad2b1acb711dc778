"""Processes of an application: forked, told apart by what becomes of them, and killed as an operator would."""

import os
import signal
import sys
import time
import traceback


class Process:
    """A forked process that runs `function(ready)`: it may call `ready(TEXT)` once, and hang after it."""

    def __init__(self, function):
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            code = 1
            try:
                function(lambda text="": (os.write(write, text.encode()), os.close(write)))
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            finally:
                os._exit(code)
        os.close(write)
        self.read = read

    def wait_ready(self):
        """What it said when it was ready."""
        with os.fdopen(self.read) as pipe:
            return pipe.read()

    def alive(self):
        return os.waitpid(self.pid, os.WNOHANG) == (0, 0)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def code(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def hang():
    while True:
        time.sleep(3600)
