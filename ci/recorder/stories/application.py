"""Cases that need an interpreter of their own: gevent patches what all others use, celery starts threads that never end."""

import json
import subprocess
import sys


class Case:
    """A part that runs a case of an application (a module beside this one) on a server: `python -m MODULE CASE PORT`."""

    def __init__(self, module, name):
        self.module, self.__name__ = module, name

    def __call__(self, world):
        with world.server(f"{self.module}_{self.__name__}") as server:
            done = subprocess.run(
                [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    f"recorder.stories.{self.module}",
                    self.__name__,
                    str(server.port),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                timeout=180,
            )
        if done.returncode:
            raise RuntimeError(f"{self.__name__}: {done.stderr}")
        return json.loads(done.stdout)
