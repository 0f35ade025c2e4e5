#!/usr/bin/env bash
# A training job with a budget, killed again and again. $1 = the program; QW_PYTHON = a Python 3.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped training that is paid for: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/training_budget.py" "$(realpath "$1")"
