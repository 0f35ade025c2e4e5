#!/usr/bin/env bash
# Two services over one PostgreSQL, one of them killed under load. $1 = the program.
command -v python3 >/dev/null || { echo "skipped two services over one PostgreSQL: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/replicas.py" "$(realpath "$1")"
