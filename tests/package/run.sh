#!/bin/sh
# Builds and runs programs against an installed fastrnn: C and C++, shared and static, found by CMake and
# by pkg-config. All print the same bits; neither library needs more than libc and libm.
# usage: tests/package/run.sh PREFIX BUILD [EXPECTED]
#   EXPECTED: what another build printed
#   environment: CC, CXX, CMAKE, OBJDUMP, STRIP; for another processor SYSTEM, its name, and RUN, an
#   emulator; LIMIT: the most bytes that the static program may have, stripped
set -eu
prefix=$(cd "$1" && pwd) build=$2 source=$(cd "$(dirname "$0")" && pwd)
cc=${CC:-cc}
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" LD_LIBRARY_PATH="$prefix/lib"

rm -rf "$build" && mkdir -p "$build"
${CMAKE:-cmake} -S "$source" -B "$build/cmake" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" \
  ${SYSTEM:+-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=$SYSTEM} >"$build/log"
${CMAKE:-cmake} --build "$build/cmake" >>"$build/log"
cp "$build"/cmake/c_* "$build"/cmake/cpp_* "$build"

if command -v pkg-config >/dev/null; then
  # shellcheck disable=SC2046 # words
  $cc -std=c99 -O2 "$source/demo.c" -o "$build/pc_shared" $(pkg-config --cflags --libs fastrnn)
  $cc -std=c99 -O2 "$source/demo.c" -o "$build/pc_static" $(pkg-config --cflags fastrnn) \
    "$(pkg-config --variable=libdir fastrnn)/libfastrnn.a" \
    $(pkg-config --static --libs-only-l fastrnn | sed 's/-lfastrnn//')
fi

cp "${3:-/dev/null}" "$build/expected"
for program in c_fastrnn c_static cpp_fastrnn cpp_static pc_shared pc_static; do
  [ -e "$build/$program" ] || { echo "NOT TESTED: $program, no pkg-config" && continue; }
  ${RUN:-} "$build/$program" >"$build/bits"
  [ -s "$build/expected" ] || cp "$build/bits" "$build/expected"
  cmp "$build/bits" "$build/expected"
done
${STRIP:-strip} "$build/c_static"
size=$(wc -c <"$build/c_static")
echo "stripped static demo: $size bytes, needs:" $(${OBJDUMP:-objdump} -p "$build/c_static" | awk '$1 == "NEEDED" {print $2}')
[ "$size" -lt "${LIMIT:-$size$size}" ] || { echo "expected less than $LIMIT bytes" && exit 1; }
if ${OBJDUMP:-objdump} -p "$build/c_static" "$prefix/lib/libfastrnn.so" | awk '$1 == "NEEDED"' | grep -vE 'lib[cm]\.so|ld-linux'; then
  echo 'expected nothing but libc and libm to be needed' && exit 1
fi
