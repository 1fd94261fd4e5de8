"""The search for cells against plain counts, the page against an HTML parser, plots, command."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastrnn
from fastrnn import cli, inspect, text
from fastrnn.inspect import cells

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\"'\n\t\r\x00\x7f\ud800 {0}😀é"


# --- properties -----------------------------------------------------------------------------------


def marks(name, content):
    return "".join(str(int(value)) for value in inspect.PROPERTIES[name](content))


def test_properties():
    assert marks("quotes", 'a "bc" “d” "e\n\nf') == "0011100110011100"
    assert marks("brackets", "a(b[c]d)e)f") == "01111110000"
    assert marks("bracket-depth", "a(b[c]d)e)f") == "01122110000"
    assert marks("line-position", "ab\nc\n\nd") == "0100000"
    assert marks("indentation", "  a b\n\tc\nd") == "1222208800"
    assert marks("comment", "a # b\nc / d//e\n") == "001110000000110"
    for function in inspect.PROPERTIES.values():
        assert function("").shape == (0,)


@given(st.text('a" \n(]#/\t'), st.text('a" \n(]#/\t'))
def test_properties_do_not_depend_on_what_comes_after(first, rest):
    for function in inspect.PROPERTIES.values():
        np.testing.assert_array_equal(function(first + rest)[: len(first)], function(first))


# --- the search -----------------------------------------------------------------------------------

samples = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=20).filter(
    lambda pairs: len({wanted for _, wanted in pairs}) == 2
)


@given(samples)
def test_area_under_curve_counts_pairs(pairs):
    values = np.array([value for value, _ in pairs], "float32")
    wanted = np.array([with_it for _, with_it in pairs])
    won = [(a > b) + (a == b) / 2 for a in values[wanted] for b in values[~wanted]]
    assert cells.area_under_curve(values, wanted) == pytest.approx(np.mean(won))


@given(samples)
def test_threshold_is_the_best_there_is(pairs):
    values = np.array([value for value, _ in pairs], "float32")
    wanted = np.array([with_it for _, with_it in pairs])

    def gain(limit):
        return (values[wanted] > limit).mean() - (values[~wanted] > limit).mean()

    best = max(gain(limit) for limit in np.unique(values)[:-1]) if np.ptp(values) else 0.0
    assert gain(cells._threshold(values, wanted)) == pytest.approx(best)


def test_planted_cells_are_found():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((4000, 6)).astype("float32")
    inside = rng.random(4000) < 0.3
    values[:, 2] -= 3 * inside
    position = rng.integers(0, 50, 4000)
    values[:, 4] = values[:, 4] * 5 - position
    best, *others = inspect.find_cells(values, inside)
    assert (best.cell, best.sign) == (2, -1)
    assert best.score == cells.area_under_curve(-values[2000:, 2], inside[2000:])
    assert best.fitted == pytest.approx(cells.area_under_curve(-values[:2000, 2], inside[:2000]))
    assert best.score > 0.97
    assert best.threshold == pytest.approx(-1.5, abs=0.2)
    predicted = values[2000:, 2] < best.threshold
    rates = predicted[inside[2000:]].mean(), 1 - predicted[~inside[2000:]].mean()
    assert best.accuracy == pytest.approx(np.mean(rates))
    assert len(others) == 5
    assert all(abs(other.score - 0.5) < 0.05 for other in others)
    assert [other.fitted for other in others] == sorted((o.fitted for o in others), reverse=True)

    best, second = inspect.find_cells(values, position, top=2, held_out=0.25)
    assert (best.cell, best.sign, best.threshold, best.accuracy) == (4, -1, None, None)
    expected = -np.corrcoef(values[3000:, 4], position[3000:])[0, 1]
    assert best.score == pytest.approx(expected, rel=1e-5)
    assert abs(second.score) < 0.1


def test_constant_cells_are_worth_nothing():
    inside = np.arange(100) % 3 == 0
    (found,) = inspect.find_cells(np.ones((100, 1)), inside)
    assert (found.score, found.fitted, found.accuracy) == (0.5, 0.5, 0.5)
    (found,) = inspect.find_cells(np.ones((100, 1)), np.arange(100.0))
    assert (found.score, found.fitted) == (0.0, 0.0)


def test_search_with_bad_arguments():
    values, inside = np.zeros((10, 2)), np.arange(10) % 2 == 0
    with pytest.raises(ValueError, match=r"activations: expected the shape \(T, C\), got \(10,\)"):
        inspect.find_cells(values[:, 0], inside)
    with pytest.raises(ValueError, match=r"property: expected the shape \(10,\), got \(9,\)"):
        inspect.find_cells(values, inside[1:])
    with pytest.raises(ValueError, match="same for all characters of the held-out part"):
        inspect.find_cells(values, np.arange(10) == 2)
    with pytest.raises(ValueError, match="same for all characters of the first part"):
        inspect.find_cells(values, np.arange(10) == 7)
    with pytest.raises(ValueError, match="activations: expected finite numbers"):
        inspect.find_cells(values + np.nan, inside)
    with pytest.raises(ValueError, match="held_out: expected a number between 0 and 1, got 1"):
        inspect.find_cells(values, inside, held_out=1.0)
    with pytest.raises(TypeError, match="property: expected booleans or real numbers"):
        inspect.find_cells(values, np.array(list("abcdefghij")))


# --- activations ----------------------------------------------------------------------------------


def test_activations_do_not_depend_on_the_window():
    model = fastrnn.Sequential(fastrnn.LSTM(5, 3, 2, seed=1), fastrnn.GRU(3, 2, seed=1))
    ids = np.random.default_rng(1).integers(0, 5, 50)
    whole = inspect.activations(model, ids)
    parts = inspect.activations(model, ids, window=7)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-6)
    assert whole.values.shape == (50, 8)
    assert whole.units[:4] == [("0.l0", 0), ("0.l0", 1), ("0.l0", 2), ("0.l1", 0)]
    assert whole.units[6:] == [("1.l0", 0), ("1.l0", 1)]
    captured = inspect.capture(model, ids)
    np.testing.assert_allclose(whole.values[:, 6:], captured.y, atol=1e-6)
    cell = np.tanh(captured.layers["0.l1"]["c"][:, 0, 0])
    np.testing.assert_allclose(whole.values[:, 3:6], cell, atol=1e-6)
    some = inspect.activations(model, ids, ["0.l1"])
    np.testing.assert_array_equal(some.values, whole.values[:, 3:6])


def test_activations_of_both_directions_run_whole():
    layer = fastrnn.GRU(5, 3, bidirectional=True, seed=1)
    ids = np.random.default_rng(1).integers(0, 5, 20)
    found = inspect.activations(layer, ids, window=4)
    np.testing.assert_array_equal(found.values, layer(ids)[0])
    with pytest.raises(ValueError, match="x: expected one sequence, got 2"):
        inspect.activations(layer, np.zeros((4, 2), int))
    with pytest.raises(ValueError, match="x: expected a sequence of at least one step"):
        inspect.activations(layer, np.zeros(0, int))


# --- the page -------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a browser makes of a page: tags, the text of each element that has an id, scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.classes, self._open = [], {}, [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
        if tag == "span" and "text" in self._open:
            self.classes.append(attributes["class"])
        if tag != "meta":
            self._open.append(attributes.get("id", tag))

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        for name in self._open:
            self.texts[name] = self.texts.get(name, "") + data


def test_page_shows_hostile_text_as_it_is():
    values = np.linspace(-1.2, 1.2, 2 * len(HOSTILE)).reshape(-1, 2)
    page = inspect.color_text(HOSTILE, values, [HOSTILE, "b"], HOSTILE)
    page.encode("utf-8")
    assert "http:" not in page
    assert "https:" not in page
    assert page.isprintable() or all(c.isprintable() or c in "\n\t" for c in page)
    read = Reader(page)
    shown = HOSTILE.replace("\r", "␍").replace("\x00", "␀").replace("\x7f", "�")
    shown = shown.replace("\ud800", "�")
    assert read.texts["text"] == shown
    assert read.texts["h1"] == shown
    assert read.texts["cell"] == shown + "b"
    assert "img" not in read.tags
    assert read.tags.count("script") == 2
    levels = json.loads(read.texts["levels"])
    assert [len(level) for level in levels] == [len(HOSTILE)] * 2
    assert "".join(name[0] for name in read.classes) == levels[0]


def test_page_rounds_to_tenths():
    values = np.array([-7.0, -1.0, -0.24, -0.04, 0.0, 0.26, 0.99, 3.0])
    read = Reader(inspect.color_text("abcd\nfgh", values))
    assert read.classes == ["a", "a", "i", "k", "k end", "n", "u", "u"]
    assert "select" not in read.tags
    assert "cell 0" in read.texts["p"]


def test_page_with_bad_arguments():
    with pytest.raises(ValueError, match=r"expected the shape \(2,\) or \(2, C\).*got \(3,\)"):
        inspect.color_text("ab", np.zeros(3))
    with pytest.raises(ValueError, match=r"activations: expected the shape"):
        inspect.color_text("ab", np.zeros((2, 0)))
    with pytest.raises(ValueError, match="labels: expected 2, one for each cell, got 1"):
        inspect.color_text("ab", np.zeros((2, 2)), ["a"])
    with pytest.raises(ValueError, match="activations: expected finite numbers"):
        inspect.color_text("ab", [0.0, np.inf])


# --- plots ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layer_and_input():
    x = np.random.default_rng(1).standard_normal((30, 2, 3)).astype("float32")
    return fastrnn.LSTM(3, 4, 2, seed=1), x


def test_plot_of_gradients_has_the_numbers(layer_and_input, tmp_path):
    layer, x = layer_and_input
    flow = inspect.gradient_flow(layer, x)
    clipped = inspect.gradient_flow(layer, x, clip_norm=0.01)
    figure = inspect.plot_gradient_flow({"plain": {"net": flow}, "clipped": {"net": clipped}})
    figure.savefig(tmp_path / "plot.png")
    assert [axis.get_title() for axis in figure.axes] == ["plain", "clipped"]
    for axis, drawn in zip(figure.axes, (flow, clipped), strict=True):
        for line, norms in zip(axis.get_lines(), drawn.by_distance().values(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), norms)
    one = inspect.plot_gradient_flow({"a": flow, "b": clipped}, of="c")
    labels = [line.get_label() for line in one.axes[0].get_lines()]
    assert labels == ["a, l0", "a, l1", "b, l0", "b, l1"]
    np.testing.assert_array_equal(
        one.axes[0].get_lines()[1].get_ydata()[1:], flow.by_distance("c")["l1"][1:]
    )
    for nothing in ({}, {"a": inspect.gradient_flow(layer, x[:0])}):
        with pytest.raises(ValueError, match="flows: expected gradients other than zero"):
            inspect.plot_gradient_flow(nothing)


def test_plot_of_saturation_has_the_numbers(layer_and_input, tmp_path):
    layer, x = layer_and_input
    found = inspect.saturation(inspect.capture(layer, x), 0.4, 0.5)
    figure = inspect.plot_saturation(found)
    figure.savefig(tmp_path / "plot.png")
    titles = [axis.get_title() for axis in figure.axes]
    assert [title[:6] for title in titles] == [
        "input ",
        "forget",
        "candid",
        "output",
        "cell t",
        "output",
    ]
    points = figure.axes[1].collections[1].get_offsets()
    expected = np.stack([found["l1"]["f"].left[0], found["l1"]["f"].right[0]], axis=1)
    np.testing.assert_array_equal(points, expected)
    with pytest.raises(ValueError, match="saturations: expected at least one layer"):
        inspect.plot_saturation({})


def test_plots_say_what_they_need(layer_and_input, monkeypatch):
    layer, x = layer_and_input
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastrnn\[viz\]'"):
        inspect.plot_gradient_flow({"a": inspect.gradient_flow(layer, x)})


def test_importing_is_lazy():
    code = (
        "import sys, fastrnn; assert 'fastrnn.inspect' not in sys.modules\n"
        "import fastrnn.inspect; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the command ----------------------------------------------------------------------------------

TEXT = 'he said "no (not me)" and\nshe [we] said "yes"\n' * 30


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vocabulary = text.Vocabulary.from_text(TEXT)
    model = text.build_model("lstm", vocabulary, hidden=6, layers=2, seed=1)
    text.save_model("model.safetensors", model, vocabulary)
    Path("good.txt").write_text(TEXT)
    Path("plain.txt").write_text("said" * 20)
    Path("other.txt").write_text(TEXT + "é")


def run(capsys, *arguments):
    status = cli.main(["inspect", "model.safetensors", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_command_looks_for_all_properties(capsys):
    status, out, err = run(capsys, "good.txt", "--show", "40")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    names = {"quotes", "brackets", "bracket-depth", "line-position"}  # the text has no others
    assert {line.split()[0] for line in lines[:-1]} == names
    assert lines[-1] == "Wrote cells.html."
    read = Reader(Path("cells.html").read_text(encoding="utf-8"))
    assert read.texts["text"] == TEXT[:40]
    assert len(json.loads(read.texts["levels"])) == 4


def test_command_with_one_property_or_cell(capsys):
    status, out, _ = run(capsys, "good.txt", "--property", "quotes", "--layer", "0", "--out", "p")
    assert status == 0
    assert out.count("quotes         layer 0 cell ") == 6
    scores = Reader(Path("p").read_text(encoding="utf-8")).texts["levels"]
    assert len(json.loads(scores)) == 6
    status, out, _ = run(capsys, "good.txt", "--cell", "5")
    assert (status, out) == (0, "layer 1 cell 5\nWrote cells.html.\n")
    loaded = text.load_model("model.safetensors")
    found = inspect.activations(loaded.model, loaded.vocabulary.encode(TEXT), ["0.l1"])
    expected = inspect.color_text(
        TEXT, found.values[:, 5], ["layer 1 cell 5"], "good.txt, read by model.safetensors"
    )
    page = Path("cells.html").read_text(encoding="utf-8").replace("model</h1>", "")
    assert Reader(page).texts["levels"] == Reader(expected).texts["levels"]
    assert run(capsys, "other.txt", "--unknown", "e", "--cell", "0")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("good.txt", "--cell", "6"), "--cell: expected a number from 0 to 5, got 6"),
        (("good.txt", "--layer", "2"), "--layer: expected a number from 0 to 1, got 2"),
        (("good.txt", "--property", "x"), "argument --property: invalid choice"),
        (("good.txt", "--property", "quotes", "--cell", "1"), "not allowed with argument"),
        (("good.txt", "--show", "0"), "--show: expected at least 1, got 0"),
        (("good.txt", "--out", "no/such/page"), "--out: no/such/page: No such file"),
        (("good.txt", "--unknown", "é"), "--unknown: expected a character that the model knows"),
        (("other.txt",), "other.txt: character 'é' (U+00E9) at position"),
        (("plain.txt", "--property", "quotes"), "--property quotes: property: it is the same"),
        (("missing.txt",), "missing.txt: No such file"),
    ],
)
def test_command_with_bad_arguments(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not Path("cells.html").exists()
