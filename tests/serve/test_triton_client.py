"""NVIDIA's client of the Open Inference Protocol, unchanged, against a real server."""

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")
client = pytest.importorskip("tritonclient.http", reason="NOT TESTED: needs tritonclient[http]")

from tritonclient.utils import InferenceServerException

import fastrnn
from serve_cases import Server, models, vectors


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def triton(files):
    with (
        Server(*files.values()) as server,
        client.InferenceServerClient(f"{server.host}:{server.port}") as found,
    ):
        yield found


def tensor(name, array, binary=True):
    datatypes = {"float32": "FP32", "float64": "FP64", "int32": "INT32", "int64": "INT64"}
    found = client.InferInput(name, array.shape, datatypes[array.dtype.name])
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def run_alone(files, name, x, lengths=None):
    """Return what the model gives in Python for x (B, T, ...), and its final state."""
    model = fastrnn.load(files[name])
    batch_first = name == "pooled"
    y, state = model(x if batch_first else np.ascontiguousarray(x.swapaxes(0, 1)), None, lengths)
    return (y if batch_first else y.swapaxes(0, 1)), state


def same(answer, name, expected):
    found = answer.as_numpy(name)
    assert found.dtype == expected.dtype
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()
    assert found.shape == expected.shape


def test_health_and_metadata(triton, files):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.get_server_metadata()["name"] == "fastrnn"
    for name in files:
        assert triton.is_model_ready(name)
    assert not triton.is_model_ready("none")
    found = triton.get_model_metadata("two")
    assert found["inputs"][0] == {
        "name": "input",
        "datatype": "FP32",
        "shape": [-1, -1, 5],
        "optional": False,
    }
    assert [each["name"] for each in found["outputs"]] == ["output", "state.0.h", "state.0.c"]
    assert [each["shape"] for each in found["outputs"]] == [[-1, -1, 3], [-1, 2, 7], [-1, 2, 7]]
    version = found["versions"][0]
    assert triton.is_model_ready("two", version)
    assert triton.get_model_metadata("two", version) == found
    pooled = triton.get_model_metadata("pooled")["outputs"][0]
    assert pooled["shape"] == [-1, 2]
    assert triton.get_model_metadata("double")["inputs"][0]["datatype"] == "FP64"
    for name in ("embedded", "text"):
        tokens = triton.get_model_metadata(name)["inputs"][0]
        assert (tokens["datatype"], tokens["shape"]) == ("INT64", [-1, -1])


@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("binary_input", [True, False])
def test_the_bits_of_python(triton, files, binary_input, binary_output):
    x = vectors(3, 11, 5)
    expected, state = run_alone(files, "two", x)
    wanted = [
        client.InferRequestedOutput(name, binary_data=binary_output)
        for name in ("state.0.c", "output")
    ]
    answer = triton.infer("two", [tensor("input", x, binary_input)], outputs=wanted)
    same(answer, "output", expected)
    same(answer, "state.0.c", state[0][1].swapaxes(0, 1))
    assert answer.as_numpy("state.0.h") is None  # was not asked for
    everything = triton.infer("two", [tensor("input", x, binary_input)])
    same(everything, "state.0.h", state[0][0].swapaxes(0, 1))


def test_every_model(triton, files):
    lengths = np.array([4, 0, 6], np.int32)
    rng = np.random.default_rng(1)
    for name, x in {
        "two": vectors(3, 6, 5),
        "pooled": vectors(3, 6, 4),
        "embedded": rng.integers(0, 9, (3, 6)).astype(np.int32),
        "double": vectors(3, 6, 3, dtype=np.float64),
        "text": rng.integers(0, 9, (3, 6)),
    }.items():
        expected, _ = run_alone(files, name, x)
        same(triton.infer(name, [tensor("input", x)]), "output", expected)
        ragged, _ = run_alone(files, name, x, lengths)
        inputs = [tensor("lengths", lengths), tensor("input", x, binary=False)]
        same(triton.infer(name, inputs), "output", ragged)


def test_one_hot_vectors_of_a_character_model(triton, files):
    tokens = np.random.default_rng(2).integers(0, 9, (2, 5))
    x = np.eye(9, dtype=np.float32)[tokens]
    expected, _ = run_alone(files, "text", tokens)
    same(triton.infer("text", [tensor("input", x)]), "output", expected)


@pytest.mark.parametrize("answer", [None, "gzip", "deflate"])
@pytest.mark.parametrize("question", [None, "gzip", "deflate"])
def test_compression(triton, files, question, answer):
    x = np.tile(vectors(1, 1, 5), (4, 200, 1))
    expected, _ = run_alone(files, "two", x)
    found = triton.infer(
        "two",
        [tensor("input", x)],
        request_compression_algorithm=question,
        response_compression_algorithm=answer,
    )
    same(found, "output", expected)


def test_ids_versions_and_concurrency(triton, files):
    version = triton.get_model_metadata("two")["versions"][0]
    x = vectors(1, 4, 5)
    answer = triton.infer("two", [tensor("input", x)], model_version=version, request_id="42")
    facts = answer.get_response()
    assert (facts["id"], facts["model_name"], facts["model_version"]) == ("42", "two", version)
    asked = []
    for seed in range(20):
        x = vectors(2, 3 + seed, 5, seed=seed)
        asked.append((x, triton.async_infer("two", [tensor("input", x)])))
    for x, pending in asked:
        same(pending.get_result(), "output", run_alone(files, "two", x)[0])


def test_numbers_that_json_cannot_hold(triton, files):
    x = vectors(1, 3, 5)
    x[0, 1, 2] = np.nan
    expected, _ = run_alone(files, "two", x)
    found = triton.infer("two", [tensor("input", x)]).as_numpy("output")
    np.testing.assert_array_equal(found, expected)
    wanted = [client.InferRequestedOutput("output", binary_data=False)]
    with pytest.raises(InferenceServerException, match="ask for binary"):
        triton.infer("two", [tensor("input", x)], outputs=wanted)


@pytest.mark.parametrize(
    "model, version, inputs, status, words",
    [
        ("none", "", {"input": vectors(1, 2, 5)}, "404", "unknown model 'none'"),
        ("two", "7", {"input": vectors(1, 2, 5)}, "404", "unknown version '7' of two"),
        ("two", "", {"input": vectors(1, 2, 4)}, "400", r"\(batch, time, 5\).*got float32"),
        ("two", "", {"input": vectors(2, 5)}, "400", r"\(batch, time, 5\)"),
        ("two", "", {"input": vectors(1, 2, 5, dtype=np.float64)}, "400", "expected float32"),
        ("two", "", {"x": vectors(1, 2, 5)}, "400", "inputs: expected input, lengths, got 'x'"),
        ("two", "", {"lengths": np.array([1])}, "400", "one named 'input'"),
        ("embedded", "", {"input": np.array([[1, 9]])}, "400", "9"),
        ("embedded", "", {"input": np.array([[1, -1]])}, "400", "-1"),
        ("embedded", "", {"input": vectors(1, 2, 9)}, "400", "expected tokens"),
        (
            "two",
            "",
            {"input": vectors(1, 2, 5), "lengths": np.array([3])},
            "400",
            "lengths: expected numbers from 0 to 2, got 3",
        ),
        (
            "two",
            "",
            {"input": vectors(1, 2, 5), "lengths": np.array([1, 2])},
            "400",
            r"lengths: expected integers of the shape \(1,\)",
        ),
        ("two", "", {"input": vectors(1, 100_001, 5)}, "413", "at most 100,000 steps"),
    ],
)
def test_errors_name_what_is_wrong(triton, model, version, inputs, status, words):
    tensors = [tensor(name, array) for name, array in inputs.items()]
    with pytest.raises(InferenceServerException, match=words) as caught:
        triton.infer(model, tensors, model_version=version)
    assert caught.value.status() == status


def test_what_is_not_there_is_not_ignored(triton):
    x = vectors(1, 2, 5)
    with pytest.raises(InferenceServerException, match="'none'"):
        triton.infer("two", [tensor("input", x)], outputs=[client.InferRequestedOutput("none")])
    with pytest.raises(InferenceServerException, match="sequence_id"):
        triton.infer("two", [tensor("input", x)], sequence_id=3, sequence_start=True)
    wanted = client.InferRequestedOutput("output", class_count=2)
    with pytest.raises(InferenceServerException, match="classification"):
        triton.infer("two", [tensor("input", x)], outputs=[wanted])
    shared = client.InferInput("input", x.shape, "FP32")
    shared.set_shared_memory("region", x.nbytes)
    with pytest.raises(InferenceServerException, match="shared memory"):
        triton.infer("two", [shared])
