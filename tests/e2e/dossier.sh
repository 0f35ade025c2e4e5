#!/usr/bin/env bash
# From data to a signed dossier: ledgers of data and compute, incidents, documents. $1 = the program. Prints "ok ..." or
# "FAILED ..." per check.
command -v python3 >/dev/null || { echo "skipped dossier: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/dossier.py" "$(realpath "$1")"
