"""A server in a thread, and character models, for the tests of the page and the text protocol."""

import asyncio
import contextlib
import threading

import uvicorn

import fastrnn
from fastrnn.serve.app import create_app
from fastrnn.serve.settings import Settings
from fastrnn.serve.sockets import websocket_protocol
from fastrnn.text import Vocabulary, build_model, save_model

CHARACTERS = "\n\t !\"'.,abcdefghijklmnopqrstuvwxyzABCDéß€😀<&>"


def write_text_model(path, cell="lstm", hidden=24, layers=2, seed=1):
    """Save a character model whose texts are anything but uniform."""
    model = build_model(cell, Vocabulary(CHARACTERS), hidden, layers, seed=seed)
    for parameter in model.parameters().values():
        parameter.data = 5 * parameter.data
    save_model(path, model, Vocabulary(CHARACTERS))
    return path


def write_sensor(path):
    layers = fastrnn.GRU(3, 8, seed=1), fastrnn.Linear(8, 2, seed=1)
    fastrnn.save(fastrnn.Sequential(*layers), path)
    return path


class Running:
    """A server that listens."""

    def __init__(self, app, server, loop):
        self.service = app.state.service
        self.app, self._server, self._loop = app, server, loop
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self.http, self.ws = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}"

    def call(self, function):
        """Call a function in the server's loop."""
        self._loop.call_soon_threadsafe(function)


@contextlib.contextmanager
def running(models, port=0, **settings):
    """Serve models, {name: path}, in a thread."""
    chosen = Settings(port=0, **{"reload_interval": 60.0, **settings})
    app = create_app(chosen, [f"{name}={path}" for name, path in models.items()])
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            "127.0.0.1",
            port,
            ws=websocket_protocol(chosen),
            ws_max_size=chosen.max_frame,
            ws_per_message_deflate=False,
            log_config=None,
            lifespan="on",
            timeout_graceful_shutdown=5,
        )
    )
    loops = []

    async def serve():
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield Running(app, server, loops[0])
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def write_models(folder):
    """Write a model of each kind; return their files by name."""
    layers = [fastrnn.Embedding(20, 4, seed=1), fastrnn.GRU(4, 6, bidirectional=True, seed=2)]
    fastrnn.save(fastrnn.Sequential(*layers), folder / "words.safetensors")
    return {
        "sensor": write_sensor(folder / "sensor.safetensors"),
        "book": write_text_model(folder / "book.safetensors"),
        "words": folder / "words.safetensors",
    }
