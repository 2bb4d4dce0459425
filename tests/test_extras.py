"""Without the optional packages the core works, and everything else says what to install."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from collective_variables import _extras

ROOT = Path(__file__).resolve().parents[1]
# The name that is imported, what is installed, and the extra. PyYAML is not among them because
# Flax imports it.
OPTIONAL = {
    "pyarrow": ("pyarrow", "cli"),
    "PIL": ("pillow", "cli"),
    "sklearn": ("scikit-learn", "sklearn"),
    "plotly": ("plotly", "figures"),
    "jinja2": ("jinja2", "figures"),
    "pooch": ("pooch", "data"),
    "distributed": ("distributed", "dask"),
    "cloudpickle": ("cloudpickle", "dask"),
    "gymnax": ("gymnax", "rl"),
    "neural_tangents": ("neural-tangents", "reference"),
}
OTHERS = ("dask", "requests", "zntrack", "dvc", "psutil")
BLOCK = f"""\
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*OPTIONAL, *OTHERS)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.path.insert(0, {str(ROOT)!r})
sys.meta_path.insert(0, Blocker())
"""


def run(code, folder, *arguments):
    """The result of a new process in which the optional packages cannot be imported."""
    command = [sys.executable, "-c", BLOCK + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


CORE = """
import jax
import collective_variables as cv

data = cv.load_problem("fuel")
network = cv.build_network(["dense 8", "dense 1"], parametrisation="ntk")
params = network.init(jax.random.key(0), data.inputs[:1])
kernel = cv.empirical_ntk(network.apply, params, data.inputs[:20])
assert 0 < float(cv.entropy(kernel)) < 3  # log 20
for method in cv.SELECTION_METHODS:
    if method in ("k-means++", "typiclust", "prob-cover"):  # scikit-learn
        continue
    if method in ("stratified", "rnd"):  # targets, a training
        continue
    if method in ("margin", "predictive-entropy", "ensemble-variance"):  # predictions
        continue
    key = jax.random.key(0)
    selection = cv.select(data.inputs[:50], 5, method=method, network=network, key=key)
    assert len(set(selection.indices[0].tolist())) == 5
"""


def test_kernels_entropy_and_selection_work_without_any_optional_package(tmp_path):
    result = run(CORE, tmp_path)
    assert result.returncode == 0, result.stderr


MODULES = """
import importlib, json, pkgutil
import collective_variables
messages = {}
for module in pkgutil.walk_packages(collective_variables.__path__, "collective_variables."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        messages[module.name.partition(".")[2]] = str(error)
print(json.dumps(messages))
"""


def test_only_modules_of_one_extra_need_it_to_be_imported(tmp_path):
    result = run(MODULES, tmp_path)
    assert result.returncode == 0, result.stderr
    messages = json.loads(result.stdout)
    alone = "ensembles.dask_cluster", "selection.estimator", "training.any_loop._figure"
    for name, message in messages.items():
        assert name in alone or "papers." in name
        assert message in map(sentence, OPTIONAL)
    assert messages["ensembles.dask_cluster"].endswith('"collective-variables[dask]"')
    assert messages["selection.estimator"].endswith('"collective-variables[sklearn]"')


def sentence(module):
    name, extra = OPTIONAL[module]
    return (
        f'This requires {name}, which is not installed: pip install "collective-variables[{extra}]"'
    )


USES = """
import json, os, pathlib
import jax, numpy as np, pandas as pd

os.environ.pop("COLLECTIVE_VARIABLES_DATA", None)
pathlib.Path("a.csv").write_text("a,y\\n1,2\\n3,4\\n")
pathlib.Path("photos").mkdir()
pathlib.Path("photos/a.png").write_bytes(b"")

def message(function):
    try:
        function()
    except Exception as error:
        return str(error)

from collective_variables.cli.results import page
from collective_variables.data import encoding, problems
from collective_variables.selection import coverage
from collective_variables.training.agents import rollout
import collective_variables as cv
points = np.random.default_rng(0).normal(size=(9, 2))
key = jax.random.key(0)
print(json.dumps({
    "pyarrow": message(lambda: encoding.read_table("a.csv")),
    "PIL": message(lambda: encoding.read_table("photos")),
    "pooch": message(lambda: problems.load_problem("concrete")),
    "sklearn": message(lambda: coverage.k_means_plus_plus(points, n_selected=2, key=key)),
    "plotly": message(lambda: page.filled(None, None, None)),
    "gymnax": message(rollout.environments),
}))
"""


def test_what_a_missing_package_would_have_given_is_one_sentence(tmp_path):
    result = run(USES, tmp_path)
    assert result.returncode == 0, result.stderr
    messages = json.loads(result.stdout)
    assert messages == {module: sentence(module) for module in messages}


def test_the_command_line_ends_with_one_line_and_1_where_a_package_is_missing(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n1,2\n3,4\n")
    code = "from collective_variables.cli.main import main; sys.exit(main())"
    result = run(code, tmp_path, "select", "a.csv", "--n-points", "1")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {sentence('pyarrow')}\n"


@pytest.mark.parametrize(
    "error, message",
    [
        (ModuleNotFoundError(name="sklearn.base"), "requires scikit-learn, which is not installed"),
        (
            ImportError("libarrow.so is missing", name="pyarrow.lib"),
            "requires pyarrow, which cannot be imported (libarrow.so is missing)",
        ),
    ],
)
def test_a_broken_package_is_told_from_a_missing_one(error, message):
    with pytest.raises(ImportError) as caught, _extras.required("cli"):
        raise error
    assert message in str(caught.value)


def test_a_missing_module_of_the_package_itself_is_not_excused():
    with pytest.raises(ModuleNotFoundError, match="^No module named"), _extras.required("cli"):
        import collective_variables.nowhere  # noqa: F401


def imports_by_extra():
    """The packages that are imported inside `with _extras.required(…)`, by extra."""
    imports = {}
    for path in sorted((ROOT / "collective_variables").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.With):
                continue
            call = node.items[0].context_expr
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("required"):
                for statement in ast.walk(node):
                    if isinstance(statement, ast.Import):
                        names = [alias.name for alias in statement.names]
                    else:
                        names = [getattr(statement, "module", None)]
                    packages = {name.partition(".")[0] for name in names if name}
                    imports.setdefault(call.args[0].value, set()).update(packages)
    return imports


def test_pyproject_declares_every_package_in_the_extra_that_the_error_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]
    imports = imports_by_extra()
    assert {"cli", "sklearn", "figures", "data", "dask"} <= set(imports)
    for extra, packages in imports.items():
        names = {_extras.DISTRIBUTIONS.get(name, name).lower() for name in packages}
        requirements = " ".join(declared[extra]).lower()
        # pooch brings requests.
        assert all(name in requirements for name in names - {"requests"}), extra
