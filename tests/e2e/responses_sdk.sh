#!/usr/bin/env bash
# OpenAI's responses through its own library, every field by its types; streams that go on after kill -9. $1 = the
# program; QW_PYTHON: a Python that has openai. Prints "ok ...", "FAILED ..." or "skipped ...".
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped responses: python3 is not installed"; exit 0; }
exec "$python" "$(dirname "$0")/responses_sdk.py" "$(realpath "$1")"
