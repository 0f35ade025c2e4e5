#!/usr/bin/env bash
# Responses whose model calls tools of servers made with the MCP library, of every age of the protocol. $1 = the program;
# QW_PYTHON: a Python that has openai and mcp. Prints "ok ...", "FAILED ..." or "skipped ...".
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped MCP: python3 is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/mcp_tools.py" "$(realpath "$1")"
