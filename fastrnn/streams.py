"""Many streams of one model at once: `StreamPool`, and `AsyncPool` for programs with asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from concurrent.futures import CancelledError
from os import PathLike
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .base import Layer, check_flag, check_number, check_size, integer_array, real_array
from .serialization import serialized

__all__ = ["Answer", "AsyncPool", "PoolFull", "StreamPool"]

MAX_BATCH = 64  # rows of a pass; more would not be faster
FOREVER = 1e9  # seconds


class PoolFull(RuntimeError):  # noqa: N818 - named as queue.Full
    """All sessions that a pool has room for are open."""


class Answer:
    """What a pool owes for steps that were submitted to it.

    Made by `StreamPool.submit`; may be dropped, the steps are done all the same.

    Parameters
    ----------
    answer : object
        Of the core.
    shape : tuple of int
        Of the result.
    many : bool
        Whether it is of several sessions.
    """

    def __init__(self, answer: _core.PoolAnswer, shape: tuple[int, ...], many: bool) -> None:
        self._answer = answer
        self._shape = shape
        self._many = many

    def done(self) -> bool:
        """Return whether the result is there, or the steps were cancelled."""
        return self._answer.done()

    def cancelled(self) -> bool:
        """Return whether the session, or the pool, was closed before all steps were done."""
        return self._answer.cancelled()

    def result(self, timeout: float | None = None) -> NDArray[np.float32]:
        """Wait for the steps, and return what the model gave.

        Parameters
        ----------
        timeout : float, optional
            Seconds; without one as long as it takes.

        Returns
        -------
        ndarray of float32
            In the shape of x with the model's output_size in place of its input_size.

        Raises
        ------
        TimeoutError
            If it takes longer; the steps go on.
        concurrent.futures.CancelledError
            If the session or the pool was closed before.
        """
        if not self._answer.wait(_seconds("timeout", timeout)):
            raise TimeoutError(f"timeout: the steps were not done after {timeout} s")
        if self._answer.cancelled():
            raise CancelledError("the session was closed before all steps were done")
        return self._answer.y().reshape(self._shape)

    def state(self, timeout: float | None = None) -> Any:
        """Return the session's state after these steps; bytes, as of `StreamPool.export_state`.

        Of `submit_many` a list, one for each session. Waits and raises as `result` does;
        ValueError if the state was not asked for with ``state=True``.
        """
        self.result(timeout)
        states = self._answer.states()
        if not states:
            raise ValueError("state: was not asked for; submit with state=True")
        return states if self._many else states[0]


class StreamPool:
    """Sessions of one model, each with a state of its own, stepped together.

    Threads of the pool gather whatever is pending into one pass of the model, a step of each
    session. A session's outputs are those of the model run alone on its inputs, to the bit, whoever
    shares the pass. The steps of a session are done in the order in which they were submitted.

    Parameters
    ----------
    model : Layer, str, os.PathLike or bytes
        A model of float32 that can be streamed; or a file that `save` wrote, or its content.
    capacity : int, default 1024
        Sessions that can be open at once.
    max_batch : int, default 64
        Sessions of a pass, 1 to 64.
    max_delay : float, default 0.0
        Seconds that steps may wait for those of other sessions while a pass is not full. With 0 a
        thread takes what is there: while all are busy, batches form by themselves.
    max_pending : int, default 1024
        Steps of a session that may wait. A single call may bring more where none waits.
    idle_timeout : float, optional
        Seconds after which a session that nobody used is closed.
    num_threads : int, optional
        Threads of the pool; by default `get_num_threads()`. Passes are shared among them, a pass is
        not. They sleep while nothing is pending.

    Attributes
    ----------
    input_size, output_size, state_size : int
        Values of a step's input and output, and of a session's state.
    takes_tokens : bool
        Whether the model begins with an Embedding, so that x must be tokens.
    accepts_tokens : bool
        Whether x may be tokens: where a recurrent or linear layer comes first, they stand for
        one-hot vectors.
    capacity : int
        As given.

    Raises
    ------
    ValueError
        If the model cannot be streamed (bidirectional layers), is not of float32, or has a layer
        that `save` or the C library does not know; or an argument is out of range.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> model = fastrnn.GRU(3, 8, seed=0)
    >>> with fastrnn.StreamPool(model) as pool:
    ...     a, b = pool.open(), pool.open()
    ...     answer = pool.submit(a, np.ones((5, 3), "f"))  # five steps
    ...     y = pool.step(b, [0.5, 0.0, 1.0])  # one, and wait for it
    ...     answer.result().shape, y.shape
    ((5, 8), (8,))
    """

    def __init__(
        self,
        model: Layer | str | PathLike[str] | bytes,
        capacity: int = 1024,
        *,
        max_batch: int = MAX_BATCH,
        max_delay: float = 0.0,
        max_pending: int = 1024,
        idle_timeout: float | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.capacity = check_size("capacity", capacity)
        if self.capacity > 1 << 24:
            raise ValueError(f"capacity: expected at most {1 << 24}, got {capacity}")
        if check_size("max_batch", max_batch) > MAX_BATCH:
            raise ValueError(f"max_batch: expected at most {MAX_BATCH}, got {max_batch}")
        if idle_timeout is not None and check_number("idle_timeout", idle_timeout, 0) == 0:
            raise ValueError("idle_timeout: expected more than 0, got 0")
        threads = _core.get_num_threads() if num_threads is None else num_threads
        if check_size("num_threads", threads) > 1024:
            raise ValueError(f"num_threads: expected at most 1024, got {threads}")
        self._pool = _core.StreamPool(
            _content(model),
            self.capacity,
            max_batch,
            min(check_number("max_delay", max_delay, 0), FOREVER),
            check_size("max_pending", max_pending),
            min(idle_timeout or 0.0, FOREVER),
            threads,
        )
        self.input_size = self._pool.input_size
        self.output_size = self._pool.output_size
        self.state_size = self._pool.state_size
        self.takes_tokens = self._pool.takes_tokens
        self.accepts_tokens = self._pool.accepts_tokens

    # --- sessions ---------------------------------------------------------------------------------

    def open(self, state: bytes | None = None) -> int:
        """Open a session, in the model's initial state or in one that was exported.

        Returns
        -------
        int
            The session, a number that is not used again.

        Raises
        ------
        PoolFull
            If `capacity` sessions are open.
        ValueError
            If `state` is damaged, or of another model.
        """
        session: int = self._pool.open(state)
        if session == 0:
            raise PoolFull(f"the pool is full: {self.capacity} sessions are open")
        return session

    def close(self, session: int) -> None:
        """Close a session. What was submitted and is not done is cancelled.

        Raises
        ------
        KeyError
            If the session is not open, or expired.
        """
        if not self._pool.close(_session(session)):
            raise _unknown(session)

    def reset(self, session: int) -> None:
        """Put a session back into the initial state, after what was submitted before.

        Raises
        ------
        KeyError, queue.Full
            As of `submit`.
        """
        self._submit(_sessions(session), None, reset=True)

    def export_state(self, session: int) -> bytes:
        """Return a session's state, after what was submitted before, as bytes.

        They can be read by `open` and `import_state` on any machine, by pools of the same model
        file; they have a version and a checksum.

        Raises
        ------
        KeyError, queue.Full
            As of `submit`.
        """
        state: bytes = self._submit(_sessions(session), None, state=True).state()
        return state

    def import_state(self, session: int, state: bytes) -> None:
        """Put a session into an exported state, after what was submitted before.

        Raises
        ------
        ValueError
            If the bytes are damaged, or of another model.
        KeyError, queue.Full
            As of `submit`.
        """
        self._submit(_sessions(session), None, new_state=state)

    def hidden(self, state: bytes) -> list[NDArray[np.float32]]:
        """Return h of each recurrent layer in an exported state, each of the layer's size.

        Raises
        ------
        ValueError
            As of `import_state`.
        """
        values = self._pool.read_state(state)
        return [values[offset : offset + size] for offset, size in self._pool.hidden()]

    # --- steps ------------------------------------------------------------------------------------

    def submit(
        self,
        session: int,
        x: ArrayLike,
        *,
        state: bool = False,
        block: bool = True,
        timeout: float | None = None,
    ) -> Answer:
        """Hand in one or more steps of a session, and go on without waiting for them.

        Parameters
        ----------
        session : int
        x : array_like
            (T, input_size) or (input_size,), of real numbers; or tokens, integers (T,) or one.
            Copied.
        state : bool, default False
            Whether `Answer.state` is to have the session's state after these steps.
        block, timeout
            Where `max_pending` steps of the session wait: whether to wait for room, and how many
            seconds at most.

        Returns
        -------
        Answer

        Raises
        ------
        KeyError
            If the session is not open, or expired.
        queue.Full
            If there was no room in time.
        ValueError, TypeError
            If x is not what the model takes.
        RuntimeError
            If the pool was shut down, or was made before a fork and this is the child.
        """
        values, shape = self._one(x)
        seconds = _seconds("timeout", timeout) if block else 0.0
        return self._submit(_sessions(session), values, shape, state=state, timeout=seconds)

    def submit_many(
        self,
        sessions: ArrayLike,
        x: ArrayLike,
        *,
        state: bool = False,
        block: bool = True,
        timeout: float | None = None,
    ) -> Answer:
        """Hand in steps of several sessions in one call: all of them, or none.

        Parameters
        ----------
        sessions : array_like of int
            (N,).
        x : array_like
            (N, T, input_size) or (N, input_size), of real numbers; or tokens, integers (N, T) or
            (N,).
        state, block, timeout
            As of `submit`.

        Returns
        -------
        Answer
            Of all: it is done when the last of them is.

        Raises
        ------
        KeyError, queue.Full, ValueError, TypeError, RuntimeError
            As of `submit`.
        """
        ids = integer_array("sessions", sessions)
        if ids.ndim != 1:
            raise ValueError(f"sessions: expected the shape (N,), got {ids.shape}")
        values, shape = self._values(x, len(ids))
        seconds = _seconds("timeout", timeout) if block else 0.0
        return self._submit(
            ids.astype(np.uint64), values, shape, state=state, timeout=seconds, many=True
        )

    def step(self, session: int, x: ArrayLike) -> NDArray[np.float32]:
        """Do one or more steps of a session: `submit`, and wait.

        Returns
        -------
        ndarray of float32
            As of `Answer.result`.

        Raises
        ------
        KeyError, ValueError, TypeError, RuntimeError, concurrent.futures.CancelledError
            As of `submit` and `Answer.result`.
        """
        return self.submit(session, x).result()

    def _one(self, x: ArrayLike) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Return x of one session with an axis for it, and the shape of its outputs."""
        values, shape = self._values(_array(x)[np.newaxis], 1)
        return values, shape[1:]

    def _values(self, x: ArrayLike, N: int) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Return x as (N, T, I) or tokens (N, T), and the shape of its outputs."""
        array = _array(x)
        tokens = self.accepts_tokens and (array.dtype.kind in "iu" or self.takes_tokens)
        if tokens:
            array = integer_array("x", array)
            if array.ndim not in (1, 2) or array.shape[0] != N:
                if self.takes_tokens or array.ndim < 2 or array.shape[-1] != self.input_size:
                    raise ValueError(f"x: expected tokens (N, T) or (N,), got {array.shape}")
                tokens, array = False, array.astype(np.float32)  # numbers, a list of integers
        if tokens:
            self._check_tokens(array)
            shape = (*array.shape, self.output_size)
            T = array.shape[1] if array.ndim == 2 else 1
            return np.ascontiguousarray(array.reshape(N, T), np.int32), shape
        array = real_array("x", array, np.dtype(np.float32))
        if array.ndim not in (2, 3) or array.shape[0] != N or array.shape[-1] != self.input_size:
            expected = f"(T, {self.input_size}) or ({self.input_size},) for each session"
            raise ValueError(f"x: expected {expected}, got the shape {array.shape[-2:]}")
        shape = (*array.shape[:-1], self.output_size)
        T = array.shape[1] if array.ndim == 3 else 1
        return np.ascontiguousarray(array.reshape(N, T, self.input_size)), shape

    def _check_tokens(self, tokens: NDArray[np.int64]) -> None:
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.input_size:
            wrong = tokens.min() if tokens.min() < 0 else tokens.max()
            raise ValueError(f"x: expected tokens from 0 to {self.input_size - 1}, got {wrong}")

    def _submit(
        self,
        sessions: NDArray[np.uint64],
        values: NDArray[Any] | None,
        shape: tuple[int, ...] = (),
        *,
        state: bool = False,
        reset: bool = False,
        new_state: bytes | None = None,
        timeout: float = FOREVER,
        many: bool = False,
        completions: _core.Completions | None = None,
        key: int = 0,
    ) -> Answer:
        of_tokens = values is not None and values.dtype == np.int32
        try:
            answer = self._pool.submit(
                sessions,
                None if of_tokens else values,
                values if of_tokens else None,
                check_flag("state", state),
                reset,
                new_state,
                timeout,
                completions,
                key,
            )
        except KeyError:
            raise _unknown(sessions if many else int(sessions[0])) from None
        if answer is None:
            raise queue.Full("session: its queue is full (max_pending)")
        return Answer(answer, shape if values is not None else (len(sessions), 0, 0), many)

    # --- the pool ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of open sessions."""
        count: int = self._pool.stats()["sessions"]
        return count

    def stats(self) -> dict[str, Any]:
        """Return what the pool does and did.

        Returns
        -------
        dict
            sessions : open now; pending_steps : submitted, not done; steps, batches : done since
            the pool was made; expired : sessions that nobody used; batch_sizes : list of seven, the
            passes of 1, 2, 3-4, 5-8, 9-16, 17-32 and 33-64 sessions.
        """
        return self._pool.stats()

    def shutdown(self, wait: bool = True) -> None:
        """End the pool; nothing can be submitted from now on.

        Parameters
        ----------
        wait : bool, default True
            Whether what was submitted is done first; else it is cancelled.
        """
        self._pool.shut_down(check_flag("wait", wait))

    def __enter__(self) -> StreamPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(wait=error is None)

    def __repr__(self) -> str:
        return (
            f"StreamPool(input_size={self.input_size}, output_size={self.output_size}, "
            f"capacity={self.capacity})"
        )


class AsyncPool:
    """A `StreamPool` in a program with asyncio: results are awaited.

    Threads of the pool never wait for the interpreter; the loop is woken once for all answers that
    came meanwhile. Made and used in a running loop, of which it is a part until `close`.

    Parameters
    ----------
    pool : StreamPool
        Stays usable by itself.

    Examples
    --------
    >>> import asyncio, numpy as np, fastrnn
    >>> from fastrnn.streams import AsyncPool
    >>> async def main():
    ...     pool = AsyncPool(fastrnn.StreamPool(fastrnn.GRU(3, 8, seed=0)))
    ...     session = pool.pool.open()
    ...     y, state = await pool.submit(session, np.ones((5, 3), "f"))
    ...     pool.close()
    ...     return y.shape
    >>> asyncio.run(main())
    (5, 8)
    """

    def __init__(self, pool: StreamPool) -> None:
        self.pool = pool
        self._loop = asyncio.get_running_loop()
        self._completions = _core.Completions()
        self._waiting: dict[int, tuple[asyncio.Future[Any], Answer]] = {}
        self._telling: asyncio.Handle | None = None  # of what this turn of the loop submitted
        self._last_key = 0
        self._closed = False
        self._loop.add_reader(self._completions.fileno(), self._collect)

    def submit(
        self, session: int, x: ArrayLike | None, *, state: bool = False, reset: bool = False
    ) -> asyncio.Future[tuple[NDArray[np.float32] | None, bytes | None]]:
        """Hand in steps of a session; they have their place in its order when this returns.

        Parameters
        ----------
        session : int
        x : array_like, optional
            As of `StreamPool.submit`; None for no steps, only a reset or the state.
        state : bool, default False
            Whether the state after these steps is asked for, too.
        reset : bool, default False
            Whether the session begins with its initial state before these steps.

        Returns
        -------
        asyncio.Future
            Of the outputs (None without x) and the state as bytes (or None). Cancelled if the
            session or the pool is closed before.

        Raises
        ------
        KeyError, queue.Full, ValueError, TypeError, RuntimeError
            As of `StreamPool.submit` with ``block=False``.
        """
        if self._closed:
            raise RuntimeError("the pool for this loop was closed")
        values, shape = (None, ()) if x is None else self.pool._one(x)
        key = self._last_key = self._last_key + 1
        answer = self.pool._submit(
            _sessions(session),
            values,
            shape,
            state=state,
            reset=reset,
            timeout=0.0,
            completions=self._completions,
            key=key,
        )
        if self._telling is None:  # waking a thread costs more than a submission: once in a turn
            self._telling = self._loop.call_soon(self._tell)
        future = self._loop.create_future()
        self._waiting[key] = future, answer
        return future

    def _tell(self) -> None:
        self._telling = None
        with contextlib.suppress(RuntimeError):  # a forked child, or a pool that was shut down
            self.pool._pool.tell()

    def _collect(self) -> None:
        for done in self._completions.take():
            future, answer = self._waiting.pop(done.key)
            if future.done():  # cancelled by who waited
                continue
            if done.cancelled():
                future.cancel("the session was closed before all steps were done")
                continue
            states = done.states()
            y = done.y().reshape(answer._shape) if answer._shape[-1] else None
            future.set_result((y, states[0] if states else None))

    def close(self) -> None:
        """Leave the loop; what is still awaited is cancelled. The pool itself goes on."""
        self._closed = True
        if self._telling is not None:
            self._telling.cancel()
            self._tell()
        self._loop.remove_reader(self._completions.fileno())
        for future, _ in self._waiting.values():
            future.cancel("the pool was closed")
        self._waiting.clear()


def _content(model: Layer | str | PathLike[str] | bytes) -> bytes:
    if isinstance(model, (bytes, bytearray)):
        return bytes(model)
    if isinstance(model, Layer):
        return serialized(model)
    try:
        with open(model, "rb") as file:
            return file.read()
    except TypeError:
        raise TypeError(
            f"model: expected a layer, a path or bytes, got {type(model).__name__}"
        ) from None


def _array(x: ArrayLike) -> NDArray[Any]:
    """Return x as an array; numbers and lists become float32, where they are no integers."""
    array = np.asarray(x)
    plain = not hasattr(x, "__array__") and array.dtype.kind == "f"
    return array.astype(np.float32) if plain else array


def _seconds(name: str, timeout: float | None) -> float:
    return FOREVER if timeout is None else min(check_number(name, timeout, 0), FOREVER)


def _session(session: int) -> int:
    number = check_size("session", session, 0)
    return number if number < 1 << 64 else 0


def _sessions(session: int) -> NDArray[np.uint64]:
    return np.array([_session(session)], np.uint64)


def _unknown(sessions: object) -> KeyError:
    return KeyError(f"session: expected an open one, got {sessions!r}: closed, expired or unknown")
