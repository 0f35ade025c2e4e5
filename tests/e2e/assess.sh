#!/usr/bin/env bash
# qianwen govern assess from banks to a signed report, killed on the way, and the gate that asks for it. $1 = the program.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped assessments: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/assess.py" "$(realpath "$1")"
