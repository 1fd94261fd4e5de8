"""What libfastrnn shows to the linker: the functions of fastrnn.h, and nothing else."""

import ctypes
import re
import subprocess
import sys

import pytest

import c_library
from c_library import FUNCTIONS, HEADER, PATH, lib

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")

# Of ABI version 1: may grow, but nothing in it goes, or takes other arguments.
RECORD = """
fr_abi_version fr_isa fr_last_error fr_model_free fr_model_get_info fr_model_load
fr_model_load_memory fr_model_metadata fr_model_run fr_model_run_tokens fr_pool_close
fr_pool_create fr_pool_export fr_pool_free fr_pool_get_stats fr_pool_import fr_pool_open
fr_pool_shut_down fr_pool_state_bytes fr_pool_step fr_pool_step_tokens fr_pool_submit fr_status_name
fr_stream_create fr_stream_free fr_stream_get_state fr_stream_process fr_stream_process_tokens
fr_stream_reset fr_stream_set_state fr_stream_step fr_stream_step_token fr_streams_step
fr_streams_step_tokens fr_version
"""


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def declared():
    """Return the functions that the header declares."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    return re.findall(r"^FR_API [^;]*?\b(fr_\w+)\(", text, flags=re.MULTILINE)


def test_the_header_the_tests_and_the_record_agree():
    assert sorted(declared()) == sorted(FUNCTIONS) == RECORD.split()


@linux
def test_exported_symbols_are_those_of_the_header():
    lines = output_of("nm", "-D", "--defined-only", str(PATH)).splitlines()
    assert sorted(line.split()[-1] for line in lines) == sorted(declared())


@linux
def test_it_needs_the_c_library_alone():
    dynamic = output_of("readelf", "-d", str(PATH))
    needed = re.findall(r"NEEDED.*\[(.*?)\]", dynamic)
    assert {name.split(".so")[0] for name in needed} <= {
        *("libc", "libm", "ld-linux-x86-64", "ld-linux-aarch64"),
        *("libpthread", "libdl"),  # apart in older versions of glibc
    }
    assert f"[libfastrnn.so.{lib.fr_abi_version()}]" in dynamic
    undefined = output_of("nm", "-D", "--undefined-only", str(PATH)).splitlines()
    strong = [line.split()[-1] for line in undefined if line.split()[0] == "U"]
    assert strong
    assert not [name for name in strong if "@GLIBC_" not in name]


@linux
def test_it_needs_no_executable_stack_and_no_relocated_text():
    program = output_of("readelf", "-lW", str(PATH))
    assert re.search(r"GNU_STACK.* RW ", program)
    assert "TEXTREL" not in output_of("readelf", "-d", str(PATH))


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="layout of 64-bit systems")
def test_ctypes_has_the_layout_of_the_record():
    """Which test_abi.c holds against fastrnn.h."""
    record = (HEADER.parents[3] / "tests/cpp/test_abi.c").read_text()
    structs = {
        "fr_model_options": c_library.ModelOptions,
        "fr_model_info": c_library.ModelInfo,
        "fr_stream_options": c_library.StreamOptions,
    }
    for name, struct in structs.items():
        assert f"SIZE({name}, {ctypes.sizeof(struct)});" in record
        for field, _ in struct._fields_:
            offset = getattr(struct, field).offset
            assert f"OFFSET({name}, {field}, {offset});" in record
    for names in (c_library.STATUSES, [f"FR_PRECISION_{n.upper()}" for n in c_library.PRECISIONS]):
        for value, name in enumerate(names):
            assert f"VALUE({name}, {value});" in record
    for value, name in enumerate(c_library.STATUSES):
        assert lib.fr_status_name(value).decode() == name
