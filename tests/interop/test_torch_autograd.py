"""What training code does around a layer: the modules of fastrnn beside torch's."""

import pytest

torch = pytest.importorskip("torch")
fast = pytest.importorskip("fastrnn.interop.torch")
checkpoint = pytest.importorskip("torch.utils.checkpoint").checkpoint

SEQUENCES = ("RNN", "LSTM", "GRU")
CELLS = ("RNNCell", "LSTMCell", "GRUCell")


def pair(name, *sizes, **options):
    """Return torch's module and ours with the same weights."""
    options.setdefault("dtype", torch.float64)
    theirs = getattr(torch.nn, name)(*sizes, **options)
    ours = getattr(fast, name)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def same(function, name, *sizes, **options):
    """Compare the tensors that a function of a module returns."""
    theirs, ours = pair(name, *(sizes or (4, 5)), **options)
    expected = function(theirs)
    got = function(ours)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def numbers(*shape, scale=1.0):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float64).view(shape) * scale).sin().requires_grad_()


def gradients(module, x):
    return [x.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_outputs_may_be_written_to(name, batch_first):
    def function(module):
        x = numbers(6, 2, 4)
        y = module(x)[0]
        y[1:] = 0.5
        y.mul_(numbers(6, 2, 5).detach()).square_()
        y.sum().backward()
        return gradients(module, x)

    same(function, name, batch_first=batch_first)


def test_lengths_may_be_written_to():
    weights = [(numbers(15, 4), numbers(15, 5), None, None, None)]
    x = numbers(6, 3, 4)
    found = []
    for change in (0, 1):
        lengths = torch.tensor([6, 3, 2])
        y = fast.layer("gru", x, weights, lengths=lengths)[0].sum()
        lengths -= change
        found.append(torch.autograd.grad(y, (x, *weights[0][:2])))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", SEQUENCES)
def test_checkpoints_may_write_to_what_they_make(name):
    def function(module):
        def part(x):
            h = x * 1
            y = module(h)[0] * 2
            with torch.no_grad():
                h.zero_()
            return y

        x = numbers(6, 2, 4)
        checkpoint(part, x, use_reentrant=False).sum().backward()
        return gradients(module, x)

    same(function, name)


def tape_of(y):
    return y.grad_fn.next_functions[0][0].tape


def test_what_is_kept_for_gradients_goes_after_them():
    _, ours = pair("GRU", 4, 5)
    y = ours(numbers(6, 2, 4))[0] * 1
    y.sum().backward(retain_graph=True)
    assert tape_of(y) is not None
    y.sum().backward()
    assert tape_of(y) is None


def test_hooks_get_all_that_is_kept():
    _, ours = pair("GRU", 4, 5)
    with torch.autograd.graph.save_on_cpu():
        y = ours(numbers(6, 2, 4))[0] * 1
    assert tape_of(y) is None


@pytest.mark.parametrize("name", SEQUENCES)
def test_tied_weights_with_create_graph(name):
    def function(module):
        module.weight_ih_l0_reverse = module.weight_ih_l0
        module.bias_hh_l0 = module.bias_ih_l0
        x = numbers(6, 2, 4)
        loss = module(x)[0].square().sum()
        of = [x, module.weight_ih_l0, module.bias_ih_l0]
        first = torch.autograd.grad(loss, of, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), of)
        return [*first, *second]

    same(function, name, bidirectional=True)


@pytest.mark.parametrize("name", SEQUENCES)
def test_many_gradients_at_once(name):
    def function(module):
        x = numbers(3, 2, 4)
        y = module(x)[0]
        at_once = torch.autograd.grad(
            y, x, numbers(7, 3, 2, 5), is_grads_batched=True, retain_graph=True
        )
        jacobian = torch.autograd.functional.jacobian(lambda x: module(x)[0], x, vectorize=True)
        return [*at_once, jacobian]

    same(function, name)


@pytest.mark.parametrize("name", SEQUENCES)
def test_gradients_that_are_lazily_negated(name):
    def function(module):
        x = numbers(6, 2, 4)
        y = module(x)[0]
        z = torch.complex(torch.zeros_like(y), y).conj()
        z.backward(torch.ones_like(z) * (1 + 2j))
        return gradients(module, x)

    same(function, name)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_buffer_of_inputs_may_be_resized(name):
    def function(module):
        buffer, found = torch.empty(0, dtype=torch.float64), []
        for steps in (3, 7, 5, 9):
            buffer.resize_(steps, 2, 4).copy_(numbers(steps, 2, 4).detach())
            y = module(buffer)[0]
            y.sum().backward()
            found.append(y.detach())
        return [*found, *(p.grad for p in module.parameters())]

    same(function, name)


class Halve(torch.nn.Module):
    def forward(self, weight):
        return weight * 0.5


@pytest.mark.parametrize("name", [*SEQUENCES, *CELLS])
def test_one_parametrized_weight_in_inference_mode(name):
    def function(module):
        weight = "weight_hh" if name in CELLS else "weight_hh_l0"
        torch.nn.utils.parametrize.register_parametrization(module, weight, Halve())
        x = numbers(2, 4) if name in CELLS else numbers(6, 2, 4)
        found = []
        for _ in range(2):
            with torch.inference_mode():
                result = module(x)
            found.append(result[0].clone())
            with torch.no_grad():
                module.parametrizations[weight].original.data.mul_(0.7)
        return found

    same(function, name)


@pytest.mark.parametrize("sizes", [(0, 5), (4, 0)])
@pytest.mark.parametrize("name", CELLS)
def test_cells_of_no_size(name, sizes):
    theirs, ours = pair(name, *sizes)
    x = torch.ones(2, sizes[0], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("batch_sizes", [[3, 2, 3, 1], [3, 3, 2, 2], [3, 3, 3, 0]])
def test_packed_sequences_made_by_hand(batch_sizes):
    rows = torch.nn.utils.rnn.PackedSequence(
        torch.ones(9, 4, dtype=torch.float64), torch.tensor(batch_sizes)
    )
    results = []
    for module in pair("GRU", 4, 5):
        with torch.no_grad():
            try:
                results.append(module(rows)[0].data)
            except RuntimeError as error:
                results.append(str(error))
    assert type(results[0]) is type(results[1])
    if isinstance(results[0], str):
        assert results[0] == results[1]
    else:
        torch.testing.assert_close(results[0], results[1])
