"""The same bits whatever the number of threads and the instruction set (promise 1).

Other sides of the promise, batch composition, padding and streaming, are in
test_recurrent_laws.py. What is computed here is listed in bits_of_everything.py.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
from bits_of_everything import GROUPS, hashes_of

PROGRAM = Path(__file__).with_name("bits_of_everything.py")
ISAS = ("generic", "avx2", "avx512", "neon")


def run_with_isa(isa, *command):
    environment = os.environ | {"FASTRNN_ISA": isa}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300
    )


@functools.cache
def everything(isa, num_threads=1):
    """What bits_of_everything.py prints with that instruction set, run once."""
    result = run_with_isa(isa, PROGRAM, str(num_threads))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@functools.cache
def of_one_thread(group):
    return hashes_of(group)


def assert_same(got, want):
    assert got.keys() == want.keys()
    assert len(want) > 0
    different = [name for name in want if got[name] != want[name]]
    assert not different, f"{len(different)} of {len(want)} differ: {different[:6]}"


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("num_threads", [2, 3])
def test_same_bits_with_threads(num_threads, group, set_num_threads):
    set_num_threads(1)
    want = of_one_thread(group)
    set_num_threads(num_threads)
    assert fastrnn.get_num_threads() == num_threads
    assert_same(hashes_of(group), want)


def skip_unless_supported(isa):
    supported = fastrnn.config()["isas_supported"]
    if isa not in supported:
        pytest.skip(f"{isa}: NOT TESTED, this build on this machine has {', '.join(supported)}")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("isa", ISAS[1:])
def test_same_bits_with_instruction_set(isa, group):
    skip_unless_supported(isa)
    assert_same(everything(isa)["hashes"][group], everything("generic")["hashes"][group])


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_with_instruction_set_and_threads(isa):
    skip_unless_supported(isa)
    assert everything(isa, num_threads=2) == everything(isa)


@pytest.mark.parametrize("isa", ISAS)
def test_forced_instruction_set_is_the_one_that_ran(isa):
    skip_unless_supported(isa)
    assert everything(isa)["isa"] == isa


def test_this_process_has_the_bits_of_the_subprocesses(set_num_threads):
    """Here the instruction set is chosen by the processor."""
    set_num_threads(1)
    generic = everything("generic")["hashes"]
    for group in GROUPS:
        assert_same(of_one_thread(group), generic[group])


@pytest.mark.parametrize("isa", ISAS)
def test_unsupported_instruction_set_is_an_error(isa):
    """Never a quiet fallback: else a test of avx512 would have tested generic twice."""
    if isa in fastrnn.config()["isas_supported"]:
        pytest.skip(f"{isa}: supported here")
    check_refused(isa)


@pytest.mark.parametrize("isa", ["sse9", "AVX2", " generic", "avx2,generic"])
def test_unknown_instruction_set_is_an_error(isa):
    check_refused(isa)


def check_refused(isa):
    result = run_with_isa(isa, "-c", "import fastrnn; fastrnn.config()")
    assert result.returncode != 0
    message = result.stderr.strip().splitlines()[-1]
    assert "FASTRNN_ISA" in message
    assert repr(isa) in message
    assert "generic" in message  # the choices


def test_empty_variable_means_the_best_instruction_set():
    result = run_with_isa("", "-c", "import fastrnn; print(fastrnn.config()['isa'])")
    assert result.stdout.strip() == fastrnn.config()["isas_supported"][0]


def run_with_threads(value, **others):
    return subprocess.run(
        [sys.executable, "-c", "import fastrnn; print(fastrnn.get_num_threads())"],
        env=os.environ | {"FASTRNN_NUM_THREADS": value, **others},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_number_of_threads_from_the_environment():
    assert run_with_threads("3").stdout.strip() == "3"
    assert run_with_threads("").returncode == 0
    if fastrnn.config()["openmp"]:  # what joblib sets for the processes that it starts
        assert run_with_threads("", OMP_NUM_THREADS="5").stdout.strip() == "5"
    assert run_with_threads("3", OMP_NUM_THREADS="5").stdout.strip() == "3"


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", "2x", "99999999999999999999"])
def test_wrong_number_of_threads_in_the_environment_is_an_error(wrong):
    result = run_with_threads(wrong)
    assert result.returncode != 0
    assert "FASTRNN_NUM_THREADS" in result.stderr


@pytest.mark.parametrize("wrong", [0, -1])
def test_number_of_threads_must_be_positive(wrong):
    with pytest.raises(ValueError, match=r"num_threads|^n: expected"):
        fastrnn.set_num_threads(wrong)


@pytest.mark.parametrize("wrong", [1.5, "2", None])
def test_number_of_threads_must_be_an_integer(wrong):
    with pytest.raises(TypeError):
        fastrnn.set_num_threads(wrong)
