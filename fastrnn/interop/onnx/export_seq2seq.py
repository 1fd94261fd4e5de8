"""Decoders and `EncoderDecoder` as graphs: whole sequences, and the two parts of decoding.

A prepared memory goes between graphs as "keys", "values" and, with lengths, "mask"; see `Memory`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...seq2seq import Bridge, EncoderDecoder, InputFeedingDecoder
from .export_attention import (
    Memory,
    memory_input,
    memory_shapes,
    part,
    prepare,
    read,
    weights_shape,
)
from .export_graph import Graph, Names, Shape, Value
from .export_layers import linear
from .export_recurrent import Stack, first_input, first_states, one_hot, state_shapes, state_sizes


class Decoded(NamedTuple):
    """What a decoder gives: outputs, the last states, and weights, "" without attention."""

    y: str
    states: Names
    weights: str


def decoder(graph: Graph, layer: Any) -> None:
    """Add a decoder alone."""
    step, size = graph.options.step, getattr(layer, "input_size", layer.rnn.input_size)
    axes = ("B",) if step else ("T", "B")
    x = graph.input("x", (*axes, size))
    memory = None
    if layer.attention is not None:
        if step:
            memory = _memory_inputs(graph, layer, "T_m")
        else:
            given = memory_input(graph, layer.attention)
            memory = prepare(graph, layer.attention, "attention", given.name)
    elif graph.options.lengths:
        raise ValueError(f"lengths: expected False for {type(layer).__name__}, got True")
    states = _state_inputs(graph, layer, x.name) if graph.options.states else None
    decoded = _run(graph, layer, "", x.name, memory, states, step)
    graph.output("y", Value(decoded.y, (*axes, layer.output_size)))
    _outputs(graph, layer, decoded, "T_m")


def encoder_decoder(graph: Graph, model: EncoderDecoder) -> None:
    """Add an EncoderDecoder: all of it, what its method `start` does, or `step`."""
    {"call": _whole, "start": _start, "step": _step}[graph.options.method](graph, model)


def _whole(graph: Graph, model: EncoderDecoder) -> None:
    memory, states = _encoded(graph, model)
    x = _embedded(graph, model, graph.input("inputs", ("T", "B"), np.int64))
    decoded = _run(graph, model.decoder, "decoder", x, memory, states, False)
    _logits(graph, model, decoded, ("T", "B"))
    if decoded.weights:
        shape = weights_shape(model.decoder.attention, "T", "T_s")
        graph.output("weights", Value(decoded.weights, shape))


def _start(graph: Graph, model: EncoderDecoder) -> None:
    memory, states = _encoded(graph, model)
    if memory is not None:
        for name, shape in memory_shapes(model.decoder.attention, "T_s").items():
            value = getattr(memory, name)
            if value:
                graph.output(name, Value(value, shape), "bool" if name == "mask" else None)
    for (name, shape), state in zip(_state_names(model.decoder, 0).items(), states, strict=True):
        graph.last_state(name, Value(state, shape))


def _step(graph: Graph, model: EncoderDecoder) -> None:
    tokens = graph.input("tokens", ("B",), np.int64)
    x = _embedded(graph, model, tokens)
    memory = None
    if model.decoder.attention is not None:
        memory = _memory_inputs(graph, model.decoder, "T_s")
    states = _state_inputs(graph, model.decoder, x)
    decoded = _run(graph, model.decoder, "decoder", x, memory, states, True)
    _logits(graph, model, decoded, ("B",))
    _outputs(graph, model.decoder, decoded, "T_s")


def _logits(graph: Graph, model: EncoderDecoder, decoded: Decoded, axes: Shape) -> None:
    y = Value(decoded.y, (*axes, model.decoder.output_size))
    graph.output("logits", linear(graph, model.output, "output", y))


# --- inputs and outputs ---------------------------------------------------------------------------


def _memory_inputs(graph: Graph, layer: Any, T_m: str) -> Memory:
    """Declare the prepared memory as inputs; its mask only with lengths."""
    names = {"keys": "", "values": "", "mask": ""}
    for name, shape in memory_shapes(layer.attention, T_m).items():
        if name != "mask":
            names[name] = graph.input(name, shape).name
        elif graph.options.lengths:
            names[name] = graph.input(name, shape, np.bool_).name
    return Memory(**names)


def _state_names(layer: Any, end: int | str) -> dict[str, Shape]:
    """Return names and shapes of a decoder's states; `end` 0 for the first, "n" for the last."""
    shapes = {f"{letter}{end}": shape for letter, shape in state_shapes(layer.rnn).items()}
    if isinstance(layer, InputFeedingDecoder):
        shapes[f"fed{end}"] = ("B", layer.output_size)
    return shapes


def _state_inputs(graph: Graph, layer: Any, like: str) -> Names:
    """Declare a decoder's states as inputs."""
    axis = 0 if graph.options.step else 1
    states = first_states(graph, layer.rnn, True, "", like, axis)
    if isinstance(layer, InputFeedingDecoder):
        states.append(graph.input("fed0", ("B", layer.output_size)).name)
    return states


def _outputs(graph: Graph, layer: Any, decoded: Decoded, T_m: str) -> None:
    """Declare weights and last states as outputs."""
    if decoded.weights:
        shape = weights_shape(layer.attention, "T", T_m)
        shape = shape[1:] if graph.options.step else shape
        graph.output("weights", Value(decoded.weights, shape))
    if graph.options.states:
        for (name, shape), state in zip(
            _state_names(layer, "n").items(), decoded.states, strict=True
        ):
            graph.last_state(name, Value(state, shape))


# --- decoders -------------------------------------------------------------------------------------


def _run(
    graph: Graph,
    layer: Any,
    name: str,
    x: str,
    memory: Memory | None,
    states: Names | None,
    step: bool,
) -> Decoded:
    """Run a decoder over x (T, B, I), or by a step (B, I); without states from zeros."""
    place = f"{name}." if name else ""
    if states is None:
        states = first_states(graph, layer.rnn, False, "", x, 1)
        if isinstance(layer, InputFeedingDecoder):
            states.append(_nothing_fed(graph, layer, x, 1))
    if isinstance(layer, InputFeedingDecoder) and not step:
        return _fed_over_time(graph, layer, name, x, memory, states)
    fed = None
    if isinstance(layer, InputFeedingDecoder):
        *states, fed = states
        x = graph.joined([x, fed], -1)
    h, states = Stack(graph, layer.rnn, f"{place}rnn", step).run(x, states)
    if memory is None:
        return Decoded(h, states, "")
    zero = graph.integers(0)
    query = graph.node("Unsqueeze", h, zero) if step else h
    context, weights = read(graph, layer.attention, f"{place}attention", query, memory)
    if step:
        context, weights = (graph.node("Squeeze", v, zero) for v in (context, weights))
    combined = part(graph, layer, name, "combine", graph.joined([context, h], -1))
    y = graph.node("Tanh", combined)
    return Decoded(y, states if fed is None else [*states, y], weights)


def _fed_over_time(
    graph: Graph, layer: Any, name: str, x: str, memory: Memory | None, states: Names
) -> Decoded:
    def body(before: Names, items: Names) -> tuple[Names, Names]:
        decoded = _run(graph, layer, name, items[0], memory, before, True)
        return decoded.states, [decoded.y, decoded.weights]

    *rnn, fed = states
    sizes = state_sizes(layer.rnn).values()
    pairs = zip(rnn, sizes, strict=True)
    rnn = [s or graph.zeros(layer.rnn.num_layers, size, x, 1) for s, size in pairs]
    last, (y, weights) = graph.scan(body, [*rnn, fed], [x])
    return Decoded(y, last, weights)


def _nothing_fed(graph: Graph, layer: Any, like: str, axis: int) -> str:
    zeros = graph.zeros(1, layer.output_size, like, axis)
    return graph.node("Squeeze", zeros, graph.integers(0))


# --- encoders -------------------------------------------------------------------------------------


def _encoded(graph: Graph, model: EncoderDecoder) -> tuple[Memory | None, Names]:
    """Declare the source; return the memory and the decoder's first states."""
    encoder, embedding = model.encoder, model.source_embedding
    if embedding is not None:
        source = graph.input("source", ("T_s", "B"), np.int64).name
        weight = graph.constant("source_embedding.W", embedding.weight.data)
        x = graph.node("Gather", weight, source)
    else:
        x = first_input(graph, encoder, encoder.input_size, "source", "source", "T_s").name
    graph.lengths_input()
    states = first_states(graph, encoder, False, "_encoder", x, 1)
    y, last = Stack(graph, encoder, "encoder", lengths=graph.lengths).run(x, states)
    memory = None
    if model.decoder.attention is not None:
        memory = prepare(graph, model.decoder.attention, "decoder.attention", y)
    if model.bridge is not None:
        first = _bridged(graph, model.bridge, last)
    elif encoder.bidirectional:
        rows = [_row_by_row(graph, s) for s in last]
        first = [_by_layer(graph, r, encoder.num_layers) for r in rows]
    else:
        first = last
    if isinstance(model.decoder, InputFeedingDecoder):
        first.append(_nothing_fed(graph, model.decoder, x, 1))
    return memory, first


def _bridged(graph: Graph, bridge: Bridge, states: Names) -> Names:
    rows = graph.joined([_row_by_row(graph, s) for s in states], 1)
    z = part(graph, bridge, "bridge", "linear", rows)
    widths = [bridge.num_layers * size for size in bridge.sizes]
    parts = [z]
    if len(widths) > 1:
        parts = graph.nodes("Split", [z, graph.integers(*widths)], len(widths), axis=1)
    h, *rest = parts
    return [_by_layer(graph, r, bridge.num_layers) for r in (graph.node("Tanh", h), *rest)]


def _row_by_row(graph: Graph, state: str) -> str:
    """Return a state (L, B, H) as (B, L * H)."""
    return graph.node("Reshape", graph.swapped(state, True), graph.integers(0, -1))


def _by_layer(graph: Graph, rows: str, L: int) -> str:
    """Return (B, L * H) as (L, B, H)."""
    return graph.swapped(graph.node("Reshape", rows, graph.integers(0, L, -1)), True)


def _embedded(graph: Graph, model: EncoderDecoder, ids: Value) -> str:
    """Return the vectors of target ids."""
    if model.target_embedding is None:
        decoder = model.decoder
        return one_hot(graph, ids, getattr(decoder, "input_size", decoder.rnn.input_size)).name
    weight = graph.constant("target_embedding.W", model.target_embedding.weight.data)
    return graph.node("Gather", weight, ids.name)
