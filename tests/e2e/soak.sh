#!/usr/bin/env bash
# The service at full load with random disconnects: 15 seconds; with QW_SLOW=1 ten minutes, or QW_SOAK_SECONDS. $1 = the program.
command -v python3 >/dev/null || { echo "skipped the soak: python3 is not installed"; exit 0; }
seconds=15; [ -z "${QW_SLOW:-}" ] || seconds=${QW_SOAK_SECONDS:-600}
exec python3 "$(dirname "$0")/soak.py" "$(realpath "$1")" "$seconds"
