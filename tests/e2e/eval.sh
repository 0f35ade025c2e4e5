#!/usr/bin/env bash
# qianwen eval beside the commands that read and write text one by one. $1 = the program; needs Python 3 and its standard library.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped evaluations: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/eval.py" "$(realpath "$1")"
