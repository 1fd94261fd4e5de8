"""The process: its start, its logs and metrics, and an end that loses nothing."""

import contextlib
import json
import signal
import socket

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="NOT TESTED: needs fastrnn[serve]")

import fastrnn
from fastrnn import cli
from fastrnn.serve.settings import settings_fields
from serve_cases import Server, models, until, vectors


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return models(tmp_path_factory.mktemp("models"))


def request_bytes(x):
    tensor = {"name": "input", "datatype": "FP32", "shape": x.shape, "data": x.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def test_what_was_accepted_is_answered_after_sigterm(files):
    x = vectors(2, 50, 5)
    body = request_bytes(x)
    with Server(files["two"]) as server, contextlib.closing(server.connect()) as connection:
        connection.putrequest("POST", "/v2/models/two/infer")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:100])
        until(lambda: b"\nfastrnn_at_work 1.0" in server.request("GET", "/metrics")[2])
        assert b"\nfastrnn_held_bytes 100.0" in server.request("GET", "/metrics")[2]
        server.process.send_signal(signal.SIGTERM)
        server.event("draining")
        assert server.get("/v2/health/live") == (200, {"live": True})
        assert server.get("/v2/health/ready") == (503, {"ready": False})
        assert server.get("/v2/models/two/ready") == (200, {"name": "two", "ready": False})
        status, _, refused = server.request("POST", "/v2/models/two/infer", body)
        assert (status, json.loads(refused)) == (503, {"error": "the server is ending"})
        assert server.process.poll() is None
        connection.send(body[100:])
        answer = connection.getresponse()
        found = json.loads(answer.read())["outputs"][0]
        assert answer.status == 200
        expected, _ = fastrnn.load(files["two"])(np.ascontiguousarray(x.swapaxes(0, 1)))
        y = np.array(found["data"], np.float32).reshape(found["shape"])
        assert (y == expected.swapaxes(0, 1)).all()
        assert server.process.wait(120) == 0
        server.event("drained")
        server.event("stopped")
        with pytest.raises(OSError):
            socket.create_connection((server.host, server.port), 5)


def test_the_end_does_not_wait_for_ever(files):
    arguments = ("--drain-timeout", "0.5", "--send-timeout", "0.5")
    with Server(files["two"], *arguments) as server, contextlib.closing(server.connect()) as held:
        held.putrequest("POST", "/v2/models/two/infer")
        held.putheader("Content-Length", "100")
        held.endheaders(b"{")
        until(lambda: b"\nfastrnn_at_work 1.0" in server.request("GET", "/metrics")[2])
        assert server.stop() == 0
        assert server.event("drain_timeout")["at_work"] == 1


def test_ctrl_c_ends_as_sigterm_does(files):
    with Server(files["two"]) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(120) == 130
        server.event("drained")
        assert server.events[-2] == {"line": "fastrnn serve: interrupted\n"}


def test_logs_are_json_lines_and_tell_no_content(files):
    with Server(files["two"], "--log-requests") as server:
        secret = "s3cr3t" * 3
        headers = {"Authorization": f"Bearer {secret}", "X-Own": secret}
        server.infer("two", {"input": vectors(1, 2, 5)}, headers)
        server.request("GET", f"/v2?token={secret}", headers=headers)
        server.request("GET", "/none%0A%22%1b[31m", headers=headers)
        event = server.event("request")
        assert event.keys() >= {"time", "level", "event", "method", "path", "status", "seconds"}
        assert (event["path"], event["status"]) == ("/v2/models/two/infer", 200)
        assert server.event("request", 1)["path"] == "/v2"
        assert server.event("request", 2)["path"] == '/none\n"\x1b[31m'
    assert not any("line" in each for each in server.events), server.events
    assert secret not in json.dumps(server.events)


def test_logs_as_text(files, capfd):
    from fastrnn.serve import logs

    before = logs.logger.handlers, logs.logger.level, logs.logger.propagate
    try:
        logs.set_up("text")
        logs.event("asked", path="/a\nb", count=2)
    finally:
        logs.logger.handlers, logs.logger.level, logs.logger.propagate = before
    line = capfd.readouterr().err
    assert line.endswith(' info asked path="/a\\nb" count=2\n')
    assert line.count("\n") == 1


def test_metrics(files):
    prometheus = pytest.importorskip("prometheus_client.parser")
    with Server(files["two"], files["text"]) as server:
        for _ in range(3):
            server.infer("two", {"input": vectors(2, 4, 5)})
        server.infer("none", {"input": vectors(2, 4, 5)})
        server.get("/v2/models/<script>")
        text = server.request("GET", "/metrics")[2].decode()
        values = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in prometheus.text_string_to_metric_families(text)
            for sample in family.samples
        }
        infer = ("route", "/v2/models/{name}/infer")
        count = "fastrnn_request_seconds_count"
        assert values[count, ("model", "two"), infer, ("status", "200")] == 3
        assert values[count, ("model", ""), infer, ("status", "404")] == 1
        assert values["fastrnn_steps_total", ("model", "two")] == 3 * 2 * 4
        for name in ("fastrnn_sessions", "fastrnn_pending_steps", "fastrnn_pool_steps_total"):
            assert values[name, ("model", "text")] == 0
        assert values["fastrnn_batch_size_bucket", ("le", "+Inf"), ("model", "two")] == 0
        assert "script" not in text
        stats = server.get("/v2/fastrnn/stats")[1]
        (latency,) = stats["latency"]
        assert (latency["what"], latency["count"], latency["steps"]) == ("infer", 3, 24)
        assert 0 < latency["p50_ms"] <= latency["p99_ms"] <= latency["p999_ms"] < 60_000
        listed = server.get("/v2/fastrnn/models")[1]["models"]
        assert [each["name"] for each in listed] == ["two", "text"]
        assert [each["kind"] for each in listed] == ["float32", "text"]
        assert listed[0]["layers"] == "LSTM 2 x 7, Linear 3"
        assert (listed[0]["characters"], listed[1]["characters"]) == (None, 9)


def test_percentiles_of_the_last_minute():
    from fastrnn.serve.metrics import _Window

    now = [1000.0]
    window = _Window(lambda: now[0])
    assert window.summary()["p50_ms"] is None
    for _ in range(98):
        window.add(0.010, 1)
    window.add(0.5, 10)
    window.add(0.5, 10)
    found = window.summary()
    assert (found["count"], found["steps"]) == (100, 118)
    assert 10 <= found["p50_ms"] <= 12  # a bucket is 19 % wide
    assert found["p90_ms"] == found["p50_ms"]
    assert 500 <= found["p99_ms"] <= 600
    now[0] += 59
    window.add(0.001, 1)
    assert window.summary()["count"] == 101
    now[0] += 1
    assert window.summary()["count"] == 1
    window.add(0.001, 1)
    assert len(window._seconds) == 2  # what is old is forgotten


def test_batches_of_the_last_minute():
    from fastrnn.serve.metrics import Metrics

    sizes = {"a": [0, 0], "b": [0, 0, 0]}
    metrics = Metrics()
    metrics.watch(
        lambda: [
            (name, {"sessions": 1, "pending_steps": 0, "steps": 1, "batch_sizes": each})
            for name, each in sizes.items()
        ]
    )
    metrics.sample()
    sizes.update(a=[3, 1], b=[0, 0, 5])
    metrics.sample()
    assert metrics.recent_batches() == [3, 1, 5]
    for _ in range(60):
        metrics.sample()
    assert metrics.recent_batches() == [0, 0, 0]


# --- the command line -----------------------------------------------------------------------------


def test_every_setting_is_an_option_with_its_default(capsys):
    assert cli.main(["serve", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for each in settings_fields():
        assert f"--{each.name.replace('_', '-')} " in text
        assert " ".join(each.metadata["help"].split()) in text
    assert "--token-file FILE" in text
    assert "(default: 8000)" in text


def test_wrong_options_get_a_line(files, capsys, tmp_path):
    model = str(files["two"])
    for arguments, words in (
        ([], "MODEL"),
        ([model, "--max-body", "0"], "--max-body: expected at least 1, got 0"),
        ([model, "--port", "x"], "--port"),
        ([model, "--idle-timeout", "nan"], "--idle-timeout: expected"),
        ([model, "--log-format", "xml"], "--log-format"),
        ([model, "--token-file", str(tmp_path / "none")], "--token-file: "),
        ([f"{model},max_sessions=0"], "max_sessions: expected at least 1"),
        ([model, "--host", "no.such.host.invalid"], "--host: no.such.host.invalid can be reached"),
    ):
        assert cli.main(["serve", *arguments]) == 2
        found = capsys.readouterr().err
        assert found.startswith("fastrnn")
        assert words in found
        assert found.count("\n") == 1


def test_a_port_that_is_taken(files, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", str(files["two"]), "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: Address already in use" in capsys.readouterr().err
