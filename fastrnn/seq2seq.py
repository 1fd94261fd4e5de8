"""From sequences to sequences of other lengths: `EncoderDecoder`, `Bridge`, and the decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import losses
from .attention_base import Memory
from .base import Layer, RealArray, check_dtype, check_number, check_size, integer_array
from .composite import Composite
from .decoders import Decoder, InputFeedingDecoder, LuongDecoder, PlainDecoder, output_size
from .layers import LAYER_CLASSES, Embedding, Linear, Seed
from .recurrent import Recurrent

__all__ = ["Bridge", "EncoderDecoder", "InputFeedingDecoder", "LuongDecoder", "PlainDecoder"]

State = Any


class Bridge(Composite):
    """The initial state of a decoder, computed from the last state of an encoder of another shape.

    With s, all of the encoder's last states side by side (layers, directions, for an LSTM h and
    c): h_0 = tanh(W s + b) for each layer, as Bahdanau et al. (2015), appendix A.2.2, do; c_0,
    which has no bounds, without the tanh.

    Parameters
    ----------
    in_features : int
        Size of s.
    sizes : sequence of int
        Of the decoder's states: (size of h,), for an LSTM (size of h, size of c).
    num_layers : int, default 1
        Of the decoder.
    dtype : {"float32", "float64"}
    seed : int or numpy.random.Generator, optional
        Of the initial weights, drawn as `Linear` does.
    """

    def __init__(
        self,
        in_features: int,
        sizes: Sequence[int],
        num_layers: int = 1,
        *,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.sizes = tuple(check_size("sizes", size) for size in sizes)
        self.num_layers = check_size("num_layers", num_layers)
        self.dtype = check_dtype(dtype)
        self._add_linears(self.dtype, seed)

    @classmethod
    def between(cls, encoder: Recurrent, decoder: Recurrent, seed: Seed = None) -> Bridge:
        """Return a bridge from one recurrent stack to another."""
        in_features = encoder.num_layers * sum(_state_sizes(encoder))
        sizes = _state_sizes(decoder)
        return cls(in_features, sizes, decoder.num_layers, dtype=encoder.dtype, seed=seed)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments (without the seed)."""
        return {
            "in_features": self.in_features,
            "sizes": list(self.sizes),
            "num_layers": self.num_layers,
            "dtype": self.dtype.name,
        }

    @classmethod
    def _linears(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        in_features = check_size("in_features", config.get("in_features"))
        sizes = sum(check_size("sizes", size) for size in config["sizes"])
        out_features = sizes * check_size("num_layers", config.get("num_layers", 1))
        return {"linear": {"in_features": in_features, "out_features": out_features}}

    def __call__(self, state: State) -> State:
        """Return the decoder's state, arrays (L, B, .), from the encoder's."""
        return self.vjp(state)[0]

    def vjp(self, state: State) -> tuple[State, Callable[[State], State]]:
        """Return the decoder's state, and the pullback from its gradient to the encoder's."""
        parts = _parts(state)
        widths = [part.shape[0] * part.shape[2] for part in parts]
        flat = np.concatenate([_row_by_row(part) for part in parts], axis=1)
        z, back = self._parts["linear"].vjp(flat)
        h, *rest = _split(z, [self.num_layers * size for size in self.sizes])
        h = np.tanh(h)

        def pullback(dstate: State) -> State:
            dh, *d_rest = [_row_by_row(d) for d in _parts(dstate)]
            d_flat = back(np.concatenate([dh * (1 - h * h), *d_rest], axis=1))
            d_parts = zip(_split(d_flat, widths), parts, strict=True)
            return _state([_by_layer(d, part.shape[0]) for d, part in d_parts])

        return _state([_by_layer(rows, self.num_layers) for rows in (h, *rest)]), pullback


class EncoderDecoder(Composite):
    """A recurrent encoder, and a decoder that starts from its last state and attends to it.

    source -> source_embedding -> encoder -> memory and last state; the state through the bridge;
    inputs -> target_embedding -> decoder -> output -> logits. Sutskever, Vinyals & Le (2014); with
    attention, Luong, Pham & Manning (2015). All is time first.

    Parameters
    ----------
    encoder : RNN, LSTM or GRU
        In one or both directions.
    decoder : PlainDecoder, LuongDecoder or InputFeedingDecoder
    output : Linear
        From the decoder's outputs to the logits of V tokens.
    source_embedding : Embedding, optional
        Without it the encoder takes the source as it is: vectors, or token ids as one-hot vectors.
    target_embedding : Embedding, optional
        Without it the decoder takes token ids as one-hot vectors.
    bridge : Bridge, optional
        Without it the decoder starts from the encoder's last state, for a bidirectional encoder
        from both directions' states side by side, layer by layer: the decoder is of the same kind
        with as many layers and the hidden size of all directions.
    seed : int or numpy.random.Generator, optional
        Of the choices of scheduled sampling.

    Examples
    --------
    >>> model = fastrnn.EncoderDecoder(
    ...     fastrnn.LSTM(32, 64, bidirectional=True),
    ...     fastrnn.LuongDecoder(fastrnn.LSTM(32, 128), fastrnn.GeneralAttention(128, 128)),
    ...     fastrnn.Linear(128, 13),
    ...     fastrnn.Embedding(40, 32),
    ...     fastrnn.Embedding(13, 32),
    ... )
    >>> source, lengths = np.ones((9, 4), int), [9, 5, 7, 9]
    >>> target, target_lengths = np.ones((6, 4), int), [6, 6, 4, 5]
    >>> loss, pullback = model.loss_vjp(source, target, lengths, target_lengths)
    >>> pullback()

    Decoding takes three methods. A state is (`Memory` or None, the decoder's state); its arrays are
    the memory's, batch first, the recurrent stack's (L, B, H), and a fed vector (B, O).

    >>> state = model.start(source, lengths)
    >>> logits, state = model.step(target[0], state)  # (B,) to (B, V)
    >>> logits.shape
    (4, 13)
    >>> state = model.select(state, [0, 0, 2])  # rows of the batch, in this order
    """

    _given = ("encoder", "decoder", "output", "source_embedding", "target_embedding", "bridge")

    def __init__(
        self,
        encoder: Recurrent,
        decoder: Decoder,
        output: Linear,
        source_embedding: Embedding | None = None,
        target_embedding: Embedding | None = None,
        bridge: Bridge | None = None,
        *,
        seed: Seed = None,
    ) -> None:
        super().__init__()
        self._add_given(
            encoder=encoder,
            decoder=decoder,
            output=output,
            source_embedding=source_embedding,
            target_embedding=target_embedding,
            bridge=bridge,
        )
        self.encoder, self.decoder, self.output = encoder, decoder, output
        self.source_embedding, self.target_embedding = source_embedding, target_embedding
        self.bridge = bridge
        self.dtype = encoder.dtype
        self._check_parts()
        self._rng = np.random.default_rng(seed)

    def _check_parts(self) -> None:
        encoder, decoder = self.encoder, self.decoder
        for name, part, kind in (
            ("encoder", encoder, Recurrent),
            ("decoder", decoder, Decoder),
            ("output", self.output, Linear),
            ("source_embedding", self.source_embedding, (Embedding, type(None))),
            ("target_embedding", self.target_embedding, (Embedding, type(None))),
            ("bridge", self.bridge, (Bridge, type(None))),
        ):
            if not isinstance(part, kind):
                raise TypeError(f"{name}: got a {type(part).__name__}, see EncoderDecoder")
        if encoder.batch_first:
            raise ValueError("encoder: expected time first, got batch_first=True")
        if decoder.attention is not None:
            size = decoder.attention.memory_size
            _check_equal("the attention's memory_size", size, output_size(encoder))
        _check_equal("output.in_features", self.output.in_features, decoder.output_size)
        if self.source_embedding is not None:
            size = self.source_embedding.embedding_dim
            _check_equal("source_embedding.embedding_dim", size, encoder.input_size)
        if self.target_embedding is not None:
            size = self.target_embedding.embedding_dim
            wanted = getattr(decoder, "input_size", decoder.rnn.input_size)
            _check_equal("target_embedding.embedding_dim", size, wanted)
        self._check_bridge()

    def _check_bridge(self) -> None:
        encoder, rnn = self.encoder, self.decoder.rnn
        if self.bridge is None:
            given = encoder.num_layers, _state_sizes(encoder)
            wanted = rnn.num_layers, _state_sizes(rnn)
            if given != wanted:
                raise ValueError(
                    "bridge: expected one (Bridge.between), as layers and sizes of the states of "
                    f"the encoder are {given}, of the decoder {wanted}"
                )
        else:
            _check_equal("bridge", self.bridge.config(), Bridge.between(encoder, rnn).config())

    # --- whole sequences ----------------------------------------------------------------------

    def __call__(
        self, source: ArrayLike, inputs: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[RealArray, RealArray | None]:
        """Return the logits for given inputs (inference: no dropout).

        Parameters
        ----------
        source : array_like of int, shape (T_s, B)
            Token ids; without a source embedding also vectors (T_s, B, I).
        inputs : array_like of int, shape (T, B)
            What the decoder is fed: a start token and then the target but its last token.
        lengths : array_like of int, shape (B,), optional
            Steps of each row of the source.

        Returns
        -------
        logits : ndarray, shape (T, B, V)
            Of the token after each input.
        weights : ndarray, shape (T, B, T_s), or None without attention
            Where the decoder looked.

        Raises
        ------
        ValueError, TypeError, IndexError
            If a shape, a dtype or a token id does not fit.
        """
        memory, state = self._encode(source, lengths)
        y, _, weights = self.decoder(
            self._embedded(inputs), memory, self.decoder.start(state), lengths
        )
        return self.output(y), weights

    def vjp(
        self,
        source: ArrayLike,
        inputs: ArrayLike,
        lengths: ArrayLike | None = None,
        sampling: float = 0.0,
    ) -> tuple[tuple[RealArray, RealArray | None], Callable[[ArrayLike], RealArray | None]]:
        """Run whole sequences for training; arguments and errors as of a call.

        Parameters
        ----------
        source, inputs, lengths
            As of a call.
        sampling : float, default 0.0
            Scheduled sampling (Bengio et al. 2015): the probability that an input, each but the
            first, is not the given token but one drawn from the model's own distribution. The
            draws come first, step by step and without dropout; no gradient goes through them, as
            in the paper. 0 is teacher forcing, and draws nothing.

        Returns
        -------
        (logits, weights) : as of a call
        pullback : callable
            ``pullback(dlogits) -> dsource``, which is None for token ids.
        """
        sampling = check_number("sampling", sampling, 0.0, 1.0)
        embedded, back_to_source = _maybe_vjp(self.source_embedding, source)
        (memory, last), back_to_embedded = self.encoder.vjp(embedded, None, lengths)
        state, back_to_last = self._bridged(last)
        if sampling > 0.0:
            prepared = self.decoder.prepare(memory, lengths), self.decoder.start(state)
            inputs = self._sampled(inputs, prepared, sampling)
        x, back_to_inputs = _maybe_vjp(self.target_embedding, self._ids(inputs))
        (y, _, weights), back_to_decoder = self.decoder.vjp(
            x, memory, self.decoder.start(state), lengths
        )
        logits, back = self.output.vjp(y)

        def pullback(dlogits: ArrayLike) -> RealArray | None:
            dx, dmemory, dstate = back_to_decoder(back(dlogits))
            back_to_inputs(dx)
            dlast = back_to_last(self.decoder.start_gradient(dstate))
            dembedded, _ = back_to_embedded(dmemory, dlast)
            dsource: RealArray | None = back_to_source(dembedded)
            return dsource

        return (logits, weights), pullback

    def loss_vjp(
        self,
        source: ArrayLike,
        target: ArrayLike,
        lengths: ArrayLike | None = None,
        target_lengths: ArrayLike | None = None,
        sampling: float = 0.0,
    ) -> tuple[float, Callable[[], RealArray | None]]:
        """Return the mean cross-entropy of the targets' tokens, in nats, and its pullback.

        Parameters
        ----------
        source, lengths, sampling
            As of `vjp`.
        target : array_like of int, shape (T, B)
            Whole targets: a start token, the tokens, an end token, and padding, any token id. Of T
            steps, T - 1 are inputs and T - 1 are predicted.
        target_lengths : array_like of int, shape (B,), optional
            Steps of each row of the target, start and end token among them.

        Returns
        -------
        loss : float
        pullback : callable
            ``pullback() -> dsource``, which is None for token ids; adds to the gradients of all
            parameters.

        Raises
        ------
        ValueError, TypeError, IndexError
            If a shape, a dtype, a length or a token id does not fit.
        """
        ids = self._ids(target)
        if len(ids) < 2:
            raise ValueError(f"target: expected at least two steps, got the shape {ids.shape}")
        mask = None
        if target_lengths is not None:
            sizes = integer_array("target_lengths", target_lengths)
            if sizes.shape != ids.shape[1:]:
                raise ValueError(
                    f"target_lengths: expected the shape {ids.shape[1:]}, got {sizes.shape}"
                )
            if sizes.size and not (sizes.min() >= 0 and sizes.max() <= len(ids)):
                raise ValueError(f"target_lengths: expected numbers from 0 to {len(ids)}")
            mask = np.arange(1, len(ids))[:, None] < sizes
        (logits, _), back = self.vjp(source, ids[:-1], lengths, sampling)
        loss, dlogits = losses.cross_entropy(logits, ids[1:], mask=mask)
        return loss, lambda: back(dlogits)

    # --- step by step -------------------------------------------------------------------------

    def start(self, source: ArrayLike, lengths: ArrayLike | None = None) -> State:
        """Encode the source; return the state from which `step` decodes it.

        Parameters
        ----------
        source : array_like of int, shape (T_s, B)
            As of a call.
        lengths : array_like of int, shape (B,), optional

        Returns
        -------
        tuple
            (`Memory` or None, the decoder's state).
        """
        memory, state = self._encode(source, lengths)
        return self.decoder.prepare(memory, lengths), self.decoder.start(state)

    def step(self, tokens: ArrayLike, state: State) -> tuple[RealArray, State]:
        """Feed a token to each row (inference).

        Parameters
        ----------
        tokens : array_like of int, shape (B,)
        state : what `start`, `step` or `select` returned

        Returns
        -------
        logits : ndarray, shape (B, V)
            Of the next token.
        state : the state after it
        """
        memory, decoder_state = state
        y, decoder_state, _ = self.decoder.step(self._embedded(tokens), decoder_state, memory)
        return self.output(y), (memory, decoder_state)

    def select(self, state: State, indices: ArrayLike) -> State:
        """Return the state of these rows, in this order; a row may appear any number of times.

        Parameters
        ----------
        state : tuple
            As `start` or `step` returned it.
        indices : array_like of int, shape (n,)

        Returns
        -------
        tuple
            A state of n rows.
        """
        memory, decoder_state = state
        rows = integer_array("indices", indices)
        kept: Memory | None = None if memory is None else memory.select(rows)
        return kept, self.decoder.select(decoder_state, rows)

    # --- helpers ------------------------------------------------------------------------------

    def _ids(self, tokens: ArrayLike) -> NDArray[np.int64]:
        ids = integer_array("target", tokens)
        if ids.ndim != 2:
            raise ValueError(f"target: expected the shape (T, B), got {ids.shape}")
        return ids

    def _embedded(self, tokens: ArrayLike) -> Any:
        ids = integer_array("tokens", tokens)
        return ids if self.target_embedding is None else self.target_embedding(ids)

    def _encode(self, source: ArrayLike, lengths: ArrayLike | None) -> tuple[RealArray, State]:
        """Return the encoder's outputs and the initial state of the decoder's recurrent stack."""
        x = source if self.source_embedding is None else self.source_embedding(source)
        memory, last = self.encoder(x, None, lengths)
        return memory, self._bridged(last)[0]

    def _bridged(self, last: State) -> tuple[State, Callable[[State], State]]:
        if self.bridge is not None:
            return self.bridge.vjp(last)
        return _joined_directions(last, self.encoder.num_layers)

    def _sampled(self, inputs: ArrayLike, state: State, sampling: float) -> NDArray[np.int64]:
        """Return the inputs with some replaced by tokens of the model's own."""
        chosen = self._ids(inputs).copy()
        own = self._rng.random(chosen.shape) < sampling
        for t in range(1, len(chosen)):
            logits, state = self.step(chosen[t - 1], state)
            # The largest of logits + Gumbel noise is a draw from their softmax.
            drawn = (logits + self._rng.gumbel(size=logits.shape)).argmax(axis=-1)
            chosen[t] = np.where(own[t], drawn, chosen[t])
        return chosen


def _maybe_vjp(layer: Layer | None, x: ArrayLike) -> tuple[Any, Callable[[Any], Any]]:
    """Return ``layer.vjp(x)``; without a layer, x and a pullback that gives what it takes."""
    return (x, lambda dx: dx) if layer is None else layer.vjp(x)


def _state_sizes(rnn: Recurrent) -> tuple[int, ...]:
    """Return the sizes of h and, if there is one, c in a layer, of both directions together."""
    sizes = (rnn._output_size, rnn.hidden_size) if rnn._has_cell_state else (rnn._output_size,)
    return tuple(size * (1 + rnn.bidirectional) for size in sizes)


def _parts(state: State) -> list[RealArray]:
    return list(state) if isinstance(state, tuple) else [state]


def _state(parts: list[RealArray]) -> State:
    return parts[0] if len(parts) == 1 else tuple(parts)


def _row_by_row(part: RealArray) -> RealArray:
    """Return one array of a state, (L, B, H), as (B, L * H)."""
    L, B, H = part.shape
    return part.swapaxes(0, 1).reshape(B, L * H)


def _by_layer(rows: RealArray, L: int) -> RealArray:
    """Return (B, L * H) as (L, B, H)."""
    B, size = rows.shape
    return np.ascontiguousarray(rows.reshape(B, L, size // L).swapaxes(0, 1))


def _split(rows: RealArray, widths: Sequence[int]) -> list[RealArray]:
    return np.split(rows, np.cumsum(widths)[:-1], axis=1)


def _joined_directions(state: State, L: int) -> tuple[State, Callable[[State], State]]:
    """Return the state (L * D, B, H) as (L, B, D * H), and the pullback."""
    parts = _parts(state)

    def pullback(dstate: State) -> State:
        pairs = zip(_parts(dstate), parts, strict=True)
        return _state([_by_layer(_row_by_row(d), part.shape[0]) for d, part in pairs])

    return _state([_by_layer(_row_by_row(part), L) for part in parts]), pullback


def _check_equal(name: str, got: Any, wanted: Any) -> None:
    if got != wanted:
        raise ValueError(f"{name}: expected {wanted}, got {got}")


LAYER_CLASSES.update((kind.__name__, kind) for kind in (Bridge, EncoderDecoder))
