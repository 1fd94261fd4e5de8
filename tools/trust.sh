#!/usr/bin/env bash
# Runs what docs/trust.md speaks of:  tools/trust.sh [asan|python|tsan|fuzz|valgrind|soak]...  (all: no
# argument). Needs cmake, ninja and clang++ with its runtimes (Debian: clang-19 libclang-rt-19-dev
# libomp-19-dev valgrind); `python` also an environment that runs `pytest` (PYTHON, default
# .venv/bin/python). All it makes lies in build/trust. Says at the end what ran, and for how long.
set -uo pipefail
cd "$(dirname "$0")/.."

root=$PWD
out=${TRUST_BUILD:-$root/build/trust}
clang=${CLANG:-$(command -v clang++-19 || command -v clang++)}
python=${PYTHON:-.venv/bin/python}
fuzz_seconds=${FUZZ_SECONDS:-600}
soak=${SOAK:-10000000 10000}  # steps, cycles
jobs=${JOBS:-2}
suppressions=$root/tools/sanitizers
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=$suppressions/lsan.supp:print_suppressions=0

build() { # folder, sanitizers, options...
  local folder=$out/$1 sanitizers=$2
  shift 2
  cmake -G Ninja -S . -B "$folder" -DCMAKE_CXX_COMPILER="$clang" -DCMAKE_C_COMPILER="${clang/++/}" -DFASTRNN_BUILD_TESTS=ON \
    -DFASTRNN_SANITIZE="$sanitizers" ${TRUST_CMAKE:-} "$@" >"$folder.log" 2>&1 &&
    ninja -C "$folder" -j "$jobs" >>"$folder.log" 2>&1 || { tail -30 "$folder.log"; return 1; }
}

# One build for the C++ tests and for fuzzing, as compiling the kernels takes longest.
checked() { build asan address,undefined -DFASTRNN_PYTHON=OFF -DFASTRNN_OPENMP=OFF -DFASTRNN_FUZZ=ON; }

asan() { # all C++ tests
  checked && ctest --test-dir "$out/asan" --output-on-failure
}

# A copy of what git knows, with the modules built here: the checkout's own stay as they are.
python() {
  build python address,undefined -DFASTRNN_PYTHON=ON -DPython_EXECUTABLE="$(realpath -s "$python")" || return
  local site=$out/site runtime
  rm -rf "$site" && mkdir -p "$site" "$out/leaks" && git ls-files -z | xargs -0 cp --parents -t "$site" &&
    cp "$out"/python/*.cpython-*.so "$site/fastrnn/" || return
  runtime=$("$clang" -print-file-name=libclang_rt.asan-$(uname -m).so)
  rm -f "$out"/leaks/*
  local interpreter
  interpreter=$(realpath -s "$python")
  # Python frees little at its end; a leak counts where one of our modules asked for the memory.
  (cd "$site" && LD_PRELOAD="$runtime $(g++ -print-file-name=libstdc++.so.6)" PYTHONMALLOC=malloc \
    FASTRNN_C_LIBRARY=$out/python/libfastrnn.so HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-} \
    ASAN_OPTIONS=$ASAN_OPTIONS:log_path=$out/leaks/log:detect_stack_use_after_return=0:allocator_may_return_null=1 \
    LSAN_OPTIONS=$LSAN_OPTIONS:exitcode=0 \
    "$interpreter" -m pytest -q -p no:cacheprovider ${PYTEST_ARGUMENTS:-tests --ignore=tests/interop})
  local status=$?
  own_reports "$out/leaks" && return $status
}

# Of LeakSanitizer's reports those whose stack passes through our modules; all other reports.
own_reports() { # folder
  find "$1" -type f -exec cat {} + | awk -v RS= '
    /leak of/ && !/_(core|ctc|decoding|ragged)\.cpython/ { next }
    /leak of|ERROR: AddressSanitizer|runtime error/ { print; found = 1 }
    END { exit found }'
}

tsan() {
  build tsan thread -DFASTRNN_PYTHON=OFF &&
    TSAN_OPTIONS="ignore_noninstrumented_modules=1:suppressions=$suppressions/tsan.supp" \
      "$out/tsan/test_threads" && "$out/tsan/test_stream_threads" && "$out/tsan/test_stream_pool" 10
}

fuzz() {
  checked || return
  local target status=0
  for target in loader shapes; do
    mkdir -p "$out/found/$target"
    local options="-max_total_time=$fuzz_seconds -malloc_limit_mb=256 -timeout=10 -print_final_stats=1"
    [ $target = loader ] && options+=" -dict=tests/fuzz/loader.dict -max_len=8192"
    [ $target = shapes ] && options+=" -max_len=128"
    "$out/asan/fuzz_$target" $options -artifact_prefix="$out/found/$target-" "$out/found/$target" \
      tests/fuzz/corpus/$target >"$out/fuzz_$target.log" 2>&1 || status=1
    grep -E '^(Done|stat::number_of_executed|==.*ERROR|SUMMARY|#.*cov:)' "$out/fuzz_$target.log" | tail -4
  done
  return $status
}

valgrind_() {
  build valgrind "" -DFASTRNN_PYTHON=OFF -DFASTRNN_OPENMP=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo || return
  local program status=0
  for program in ${VALGRIND_TESTS:-$(cd "$out/valgrind" && ls test_* | grep -v -e test_bits -e '\.')}; do
    echo "$program"
    valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,possible \
      --suppressions="$suppressions/valgrind.supp" "$out/valgrind/$program" >"$out/$program.log" 2>&1 ||
      { tail -40 "$out/$program.log"; status=1; }
  done
  return $status
}

soak() {
  build soak "" -DFASTRNN_PYTHON=OFF -DFASTRNN_OPENMP=OFF && "$out/soak/test_soak" $soak
}

mkdir -p "$out"
summary=()
failed=0
for part in "${@:-asan python tsan fuzz valgrind soak}"; do
  for name in $part; do
    start=$SECONDS verdict=ok
    printf '\n=== %s\n' "$name"
    command=$name
    [ "$name" = valgrind ] && command=valgrind_
    "$command" || { verdict=FAILED && failed=1; }
    summary+=("$(printf '%-10s %-6s %5d s' "$name" $verdict $((SECONDS - start)))")
  done
done
printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
exit $failed
