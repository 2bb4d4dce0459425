"""Reading tables takes no JAX: the modules are imported in a new process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.iter_modules(package.__path__, f"{sys.argv[1]}.")]
for name in names:
    importlib.import_module(name)
loaded = sorted({"jax", "flax"} & set(sys.modules))
print(json.dumps({"n_modules": len(names), "loaded": loaded}))
"""


def imported(package):
    command = [sys.executable, "-c", PROGRAM, f"collective_variables.{package}"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(process.stdout)


@pytest.mark.parametrize("package", ["analysis", "papers"])
def test_no_module_of_the_tables_imports_jax_or_flax(package):
    result = imported(package)
    assert result["n_modules"] >= 8 and result["loaded"] == []


def test_a_module_that_computes_would_be_seen():
    assert imported("networks")["loaded"] == ["flax", "jax"]
