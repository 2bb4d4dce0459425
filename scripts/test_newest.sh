#!/usr/bin/env bash
# Run the tests of kernels and selection with the newest packages: an environment of its own, .venv-newest, in which
# nothing is pinned. The newest Python comes first, because new releases of JAX leave old ones behind.
#
#     scripts/test_newest.sh [PATH …]      the tests to run, tests/kernels and tests/selection by default
set -euo pipefail
cd "$(dirname "$0")/.."
environment=.venv-newest
for candidate in python3.14 python3.13 python3.12 python3; do
  if "$candidate" -c 'import venv, ensurepip' > /dev/null 2>&1; then
    newest=$candidate
    break
  fi
done
"${newest:?there is no Python with venv}" -m venv --clear "$environment"
pip() { "$environment/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
# The library itself is taken from this folder: what is installed are its requirements.
pip install --upgrade ".[cli,data,figures,sklearn,test]"
pip uninstall --yes collective-variables
# Without what it names as its requirements, among them TensorFlow.
pip install --no-deps neural-tangents frozendict
"$environment/bin/python" -c 'import sys, flax, jax; print("Python", sys.version.split()[0], "JAX", jax.__version__, "Flax", flax.__version__)'
# A name that the newest version merely discourages is no failure.
[ "$#" -gt 0 ] || set -- tests/kernels tests/selection
"$environment/bin/python" -m pytest -W default "$@"
