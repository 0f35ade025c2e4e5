#!/usr/bin/env bash
# Fine-tuning jobs through OpenAI's library. $1 = the program; QW_PYTHON = a Python that has the package openai.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped fine-tuning: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/fine_tuning.py" "$(realpath "$1")"
