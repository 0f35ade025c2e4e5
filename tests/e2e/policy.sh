#!/usr/bin/env bash
# A service that follows a signed policy. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
command -v python3 >/dev/null || { echo "skipped policy: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/policy.py" "$(realpath "$1")"
