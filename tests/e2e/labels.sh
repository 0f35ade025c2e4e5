#!/usr/bin/env bash
# Labels in files, read back by readers that are not the program's. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped labels: python3 is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/labels.py" "$(realpath "$1")"
