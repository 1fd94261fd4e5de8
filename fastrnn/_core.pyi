"""The compiled core: private, see src/bindings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]
WeightGradients = tuple[Real | None, ...]

__version__: str

def config() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def scratch_bytes() -> int: ...
def peak_flops(isa: str, threads: int) -> float: ...
def read_bandwidth(thread_bytes: int, threads: int) -> float: ...
def barrier_seconds(threads: int) -> float: ...
def team_seconds(threads: int) -> float: ...

class _Cell:
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def training(self) -> bool: ...
    @property
    def precision(self) -> str: ...

class CellFloat32(_Cell): ...
class CellFloat64(_Cell): ...

class _Tape:
    @property
    def cache_bytes(self) -> int: ...
    def cached(self, block: int) -> Real: ...
    def backward(
        self,
        dy: Real | None,
        dh_n: Real | None,
        dc_n: Real | None,
        weight_gradients: list[WeightGradients],
        need_dx: bool,
    ) -> tuple[Real | None, Real, Real | None, Real | None]: ...

class TapeFloat32(_Tape): ...
class TapeFloat64(_Tape): ...

# A matrix may be small where the precision is: uint16 for bf16, (int8, scales) for int8.
Halves = NDArray[np.uint16]
Scaled = tuple[NDArray[np.int8], NDArray[np.float32]]

def pack_cell(
    kind: str,
    weights: tuple[Real | Halves | Scaled | None, ...],
    options: tuple[Any, ...] | None,
    training: bool,
    precision: str = "float32",
) -> _Cell: ...
def quantize_int8(array: NDArray[np.float32]) -> Scaled: ...
def to_bf16(array: NDArray[np.float32]) -> Halves: ...
def layer_forward(
    cells: tuple[_Cell, ...],
    x: NDArray[Any],
    h0: Real | None,
    c0: Real | None,
    lengths: Ids | None,
    h_n: Real,
    c_n: Real | None,
    batch_first: bool,
    checkpoint_every: int,
    options: tuple[Real | None, Real | None, Real | None, Real | None],
    cache: Real | None = None,
) -> tuple[Real, _Tape]: ...
def layer_tape(
    cells: tuple[_Cell, ...],
    x: NDArray[Any],
    h0: Real | None,
    c0: Real | None,
    lengths: Ids | None,
    y: Real,
    cache: Real,
) -> _Tape: ...
def xla_handlers() -> dict[str, Any]: ...
def layer_cache_blocks(kind: int, projects: bool) -> int: ...

class _Stack:
    def __init__(self, layers: list[tuple[_Cell, ...]]) -> None: ...
    def call(
        self,
        x: object,
        state: object,
        lengths: object,
        batch_first: bool,
        attention: object = None,
    ) -> tuple[Real, Any] | None: ...
    def call_at(
        self,
        x: int,
        steps: int,
        batch: int,
        step: int,
        row: int,
        h0: int,
        c0: int,
        batch_first: bool,
    ) -> tuple[Real, Any]: ...
    def step_at(self, x: int, batch: int, row: int, h0: int, c0: int, unbatched: bool) -> Any: ...
    def step(self, x_t: object, state: object) -> tuple[Real, Any] | None: ...

class StackFloat32(_Stack): ...
class StackFloat64(_Stack): ...

class Watch:
    def __init__(self, arrays: tuple[tuple[int, int], ...]) -> None: ...
    def unchanged(self, whole: bool) -> bool: ...

class _TensorStep:
    def __init__(
        self,
        api: object,
        types: tuple[type, ...],
        stack: _Stack,
        weights: tuple[Any, ...],
        watch: Watch,
        counted: bool,
    ) -> None: ...
    def __call__(self, weights: tuple[Any, ...], x: Any, h: Any, c: Any) -> Any: ...

class TensorStepFloat32(_TensorStep): ...
class TensorStepFloat64(_TensorStep): ...

def linear_forward(x: Real, weight: Real, bias: Real | None) -> Real: ...
def linear_backward(
    x: Real,
    weight: Real,
    dy: Real,
    grad_weight: Real | None,
    grad_bias: Real | None,
    need_dx: bool,
) -> Real | None: ...
def embedding_backward(ids: Ids, dy: Real, grad_weight: Real) -> None: ...
def cross_entropy(
    logits: Real, targets: Ids, row_weights: Real | None, ignore_index: int, need_grad: bool
) -> tuple[Real, Real | None]: ...
def layer_norm_forward(
    x: Real, weight: Real, bias: Real | None, eps: float, training: bool
) -> tuple[Real, Real, Real]: ...
def layer_norm_backward(
    x: Real,
    weight: Real,
    mean: Real,
    rstd: Real,
    dy: Real,
    grad_weight: Real | None,
    grad_bias: Real | None,
) -> Real: ...
def sgd_step(
    param: Real,
    grad: Real,
    momentum_buffer: Real | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> None: ...
def rmsprop_step(
    param: Real,
    grad: Real,
    square_avg: Real,
    momentum_buffer: Real | None,
    grad_avg: Real | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> None: ...
def adam_step(
    param: Real,
    grad: Real,
    exp_avg: Real,
    exp_avg_sq: Real,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None: ...
def clip_value(grad: Real, limit: float) -> None: ...
def scale(array: Real, factor: float) -> None: ...
def sum_of_squares(array: Real) -> float: ...
def exp(x: Real) -> Real: ...
def tanh(x: Real) -> Real: ...
def sigmoid(x: Real) -> Real: ...
def softmax(x: Real) -> Real: ...

class Completions:
    def fileno(self) -> int: ...
    def take(self) -> list[PoolAnswer]: ...

class PoolAnswer:
    @property
    def key(self) -> int: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...
    def y(self) -> NDArray[np.float32]: ...
    def states(self) -> list[bytes]: ...

class StreamPool:
    input_size: int
    output_size: int
    state_size: int
    takes_tokens: bool
    accepts_tokens: bool
    def __init__(
        self,
        model: bytes,
        capacity: int,
        max_batch: int,
        max_delay: float,
        max_pending: int,
        idle_timeout: float,
        threads: int,
    ) -> None: ...
    def open(self, state: bytes | None) -> int: ...
    def close(self, session: int) -> bool: ...
    def submit(
        self,
        sessions: NDArray[np.uint64],
        x: NDArray[np.float32] | None,
        tokens: NDArray[np.int32] | None,
        wants_state: bool,
        reset: bool,
        state: bytes | None,
        timeout: float,
        completions: Completions | None,
        key: int,
    ) -> PoolAnswer | None: ...
    def tell(self) -> None: ...
    def read_state(self, state: bytes) -> NDArray[np.float32]: ...
    def hidden(self) -> list[tuple[int, int]]: ...
    def stats(self) -> dict[str, Any]: ...
    def shut_down(self, drain: bool) -> None: ...
