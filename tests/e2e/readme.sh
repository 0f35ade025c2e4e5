#!/usr/bin/env bash
# The README's way from a first start to a tool call. $1 = the program; QW_PYTHON = a Python that has the package openai,
# QW_NODE_MODULES = a folder node_modules that has it for Node.js.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped the README's blocks: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/readme.py" "$(realpath "$1")"
