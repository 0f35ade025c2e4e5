#!/usr/bin/env bash
# Several models under one memory limit, and drafts. $1 = the program. Prints "ok ..." or "FAILED ..." per check.
set -u
exec python3 "$(dirname "$0")/several_models.py" "$(realpath "$1")"
