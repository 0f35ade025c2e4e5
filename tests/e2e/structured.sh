#!/usr/bin/env bash
# Every form of output, with drafts and without, streamed and whole. $1 = the program. Prints
# "ok ..." or "FAILED ..." per check.
command -v python3 >/dev/null || { echo "skipped structured output: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/structured.py" "$(realpath "$1")"
