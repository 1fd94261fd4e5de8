"""The examples of one to one, one to many, many to one and many to many: they learn, in short."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    if name in ("one_to_one", "one_to_many", "digits_by_rows"):
        pytest.importorskip("sklearn.datasets", reason="the digits of scikit-learn")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "arguments", "least"),
    [
        ("one_to_one", {"epochs": 2}, 0.6),  # of ten digits, by chance 0.1
        ("one_to_many", {"epochs": 4}, 0.3),  # whole words, by chance 0.1
        ("digits_by_rows", {"epochs": 3}, 0.4),  # 0.1
        ("intents", {"epochs": 4}, 0.4),  # 0.17 where all are of the most frequent intent
        ("moving_ball", {"steps": 40}, 0.25),  # 0.125
    ],
)
def test_examples_learn(name, arguments, least, capsys, set_num_threads):
    set_num_threads(1)  # so small networks gain nothing by more, least on a busy machine
    quality = example(name).main(**arguments)
    assert least < quality <= 1.0
    assert "%" in capsys.readouterr().out.splitlines()[-1] or name == "one_to_many"


def test_the_ball_moves_as_its_labels_say():
    module = example("moving_ball")
    frames, directions, lengths = module.films(20, 12, np.random.default_rng(1))
    frames = frames.reshape(12, 20, module.SIZE, module.SIZE)
    assert frames.max() <= 1.0
    assert lengths.min() >= 6
    pixels = np.arange(module.SIZE)
    total = frames.sum((2, 3))
    x = (frames.sum(2) * pixels).sum(2) / total
    y = (frames.sum(3) * pixels).sum(2) / total
    angle = np.round(np.arctan2(np.diff(y, axis=0), np.diff(x, axis=0)) / (np.pi / 4)) % 8
    whole = total > 0.98 * total.max()
    both = whole[1:] & whole[:-1]
    assert both.sum() > 50
    assert (angle == directions[1:])[both].mean() > 0.9  # the rest is beside a border of directions


def test_no_template_of_the_test_is_one_of_the_training():
    module = example("intents")
    train, same, other = module.make_sentences()
    assert all(len(templates) >= 4 for templates in module.INTENTS.values())
    sentences = {" ".join(words) for words, _ in train}
    assert not sentences & {" ".join(words) for words, _ in other}
    assert {intent for _, intent in train} == {intent for _, intent in other}
    assert len(same) > 50
