"""Pools of the C library and of Python: their states are the same bytes."""

from ctypes import byref, c_uint64, c_void_p, create_string_buffer

import numpy as np
import pytest

import fastrnn
from c_library import lib
from fastrnn.serialization import serialized


@pytest.fixture
def content():
    return serialized(
        fastrnn.Sequential(fastrnn.LSTM(3, 20, seed=0), fastrnn.Linear(20, 4, seed=1))
    )


@pytest.fixture
def c_pool(content):
    model, pool = c_void_p(), c_void_p()
    assert lib.fr_model_load_memory(content, len(content), None, byref(model)) == 0
    assert lib.fr_pool_create(model, None, byref(pool)) == 0
    lib.fr_model_free(model)
    yield pool
    lib.fr_pool_free(pool)


def c_step(pool, session, x):
    y = np.empty((len(x), 4), np.float32)
    pointers = (c_void_p(x.ctypes.data), len(x), c_void_p(y.ctypes.data))
    assert lib.fr_pool_step(pool, session, *pointers) == 0
    return y


def test_a_session_goes_on_here_and_there(content, c_pool):
    x = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    expected = fastrnn.StreamPool(content)
    alone = expected.open()
    with fastrnn.StreamPool(content) as pool:
        session, of_c = pool.open(), c_uint64()
        y = [pool.step(session, x[:10])]
        state = pool.export_state(session)
        assert len(state) == lib.fr_pool_state_bytes(c_pool)
        assert lib.fr_pool_open(c_pool, state, len(state), byref(of_c)) == 0
        y.append(c_step(c_pool, of_c, x[10:20]))
        back = create_string_buffer(len(state))
        assert lib.fr_pool_export(c_pool, of_c, back, len(state)) == 0
        pool.import_state(session, back.raw)
        y.append(pool.step(session, x[20:]))
    assert np.concatenate(y).tobytes() == expected.step(alone, x).tobytes()
