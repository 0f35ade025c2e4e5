#!/usr/bin/env bash
# Many open streams, and many requests of which some are broken, with budgets and the ledger counted to the token.
# $1 = the program; QW_PYTHON = a Python 3. QW_SLOW=1: a thousand streams and a hundred thousand requests.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped the load: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/load.py" "$(realpath "$1")"
