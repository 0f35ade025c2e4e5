#!/usr/bin/env bash
# The service through OpenAI's own client library. $1 = the program; QW_PYTHON = a Python that has the package openai.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped OpenAI's client library: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/openai_sdk.py" "$(realpath "$1")"
