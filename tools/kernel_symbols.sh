#!/bin/sh
# Checks that an object file of kernels defines nothing for the linker but its kernel tables. A weak
# symbol, as any inline function of a foreign header would be, could replace the same function compiled
# for all CPUs and stop an older one with an illegal instruction.
# usage: tools/kernel_symbols.sh NM OBJECT...
nm=$1
shift
symbols=$("$nm" -g "$@") || exit 2
foreign=$(printf '%s\n' "$symbols" | awk 'NF == 3 && !/kernels_(float|double|small)E$/')
tables=$(printf '%s\n' "$symbols" | awk 'NF == 3 && /kernels_(float|double|small)E$/' | wc -l)
[ -n "$foreign" ] && printf 'foreign symbols:\n%s\n' "$foreign" && exit 1
[ "$tables" -ge $# ] || { echo "expected a kernel table or two in each of $*, found $tables"; exit 1; }
