#!/usr/bin/env bash
# Keys, budgets and the ledger of a service, which is killed again and again. $1 = the program; QW_PYTHON = a Python 3.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped keys, budgets and kills: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/accounts.py" "$(realpath "$1")"
