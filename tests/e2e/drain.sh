#!/usr/bin/env bash
# How the service ends: readiness first, then new requests, then the running ones. $1 = the program.
command -v python3 >/dev/null || { echo "skipped the drain: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/drain.py" "$(realpath "$1")"
