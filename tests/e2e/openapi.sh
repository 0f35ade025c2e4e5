#!/usr/bin/env bash
# The OpenAPI document of the service: valid, and what is made of it cannot break anything. $1 = the program; QW_PYTHON =
# a Python 3; its packages openapi-spec-validator and schemathesis are used if they are there. QW_SLOW=1: many more requests.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped the OpenAPI document: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/openapi.py" "$(realpath "$1")"
