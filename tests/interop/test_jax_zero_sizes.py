"""fastrnn.interop.jax.layer under vmap where a size is zero, beside the scan."""

import pytest

jax = pytest.importorskip("jax", reason="NOT TESTED: needs jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from fastrnn.interop.jax import layer  # noqa: E402

WEIGHTS = [(jnp.ones((4, 3)), jnp.ones((4, 1)), None, jnp.ones(4), None)]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3), (0, 2, 5, 3), (0, 5, 1, 3)])
def test_vmap_of_nothing(shape, batch_first):
    def of(engine):
        def one(x):
            return layer("lstm", x, WEIGHTS, batch_first=batch_first, engine=engine)

        return jax.vmap(one)(jnp.ones(shape))

    for got, want in zip(of("auto"), of("scan"), strict=True):
        assert got.shape == want.shape
        np.testing.assert_array_equal(got, want)
