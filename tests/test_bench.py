"""The benchmark suite: cases, the formula of the limit, the runner, the report, the command."""

import importlib.util
import json
import math
import re
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from fastrnn import _core, cli
from fastrnn.bench import cases, limits, measure, report, runner, worker
from fastrnn.bench.cases import Case
from fastrnn.bench.limits import Level, Machine
from fastrnn.bench.peers import PEERS, Program

pytest.importorskip("matplotlib")

MACHINE = Machine(
    threads=2,
    isa="avx2",
    peak=100e9,
    isa_peaks={"avx2": 100e9, "generic": 1e9},
    levels=(
        Level("L1", 32 << 10, 200e9),
        Level("L2", 512 << 10, 50e9),
        Level("DRAM", sys.maxsize, 10e9),
    ),
    barrier=1e-7,
    team=2e-6,
)


# --- cases ----------------------------------------------------------------------------------------


def test_sets_have_unique_names_and_hold_all_that_is_asked():
    for chosen in cases.SETS.values():
        names = [case.name() for case in chosen]
        assert len(set(names)) == len(names)
    assert set(cases.CLIENTS) <= set(cases.GRID)
    assert {case.mode for case in cases.GRID} == set(cases.MODES)
    assert {case.cell for case in cases.QUICK} == set(cases.CELLS)


def test_case_counts_operations_and_bytes():
    case = Case("LSTM", "inference", 10, 3, 5, 7, layers=2, bidirectional=True)
    forward = 2 * 30 * 4 * 7 * 2 * ((5 + 7) + (14 + 7))  # rows, gates, directions; both layers
    assert case.flops() == forward
    assert Case("LSTM", "training", 10, 3, 5, 7, 2, True).flops() == 3 * forward
    assert case.weight_bytes() == 4 * 4 * 7 * 2 * ((5 + 7) + (14 + 7))
    assert case.recurrent_bytes() == 4 * 4 * 7 * 7
    once = 4 * 4 * 7 * 2 * (5 + 14)
    assert case.streamed_bytes() == once + 10 * 4 * case.recurrent_bytes()


def test_padding_is_the_share_of_steps_that_do_not_exist():
    case = Case("GRU", "inference", 100, 33, 4, 8, padding=0.5)
    lengths = case.lengths()
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], min(lengths)) == (100, 1)
    assert case.rows() == pytest.approx(0.5 * 100 * 33, rel=0.01)
    assert Case("GRU", "inference", 100, 33, 4, 8).lengths() == [100] * 33


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("LTSM", "inference", 1, 1, 1, 1), "cell: expected one of LSTM, GRU, RNN, got 'LTSM'"),
        (("LSTM", "infer", 1, 1, 1, 1), "mode: expected one of"),
        (("LSTM", "inference", 1, 0, 1, 1), "B: expected at least 1, got 0"),
        (("LSTM", "step", 2, 1, 1, 1), "a step has T = 1"),
        (("LSTM", "inference", 1, 1, 1, 1, 1, False, 0.6), "padding: expected"),
    ],
)
def test_case_refuses_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        Case(*arguments)


# --- limits ---------------------------------------------------------------------------------------


def test_limit_of_few_rows_is_the_stream_of_weights():
    # 4 * 64 * 64 * 4 bytes = 65,536, half of it for each thread: just L1, 200 GB/s.
    case = Case("LSTM", "inference", 100, 1, 32, 64)
    hoisted = 2 * 100 * 32 * 4 * 64 / 100e9
    assert limits.case_seconds(case, MACHINE) == pytest.approx(hoisted + 100 * 65536 / 200e9)


def test_limit_of_many_rows_is_all_operations_at_peak():
    for mode in ("inference", "training"):
        case = Case("GRU", mode, 20, 64, 128, 256, 2, bidirectional=True)
        assert limits.case_seconds(case, MACHINE) == pytest.approx(case.flops() / 100e9)


def test_limit_of_a_step_reads_all_weights():
    # 3 * 512 * (512 + 512) * 4 bytes = 6,291,456 lie in memory: 10 GB/s.
    case = Case("GRU", "step", 1, 1, 512, 512)
    assert limits.case_seconds(case, MACHINE) == pytest.approx(6291456 / 10e9)


def test_limit_of_training_streams_the_recurrent_weights_twice():
    # 4 * 256 * 256 bytes, half for each thread: L2, 50 GB/s.
    case = Case("RNN", "training", 200, 1, 64, 256)
    products = 2 * 200 * 64 * 256 / 100e9  # forward and data gradient: the input's part
    weights = 2 * 200 * (64 + 256) * 256 / 100e9
    expected = 2 * products + weights + 2 * 200 * 262144 / 50e9
    assert limits.case_seconds(case, MACHINE) == pytest.approx(expected)


def test_limit_counts_the_rows_alive_at_each_step():
    # Lengths 10, 8, 5, 2, 0 -> at least 1. Rows alive: 5 at the first step, 1 at the last two.
    case = Case("LSTM", "inference", 10, 5, 1, 128, padding=0.5)
    assert case.lengths() == [10, 8, 5, 2, 1]
    step = 2 * 128 * 4 * 128
    stream = 4 * 4 * 128 * 128 / 50e9
    alive = [5, 4, 3, 3, 3, 2, 2, 2, 1, 1]
    recurrent = sum(max(rows * step / 100e9, stream) for rows in alive)
    hoisted = 26 * 2 * 4 * 128 / 100e9
    assert limits.case_seconds(case, MACHINE) == pytest.approx(recurrent + hoisted)


def test_both_directions_share_the_threads():
    # Each thread has one direction: 262,144 bytes fit L2; the two together are read each step.
    case = Case("LSTM", "inference", 100, 1, 1, 128, bidirectional=True)
    expected = 100 * 2 * 262144 / 50e9 + 2 * 100 * 4 * 128 * 2 / 100e9
    assert limits.case_seconds(case, MACHINE) == pytest.approx(expected)


def test_machine_goes_through_json_and_keeps_the_better_measurement():
    assert Machine.from_dict(json.loads(json.dumps(MACHINE.as_dict()))) == MACHINE
    worse = Machine(2, "avx2", 9e9, {"avx2": 9e9, "generic": 2e9}, MACHINE.levels, 1e-6, 1e-6)
    best = worse.best_of(MACHINE)
    assert (best.peak, best.isa_peaks["generic"]) == (100e9, 2e9)
    assert (best.barrier, best.team) == (1e-7, 1e-6)
    assert best.with_peak(1e9) == best
    assert best.with_peak(2e11).isa_peaks["avx2"] == best.with_peak(2e11).peak == 2e11


def test_measured_limits_are_numbers_of_this_machine():
    machine = limits.measure(1)
    assert set(machine.isa_peaks) == set(_core.config()["isas_supported"])
    assert [level.capacity for level in machine.levels] == sorted(
        level.capacity for level in machine.levels
    )
    values = [machine.peak, *(level.bandwidth for level in machine.levels), machine.team]
    assert all(value > 0 and math.isfinite(value) for value in values)


def test_probes_lie_in_their_level_and_above_the_one_below():
    found = limits.probes([("L1", 32 << 10, 1), ("L2", 1 << 20, 1), ("L3", 32 << 20, 8)], 4)
    names, capacities, probed = zip(*found, strict=True)
    assert names == ("L1", "L2", "L3", "DRAM")
    assert capacities[:3] == (32 << 10, 1 << 20, 8 << 20)
    for below, probe, capacity in zip(capacities, probed[1:], capacities[1:], strict=False):
        assert below < probe <= capacity


def test_without_cache_sizes_the_levels_are_a_sweep():
    found = limits.probes([], 2)
    assert found[0] == ("16 KiB", 16 << 10, 16 << 10)
    assert found[-1][1] == sys.maxsize


def test_linux_cache_sizes(tmp_path):
    described = [
        ("Data", "1", "48K", "0,4"),
        ("Instruction", "1", "32K", "0,4"),
        ("Unified", "2", "2M", "0,4"),
        ("Unified", "3", "36864K", "0-7"),
    ]
    for i, values in enumerate(described):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        names = ("type", "level", "size", "shared_cpu_list")
        for name, value in zip(names, values, strict=True):
            (folder / name).write_text(value + "\n")
    found = limits._linux_caches(tmp_path)
    assert found == [("L1", 48 << 10, 1), ("L2", 2 << 20, 1), ("L3", 36 << 20, 4)]


def test_core_refuses_wrong_threads_and_instruction_sets():
    for function in (_core.barrier_seconds, _core.team_seconds):
        with pytest.raises(ValueError, match="threads: expected a number from 1 to 4096, got 0"):
            function(0)
    with pytest.raises(RuntimeError, match=r"isa: expected one of .* got 'mmx'"):
        _core.peak_flops("mmx", 1)


# --- timing ---------------------------------------------------------------------------------------


def test_programs_take_turns_and_a_failing_one_does_not_stop_the_others():
    order = []

    def program(name, calls=10**9):
        def run():
            order.append(name)
            if len(order) > calls:
                raise RuntimeError("enough")

        return Program(run, lambda _: {})

    times, failures = measure.interleave(
        {"a": program("a"), "b": program("b"), "c": program("c", 0)}, 1e-3
    )
    assert set(times) == {"a", "b"}
    assert str(failures["c"]) == "enough"
    switches = re.sub(r"(.)\1+", r"\1", "".join(order).replace("c", ""))
    assert switches.startswith("ab" * measure.TURNS)
    for measured in times.values():
        summary = measured.summary()
        assert summary["turns"] >= measure.TURNS
        assert 0 < summary["q1"] <= summary["median"] <= summary["q3"]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 2.0])
def test_difference_sees_what_is_wrong(wrong):
    expected = np.array([1.0, -4.0], np.float32)
    assert measure.difference(expected, expected) == 0
    assert measure.difference(expected[:1], expected) == math.inf
    assert measure.difference(np.array([wrong, -4.0]), expected) >= 0.25


# --- the command ----------------------------------------------------------------------------------


DRIVER = """\
#!{python}
import sys
import numpy as np
import fastrnn
cell, mode, *numbers = sys.argv[1:10]
T, B, I, H, layers, directions, threads = map(int, numbers)
values = np.fromfile(sys.argv[10], np.float32)
def take(*shape):
    global values
    part, values = np.split(values, [int(np.prod(shape))])
    return part.reshape(shape)
x, dy = take(T, B, I), take(T, B, directions * H)
layer = getattr(fastrnn, cell)(I, H, layers, bidirectional=directions == 2)
layer.load_state_dict({{name: take(*p.data.shape) for name, p in layer.parameters().items()}})
assert values.size == 0
state = None
print("ready", flush=True)
for line in sys.stdin:
    order, _, argument = line.strip().partition(" ")
    if order == "run":
        for _ in range(int(argument)):
            y, state = layer(x, state if mode == "step" else None)
        print({nanoseconds} * int(argument), flush=True)
    elif order == "output":
        ({wrong} + y).tofile(argument)
        print("ok", flush=True)
    else:
        break
"""


def driver(path, nanoseconds=1000, wrong="np.float32(0)"):
    """Write an executable stand-in for a driver of oneDNN, and return its path."""
    path.write_text(DRIVER.format(python=sys.executable, nanoseconds=nanoseconds, wrong=wrong))
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def bench(*arguments):
    return cli.main(["bench", "--threads", "1", "--seconds", "0.01", "--out", "out", *arguments])


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTRNN_BENCH_ONEDNN", raising=False)


def test_bench_measures_checks_and_writes_all_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTRNN_BENCH_ONEDNN", driver(tmp_path / "driver"))
    pattern = "T1 B1 I1 H40|LSTM inference T100 B1 I16 H16"
    assert bench("--cases", pattern, "--peers", "numpy", "onednn") == 0
    out, err = capsys.readouterr()
    assert "2/2 " in err
    found = json.loads(Path("out/results.json").read_text())
    assert found["schema"] == runner.SCHEMA
    assert {"date", "machine", "settings", "versions", "peers", "absent"} <= found.keys()
    assert found["limits"]["1"]["peak"] > 0
    assert len(found["results"]) == 2
    for result in found["results"]:
        assert result["threads"] == 1
        assert result["limit"] > 0
        assert result["peak"] > 0
        assert Case(**result["case"]).name() == result["name"]
        assert set(result["programs"]) == {"fastrnn", "numpy", "onednn"}
        for program in result["programs"].values():
            assert program["status"] == "ok", program
            assert program["error"] <= 1e-4
            assert 0 < program["q1"] <= program["median"] <= program["q3"]
            assert program["turns"] >= measure.TURNS
        assert result["programs"]["onednn"]["median"] == pytest.approx(1e-6)
        assert result["programs"]["onednn"]["cpu"] is None
    assert out.strip() == Path("out/table.md").read_text().strip()
    assert "LSTM step T1 B1 I1 H40 (guitar amplifier (Proteus))" in out
    for picture in ("roofline.png", "ratios.png"):
        assert Path("out", picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "behaviour, status, reason",
    [
        ({"wrong": "np.float32(1)"}, "wrong", r"differs by .*, tolerance 0\.0001"),
        ({"nanoseconds": "1 / 0"}, "failed", "RuntimeError: the driver ended with status 1"),
    ],
)
def test_a_peer_that_is_wrong_or_fails_has_no_time(
    tmp_path, monkeypatch, behaviour, status, reason
):
    monkeypatch.setenv("FASTRNN_BENCH_ONEDNN", driver(tmp_path / "driver", **behaviour))
    case = Case("LSTM", "inference", 3, 2, 4, 5, 2, bidirectional=True)
    found, peak = worker.measure_case(case, ["onednn"], 1, 0.01, lambda _: None)
    assert peak > 0
    assert found["fastrnn"]["median"] > 0
    assert found["onednn"]["status"] == status
    assert re.match(reason, found["onednn"]["reason"])
    assert "median" not in found["onednn"]


def test_bench_without_any_peer(capsys):
    assert bench("--cases", "RNN step T1 B1 I64 H64", "--peers", "onednn") == 0
    out = capsys.readouterr().out
    assert re.search(r"\| RNN step T1 B1 I64 H64 \| [\d.]+ \| – \|", out)
    assert "onednn: FASTRNN_BENCH_ONEDNN names no driver" in out


def test_bench_lists_cases_and_libraries(capsys):
    assert bench("--list", "--set", "clients") == 0
    out = capsys.readouterr().out
    assert re.search(r"^LSTM step T1 B1 I128 H128 +silero-vad, stream$", out, re.MULTILINE)
    assert all(re.search(rf"^{re.escape(name)} +\S", out, re.MULTILINE) for name in PEERS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--cases", "nobody"), "--cases: no case of the set grid has 'nobody' in its name"),
        (("--cases", "("), "--cases: '(' is no regular expression: "),
        (("--peers", "cntk"), "--peers: expected none, or of numpy, torch"),
        (("--threads", "0"), "--threads: expected numbers from 1 to"),
        (("--seconds", "0"), "--seconds: expected a number above 0, got 0"),
        (("--set", "all"), "argument --set: invalid choice"),
        (("--out", "file/below"), "--out: file"),
    ],
)
def test_bench_bad_arguments_are_one_line(arguments, message, capsys):
    Path("file").write_text("")
    assert bench(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match(rf"fastrnn( bench)?: {re.escape(message)}", err)
    assert err.count("\n") == 1


def test_bench_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bench() == 2
    expected = "fastrnn bench: needs tqdm and matplotlib: pip install 'fastrnn[bench]'\n"
    assert capsys.readouterr().err == expected


class DyingWorker:
    """Stands in for the measuring process; numpy kills it in the second case."""

    def __init__(self, threads, job, log):
        self.job = job
        self.status = 0

    def ending(self):
        return "was killed by SIGSEGV"

    def events(self):
        if self.job["limits"]:
            yield {"limits": MACHINE.as_dict()}
            yield {"versions": {"fastrnn": "1"}}
        for index, _ in self.job["cases"]:
            yield {"begin": index, "program": "numpy"}
            if index == 1 and [1, "numpy"] not in json.loads(json.dumps(self.job["excluded"])):
                self.status = -11
                return
            yield {"result": index, "programs": {"fastrnn": {"status": "ok"}}, "peak": 1e9}


def test_a_peer_that_kills_the_process_is_left_out_of_that_case_alone(monkeypatch):
    monkeypatch.setattr(runner, "Worker", DyingWorker)
    chosen = [case for case in cases.QUICK if case.mode == "step"]
    finished = []
    settings = runner.Settings((2,), ("numpy",), 1.0, None)
    found = runner.run(chosen, settings, Path("log"), lambda _: None, finished.append)
    assert finished == [case.name() for case in chosen]
    programs = [result["programs"] for result in found["results"]]
    died = {"status": "failed", "reason": "the process was killed by SIGSEGV"}
    assert programs[1] == {"fastrnn": {"status": "ok"}, "numpy": died}
    assert programs[0] == programs[2] == {"fastrnn": {"status": "ok"}}
    assert "numpy: failed: the process was killed by SIGSEGV" in report.markdown(found)


def test_cases_that_take_too_long_are_left_out_and_named(monkeypatch):
    monkeypatch.setattr(runner, "Worker", DyingWorker)
    case = Case("GRU", "training", 2000, 128, 256, 384, 3)
    settings = runner.Settings((2,), (), 1.0, 2.0)
    found = runner.run([case], settings, Path("log"), lambda _: None, lambda _: None)
    assert re.search(r"skipped: takes at least \d+\.\d s a call", report.markdown(found))
