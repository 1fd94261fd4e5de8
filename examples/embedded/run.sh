#!/bin/sh
# Trains the models, builds the examples against an installed fastrnn, runs them and compares what
# they write with Python, bit for bit.
#
#     sh examples/embedded/run.sh PREFIX [FOLDER]      PREFIX: of cmake --install
#
# Environment: PYTHON (which can import fastrnn), CC, TRAIN= (empty: trained in full, two minutes).
set -eu
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
prefix=$(cd "$1" && pwd)
mkdir -p "${2:-build/examples}"
out=$(cd "${2:-build/examples}" && pwd)
python=${PYTHON:-python3}
train=${TRAIN---quick}
bin=$out/build

for example in amplifier voice_activity scorer; do
  $python "$here/$example/train.py" $train --out "$out/$example"
done

cmake -S "$here" -B "$bin" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
cmake --build "$bin"
# And without CMake: what pkg-config says is enough.
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name fastrnn.pc)")
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags --libs fastrnn)
${CC:-cc} -std=c99 -O2 "$here/scorer/scorer.c" -o "$bin/scorer_cc" $flags -lm
LD_LIBRARY_PATH=$(pkg-config --variable=libdir fastrnn)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

cd "$out/amplifier"
"$bin/amplifier" model.safetensors input.wav output.wav
"$bin/amplifier_cpp" model.safetensors input.wav output_cpp.wav
cd "$out/voice_activity"
for precision in float32 bf16 int8; do
  flag=--$precision
  [ $precision != float32 ] || flag=
  "$bin/vad" $flag model.safetensors speech.wav frames_$precision.csv >segments_$precision.txt
done
cat segments_float32.txt
cd "$out/scorer"
"$bin/scorer" model.safetensors readings.csv >scores.csv
"$bin/scorer_cc" model.safetensors readings.csv >scores_cc.csv
head -3 scores.csv

$python "$here/check.py" "$out"
