#!/usr/bin/env bash
# A tiny checkpoint of every architecture and variant through the commands; all types of quantize with QW_SLOW=1
# (./dev test --slow). $1 = the program; needs Python 3 and its standard library.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped checkpoints of every architecture: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/checkpoints.py" "$(realpath "$1")"
