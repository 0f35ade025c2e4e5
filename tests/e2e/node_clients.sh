#!/usr/bin/env bash
# OpenAI's client library for Node, and the command-line agent qwen-code doing a task with a tool. $1 = the program;
# QW_NODE_MODULES = a node_modules folder with the packages openai and @qwen-code/qwen-code (what it lacks is skipped).
python=${QW_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped the clients of Node: $python is not installed"; exit 0; }
command -v node >/dev/null || { echo "skipped the clients of Node: node is not installed"; exit 0; }
[ -n "${QW_NODE_MODULES:-}" ] || { echo "skipped the clients of Node: QW_NODE_MODULES names no folder of packages (npm i openai @qwen-code/qwen-code)"; exit 0; }
exec "$python" "$(dirname "$0")/node_clients.py" "$(realpath "$1")" "$QW_NODE_MODULES"
