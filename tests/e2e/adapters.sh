#!/usr/bin/env bash
# Adapters that come and go while the service runs. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
command -v python3 >/dev/null || { echo "skipped adapters: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/adapters.py" "$(realpath "$1")"
