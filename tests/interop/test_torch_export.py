"""What ``fastrnn export --format safetensors`` writes, in PyTorch's own layers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from fastrnn import cli, text  # noqa: E402


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_torch_loads_the_exported_weights(cell, layers, tmp_path):
    vocabulary = text.Vocabulary("\n abc\0é")
    model = text.build_model(cell.lower(), vocabulary, 6, layers, seed=1)
    text.save_model(tmp_path / "model.safetensors", model, vocabulary)
    out = tmp_path / "m.safetensors"
    assert cli.main(["export", str(tmp_path), "--out", str(out)]) == 0

    with safe_open(out, "pt") as file:
        facts = file.metadata()
    assert facts["characters"] == vocabulary.characters
    assert facts["cell"] == cell
    sizes = [int(facts[name]) for name in ("input_size", "hidden_size", "num_layers")]
    assert sizes == [7, 6, layers]
    theirs = torch.nn.ModuleList([getattr(torch.nn, cell)(*sizes), torch.nn.Linear(6, 7)])
    theirs.load_state_dict(load_file(out))

    ids = np.random.default_rng(0).integers(0, 7, (9, 3))
    hidden, _ = theirs[0](torch.nn.functional.one_hot(torch.tensor(ids), 7).float())
    want = theirs[1](hidden).detach().numpy()
    np.testing.assert_allclose(model(ids)[0], want, rtol=0, atol=1e-6)
