"""Models as the tests of the C library draw them, and their files."""

import dataclasses
import json

import numpy as np
from hypothesis import strategies as st

import fastrnn

FUNCTIONS = ("tanh", "relu", "sigmoid", "softsign", "identity", ("leaky_relu", 0.1), ("elu", 0.7))
FUNCTIONS += (("hard_sigmoid", 0.25, 0.4), ("scaled_tanh", 1.5, 0.5), "softplus")


@dataclasses.dataclass
class Case:
    """A model, its input (B, T, I) or tokens (B, T), and the lengths of its rows."""

    model: fastrnn.Sequential
    x: np.ndarray
    lengths: np.ndarray

    @property
    def streams(self):
        recurrent = [layer for layer in self.model if layer.recurrent]
        return not any(layer.bidirectional or layer.go_backwards for layer in recurrent)

    @property
    def x_by_step(self):
        return self.x.swapaxes(0, 1)


def file_of(model, folder, metadata=None):
    """Return the path of the model's file."""
    path = folder / "model.safetensors"
    fastrnn.save(model, path, metadata)
    return path


def safetensors(tensors, description=None, **metadata):
    """Return a file's bytes: tensors are {name: (dtype, shape, bytes)}."""
    header, data = {}, b""
    if description is not None:
        metadata["fastrnn"] = json.dumps(description)
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        data += content
    return with_header(json.dumps(header), data)


def with_header(text, data):
    """Return a file's bytes, of any header."""
    header = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    return len(header).to_bytes(8, "little") + header + data


def describe(layer_class, config, metadata=None):
    """Return the description that stands in a model's file."""
    model = {"class": layer_class, "config": config}
    return {"format": 1, "version": "0", "model": model, "metadata": metadata or {}}


def randomize(model, seed):
    """Give every parameter random values: initial states, gains and slopes as well."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters().values():
        parameter.data = rng.normal(0, 0.5, parameter.shape).astype(np.float32)
    return model


@st.composite
def recurrent_layers(draw, size, one_way=False):
    kind = draw(st.sampled_from(["RNN", "LSTM", "GRU", "IndRNN"]))
    options = {"num_layers": draw(st.integers(1, 3)), "bias": draw(st.booleans())}
    hidden = draw(st.integers(1, 20))
    if not one_way:
        options["bidirectional"] = draw(st.booleans())
        options["merge_mode"] = draw(st.sampled_from(["concat", "sum", "mean", "mul"]))
        options["go_backwards"] = not options["bidirectional"] and draw(st.booleans())
    if kind == "GRU":
        options["reset_after"] = draw(st.booleans())
    if kind == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    if draw(st.booleans()):
        options |= draw(other_options(kind, options))
    return getattr(fastrnn, kind)(size, hidden, **options)


@st.composite
def other_options(draw, kind, given):
    """Options with which a cell is no longer the plain one."""
    probability = st.sampled_from([0.0, 0.25])
    options = {
        "clip": draw(st.sampled_from([None, 0.5])),
        "learned_state": draw(st.booleans()),
        "zoneout": draw(probability),
        "dropout": draw(probability),
        "weight_dropout": draw(probability),
    }
    function = st.sampled_from(FUNCTIONS)
    if kind != "IndRNN":
        options["layer_norm"] = draw(st.booleans())
        options["recurrent_dropout"] = draw(probability)
    if kind in ("RNN", "IndRNN"):
        options["nonlinearity"] = draw(st.one_of(function, st.just("prelu")))
        return options
    if kind == "GRU":
        options["activations"] = draw(st.tuples(function, function))
        return options
    options["activations"] = draw(st.tuples(function, function, function))
    options["peephole"], options["coupled"] = draw(st.booleans()), draw(st.booleans())
    options["cell_clip"] = draw(st.sampled_from([None, 0.7]))
    options["zoneout"] = (0.0 if given["proj_size"] else draw(probability), draw(probability))
    return options


@st.composite
def other_layers(draw, size):
    kind = draw(
        st.sampled_from(["Linear", "LayerNorm", "Tanh", "Sigmoid", "ReLU", "Softmax", "Dropout"])
    )
    if kind == "Linear":
        return fastrnn.Linear(size, draw(st.integers(1, 20)), draw(st.booleans()))
    if kind == "LayerNorm":
        return fastrnn.LayerNorm(size, 1e-3, bias=draw(st.booleans()))
    return getattr(fastrnn, kind)()


def width_of(layer, size):
    """Return how many values a layer gives, of `size`."""
    if isinstance(layer, fastrnn.Linear):
        return layer.out_features
    if not layer.recurrent:
        return size
    directions = 2 if layer.bidirectional and layer.merge_mode == "concat" else 1
    return (getattr(layer, "proj_size", 0) or layer.hidden_size) * directions


@st.composite
def cases(draw, one_way=False):
    """Draw a model of one to five layers, a recurrent one among them, and what to run it on."""
    steps, batch = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    size = draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    if draw(st.booleans()):
        x = rng.integers(0, 7, (batch, steps)).astype(np.int32)
        layers.append(fastrnn.Embedding(7, size))
    else:
        x = rng.normal(0, 1, (batch, steps, size)).astype(np.float32)
    first = draw(st.integers(0, 2))
    for position in range(draw(st.integers(first + 1, 4))):
        recurrent = position == first or draw(st.booleans())
        strategy = recurrent_layers(size, one_way) if recurrent else other_layers(size)
        layers.append(draw(strategy))
        size = width_of(layers[-1], size)
    model = randomize(fastrnn.Sequential(*layers), int(rng.integers(2**32)))
    return Case(model, x, rng.integers(0, steps + 1, batch))
