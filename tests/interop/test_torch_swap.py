"""`accelerate` and `restore` keep what a model is and what it computes."""

import abc
import copy
import functools
import gc
import io
import pickle
import weakref

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

from fastrnn.interop import torch as fast  # noqa: E402
from torch_cases import (  # noqa: E402
    LAYERS,
    NAMES,
    Encoded,
    LastOutput,
    ScaledCell,
    Tagger,
    double,
    results,
)


@pytest.fixture
def tagger():
    torch.manual_seed(3)
    return Tagger()


TOKENS = torch.arange(12).reshape(4, 3) * 5 % 11
close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)


def steps(n=5, batch=2, size=3):
    return torch.randn(n, batch, size, dtype=torch.float64)


def ours(module):
    return isinstance(module, tuple(getattr(fast, name) for name in NAMES))


# --- What is replaced ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_model_itself(name):
    module = double(name, 3, 4)
    x = steps() if name in LAYERS else steps()[0]
    before = results(module, x)
    report = fast.accelerate(module)
    assert type(module) is getattr(fast, name)
    assert report.replaced == {"": getattr(fast, name)}
    assert report.left == report.falls_back == {}
    close(results(module, x), before)
    assert fast.restore(module).replaced == {"": getattr(nn, name)}
    assert type(module) is getattr(nn, name)
    close(results(module, x), before, rtol=0, atol=0)


def test_nested_shared_and_derived(tagger):
    ids = {name: id(module) for name, module in tagger.named_modules(remove_duplicate=False)}
    classes = {name: type(module) for name, module in tagger.named_modules()}
    before, text, state = results(tagger, TOKENS), repr(tagger), tagger.state_dict()
    report = fast.accelerate(tagger)
    assert set(report.replaced) == {"encoder.both", "again", "last", "cell"}
    assert all(ours(tagger.get_submodule(name)) for name in report.replaced)
    close(results(tagger, TOKENS), before)
    assert tagger.last.calls == 2
    assert repr(tagger) == text
    assert tagger.state_dict().keys() == state.keys()
    assert tagger.same is tagger.again
    assert tagger.head.weight is tagger.embedding.weight
    assert ids == {n: id(module) for n, module in tagger.named_modules(remove_duplicate=False)}
    fast.restore(tagger)
    assert classes == {name: type(module) for name, module in tagger.named_modules()}
    close(results(tagger, TOKENS), before, rtol=0, atol=0)


def test_twice_is_once(tagger):
    fast.accelerate(tagger)
    classes = [type(module) for module in tagger.modules()]
    report = fast.accelerate(tagger)
    assert report.replaced == {}
    assert set(report.left.values()) == {"is accelerated already"}
    assert classes == [type(module) for module in tagger.modules()]
    assert len(fast.restore(tagger).replaced) == 4
    assert fast.restore(tagger).replaced == fast.restore(tagger).left == {}


def test_one_class_for_each_class_of_a_user():
    first, second = LastOutput(3, 4), LastOutput(3, 5)
    fast.accelerate(first)
    fast.accelerate(second)
    assert type(first) is type(second)
    assert issubclass(type(first), LastOutput)
    assert (type(first).__name__, type(first).__module__) == ("LastOutput", LastOutput.__module__)


def test_classes_made_for_a_user_go_with_their_last_module():
    class Local(nn.GRU):
        pass

    module = Local(2, 3)
    fast.accelerate(module)
    made = weakref.ref(type(module))
    assert made() is not None
    fast.restore(module)
    gc.collect()
    assert made() is None


def test_what_only_looks_like_a_recurrent_module_is_not_listed():
    class LSTM(nn.Linear):
        pass

    model = nn.Sequential(LSTM(2, 2))
    model.hidden = [nn.LSTM(2, 2)]  # as everywhere in PyTorch, not found
    report = fast.accelerate(model)
    assert report.replaced == report.left == {}


def test_modules_made_by_our_classes_become_torchs():
    model = nn.Sequential(fast.GRU(2, 3))
    assert fast.restore(model).replaced == {"0": nn.GRU}
    assert type(model[0]) is nn.GRU


def test_a_class_derived_from_ours_cannot_be_restored():
    class Mine(fast.GRU):
        pass

    model = Mine(2, 3)
    assert fast.accelerate(model).left == {"": "is accelerated already"}
    (why,) = fast.restore(model).left.values()
    assert "Mine is derived from fastrnn's class" in why
    assert type(model) is Mine


@pytest.mark.parametrize("what", [None, nn.LSTM, {"lstm": nn.LSTM(1, 1)}, "model"])
@pytest.mark.parametrize("function", [fast.accelerate, fast.restore])
def test_what_is_no_module(function, what):
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got"):
        function(what)


# --- Users' classes ------------------------------------------------------------------------------


class Registered(nn.LSTM):
    classes = ()

    def __init_subclass__(cls):
        Registered.classes += (cls,)


class Abstract(nn.GRU, abc.ABC):
    pass


class Slotted(nn.GRU):
    __slots__ = ("extra",)


class Deep(LastOutput):
    pass


class Reduced(nn.GRU):
    def __init__(self, size):
        super().__init__(size, size, dtype=torch.float64)
        self.size = size

    def __reduce__(self):
        return type(self), (self.size,), self.__getstate__()


class ReducedByName(Reduced):
    def __reduce__(self):
        return ReducedByName, (self.size,), self.__getstate__()


USERS = {
    "registered": lambda: Registered(3, 3, dtype=torch.float64),
    "abstract": lambda: Abstract(3, 3, dtype=torch.float64),
    "slotted": lambda: Slotted(3, 3, dtype=torch.float64),
    "deep": lambda: Deep(3, 3, dtype=torch.float64),
    "cell": lambda: ScaledCell(3, 3, dtype=torch.float64),
    "reduced": lambda: Reduced(3),
    "reduced_by_name": lambda: ReducedByName(3),
}


def reload(module):
    file = io.BytesIO()
    torch.save(module, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "pickle_2": lambda module: pickle.loads(pickle.dumps(module, 2)),
    "save": reload,
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_users_class(user, how):
    module = USERS[user]()
    original = type(module)
    x = steps()[0] if user == "cell" else steps()
    before = results(module, x)
    assert set(fast.accelerate(module).replaced) == {""}
    results(module, x)  # whatever is kept between calls is not copied with the module
    copied = COPIES[how](module)
    assert type(copied) is type(module) is not original
    close(results(copied, x), before)
    fast.restore(copied)
    assert type(copied) is original
    close(results(copied, x), before, rtol=0, atol=0)


def test_a_users_registry_of_classes_does_not_hear_of_it():
    fast.accelerate(Registered(2, 2))
    assert Registered.classes == ()


def test_a_users_class_that_python_cannot_combine_is_left():
    class Final(nn.GRU):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)

    class Strict(type):
        def __new__(cls, name, bases, space):
            if any(isinstance(base, Strict) for base in bases):
                raise TypeError("no class may be derived from this one")
            return super().__new__(cls, name, bases, space)

    class Sealed(nn.GRU, metaclass=Strict):
        pass

    model = nn.Sequential(Sealed(2, 2), Final(2, 2))
    report = fast.accelerate(model)
    assert report.left == {"0": "Sealed cannot be exchanged: no class may be derived from this one"}
    assert set(report.replaced) == {"1"}
    assert type(model[0]) is Sealed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", COPIES)
def test_copies_of_torchs_classes(name, how):
    module = double(name, 3, 4)
    x = steps() if name in LAYERS else steps()[0]
    fast.accelerate(module)
    before = results(module, x)
    copied = COPIES[how](module)
    assert type(copied) is getattr(fast, name)
    close(results(copied, x), before, rtol=0, atol=0)


def test_copies_have_weights_of_their_own():
    module = double("LSTM", 3, 4)
    fast.accelerate(module)
    x = steps()
    before = results(module, x)
    copied = copy.deepcopy(module)
    with torch.no_grad():
        copied.weight_hh_l0.mul_(2)
    close(results(module, x), before, rtol=0, atol=0)
    assert not torch.equal(results(copied, x)[0], before[0])


# --- What PyTorch's tools do to modules ----------------------------------------------------------


def test_hooks_stay():
    module, x = double("LSTM", 3, 4), steps()
    seen = []
    module.register_forward_pre_hook(lambda *_: seen.append("before"))
    module.register_forward_hook(lambda *_: seen.append("after"))
    module.register_full_backward_hook(lambda *_: seen.append("back"))
    module.weight_hh_l0.register_hook(lambda grad: seen.append("grad"))
    fast.accelerate(module)
    results(module, x.requires_grad_())
    assert seen[:2] == ["before", "after"]
    assert set(seen[2:]) == {"grad", "back"}


@pytest.mark.parametrize("training", [True, False])
def test_the_training_flag_stays(training):
    model = Tagger().train(training)
    fast.accelerate(model)
    assert all(module.training is training for module in model.modules())


def train(model, optimizer, n):
    losses = []
    for _ in range(n):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(TOKENS), TOKENS[0])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_training_goes_on_in_the_same_optimizer(tagger, optimizer):
    other = copy.deepcopy(tagger)
    expected = train(other, optimizer(other.parameters(), lr=0.1), 9)
    mine = optimizer(tagger.parameters(), lr=0.1)
    got = train(tagger, mine, 3)
    fast.accelerate(tagger)
    got += train(tagger, mine, 3)
    fast.restore(tagger)
    got += train(tagger, mine, 3)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=0)
    close(tagger.state_dict(), other.state_dict(), rtol=1e-6, atol=1e-8)


def test_state_dicts_go_both_ways(tagger):
    x = TOKENS
    before = results(tagger, x)
    fresh = Tagger()
    fast.accelerate(fresh)
    results(fresh, x)
    file = io.BytesIO()
    torch.save(tagger.state_dict(), file)
    file.seek(0)
    assert str(fresh.load_state_dict(torch.load(file))) == "<All keys matched successfully>"
    close(results(fresh, x), before)
    plain = Tagger()
    plain.load_state_dict(fresh.state_dict())
    close(results(plain, x), before, rtol=0, atol=0)


def change_weights(module):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1)


CHANGES = {
    "in_place": change_weights,
    "data": lambda m: setattr(m.weight_hh_l0, "data", m.weight_hh_l0.data + 0.1),
    "data_in_place": lambda m: m.weight_hh_l0.data.add_(0.1),
    "numpy": lambda m: m.weight_hh_l0.detach().numpy().__iadd__(0.1),
    "new_parameter": lambda m: setattr(m, "weight_ih_l0", nn.Parameter(m.weight_ih_l0 * 2)),
    "load": lambda m: m.load_state_dict({k: v + 0.1 for k, v in m.state_dict().items()}),
    "assign": lambda m: m.load_state_dict(
        {k: v + 0.1 for k, v in m.state_dict().items()}, assign=True
    ),
    "to_and_back": lambda m: m.float().double(),
    "reset": lambda m: (torch.manual_seed(0), m.reset_parameters()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("grad", [True, False])
def test_weights_may_change_between_calls(name, change, grad):
    module, other, x = double(name, 3, 4), double(name, 3, 4), steps()
    fast.accelerate(module)
    with torch.set_grad_enabled(grad):
        before = module(x)[0]
        for m in (module, other):
            CHANGES[change](m)
        after = module(x)[0]
        close(after, other(x)[0])
    assert not torch.equal(before, after)


def test_functional_call():
    module, x = double("GRU", 3, 4), steps()
    weights = {k: v.detach() * 1.5 for k, v in module.state_dict().items()}
    expected = torch.func.functional_call(module, weights, (x,))[0]
    fast.accelerate(module)
    plain = module(x)[0]
    close(torch.func.functional_call(module, weights, (x,))[0], expected)
    close(module(x)[0], plain, rtol=0, atol=0)


class Halve(nn.Module):
    def forward(self, x):
        return x / 2

    def right_inverse(self, x):
        return x * 2


@pytest.mark.parametrize("user", [False, True], ids=["torchs", "users"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_parametrized(user, order):
    torch.manual_seed(2)
    module = (LastOutput if user else nn.LSTM)(3, 4, dtype=torch.float64)
    original, x = type(module), steps()

    def parametrized(m):
        parametrizations.spectral_norm(m, "weight_hh_l0", n_power_iterations=1)
        parametrize.register_parametrization(m, "weight_ih_l0", Halve())

    torch.manual_seed(5)
    other = copy.deepcopy(module)
    parametrized(other)
    expected = results(other.eval(), x)

    torch.manual_seed(5)
    if order == "before":
        fast.accelerate(module)
        parametrized(module)
    else:
        parametrized(module)
        assert set(fast.accelerate(module).replaced) == {""}
    assert ours(module)
    assert type(module).__name__ == type(other).__name__
    assert parametrize.is_parametrized(module)
    close(results(module.eval(), x), expected)
    with pytest.raises(RuntimeError, match="Serialization of parametrized modules"):
        pickle.dumps(module)

    fast.restore(module)
    assert not ours(module)
    assert parametrize.type_before_parametrizations(module) is original
    close(results(module, x), expected, rtol=0, atol=0)
    fast.accelerate(module)

    parametrize.remove_parametrizations(module, "weight_hh_l0")
    parametrize.remove_parametrizations(module, "weight_ih_l0")
    assert ours(module)
    fast.restore(module)
    assert type(module) is original


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("order", ["before", "after"])
def test_weight_norm_by_hooks(order):
    module, other, x = double("LSTM", 3, 4), double("LSTM", 3, 4), steps()
    torch.nn.utils.weight_norm(other, "weight_hh_l0")
    if order == "before":
        fast.accelerate(module)
    torch.nn.utils.weight_norm(module, "weight_hh_l0")
    if order == "after":
        fast.accelerate(module)
    for _ in range(2):
        close(results(module, x), results(other, x))
        for m in (module, other):
            with torch.no_grad():
                m.weight_hh_l0_g.mul_(1.5)
    torch.nn.utils.remove_weight_norm(module, "weight_hh_l0")
    torch.nn.utils.remove_weight_norm(other, "weight_hh_l0")
    close(results(module, x), results(other, x))


@pytest.mark.parametrize("order", ["before", "after"])
def test_pruned(order):
    module, other, x = double("GRU", 3, 4), double("GRU", 3, 4), steps()
    prune.l1_unstructured(other, "weight_hh_l0", amount=0.5)
    if order == "before":
        fast.accelerate(module)
    prune.l1_unstructured(module, "weight_hh_l0", amount=0.5)
    if order == "after":
        fast.accelerate(module)
    close(results(module, x), results(other, x))
    prune.remove(module, "weight_hh_l0")
    prune.remove(other, "weight_hh_l0")
    close(results(module, x), results(other, x))


def test_data_parallel_and_wrappers():
    model = nn.DataParallel(nn.Sequential(nn.Linear(3, 3, dtype=torch.float64)))
    model.module.append(double("GRU", 3, 4))
    x = steps()
    before = results(model, x)
    assert set(fast.accelerate(model).replaced) == {"module.1"}
    close(results(model, x), before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_left():
    module = nn.LSTM(3, 4)
    scripted = torch.jit.script(module)
    model = nn.Sequential(scripted, torch.jit.script(nn.Sequential(nn.ReLU(), nn.GRU(2, 2))))
    assert fast.accelerate(model).left == {
        "0": "is compiled by TorchScript",
        "1.1": "is compiled by TorchScript",
    }
    assert fast.restore(model).left == {}
    assert fast.accelerate(scripted).left == {"": "is compiled by TorchScript"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantized_is_left():
    from torch.ao.nn import quantizable
    from torch.ao.nn.quantized import dynamic, reference

    model = nn.Sequential(dynamic.GRU(2, 3), quantizable.LSTM(2, 3), dynamic.GRUCell(2, 2))
    report = fast.accelerate(model)
    assert report.replaced == {}
    assert {"0", "1", "2"} <= report.left.keys()
    assert set(report.left.values()) == {"is quantized"}
    assert fast.accelerate(reference.LSTM(2, 3)).left == {"": "is quantized"}


def test_a_bare_base_class_is_left():
    (why,) = fast.accelerate(nn.RNNBase("LSTM", 2, 3)).left.values()
    assert why == "RNNBase is not one of GRU, GRUCell, LSTM, LSTMCell, RNN, RNNCell"


def test_a_forward_put_on_the_object_is_left():
    module, x = double("GRU", 3, 4), steps()
    forward = module.forward
    module.forward = lambda *args: forward(*args)[0]
    before = module(x)
    assert fast.accelerate(module).left == {"": "its forward was replaced on the object"}
    close(module(x), before, rtol=0, atol=0)


# --- Data loaders --------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_inside_the_workers_of_a_data_loader(context):
    torch.manual_seed(1)
    model = nn.Sequential(LastOutput(3, 4, dtype=torch.float64), nn.Linear(4, 2).double())
    data = steps(6, 4)
    plain = [model(x).detach() for x in data]
    fast.accelerate(model)
    close(model(data[0]).detach(), plain[0])  # this process has used its threads
    loader = torch.utils.data.DataLoader(
        Encoded(model, data),
        num_workers=2,
        batch_size=None,
        timeout=60,
        multiprocessing_context=context,
    )
    close(list(loader), plain)


# --- The report ----------------------------------------------------------------------------------


def test_the_report_is_a_table():
    model = nn.ModuleDict(
        {
            "encoder": nn.LSTM(2, 3),
            "small": nn.GRU(2, 3).bfloat16(),
            "mine": LastOutput(2, 3),
            "base": nn.RNNBase("GRU", 2, 3),
        }
    )
    report = fast.accelerate(model)
    lines = str(report).splitlines()
    assert lines[0] == "3 of 4 recurrent modules changed to fastrnn"
    assert lines[1] == "  encoder  LSTM"
    assert lines[2].startswith("  small    GRU         for now run by PyTorch: ")
    assert "bfloat16" in lines[2]
    assert lines[3] == "  mine     LastOutput"
    assert lines[4].startswith("  base     left        RNNBase is not one of")
    assert set(report.falls_back) == {"small"}
    assert repr(report) == str(report)
    assert str(fast.restore(model)).splitlines()[0] == "3 of 3 recurrent modules changed to PyTorch"
    assert str(fast.restore(nn.ReLU())) == "0 of 0 recurrent modules changed to PyTorch"
    assert "(the model)" in str(fast.accelerate(nn.GRU(1, 1)))
