#!/usr/bin/env bash
# bench/compare: the turns it measures in, its tables, shares and charts. $1 = the program; needs Python 3 and its standard library.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped the comparison of speeds: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/compare.py" "$(realpath "$1")"
