"""The OpenAPI of a server: that it is true, and the page that shows it."""

import json
import re

import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

from serve_cases import Server, models, vectors

INFER = "/v2/models/{name}/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    files = models(tmp_path_factory.mktemp("models"))
    with Server(files["two"], files["text"], "--max-body", "10000") as running:
        yield running


@pytest.fixture(scope="module")
def described(server):
    return server.get("/openapi.json")[1]


def conforms(described, path, method, answer):
    """Assert that a status is described for an operation, and its content as it is."""
    jsonschema = pytest.importorskip("jsonschema", reason="NOT TESTED: needs jsonschema")
    status, headers, body = answer
    kind = headers["Content-Type"].partition(";")[0]
    response = described["paths"][path][method]["responses"][str(status)]
    schema = response["content"][kind]["schema"]
    if kind == "application/json":
        whole = {**schema, "components": described["components"]}
        jsonschema.validate(json.loads(body), whole)
    else:
        assert schema["type"] == "string"
    return status


def test_answers_are_as_described(server, described):
    version = server.get("/v2/models/two")[1]["versions"][0]
    server.infer("two", {"input": vectors(1, 2, 5)})
    for path, operations in described["paths"].items():
        if "get" in operations:
            for name, expected in (("two", 200), ("text", 200), ("none", 404)):
                real = path.format(name=name, version=version if name == "two" else "none")
                answer = server.request("GET", real)
                status = conforms(described, path, "get", answer)
                if "{name}" in path and "{version}" not in path:
                    assert status == expected
                elif "{" not in path:
                    assert status == 200


GOOD = {"name": "input", "datatype": "FP32", "shape": [1, 2, 5], "data": [0.5] * 10}


@pytest.mark.parametrize(
    "status, body, headers, words",
    [
        (200, {"inputs": [GOOD]}, {}, ""),
        (200, {"inputs": [GOOD], "parameters": {"binary_data_output": True}}, {}, ""),
        (200, {"inputs": [GOOD], "id": "7", "outputs": [{"name": "output"}]}, {}, ""),
        (200, {"inputs": [GOOD | {"data": [[[1] * 5, [2.5] * 5]]}]}, {}, ""),
        (400, {"inputs": [GOOD | {"data": [[1] * 5, [2] * 5]}]}, {}, "expected data of the shape"),
        (400, {"inputs": [GOOD | {"data": [[[1] * 5, [2] * 4]]}]}, {}, "nested as the shape"),
        (400, {"inputs": [GOOD | {"data": [[[1] * 5, 3]]}]}, {}, "nested as the shape"),
        (400, {"inputs": [GOOD | {"data": [0.5] * 9}]}, {}, r"\[1, 2, 5\], got \[9\]"),
        (400, {"inputs": [GOOD | {"data": [0.5] * 9 + [True]}]}, {}, "expected numbers, got bool"),
        (400, {"inputs": [GOOD | {"data": [0.5] * 9 + ["1"]}]}, {}, "expected numbers, got str"),
        (400, {"inputs": [GOOD | {"data": [0.5] * 9 + [None]}]}, {}, "got NoneType"),
        (400, {"inputs": [GOOD | {"data": [0.5] * 9 + [1e39]}]}, {}, "too large for FP32"),
        (400, {"inputs": [GOOD | {"data": [0.5] * 9 + [10**400]}]}, {}, "too large for FP32"),
        (400, {"inputs": [GOOD | {"data": None}]}, {}, "expected data, or binary_data_size"),
        (400, {"inputs": [GOOD | {"data": {}}]}, {}, "inputs.0.data"),
        (400, {"inputs": [GOOD | {"datatype": "BYTES"}]}, {}, "expected the datatype FP32, FP64"),
        (400, {"inputs": [GOOD | {"shape": [1, 2, -5]}]}, {}, "inputs.0.shape.2"),
        (400, {"inputs": [GOOD | {"shape": [0, 2, 5], "data": []}]}, {}, "inputs.0.shape.0"),
        (400, {"inputs": [GOOD | {"shape": [1, 2, 2**40]}]}, {}, "inputs.0.shape.2"),
        (400, {"inputs": [GOOD | {"shape": ["1", 2, 5]}]}, {}, "inputs.0.shape.0"),
        (400, {"inputs": [GOOD, GOOD]}, {}, "each name once, got 'input'"),
        (400, {"inputs": []}, {}, "inputs"),
        (400, {}, {}, "inputs: Field required"),
        (400, [], {}, "body"),
        (400, "", {}, "expected JSON"),
        (400, "[" * 5000, {}, "expected JSON"),
        (400, '{"inputs": NaN}', {}, "expected JSON"),
        (400, b"\xff\xfe", {}, "expected JSON"),
        (400, {"inputs": [GOOD], "id": 7}, {}, "id"),
        (400, {"inputs": [GOOD], "outputs": [{"name": "x"}]}, {}, "outputs: expected some of"),
        (400, {"inputs": [GOOD], "outputs": [{"name": "output"}] * 2}, {}, "each name once"),
        (400, {"inputs": [GOOD], "parameters": {"binary_data_output": 1}}, {}, "true or false"),
        (400, {"inputs": [GOOD]}, {"Inference-Header-Content-Length": "-1"}, "header"),
        (400, {"inputs": [GOOD]}, {"Inference-Header-Content-Length": "x"}, "header"),
        (400, {"inputs": [GOOD]}, {"Inference-Header-Content-Length": "9999"}, "at most the body"),
        (400, {"inputs": [GOOD]}, {"Inference-Header-Content-Length": "5"}, "expected JSON"),
        (413, " " * 10_001, {}, "at most 10,000 bytes"),
        (415, {"inputs": [GOOD]}, {"Content-Encoding": "br"}, "Content-Encoding"),
    ],
)
def test_inference_is_as_described(server, described, status, body, headers, words):
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    answer = server.request("POST", INFER.format(name="two"), text, headers)
    assert conforms(described, INFER, "post", answer) == status
    if status != 200:
        assert re.search(words, json.loads(answer[2])["error"])


def binary(size, more=b"", **tensor):
    described = {"name": "input", "datatype": "FP32", "shape": [1, 2, 5]}
    described |= {"parameters": {"binary_data_size": size}} | tensor
    head = json.dumps({"inputs": [described]}).encode()
    return head + more, {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize(
    "size, more, tensor, words",
    [
        (40, b"\0" * 39, {}, "expected 40 bytes after the JSON, got 39"),
        (40, b"\0" * 41, {}, "1 bytes more"),
        (39, b"\0" * 39, {}, "expected binary_data_size 40 .* got 39"),
        (-40, b"", {}, "got -40"),
        ("40", b"\0" * 40, {}, "got '40'"),
        (True, b"\0", {}, "got True"),
        (40.0, b"\0" * 40, {}, r"got 40\.0"),
        (40, b"\0" * 40, {"data": [0.5] * 10}, "got both"),
        (2**62, b"", {"shape": [2**31 - 1] * 3}, "expected binary_data_size"),
    ],
)
def test_bytes_of_tensors_are_counted(server, described, size, more, tensor, words):
    body, headers = binary(size, more, **tensor)
    answer = server.request("POST", INFER.format(name="two"), body, headers)
    assert conforms(described, INFER, "post", answer) == 400
    assert re.search(words, json.loads(answer[2])["error"])


def test_other_methods_and_paths(server):
    status, headers, body = server.request("DELETE", "/v2/models/two")
    assert (status, set(json.loads(body))) == (405, {"error"})
    assert headers["Allow"] == "GET"
    for path in ("/v3", "/v2/models/", "/v2/models/two/", "/v2/models/..%2ftwo", "/v2/%00"):
        status, _, body = server.request("GET", path)
        assert (status, set(json.loads(body))) == (404, {"error"}), path


def test_references_lead_somewhere(described):
    names = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(described)))
    assert names <= set(described["components"]["schemas"])
    assert {"InferRequest", "InputTensor", "InferResponse", "Error"} <= names
    assert "securitySchemes" not in described["components"]  # no tokens, none needed
    for operations in described["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            assert operation["description"]
            for parameter in operation.get("parameters", ()):
                assert parameter["schema"]["type"] in ("string", "integer")
                if parameter["name"] == "name":
                    assert parameter["schema"]["enum"] == ["two", "text"]


def test_the_page_of_it_asks_for_nothing_from_elsewhere(server, described):
    status, headers, body = server.request("GET", "/docs")
    page = body.decode()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "<script" not in page
    assert not re.search(r"(src|href)=['\"]?(https?:)?//|@import|url\(", page)
    for path in described["paths"]:
        assert f"</span> {path}<" in page
    for name in described["components"]["schemas"]:
        assert f"id='{name}'" in page
    linked = set(re.findall(r"href='#(\w+)'", page))
    assert linked <= set(described["components"]["schemas"])


def test_docs_show_what_is_text_as_text():
    from fastrnn.serve.openapi import openapi_page

    hostile = "<script>alert(1)</script>"
    page = openapi_page(
        {
            "info": {"title": hostile, "version": hostile, "description": hostile},
            "paths": {
                f"/{hostile}": {
                    "get": {"description": hostile, "responses": {"200": {"description": hostile}}}
                }
            },
            "components": {"schemas": {hostile: {"properties": {hostile: {"type": hostile}}}}},
        }
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6
