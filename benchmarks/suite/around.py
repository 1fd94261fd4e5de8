"""What surrounds the recurrent layers in a training step, the step as a whole, and the import."""

import numpy as np

import fastrnn
from fastrnn import losses, optim, text
from fastrnn.data import StreamLoader, Streams

from .work import THREADS, use_threads

SIZES = {"small": (64, 128, 2), "large": (512, 1024, 2)}  # of an LSTM: I, H, layers


def model_with_gradients(size):
    """Return an LSTM with a gradient for each parameter."""
    layer = fastrnn.LSTM(*SIZES[size], seed=0)
    rng = np.random.default_rng(1)
    for parameter in layer.parameters().values():
        parameter.ensure_grad()[...] = rng.standard_normal(parameter.data.shape, np.float32)
    return layer


class Optimizer:
    """One step over all parameters of an LSTM: 0.2 and 15 million of them."""

    param_names = ("optimizer", "model", "threads")
    params = (["SGD", "RMSprop", "Adam", "AdamW"], list(SIZES), THREADS)

    def setup(self, name, size, threads):
        use_threads(threads)
        options = {"momentum": 0.9} if name == "SGD" else {}
        parameters = model_with_gradients(size).parameters()
        self.optimizer = getattr(optim, name)(parameters, lr=1e-6, **options)

    def time_step(self, name, size, threads):
        self.optimizer.step()


class Clipping:
    """The norm of all gradients of an LSTM, and the scaling of those beyond a limit."""

    param_names = ("model", "threads")
    params = (list(SIZES), THREADS)

    def setup(self, size, threads):
        use_threads(threads)
        self.parameters = model_with_gradients(size).parameters()

    def time_clip_grad_norm(self, size, threads):
        optim.clip_grad_norm(self.parameters, 1e-3)

    def time_clip_grad_value(self, size, threads):
        optim.clip_grad_value(self.parameters, 5.0)


class Pool:
    """A step of each session of a StreamPool, handed in at once; and one step of one session."""

    param_names = ("sessions", "threads")
    params = ([1, 64, 2000], THREADS)

    def setup(self, sessions, threads):
        model = fastrnn.Sequential(fastrnn.GRU(40, 128, seed=0), fastrnn.Linear(128, 8, seed=1))
        self.pool = fastrnn.StreamPool(model, capacity=sessions, num_threads=threads)
        self.sessions = np.array([self.pool.open() for _ in range(sessions)])
        self.x = np.zeros((sessions, 40), np.float32)
        self.time_step(sessions, threads)

    def time_step(self, sessions, threads):
        self.pool.submit_many(self.sessions, self.x).result()

    def teardown(self, sessions, threads):
        self.pool.shutdown()


class Embedding:
    """2,500 ids looked up among V vectors of length E, forward and with the gradient."""

    param_names = ("V E", "threads")
    params = (["65 128", "10000 650"], THREADS)

    def setup(self, shape, threads):
        use_threads(threads)
        V, E = map(int, shape.split())
        rng = np.random.default_rng(1)
        self.layer = fastrnn.Embedding(V, E, seed=0)
        self.ids = rng.integers(0, V, (50, 50))
        self.dy = rng.standard_normal((50, 50, E), np.float32)

    def time_call(self, shape, threads):
        self.layer(self.ids)

    def time_vjp(self, shape, threads):
        self.layer.zero_grad()
        _, pullback = self.layer.vjp(self.ids)
        pullback(self.dy)


class Output:
    """The end of a model: 2,500 rows of H units to C classes, and the loss."""

    param_names = ("H C", "threads")
    params = (["128 65", "650 10000"], THREADS)

    def setup(self, shape, threads):
        use_threads(threads)
        H, C = map(int, shape.split())
        rng = np.random.default_rng(1)
        self.layer = fastrnn.Linear(H, C, seed=0)
        self.x = rng.standard_normal((50, 50, H), np.float32)
        self.logits = rng.standard_normal((50, 50, C), np.float32)
        self.targets = rng.integers(0, C, (50, 50))

    def time_cross_entropy(self, shape, threads):
        losses.cross_entropy(self.logits, self.targets)

    def time_linear_vjp(self, shape, threads):
        self.layer.zero_grad()
        _, pullback = self.layer.vjp(self.x)
        pullback(self.logits)


class CharacterModel:
    """One window of the default recipe of `fastrnn train`, from characters to the new weights."""

    param_names = ("cell", "threads")
    params = (["lstm", "gru", "rnn"], THREADS)

    def setup(self, cell, threads):
        use_threads(threads)
        rng = np.random.default_rng(1)
        characters = "".join(chr(33 + i) for i in rng.integers(0, 65, 60_000))
        recipe = text.Recipe(cell=cell)
        training = text.Training(characters, recipe)
        ids = training.vocabulary.encode(characters)[: recipe.batch * recipe.seq_len + 1]
        self.window = StreamLoader(Streams(ids, recipe.batch), recipe.seq_len)
        self.trainer = training.trainer

    def time_training_step(self, cell, threads):
        self.trainer.fit(self.window, progress=False)


class Import:
    """A new interpreter that imports fastrnn, NumPy with it."""

    def timeraw_import(self):
        return "import fastrnn"
