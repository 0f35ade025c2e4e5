#!/usr/bin/env bash
# Fine-tuning jobs: estimates that hold, files that are wrong, pauses that cost no byte. $1 = the program; QW_PYTHON = a Python 3.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped fine-tuning jobs: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/fine_tuning_jobs.py" "$(realpath "$1")"
