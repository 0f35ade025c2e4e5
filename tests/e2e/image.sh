#!/usr/bin/env bash
# The image of deploy/Dockerfile, built by its own steps and run as the manifests run it. --slow only: it compiles the
# program (with ccache, if the machine has that). $1 = the program. Prints "ok ...", "FAILED ..." or "skipped ...".
[ -n "${QW_SLOW:-}" ] || { echo "skipped image: building it takes minutes (--slow)"; exit 0; }
[ "$(id -u)" -eq 0 ] || { echo "skipped image: needs root"; exit 0; }
for tool in python3 buildah podman; do
  command -v $tool >/dev/null || { echo "skipped image: $tool is not installed"; exit 0; }
done
exec python3 "$(dirname "$0")/image.py"
