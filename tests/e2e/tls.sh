#!/usr/bin/env bash
# The service through TLS, and its certificate replaced while it runs. $1 = the program.
command -v python3 >/dev/null || { echo "skipped TLS: python3 is not installed"; exit 0; }
command -v openssl >/dev/null || { echo "skipped TLS: openssl is not installed"; exit 0; }
exec python3 "$(dirname "$0")/tls.py" "$(realpath "$1")"
