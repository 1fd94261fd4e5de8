"""JAX's transformations of `fastrnn.interop.jax.layer`, in any order, beside those of a scan."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.extend.core import jaxprs_in_params  # noqa: E402

from fastrnn.interop.jax import layer  # noqa: E402
from jax_cases import KINDS, Case, assert_close  # noqa: E402

LENGTHS = (3, 5, 0, 1)


@pytest.fixture(autouse=True)
def wide():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def both(function, *args, tolerance=1e-9):
    """What `function(engine)(*args)` gives, checked to be the same by fastrnn and by a scan."""
    found, expected = (jax.jit(function(engine))(*args) for engine in ("ffi", "scan"))
    assert_close(found, expected, tolerance)
    return found


def operations(function, *args):
    """The names of the primitives in it."""
    names = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            names.append(equation.primitive.name)
            for inner in jaxprs_in_params(equation.params):
                visit(inner)

    visit(jax.make_jaxpr(function)(*args).jaxpr)
    return [name for name in names if name.startswith("fastrnn") or name in ("scan", "while")]


def rows(case):
    """One row of x alone, as who maps over the batch writes it: (T, I) -> y (T, D H)."""
    _, weights, h0, c0 = case.data()

    def row(weights, x, n=None, engine="ffi"):
        state = (h0[:, :1], None if c0 is None else c0[:, :1])
        lengths = None if n is None else n[None]
        y, *_ = layer(case.kind, x[:, None], weights, *state, lengths=lengths, engine=engine)
        return y[:, 0]

    return weights, row


# ------------------------------------------------------------------------------------ vmap


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapped_row_is_a_row_of_a_batch(kind):
    case = Case(kind, D=2)
    weights, row = rows(case)
    x, _, h0, c0 = case.data()
    n = jnp.asarray(LENGTHS)
    mapped = jax.vmap(row, (None, 1, 0), 1)
    first = (s if s is None else np.repeat(s[:, :1], case.B, 1) for s in (h0, c0))
    expected = layer(kind, x, weights, *first, lengths=n)[0]
    assert_close(mapped(weights, x, n), expected, 1e-12)
    assert operations(mapped, weights, x, n) == ["fastrnn_layer"]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("axis", [0, 2])
def test_mapping_over_batches(axis, batch_first):
    case = Case("lstm", D=2, batch_first=batch_first)
    x, weights, h0, c0 = case.data()
    xs = np.stack([x, 2 * x, -x], axis)
    hs = np.stack([h0, -h0, 0 * h0])

    def function(engine):
        def one(x, h0):
            return layer("lstm", x, weights, h0, c0, batch_first=batch_first, engine=engine)

        return jax.vmap(one, (axis, 0), (1, 2, 0))

    y, h, c = both(function, xs, hs)
    assert (y.shape[1], h.shape[2], c.shape[0]) == (3, 3, 3)
    assert operations(function("ffi"), xs, hs) == ["fastrnn_layer"]


def test_only_states_or_only_lengths_are_mapped():
    x, weights, h0, c0 = Case("lstm").data()
    hs, ns = np.stack([h0, -h0]), jnp.array([LENGTHS, (1, 2, 3, 4)])
    both(lambda e: jax.vmap(lambda h: layer("lstm", x, weights, h, c0, engine=e)), hs)
    both(lambda e: jax.vmap(lambda n: layer("lstm", x, weights, lengths=n, engine=e)), ns)


def test_mapping_twice():
    x, weights, *_ = Case("gru").data()
    xs = np.stack([x, 2 * x]) * np.array([1, -1, 3])[:, None, None, None, None]
    function = jax.vmap(jax.vmap(lambda x: layer("gru", x, weights)[0], 0, 1), 0, 2)
    assert operations(function, xs) == ["fastrnn_layer"]
    expected = np.stack([[layer("gru", a, weights)[0] for a in b] for b in xs])
    assert_close(function(xs), np.moveaxis(expected, (0, 1), (2, 1)), 1e-12)


def test_mapping_over_weights():
    case = Case("gru", D=2)
    x, weights, *_ = case.data()
    several = jax.tree.map(lambda w: np.stack([w, -w, 2 * w]), weights)
    both(lambda e: jax.vmap(lambda w: layer("gru", x, w, engine=e)[:2]), several)


# -------------------------------------------------------------------------- vmap and grad


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_gradient_of_a_mapped_layer_is_one_backward_pass(kind):
    case = Case(kind)
    weights, row = rows(case)
    x = case.data()[0]

    def function(engine):
        def loss(weights, x):
            return jnp.sum(jax.vmap(lambda x: row(weights, x, engine=engine), 1, 1)(x) ** 2)

        return jax.grad(loss, (0, 1))

    both(function, weights, x)
    found = operations(function("ffi"), weights, x)
    assert found == ["fastrnn_layer_training", "fastrnn_layer_backward"]


def test_gradients_of_each_row():
    weights, row = rows(Case("lstm"))
    x = Case("lstm").data()[0]

    def function(engine):
        def loss(weights, x):
            return jnp.sum(row(weights, x, engine=engine) ** 3)

        return jax.vmap(jax.grad(loss, (0, 1)), (None, 1))

    both(function, weights, x)


# --------------------------------------------------------------------------- derivatives


def small(engine, kind="lstm"):
    x, weights, h0, c0 = Case(kind, T=3, B=2, I=2, H=2, lengths=(3, 2)).data()

    def function(x, weights=weights):
        y, h, _ = layer(kind, x, weights, h0, c0, np.array([3, 2]), engine=engine)
        return jnp.concatenate([y.sum((0, 1)) ** 2, h.ravel()])

    return function, x, weights


@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev])
def test_jacobians(jacobian):
    both(lambda e: jacobian(small(e)[0]), small("ffi")[1])


@pytest.mark.parametrize(
    "hessian",
    [
        lambda f: jax.jacfwd(jax.jacrev(f)),
        lambda f: jax.jacrev(jax.jacrev(f)),
        lambda f: jax.jacfwd(jax.jacfwd(f)),
        lambda f: jax.jacrev(jax.jacfwd(f)),
    ],
    ids=["forward-reverse", "reverse-reverse", "forward-forward", "reverse-forward"],
)
def test_second_derivatives(hessian):
    def function(engine):
        f = small(engine, "rnn_tanh")[0]
        return hessian(lambda x: jnp.sum(jnp.sin(f(x))))

    both(function, small("ffi")[1])


def test_second_derivatives_in_the_weights():
    x, weights = small("ffi")[1:]

    def function(engine):
        f = small(engine)[0]

        def penalty(weights):
            return sum(jnp.sum(d**2) for d in jax.grad(lambda x: jnp.sum(f(x, weights)))(x))

        return jax.grad(penalty)

    both(function, weights)


def test_linearize_checkpoint_and_no_compilation():
    f, x, _ = small("ffi")
    g = small("scan")[0]
    tangent = np.ones_like(x)
    y, pushforward = jax.linearize(f, x)
    assert_close((y, pushforward(tangent)), jax.jvp(g, (x,), (tangent,)), 1e-10)
    expected = jax.grad(lambda x: g(x).sum())(x)
    assert_close(jax.grad(lambda x: jax.checkpoint(f)(x).sum())(x), expected, 1e-10)
    with jax.disable_jit():
        assert_close(jax.grad(lambda x: f(x).sum())(x), expected, 1e-10)


def test_inside_the_control_flow_of_jax():
    x, weights, *_ = Case("gru", H=3).data()  # as wide as its input, to be fed back

    def function(engine):
        def loss(weights, x):
            def again(x):
                return layer("gru", x, weights, engine=engine)[0]

            def step(x, _):
                return jax.lax.cond(x.sum() > -1e9, again, lambda x: x, x), None

            return jnp.sum(jax.lax.scan(step, x, length=3)[0] ** 2)

        return jax.grad(loss, (0, 1))

    both(function, weights, x)


# -------------------------------------------------------------------- compiled beforehand


def test_compiled_beforehand():
    f, x, _ = small("ffi")
    gradient = jax.jit(jax.grad(lambda x: f(x).sum()))
    assert_close(gradient.lower(x).compile()(x), gradient(x), 0)


@pytest.mark.parametrize("platforms", [["cpu"], ["cpu", "cuda"]])
def test_export(platforms):
    from jax import export

    x, weights, *_ = Case("gru", batch_first=True).data()

    def loss(x):
        return jnp.sum(layer("gru", x, weights, batch_first=True)[0] ** 2)

    checks = [
        export.DisabledSafetyCheck.custom_call(f"fastrnn_layer_{name}")
        for name in ("forward", "backward")
    ]
    shape = export.symbolic_shape("b, t, 3")  # any batch of any length
    for function in (loss, jax.grad(loss)):
        exported = export.export(jax.jit(function), platforms=platforms, disabled_checks=checks)(
            jax.ShapeDtypeStruct(shape, x.dtype)
        )
        again = export.deserialize(exported.serialize())
        assert_close(again.call(x), function(x), 1e-12)


# ------------------------------------------------------------------------- several devices

SHARDS = """
    import functools, os
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from fastrnn.interop.jax import gru, init

    params = init(jax.random.key(0), "gru", 3, 5)
    x = jax.random.normal(jax.random.key(1), (4, 7, 3))
    loss = lambda p, x, engine="ffi": jnp.mean(gru(p, x, batch_first=True, engine=engine)[0] ** 2)
    expected = jax.grad(loss)(params, x, "scan")
    close = functools.partial(np.testing.assert_allclose, atol=1e-6)
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
    shards = jax.device_put(x, NamedSharding(mesh, P("b")))
    jax.tree.map(close, jax.jit(jax.grad(loss))(params, shards), expected)

    for check_vma in (True, False):
        over = functools.partial(
            jax.shard_map, mesh=mesh, in_specs=(P(), P("b")), out_specs=P(), check_vma=check_vma
        )
        for engine in ("ffi", "scan"):
            mean = over(lambda p, x: jax.lax.pmean(loss(p, x, engine), "b"))
            jax.tree.map(close, jax.jit(jax.grad(mean))(params, x), expected)
        own = [
            jax.jit(over(lambda p, x: jax.lax.pmean(jax.grad(loss)(p, x, engine), "b")))(params, x)
            for engine in ("ffi", "scan")
        ]
        jax.tree.map(close, *own)

    devices = jax.pmap(
        lambda p, x: jax.lax.pmean(jax.grad(loss)(p, x), "b"), axis_name="b", in_axes=(None, 0)
    )
    found = devices(params, x.reshape(2, 2, 7, 3))
    jax.tree.map(lambda a, b: close(a[0], b), found, expected)
"""


def test_a_batch_over_two_devices():
    if not hasattr(jax, "shard_map"):
        pytest.skip("jax.shard_map is newer than this JAX")
    code = textwrap.dedent(SHARDS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
