#!/usr/bin/env bash
# Served models replaced by others while requests run. $1 = the program.
command -v python3 >/dev/null || { echo "skipped replaced models: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/model_swap.py" "$(realpath "$1")"
