#!/usr/bin/env bash
# Makes the shipped guard: recipes/guard.sh DATA_FOLDER [PROGRAM]. DATA_FOLDER: recipes/README.md says what it holds.
set -eu
data=$1
program=${2:-build/release/qianwen}
cd "$(dirname "$0")/.."
python3 recipes/guard_data.py "$data" build/guard
"$program" train recipes/guard_lm.toml
"$program" train recipes/guard.toml
mkdir -p models/mini-guard
"$program" quantize build/guard/classes/model models/mini-guard/mini-guard.gguf --type q8_0 --name mini-guard --licence Apache-2.0
