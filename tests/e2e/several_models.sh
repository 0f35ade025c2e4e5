#!/usr/bin/env bash
# Several models under one memory limit, and drafts. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
command -v python3 >/dev/null || { echo "skipped several models: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/several_models.py" "$(realpath "$1")"
