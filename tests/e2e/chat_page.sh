#!/usr/bin/env bash
# The built-in chat page in a real browser. $1 = the program. Prints "ok ...", "FAILED ..." or "skipped ...".
command -v python3 >/dev/null || { echo "skipped the chat page in a browser: python3 is not installed"; exit 0; }
exec python3 "$(dirname "$0")/chat_page.py" "$(realpath "$1")"
