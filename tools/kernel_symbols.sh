#!/bin/sh
# Checks that an object file of kernels defines nothing for the linker but tables, which are data in its
# target's namespace. A weak symbol, as any inline function of a foreign header would be, could replace
# the same function compiled for all CPUs and stop an older one with an illegal instruction.
# usage: tools/kernel_symbols.sh NM OBJECT...
nm=$1
shift
symbols=$("$nm" -g "$@") || exit 2
table='^_?_ZN7fastrnn[0-9]+(generic|avx2|avxvnni|avx512|avx512vnni|avx512bf16|neon|neondot)[0-9]+[a-z_0-9]+E$'
tables=$(printf '%s\n' "$symbols" | awk -v table="$table" 'NF == 3 && $2 ~ /^[RDS]$/ && $3 ~ table' | wc -l)
foreign=$(printf '%s\n' "$symbols" | awk -v table="$table" 'NF == 3 && !($2 ~ /^[RDS]$/ && $3 ~ table)')
[ -n "$foreign" ] && printf 'foreign symbols:\n%s\n' "$foreign" && exit 1
[ "$tables" -ge $# ] || { echo "expected a kernel table in each of $*, found $tables"; exit 1; }
