"""A way to the server that can fall silent: connects are accepted, and nobody answers, as behind a dead load balancer."""

import socket
import struct
import threading


class Proxy:
    """Forwards TCP connections to `port` of this machine, until `silence`; `speak` ends that with a RST for what was held."""

    def __init__(self, port):
        self.target = port
        self.held = []
        self.silent = False
        self.changed = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.changed:
                if self.silent:
                    self.held.append(client)
                    self.changed.notify_all()
                    continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except ConnectionRefusedError:
                reset(client)
                continue
            for source, target in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=forward, args=(source, target), daemon=True).start()

    def silence(self):
        with self.changed:
            self.silent = True

    def speak(self):
        with self.changed:
            self.silent = False
            held, self.held = self.held, []
        for client in held:
            reset(client)

    def wait_for_held(self, count, timeout=10):
        """Waits until so many connects hang."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.held) >= count, timeout):
                raise RuntimeError(f"{len(self.held)} connects hang instead of {count}")

    def close(self):
        self.listener.close()


def forward(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
