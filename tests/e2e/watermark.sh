#!/usr/bin/env bash
# Answers that are marked, and the search for their marks. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
command -v python3 >/dev/null || { echo "skipped watermark: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/watermark.py" "$(realpath "$1")"
