#!/usr/bin/env bash
# Complaints, appeals, what is held of people, and answers found by their numbers. $1 = the program. Prints "ok ..." or
# "FAILED ..." per check.
command -v python3 >/dev/null || { echo "skipped complaints: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/complaints.py" "$(realpath "$1")"
