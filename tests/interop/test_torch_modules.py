"""PyTorch's own cases for its recurrent modules, run on fastrnn's classes of the same names.

The cases are the six entries of `torch.testing._internal.common_modules.module_db`; the laws are
those that PyTorch's test_modules.py checks on them, each beside PyTorch's class with the same
weights.
"""

import copy
import inspect
import io
import pickle
import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # of torch.testing._internal

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import PackedSequence  # noqa: E402
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db  # noqa: E402

from fastrnn.interop import torch as fast  # noqa: E402
from torch_cases import LAYERS, NAMES, flat, results  # noqa: E402

ENTRIES = {
    info.module_cls.__name__: info
    for info in module_db
    if info.module_cls in [getattr(nn, name) for name in NAMES]
}
DTYPES = (torch.float32, torch.float64)
# Of the largest number of a tensor, or of 1 if that is smaller.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")
names = pytest.mark.parametrize("name", NAMES)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
requiring = pytest.mark.parametrize("requires_grad", [True, False], ids=["grad", "no_grad"])


@pytest.fixture(autouse=True, scope="module")
def torch_in_one_thread():
    """These layers are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cases(name, dtype=torch.float64, requires_grad=False, training=True, packed=True):
    entry = ENTRIES[name]
    options = {"with_packed_sequence": packed} if name in ("RNN", "GRU") else {}
    torch.manual_seed(11)
    return entry.module_inputs_func(
        entry, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training, **options
    )


def make(module_class, case, dtype, training=True):
    given = case.constructor_input
    torch.manual_seed(13)
    return module_class(*given.args, **given.kwargs, dtype=dtype).train(training)


def both(name, case, dtype, training=True):
    ours = make(getattr(fast, name), case, dtype, training)
    theirs = make(getattr(nn, name), case, dtype, training)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def call(module, case):
    return module(*case.forward_input.args, **case.forward_input.kwargs)


def assert_close(got, expected):
    """Compare tensors in nested tuples: shapes, dtypes, what requires gradients, values."""
    got, expected = flat(got), flat(expected)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a.shape, a.dtype, a.requires_grad) == (b.shape, b.dtype, b.requires_grad)
        scale = max(1.0, b.detach().abs().max().item()) if b.dtype in TOLERANCES else 0
        tolerance = TOLERANCES.get(b.dtype, 0) * scale
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def leaves(case):
    """Return the inputs that can have gradients."""
    tensors = flat((case.forward_input.args, tuple(case.forward_input.kwargs.values())))
    return [t for t in tensors if t.requires_grad]


def outputs_and_gradients(module, case):
    inputs = leaves(case)
    for tensor in inputs:
        tensor.grad = None
    outputs = results(module, *case.forward_input.args)
    return outputs + [tensor.grad for tensor in inputs]


def test_the_entries_are_there():
    assert set(ENTRIES) == set(NAMES)
    assert all(len(cases(name)) >= 2 for name in NAMES)


@names
@dtypes
@modes
@requiring
def test_forward(name, dtype, training, requires_grad):
    for case in cases(name, dtype, requires_grad, training):
        ours, theirs = both(name, case, dtype, training)
        assert set(fast.explain(ours, *case.forward_input.args).values()) == {"fastrnn"}
        got = call(ours, case)
        assert_close(got, call(theirs, case))
        if isinstance(case.forward_input.args[0], PackedSequence):
            assert isinstance(got[0], PackedSequence)  # which reference_fn does not take
            continue
        torch.testing.assert_close(got, case.reference_fn(ours, *case.forward_input.args))
        assert_close(got, case.reference_fn(theirs, *case.forward_input.args))


@names
@dtypes
@requiring
def test_gradients(name, dtype, requires_grad):
    for case in cases(name, dtype, requires_grad):
        ours, theirs = both(name, case, dtype)
        expected = outputs_and_gradients(theirs, case)
        assert not requires_grad or len(leaves(case)) > 0
        assert_close(outputs_and_gradients(ours, case), expected)


@names
def test_gradcheck_and_gradients_of_gradients(name):
    for case in cases(name, requires_grad=True, packed=False)[:: 1 if "Cell" in name else 5]:
        module = make(getattr(fast, name), case, torch.float64)
        keys, inputs = list(module.state_dict()), flat(case.forward_input.args)
        weights = [p.detach().requires_grad_() for p in module.parameters()]

        def function(*tensors, module=module, keys=keys):
            x, *state = tensors[: -len(keys)]
            args = (x, tuple(state) if len(state) == 2 else state[0]) if state else (x,)
            new = dict(zip(keys, tensors[-len(keys) :], strict=True))
            return tuple(flat(torch.func.functional_call(module, new, args)))

        assert torch.autograd.gradcheck(function, (*inputs, *weights), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (*inputs, *weights), fast_mode=True)


def meet_the_error(module_class, case, dtype):
    given = case.module_error_input.constructor_input
    module = module_class(*given.args, **{"dtype": dtype, **given.kwargs})
    assert case.error_on == ModuleErrorEnum.FORWARD_ERROR
    call(module, case.module_error_input)


@names
@dtypes
def test_errors(name, dtype):
    entry = ENTRIES[name]
    cases = entry.module_error_inputs_func(
        entry, device="cpu", dtype=dtype, requires_grad=False, training=True
    )
    assert len(cases) >= 4
    for case in cases:
        raised = []
        for module_class in (getattr(fast, name), getattr(nn, name)):
            with pytest.raises(case.error_type, match=case.error_regex) as error:
                meet_the_error(module_class, case, dtype)
            raised.append((type(error.value), str(error.value)))
        assert raised[0] == raised[1]


WRONG = {
    "four_axes": lambda x, h: (x[None, None], h),
    "no_axes": lambda x, h: (x[0, 0], h),
    "width": lambda x, h: (x[..., :-1], h),
    "state_batch": lambda x, h: (x, h[..., :1, :]),
    "state_width": lambda x, h: (x, h[..., 1:]),
    "state_axes": lambda x, h: (x, h[0]),
    "state_dtype": lambda x, h: (x, h.float()),
    "input_dtype": lambda x, h: (x.float(), h),
    "integers": lambda x, h: (x.long(), h),
    "no_tensor": lambda x, h: (x.tolist(), h),
    "numpy": lambda x, h: (x.numpy(), h),
    "none": lambda x, h: (None, h),
    "no_state_tensor": lambda x, h: (x, 3),
    "empty": lambda x, h: (x[:0], h),
    "empty_batch": lambda x, h: (x[:, :0], h[:, :0]),
    "meta": lambda x, h: (x.to("meta"), h),
    "sparse": lambda x, h: (x.to_sparse(), h),
}


def outcome(function, *args):
    try:
        return [tensor.shape for tensor in flat(function(*args))]
    except Exception as error:
        return type(error), re.sub(r"0x[0-9a-f]+", "", str(error)).replace("fastrnn", "torch")


@pytest.mark.filterwarnings("ignore::UserWarning")
@names
@pytest.mark.parametrize("wrong", WRONG)
def test_other_wrong_arguments_raise_what_torch_raises(name, wrong):
    ours, theirs = (getattr(library, name)(3, 4, dtype=torch.float64) for library in (fast, nn))
    x, h = torch.ones(5, 2, 3, dtype=torch.float64), torch.ones(1, 2, 4, dtype=torch.float64)
    if name not in LAYERS:
        x, h = x[0], h[0]
    x, h = WRONG[wrong](x, h)
    hx = (h, h) if name.startswith("LSTM") else h
    with torch.no_grad():
        assert outcome(ours, x, hx) == outcome(theirs, x, hx)


@names
def test_wrong_constructor_arguments_raise_what_torch_raises(name):
    given = [(), (3,), (3, 0), (0, 3), (-1, 3), (2.5, 3), (3, 4, "x"), (3, 4, 1, 7), (1, 2, -1)]
    for args in given:
        assert outcome(made(fast, name), *args) == outcome(made(nn, name), *args)


def made(library, name):
    return lambda *args: tuple(getattr(library, name)(*args).parameters())


@names
def test_signatures_and_parameters_are_torchs(name):
    ours, theirs = getattr(fast, name), getattr(nn, name)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert issubclass(ours, theirs)
    assert ours.__name__ == name
    torch.manual_seed(1)
    mine = ours(3, 4)
    torch.manual_seed(1)
    assert_close(list(mine.parameters()), list(theirs(3, 4).parameters()))  # the same numbers


@names
def test_repr(name):
    for case in cases(name):
        ours, theirs = both(name, case, torch.float32)
        assert repr(ours) == repr(theirs)


@names
@dtypes
def test_factory_arguments(name, dtype):
    for case in cases(name, dtype):
        module = make(getattr(fast, name), case, dtype)
        assert {p.dtype for p in module.parameters()} == {dtype}
        given = case.constructor_input
        meta = getattr(fast, name)(*given.args, **given.kwargs, device="meta", dtype=dtype)
        assert all(p.is_meta for p in meta.parameters())
        with torch.device("meta"):
            meta = make(getattr(fast, name), case, dtype)
        assert all(p.is_meta for p in meta.parameters())
        meta.to_empty(device="cpu").load_state_dict(module.state_dict())
        with torch.no_grad():
            assert_close(call(meta, case), call(module, case))


COPIES = {
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "save": lambda module: torch.load(saved(module), weights_only=False),
}


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


@names
@modes
@pytest.mark.parametrize("how", COPIES)
def test_copies(name, training, how):
    for case in cases(name, training=training):
        module = make(getattr(fast, name), case, torch.float64, training)
        with torch.no_grad():
            before = call(module, case)
        copied = COPIES[how](module)
        assert type(copied) is type(module)
        assert copied.training is training
        assert copied.state_dict().keys() == module.state_dict().keys()
        with torch.no_grad():
            torch.testing.assert_close(call(copied, case), before, rtol=0, atol=0)
        assert_close(call(copied, case), call(module, case))


@names
def test_state_dicts_go_both_ways(name):
    for case in cases(name):
        ours, theirs = both(name, case, torch.float64)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        ours.reset_parameters()
        theirs.load_state_dict(torch.load(saved(ours.state_dict())))
        assert_close(call(ours, case), call(theirs, case))


def without_contiguity(tensor):
    """Return an equal tensor with gaps between its elements."""
    wide = torch.stack([torch.full_like(tensor, torch.nan), tensor], -1)
    return wide[..., 1]


@names
@requiring
def test_inputs_without_contiguity(name, requires_grad):
    for case in cases(name, requires_grad=requires_grad, packed=False):
        ours, theirs = both(name, case, torch.float64)
        expected = outputs_and_gradients(theirs, case)
        x, *state = case.forward_input.args
        strided = [without_contiguity(x.detach()).requires_grad_(requires_grad)]
        if state and isinstance(state[0], tuple):
            hx = [without_contiguity(s.detach()).requires_grad_(requires_grad) for s in state[0]]
            strided.append(tuple(hx))
        elif state:
            strided.append(without_contiguity(state[0].detach()).requires_grad_(requires_grad))
        assert not strided[0].is_contiguous()
        assert set(fast.explain(ours, *strided).values()) == {"fastrnn"}
        got = results(ours, *strided) + [t.grad for t in flat(tuple(strided)) if t.requires_grad]
        assert_close(got, expected)


@names
def test_weights_without_contiguity(name):
    for case in cases(name):
        ours, theirs = both(name, case, torch.float64)
        for key, p in ours.named_parameters():
            setattr(ours, key, nn.Parameter(without_contiguity(p.detach())))
        with torch.no_grad():
            assert_close(call(ours, case), call(theirs, case))
        assert_close(outputs_and_gradients(ours, case), outputs_and_gradients(theirs, case))


@names
def test_arguments_are_not_written_to(name):
    for case in cases(name, requires_grad=True):
        module = make(getattr(fast, name), case, torch.float64)
        tensors = [*flat(case.forward_input.args), *module.parameters()]
        before = [t.detach().clone() for t in tensors]
        versions = [t._version for t in tensors]
        results(module, *case.forward_input.args)
        with torch.no_grad():
            call(module, case)
        assert versions == [t._version for t in tensors]
        torch.testing.assert_close([t.detach() for t in tensors], before, rtol=0, atol=0)


@names
def test_outputs_may_be_written_to(name):
    for case in cases(name):
        ours = make(getattr(fast, name), case, torch.float64)
        with torch.no_grad():
            expected = flat(call(ours, case))
            for tensor in flat(call(ours, case)):
                if tensor.is_floating_point():
                    tensor.zero_()
            assert_close(call(ours, case), expected)


@names
def test_dtypes_may_change(name):
    for case32, case64 in zip(cases(name, torch.float32), cases(name), strict=True):
        module = make(getattr(fast, name), case32, torch.float32)
        other = make(getattr(nn, name), case32, torch.float32)
        other.load_state_dict(module.state_dict())
        for dtype, case in ((torch.float64, case64), (torch.float32, case32)):
            with torch.no_grad():
                assert_close(call(module.to(dtype), case), call(other.to(dtype), case))
            assert_close(call(module, case), call(other, case))


@names
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_are_torchs(name, dtype):
    for case in cases(name, dtype)[-3:]:
        ours, theirs = both(name, case, dtype)
        (ran,) = fast.explain(ours, *case.forward_input.args).values()
        assert ran.startswith("torch: the weights are ")
        with torch.no_grad():
            torch.testing.assert_close(call(ours, case), call(theirs, case), rtol=0, atol=0)


@names
def test_train_and_eval_differ_only_by_dropout(name):
    for case in cases(name):
        module = make(getattr(fast, name), case, torch.float64)
        with torch.no_grad():
            expected = call(module.train(), case)
            torch.testing.assert_close(call(module.eval(), case), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("packed", [False, True])
def test_dropout_draws_torchs_random_numbers(name, packed):
    torch.manual_seed(0)
    options = {"num_layers": 3, "dropout": 0.5, "bidirectional": True, "dtype": torch.float64}
    ours, theirs = getattr(fast, name)(3, 4, **options), getattr(nn, name)(3, 4, **options)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    if packed:
        x = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 5]), enforce_sorted=False)
    for module in (ours, theirs):
        torch.manual_seed(5)
        module.got = results(module, x)
    assert_close(ours.got, theirs.got)
    with torch.no_grad():
        torch.manual_seed(5)
        first = ours(x)
        assert not torch.equal(flat(first)[0], flat(ours(x))[0])
        torch.manual_seed(5)
        assert_close(first, theirs(x))
        assert_close(ours.eval()(x), theirs.eval()(x))


@names
def test_inference_mode(name):
    for case in cases(name):
        ours, theirs = both(name, case, torch.float64)
        with torch.inference_mode():
            got = call(ours, case)
            assert all(t.is_inference() for t in flat(got) if t.is_floating_point())
            assert_close(got, call(theirs, case))
            made_inside = make(getattr(fast, name), case, torch.float64)
            made_inside.load_state_dict(theirs.state_dict())
            assert_close(call(made_inside, case), got)


@names
@dtypes
def test_subsets_of_what_requires_gradients(name, dtype):
    case = cases(name, dtype, requires_grad=True)[1]
    ours, theirs = both(name, case, dtype)
    keys = [key for key, _ in ours.named_parameters()]
    for index in range(len(keys) + 1):
        for module in (ours, theirs):
            for place, p in enumerate(module.parameters()):
                p.requires_grad_(place == index)
                p.grad = None
        got, expected = (outputs_and_gradients(m, case) for m in (ours, theirs))
        assert_close(got, expected)
        mine = [p.grad is None for p in ours.parameters()]
        assert mine == [p.grad is None for p in theirs.parameters()]


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@names
def test_vmap_goes_through_torch(name):
    case = cases(name, packed=False)[1]
    ours, theirs = both(name, case, torch.float64)
    many = [torch.stack([t, 2 * t, -t]) for t in flat(case.forward_input.args)]

    def mapped(module):
        def one(x, *state):
            return tuple(flat(module(x, state if len(state) == 2 else state[0])))

        return torch.vmap(one)(*many)

    if name in ("RNNCell", "GRUCell"):
        assert_close(mapped(ours), mapped(theirs))
    else:  # which torch.vmap does not support
        assert outcome(mapped, ours) == outcome(mapped, theirs)


@names
def test_symbolic_tracing_takes_it_as_a_leaf(name):
    for case in cases(name, packed=False)[:2]:
        ours, theirs = both(name, case, torch.float64)
        ours, theirs = nn.Sequential(ours), nn.Sequential(theirs)
        got, expected = torch.fx.symbolic_trace(ours), torch.fx.symbolic_trace(theirs)
        assert got.code == expected.code
        x = case.forward_input.args[0]
        assert_close(got(x), expected(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@names
def test_jit_trace_records_torchs_operators(name):
    case = cases(name, packed=False)[1]
    ours, theirs = both(name, case, torch.float64)
    with torch.no_grad():
        traced = torch.jit.trace(ours, case.forward_input.args, check_trace=False)
        assert_close(call(traced, case), call(theirs, case))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@names
def test_jit_script_compiles_torchs_module(name):
    case = cases(name, packed=False)[1]
    ours, theirs = both(name, case, torch.float64)
    model, x = nn.Sequential(ours), case.forward_input.args[0]
    scripted = torch.jit.script(model)
    assert type(model[0]) is getattr(nn, name)  # as after restore
    assert model[0] is ours
    assert_close(scripted(x), theirs(x))
