#!/usr/bin/env bash
# The service through the client libraries of each protocol. $1 = the program; QW_PYTHON = a Python that has the
# packages openai, anthropic, dashscope, ollama and langchain-openai (those that it lacks are skipped).
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped the client libraries: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/client_sdks.py" "$(realpath "$1")"
