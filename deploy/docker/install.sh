#!/bin/sh
# Installs Mendloop with extras into a virtual environment that has uv, by the constraints, and writes its SBOM.
# Images run it, and a test does. Usage: install.sh VENV EXTRAS [TORCH_INDEX]
set -eu
venv=$1
extras=$2
torch_index=${3:-}
here=$(dirname "$0")
set -- --python "$venv/bin/python" --constraint "$here/constraints.txt"
if [ -n "$torch_index" ]; then
    set -- "$@" --extra-index-url "$torch_index" --index-strategy unsafe-best-match
fi
"$venv/bin/uv" pip install --quiet "$@" ".[$extras]"
# The SBOM tool has an environment of its own: what it brings is no part of the image.
scratch=$(mktemp -d)
"$venv/bin/uv" venv --quiet --python "$venv/bin/python" "$scratch/tool"
"$venv/bin/uv" pip install --quiet --python "$scratch/tool/bin/python" "cyclonedx-bom==7.5.0"
"$venv/bin/uv" pip uninstall --quiet --python "$venv/bin/python" uv
mkdir -p "$venv/share/sbom"
"$scratch/tool/bin/cyclonedx-py" environment --output-reproducible --output-file "$venv/share/sbom/mendloop.cdx.json" "$venv/bin/python"
rm -rf "$scratch"
