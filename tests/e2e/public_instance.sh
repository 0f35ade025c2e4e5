#!/usr/bin/env bash
# A service for the public under each profile that comes with the program, from approval to dossier. $1 = the program; QW_PYTHON = a Python 3.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped public instances: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/public_instance.py" "$(realpath "$1")"
