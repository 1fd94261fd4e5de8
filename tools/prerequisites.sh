#!/bin/sh
# Checks what a build cannot fetch for itself: Python with its venv module and headers, a C++ compiler.
# If something is missing: one line on standard error that names what to install, and status 2.
# usage: tools/prerequisites.sh [PYTHON [CXX]]
python=${1:-python3}
missing=
packages=

need() { # what package
  missing="$missing${missing:+, }$1"
  packages="$packages $2"
}

has_cxx() {
  printf '%s\n' '#include <vector>' '#if !defined(__clang__) && __GNUC__ < 9' '#error' '#endif' |
    "$1" -std=c++17 -fsyntax-only -x c++ - 2>/dev/null
}

if ! "$python" -c '' 2>/dev/null; then
  need "Python >= 3.10 (no $python here; another one: make PYTHON=...)" "python3 python3-venv python3-dev"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
  version=$("$python" -c 'import platform; print(platform.python_version())')
  need "Python >= 3.10 ($python is $version; another one: make PYTHON=...)" "python3.10 python3.10-venv python3.10-dev"
else
  name=$("$python" -c 'import sys; print("python3.%d" % sys.version_info[1])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    need "the venv module of $python" "$name-venv"
  "$python" -c 'import os, sysconfig as s; os.stat(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null ||
    need "the C headers of $python (Python.h)" "$name-dev"
fi

if [ -n "${2:-$CXX}" ]; then
  has_cxx "${2:-$CXX}" || need "a C++17 compiler (CXX=${2:-$CXX} is none)" g++
else
  has_cxx c++ || has_cxx g++ || has_cxx clang++ || need "a C++17 compiler (g++ >= 9 or clang++)" g++
fi

[ -z "$missing" ] && exit 0
echo "fastrnn needs $missing; on Debian or Ubuntu: apt-get install$packages" >&2
exit 2
