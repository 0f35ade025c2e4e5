#!/usr/bin/env bash
# Fetching, listing, checking and removing models. $1 = the program; needs Python 3 and its standard library.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped models of the store: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/models.py" "$(realpath "$1")"
