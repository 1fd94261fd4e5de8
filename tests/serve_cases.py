"""What the tests of the server share: models, and servers as processes of their own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import numpy as np

import fastrnn
from fastrnn import text

COMMAND = (sys.executable, "-m", "fastrnn", "serve")
PATIENCE = 120  # seconds: until something is surely wrong


def models(folder):
    """Write a model of each kind into a folder; return their files by name."""
    two = fastrnn.Sequential(fastrnn.LSTM(5, 7, num_layers=2, seed=0), fastrnn.Linear(7, 3, seed=1))
    pooled = fastrnn.Sequential(
        fastrnn.GRU(4, 6, bidirectional=True, batch_first=True, seed=2),
        fastrnn.LastStep(batch_first=True),
        fastrnn.Linear(12, 2, seed=3),
    )
    embedded = fastrnn.Sequential(fastrnn.Embedding(9, 4, seed=4), fastrnn.GRU(4, 5, seed=5))
    double = fastrnn.GRU(3, 4, dtype="float64", seed=6)
    vocabulary = text.Vocabulary("\n abcdefg")
    characters = text.build_model("gru", vocabulary, 8, 1, seed=7)
    files = {name: folder / f"{name}.safetensors" for name in NAMES}
    for name, model in zip(NAMES, (two, pooled, embedded, double), strict=False):
        fastrnn.save(model, files[name])
    text.save_model(files["text"], characters, vocabulary)
    return files


NAMES = ("two", "pooled", "embedded", "double", "text")


def vectors(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


class Server:
    """``fastrnn serve`` as a process, with what it logs; ends with the block.

    Its address is `host` and `port`, as soon as the block begins.
    """

    def __init__(self, *arguments, environment=None):
        self._arguments = [str(each) for each in arguments]
        self._environment = {**os.environ, **(environment or {})}
        self.events = []
        self._news = threading.Condition()

    def __enter__(self):
        command = [*COMMAND, *self._arguments, "--port", "0"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=self._environment
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            url = urlsplit(self.event("listening")["url"])
        except BaseException:
            self.__exit__()
            raise
        self.host, self.port = url.hostname, url.port
        return self

    def _read(self):
        for line in self.process.stderr:
            with self._news:
                self.events.append(json.loads(line) if line.startswith("{") else {"line": line})
                self._news.notify_all()
        with self._news:
            self.events.append({"event": "end of log"})
            self._news.notify_all()

    def event(self, name, after=0):
        """Wait for an event of the log, the one after `after` others of that name."""

        def found():
            named = [each for each in self.events if each.get("event") == name]
            ended = self.events and self.events[-1].get("event") == "end of log"
            return named[after:] or ended

        with self._news:
            assert self._news.wait_for(found, PATIENCE), self.events
            assert found() is not True, self.events
            return found()[0]

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join()
            self.process.stderr.close()

    def stop(self):
        """Send SIGTERM, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def request(self, method, path, body=None, headers=None):
        """Return (status, headers, body) of one request."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def get(self, path, **headers):
        """Return (status, JSON) of a GET."""
        status, _, body = self.request("GET", path, headers=headers)
        return status, json.loads(body)

    def infer(self, model, inputs, headers=None, **more):
        """Return (status, JSON) of an inference; inputs are arrays by name."""
        described = [
            {"name": name, "datatype": DATATYPES[x.dtype.name], "shape": x.shape}
            | {"data": x.tolist()}
            for name, x in inputs.items()
        ]
        body = json.dumps({"inputs": described, **more})
        status, _, answer = self.request("POST", f"/v2/models/{model}/infer", body, headers or {})
        return status, json.loads(answer)


DATATYPES = {"float32": "FP32", "float64": "FP64", "int32": "INT32", "int64": "INT64"}


def until(condition, seconds=PATIENCE):
    """Wait until a condition is true, and return what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return found
