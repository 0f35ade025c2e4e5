#!/usr/bin/env bash
# People in a browser: passwords, a provider of logins, administration apart. $1 = the program; QW_PYTHON = a Python 3.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped logins: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/logins.py" "$(realpath "$1")"
