#!/usr/bin/env bash
# What a policy makes of how people use a service: strikes, crises, minors, reminders. $1 = the program; QW_PYTHON = a Python 3.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped conduct: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/conduct.py" "$(realpath "$1")"
