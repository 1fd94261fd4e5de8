"""Servers as processes of their own, for tests and benchmarks: `ServerProcess`, `RedisServer`."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


def free_port():
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class ServerProcess:
    """``fastrnn serve`` with these arguments; `url` is of its WebSockets."""

    def __init__(self, *arguments, port=0):
        self.arguments = [sys.executable, "-m", "fastrnn", "serve", *map(str, arguments)]
        self.port = port
        self.start()

    def start(self):
        """Start it, again on the same port, and wait until it listens."""
        self.process = subprocess.Popen(
            [*self.arguments, "--port", str(self.port)], stderr=subprocess.PIPE, text=True
        )
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "listening":
                self.url = event["url"].replace("http", "ws", 1)
                self.port = int(self.url.rpartition(":")[2])
                self._reader = threading.Thread(target=self._read, args=(self.process.stderr,))
                self._reader.start()
                return
        raise RuntimeError(f"the server ended: {''.join(self.log)}")

    def _read(self, lines):
        with lines:
            self.log.extend(lines)

    def kill(self, how=signal.SIGKILL):
        """Send a signal, wait for the end, return the status."""
        self.process.send_signal(how)
        status = self.process.wait(60)
        self._reader.join()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


class RedisServer:
    """redis-server on a free port; with a folder its data survives a kill.

    Raises FileNotFoundError where the program is missing.
    """

    def __init__(self, folder=None):
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is missing")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.arguments = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.arguments += ["--dir", str(folder or tempfile.gettempdir())]
        if folder is not None:
            self.arguments += ["--appendonly", "yes", "--appendfsync", "always"]
        self.start()

    def start(self):
        """Start it, again on the same port, and wait until it listens."""
        self.process = subprocess.Popen(self.arguments, stdout=subprocess.DEVNULL)
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server does not listen")

    def kill(self):
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def cpu_seconds(pid):
    """Return the time that a process and its ended children have used, as Linux counts it."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_seconds():
    """Return the time that all processors together have not been idle."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid):
    """Return the memory that a process has in use."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
