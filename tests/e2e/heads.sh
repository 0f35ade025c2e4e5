#!/usr/bin/env bash
# Embeddings, ranking, rewards and guards. $1 = the program; needs Python 3 and its standard library.
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped models with other heads: $python is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/heads.py" "$(realpath "$1")"
