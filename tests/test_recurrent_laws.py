"""Laws that hold for every recurrent layer, checked on random cases, nearly all of them by bits.

What one sequence gives does not depend on what else is computed: the rows beside it, the padding
behind it, whether it comes at once, in parts or step by step, by token ids or one-hot vectors, in
which layout. These laws need no reference.
"""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurrent_cases import (
    CELLS,
    DTYPES,
    Case,
    Data,
    assert_close,
    assert_same_bits,
    forward,
    infer,
    name_states,
    pull,
    run,
    state_from_user,
    state_to_user,
    to_user,
)

# Around the rows that a kernel takes at once, around vectors and groups of 16 units.
BATCHES = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 25, 33])
HIDDEN = st.sampled_from([1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 49, 65])
INPUTS = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 40])

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
}


@st.composite
def cases(draw, cell=None, with_lengths=None, unbatched=False, **fixed):
    """Any case; `with_lengths` True or False fixes whether there are lengths."""
    chosen = {
        "cell": cell or draw(st.sampled_from(CELLS)),
        "dtype": draw(st.sampled_from(DTYPES)),
        "steps": draw(st.integers(0, 8)),
        "batch": draw(BATCHES),
        "input_size": draw(INPUTS),
        "hidden_size": draw(HIDDEN),
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    } | fixed
    if unbatched and draw(st.booleans()):
        chosen |= {"unbatched": True, "batch": 1}
    elif with_lengths or (with_lengths is None and draw(st.booleans())):
        row = st.integers(0, chosen["steps"])
        rows = st.lists(row, min_size=chosen["batch"], max_size=chosen["batch"])
        chosen["lengths"] = tuple(draw(rows))
    return Case(**chosen)


def each_cell(test):
    """Check the property for each cell by itself; `draw.draw(strategy)` draws the rest."""
    return pytest.mark.parametrize("cell", CELLS)(given(draw=st.data())(test))


def take_rows(data, rows):
    """The same sequences without the others; `rows` may repeat and reorder them."""
    return Data(
        data.x[:, rows],
        tuple(s[:, rows] for s in data.state),
        None if data.lengths is None else data.lengths[rows],
        data.dy[:, rows],
        tuple(s[:, rows] for s in data.dstate),
    )


def of_rows(result, rows):
    """What of a result belongs to rows: all but the gradients of the weights, which are sums."""
    return {
        name: array[:, rows].copy() for name, array in result.items() if not name.startswith("grad")
    }


def of_outputs(result):
    return {name: result[name] for name in result if name == "y" or name.startswith("last")}


@each_cell
def test_rows_of_a_batch_are_independent(cell, draw):
    case = draw.draw(cases(cell))
    rows = draw.draw(st.lists(st.integers(0, case.batch - 1), min_size=1, max_size=9))
    layer, data = case.layer(), case.data()
    whole = run(case, layer, data)
    part = run(replace(case, batch=len(rows)), layer, take_rows(data, rows))
    assert_same_bits(of_rows(part, slice(None)), of_rows(whole, rows))


@each_cell
def test_padded_is_each_row_alone(cell, draw):
    case = draw.draw(cases(cell, with_lengths=True, batch=draw.draw(st.integers(1, 9))))
    layer, data = case.layer(), case.data()
    whole = run(case, layer, data)
    for row, length in enumerate(case.lengths):
        alone = take_rows(data, [row])
        alone = alone._replace(x=alone.x[:length], dy=alone.dy[:length], lengths=None)
        got = run(replace(case, steps=length, batch=1, lengths=None), layer, alone)
        want = of_rows(whole, [row])
        for name in ("y", "dx"):
            assert not want[name][length:].any()
            want[name] = want[name][:length]
        assert_same_bits(of_rows(got, slice(None)), want)


@each_cell
def test_full_lengths_are_no_lengths(cell, draw):
    case = draw.draw(cases(cell, with_lengths=False))
    layer, data = case.layer(), case.data()
    lengths = np.full(case.batch, case.steps)
    assert_same_bits(run(case, layer, data._replace(lengths=lengths)), run(case, layer, data))


@each_cell
def test_split_with_carried_state_is_whole(cell, draw):
    """Both ways: the state carried on, and its gradient carried back."""
    case = draw.draw(cases(cell, bidirectional=False))
    cut = draw.draw(st.integers(0, case.steps))
    layer, data = case.layer(), case.data()
    lengths = data.lengths
    front = data._replace(x=data.x[:cut], dy=data.dy[:cut])
    back = data._replace(x=data.x[cut:], dy=data.dy[cut:])
    if lengths is not None:
        front = front._replace(lengths=np.minimum(lengths, cut))
        back = back._replace(lengths=np.maximum(lengths - cut, 0))

    def states(result, prefix):
        return tuple(result[prefix + name] for name in "hc" if prefix + name in result)

    outputs, pull_front = forward(case, layer, front)
    back = back._replace(state=states(outputs, "last "))
    outputs_back, pull_back = forward(case, layer, back)
    gradients_back = pull(case, layer, pull_back, back)
    front = front._replace(dstate=states(gradients_back, "d first "))
    gradients = pull(case, layer, pull_front, front)

    got = outputs_back | gradients
    got["y"] = np.concatenate([outputs["y"], outputs_back["y"]])
    got["dx"] = np.concatenate([gradients["dx"], gradients_back["dx"]])
    whole = run(case, layer, data)
    assert_same_bits(of_rows(got, slice(None)), of_rows(whole, slice(None)))
    weights = [name for name in whole if name.startswith("grad")]
    assert_close(
        {name: gradients[name] + gradients_back[name] for name in weights},
        {name: whole[name] for name in weights},
        case.tolerance(),
    )


@each_cell
def test_step_by_step_is_whole(cell, draw):
    case = draw.draw(cases(cell, with_lengths=False, unbatched=True, bidirectional=False))
    layer, data = case.layer(), case.data()
    want = infer(case, layer, data)
    state = state_to_user(case, data.state)
    y = np.zeros_like(want["y"])
    for t in range(case.steps):
        x_t = data.x[t, 0] if case.unbatched else data.x[t]
        y_t, state = layer.step(x_t, state)
        assert y_t.shape == x_t.shape[:-1] + (case.hidden_size,)
        y[t] = y_t
    got = {"y": y} | name_states("last ", state_from_user(case, state))
    assert_same_bits(got, want)


@each_cell
def test_step_from_no_state(cell, draw):
    case = draw.draw(cases(cell, with_lengths=False, unbatched=True, bidirectional=False, steps=1))
    layer, data = case.layer(), case.data()
    y, state = layer(to_user(case, data.x))
    y_t, state_t = layer.step(data.x[0, 0] if case.unbatched else data.x[0])
    assert_same_bits({"y": y_t}, {"y": y.reshape(y_t.shape)})
    assert_same_bits(
        name_states("", state_from_user(case, state_t)),
        name_states("", state_from_user(case, state)),
    )


@each_cell
def test_reversed_input_is_the_reverse_direction(cell, draw):
    """The reverse half of a bidirectional layer is a layer of its own on the reversed sequences,
    each reversed from its own last step."""
    case = draw.draw(cases(cell, bidirectional=True, num_layers=1))
    layer, data = case.layer(), case.data()
    both = run(case, layer, data)
    units = slice(case.hidden_size, None)

    lengths = [case.steps] * case.batch if case.lengths is None else case.lengths
    order = np.tile(np.arange(case.steps)[:, None], (1, case.batch))
    for row, length in enumerate(lengths):
        order[:length, row] = np.arange(length)[::-1]

    def turn(array):
        return np.take_along_axis(array, order[:, :, None], axis=0)

    one_way = replace(case, bidirectional=False)
    single = one_way.layer()
    for name, parameter in single.parameters().items():
        parameter.data = layer.parameters()[name + "_reverse"].data
    turned = data._replace(
        x=turn(data.x),
        state=tuple(s[1:] for s in data.state),
        dy=turn(data.dy[:, :, units]),
        dstate=tuple(s[1:] for s in data.dstate),
    )
    want = run(one_way, single, turned)

    got = {"y": turn(both["y"][:, :, units])}
    got |= {name: array[1:] for name, array in both.items() if name[:4] in ("last", "d fi")}
    assert_same_bits(got, {name: want[name] for name in got})
    # The two directions meet in dx, and sums over time take another order in the weights.
    forward_only = replace(case, bidirectional=False)
    straight = forward_only.layer()
    for name, parameter in straight.parameters().items():
        parameter.data = layer.parameters()[name].data
    ahead = data._replace(
        state=tuple(s[:1] for s in data.state),
        dy=data.dy[:, :, : case.hidden_size],
        dstate=tuple(s[:1] for s in data.dstate),
    )
    ahead = run(forward_only, straight, ahead)
    got = {"dx": both["dx"]} | {n: both[n] for n in both if n.startswith("grad")}
    sums = {"dx": turn(want["dx"]) + ahead["dx"]}
    for name in straight.parameters():
        sums |= {f"grad {name}": ahead[f"grad {name}"]}
        sums |= {f"grad {name}_reverse": want[f"grad {name}"]}
    assert_close(got, sums, case.tolerance())


@each_cell
def test_gradient_doubles_with_grad_output(cell, draw):
    """Multiplication with a power of two is exact, so this one is a matter of bits."""
    case = draw.draw(cases(cell))
    layer, data = case.layer(), case.data()
    _, pullback = forward(case, layer, data)
    once = pull(case, layer, pullback, data)
    doubled = data._replace(dy=2 * data.dy, dstate=tuple(2 * s for s in data.dstate))
    twice = pull(case, layer, pullback, doubled)
    assert_same_bits(twice, {name: 2 * once[name] for name in once})


@each_cell
def test_gradient_is_linear_in_grad_output(cell, draw):
    case = draw.draw(cases(cell))
    layer, data = case.layer(), case.data()
    other = case.data(seed=5)
    _, pullback = forward(case, layer, data)
    first, second = (pull(case, layer, pullback, d) for d in (data, other))
    dstate = tuple(a - 3 * b for a, b in zip(data.dstate, other.dstate, strict=True))
    both = pull(case, layer, pullback, data._replace(dy=data.dy - 3 * other.dy, dstate=dstate))
    want = {name: first[name] - 3 * second[name] for name in first}
    assert_close(both, want, 4 * case.tolerance())  # the terms are up to 1 + 3 times as large


@each_cell
def test_no_grad_output_no_gradient(cell, draw):
    case = draw.draw(cases(cell))
    layer, data = case.layer(), case.data()
    nothing = data._replace(dy=0 * data.dy, dstate=tuple(0 * s for s in data.dstate))
    for name, array in run(case, layer, nothing).items():
        if name == "dx" or name.startswith(("d first", "grad")):
            assert not array.any(), name


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
@each_cell
def test_padding_never_leaks(cell, garbage, draw):
    """Whatever stands behind the end of a row, in x and in dy, is not looked at."""
    case = draw.draw(cases(cell, with_lengths=True))
    layer, data = case.layer(), case.data()
    behind = np.arange(case.steps)[:, None] >= data.lengths
    x, dy = data.x.copy(), data.dy.copy()
    x[behind] = dy[behind] = garbage
    dirty = data._replace(x=x, dy=dy)
    assert_same_bits(run(case, layer, dirty), run(case, layer, data))
    assert_same_bits(infer(case, layer, dirty), infer(case, layer, data))


@each_cell
def test_nan_stays_in_its_row(cell, draw):
    """A NaN makes its own sequence NaN from there on, and no other."""
    case = draw.draw(cases(cell, with_lengths=False, steps=draw.draw(st.integers(1, 8))))
    row, step = draw.draw(st.integers(0, case.batch - 1)), draw.draw(st.integers(0, case.steps - 1))
    layer, data = case.layer(), case.data()
    clean = of_rows(run(case, layer, data), slice(None))
    data.x[step, row, -1] = np.nan
    dirty = of_rows(run(case, layer, data), slice(None))
    others = np.arange(case.batch) != row
    assert_same_bits(
        {name: array[:, others] for name, array in dirty.items()},
        {name: array[:, others] for name, array in clean.items()},
    )
    assert np.isnan(dirty["y"][step:, row, : case.hidden_size]).all()
    assert np.isnan(dirty["last h"][0, row]).all()


@each_cell
def test_token_ids_are_one_hot_vectors(cell, draw):
    case = draw.draw(cases(cell, unbatched=True))
    layer, data = case.layer(), case.data()
    integer = draw.draw(st.sampled_from([np.uint8, np.int32, np.int64]))
    ids = np.random.default_rng(3).integers(0, case.input_size, data.x.shape[:2]).astype(integer)
    one_hot = np.eye(case.input_size, dtype=case.dtype)[ids]
    want = run(case, layer, data._replace(x=one_hot))
    want.pop("dx")
    got = run(case, layer, data._replace(x=ids))
    assert_same_bits(got, want)
    assert_same_bits(infer(case, layer, data._replace(x=ids)), of_outputs(want))


@each_cell
def test_step_takes_token_ids(cell, draw):
    case = draw.draw(cases(cell, with_lengths=False, bidirectional=False))
    layer, data = case.layer(), case.data()
    ids = np.random.default_rng(3).integers(0, case.input_size, case.batch)
    want = layer.step(
        np.eye(case.input_size, dtype=case.dtype)[ids], state_to_user(case, data.state)
    )
    got = layer.step(ids, state_to_user(case, data.state))
    assert_same_bits({"y": got[0]}, {"y": want[0]})


@each_cell
def test_batch_first_is_transposed(cell, draw):
    case = draw.draw(cases(cell, batch_first=False))
    data = case.data()
    want = run(case, case.layer(), data)
    other = replace(case, batch_first=True)
    assert_same_bits(run(other, other.layer(), data), want)


@each_cell
def test_unbatched_is_a_batch_of_one(cell, draw):
    case = draw.draw(cases(cell, with_lengths=False, batch=1))
    layer, data = case.layer(), case.data()
    assert_same_bits(run(replace(case, unbatched=True), layer, data), run(case, layer, data))


@each_cell
def test_training_gives_what_inference_gives(cell, draw):
    case = draw.draw(cases(cell, unbatched=True))
    layer, data = case.layer(), case.data()
    assert_same_bits(forward(case, layer, data)[0], infer(case, layer, data))


@each_cell
def test_pullback_may_be_called_twice(cell, draw):
    """It keeps what it needs, also when the layer is used and states are changed meanwhile."""
    case = draw.draw(cases(cell, unbatched=True))
    layer, data = case.layer(), case.data()
    outputs, pullback = forward(case, layer, data)
    first = pull(case, layer, pullback, data)
    first = {name: array.copy() for name, array in first.items()}
    run(case, layer, case.data(seed=8))
    for array in (*data.state, *(outputs[name] for name in outputs if name != "y")):
        array[...] = 5.0
    assert_same_bits(pull(case, layer, pullback, data), first)


@each_cell
def test_pullback_is_of_the_weights_of_its_forward_pass(cell, draw):
    """Not of those that a parameter was given meanwhile."""
    case = draw.draw(cases(cell, unbatched=True))
    layer, data = case.layer(), case.data()
    _, pullback = forward(case, layer, data)
    want = pull(case, layer, pullback, data)
    layer.load_state_dict(case.layer(seed=9).state_dict())
    assert_same_bits(pull(case, layer, pullback, data), want)


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
@each_cell
def test_copy_is_a_layer_of_its_own(cell, make_copy, draw):
    case = draw.draw(cases(cell))
    layer, data = case.layer(), case.data()
    want = run(case, layer, data)
    twin = make_copy(layer)
    assert_same_bits(run(case, twin, data), want)
    twin.load_state_dict(case.layer(seed=9).state_dict())
    assert_same_bits(run(case, layer, data), want)
    assert twin.config() == layer.config()


@each_cell
def test_config_makes_the_same_layer(cell, draw):
    case = draw.draw(cases(cell))
    layer, data = case.layer(), case.data()
    config = json.loads(json.dumps(layer.config()))
    twin = type(layer).from_config(config)
    twin.load_state_dict(layer.state_dict())
    assert_same_bits(run(case, twin, data), run(case, layer, data))
    shapes = {name: p.shape for name, p in layer.parameters().items()}
    assert dict(type(layer).parameter_shapes(config)) == shapes


@each_cell
def test_calls_leave_their_arguments_alone(cell, draw):
    case = draw.draw(cases(cell, unbatched=True))
    layer, data = case.layer(), case.data()
    run(case, layer, data)
    infer(case, layer, data)
    before = case.data()
    assert_same_bits({"x": data.x, "dy": data.dy}, {"x": before.x, "dy": before.dy})
    assert_same_bits(name_states("", data.state), name_states("", before.state))
    assert_same_bits(name_states("", data.dstate), name_states("", before.dstate))


@each_cell
def test_outputs_are_new_arrays(cell, draw):
    """Nothing returned shares memory with anything else: whoever gets it may write to it. Only y
    of vjp, which the pullback needs, is read-only."""
    case = draw.draw(cases(cell, unbatched=True))
    layer, data = case.layer(), case.data()
    trained, inferred = run(case, layer, data), infer(case, layer, data)
    assert not trained["y"].flags.writeable
    trained = {name: trained[name] for name in trained if name != "y"}
    arrays = [*trained.values(), *inferred.values(), *data.state, data.x]
    for i, array in enumerate(arrays):
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in arrays[:i])
