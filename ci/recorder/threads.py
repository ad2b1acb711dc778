"""Threads that do what they are told, one thing after another, and live until they are told to end."""

import queue
import threading


class Worker:
    """A named thread. `do` runs a function in it and returns its result, or raises what it raised."""

    def __init__(self, name):
        self.jobs = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.work, name=name, daemon=True)
        self.thread.start()

    def work(self):
        while (job := self.jobs.get()) is not None:
            job()
            # Or the last job's closure, and what it refers to, would live until the next.
            del job

    def start(self, function):
        """Starts it, and returns where its outcome will be: a list that holds (result, error) once it has ended."""
        outcome, done = [], threading.Event()

        def job():
            try:
                outcome.append((function(), None))
            except BaseException as error:
                outcome.append((None, error))
            done.set()

        self.jobs.put(job)
        return Pending(outcome, done)

    def do(self, function):
        return self.start(function).result()

    def end(self):
        self.jobs.put(None)
        self.thread.join(10)


class Pending:
    def __init__(self, outcome, done):
        self.outcome, self.done = outcome, done

    def result(self, timeout=60):
        if not self.done.wait(timeout):
            raise RuntimeError(f"no end after {timeout} s")
        result, error = self.outcome.pop()
        if error is not None:
            raise error
        return result
