#!/bin/sh
# system_libraries.sh <python> <library package>...: what a Debian or Ubuntu must have before .venv can be made.
# Installs what is missing when it may (root and apt), else names the exact command and stops.
set -eu
python=$1
shift

if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    echo "physai needs Python 3.10 to 3.13; '$python' is $("$python" -V 2>&1 || true)." >&2
    echo "Name another one: make PYTHON=/path/to/python3.12" >&2
    exit 1
fi

missing=""
need() { missing="$missing $1"; }
"$python" -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    need python3-dev
command -v cc >/dev/null && command -v c++ >/dev/null || need g++
if command -v dpkg-query >/dev/null; then
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' || need "$package"
    done
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "Some system packages are missing. Install them and start again:" >&2
    echo "    sudo apt-get install$missing" >&2
    exit 1
fi
