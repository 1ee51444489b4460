#!/bin/sh
# Installs Mendloop with extras into a virtual environment, by the constraints, and writes its SBOM.
# Usage: install.sh UV VENV EXTRAS [TORCH_INDEX]
set -eu
uv=$1
venv=$2
extras=$3
torch_index=${4:-}
here=$(dirname "$0")
set -- --python "$venv/bin/python" --constraint "$here/constraints.txt"
if [ -n "$torch_index" ]; then
    set -- "$@" --extra-index-url "$torch_index" --index-strategy unsafe-best-match
fi
# Compiled now, or every container compiles what it imports: the root is read-only then.
"$uv" pip install --quiet --compile-bytecode "$@" ".[$extras]"
# The SBOM tool has an environment of its own: what it brings is no part of the image.
scratch=$(mktemp -d)
"$uv" venv --quiet --python "$venv/bin/python" "$scratch/tool"
"$uv" pip install --quiet --python "$scratch/tool/bin/python" "cyclonedx-bom==7.5.0"
mkdir -p "$venv/share/sbom"
"$scratch/tool/bin/cyclonedx-py" environment --output-reproducible --output-file "$venv/share/sbom/mendloop.cdx.json" "$venv/bin/python"
rm -rf "$scratch"
