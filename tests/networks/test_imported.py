"""Imported networks: what a path may lead to, what is refused, and that the library takes them."""

import pickle
import sys

import jax
import numpy as np
import own_model
import pytest
from flax import nnx

from collective_variables.ensembles import seeding
from collective_variables.kernels import empirical
from collective_variables.networks import imported, parameters
from collective_variables.observables import measurement
from collective_variables.selection import registry
from collective_variables.training import ensemble_training, loop, schedules
from notebooks import models

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = np.stack([X.sum(axis=1), X[:, 0] ** 2], axis=1)


@pytest.mark.parametrize(
    ("path", "options", "n_outputs"),
    [
        ("notebooks.models.Residual", {"n_outputs": 2, "width": 4}, 2),
        ("notebooks.models.fourier", {"n_outputs": 2}, 2),
        ("own_model", {}, 2),
        ("own_model.module", {}, 2),
        (
            "collective_variables.networks.architectures.GraphNetwork",
            {"n_outputs": 3, "width": 4},
            3,
        ),
        (
            "collective_variables.networks.sequential.build_network",
            {"layers": ["dense 4", "dense 1"]},
            1,
        ),
    ],
)
def test_a_network_is_imported_by_its_path(path, options, n_outputs):
    model = imported.load_model(path, options)
    x = (
        np.concatenate([X[:, :, None], np.ones((20, 3, 3))], axis=-1).astype(np.float32)
        if "Graph" in path
        else X
    )
    parameters.check_fit(model, x, np.zeros((20, n_outputs)))
    params = model.init(jax.random.key(0), x)
    assert model.apply(params, x).shape == (20, n_outputs)
    assert parameters.n_outputs(model, x) == n_outputs


def test_it_is_the_network_itself():
    model = imported.load_model("notebooks.models.Residual", {"n_outputs": 2, "width": 4})
    module = models.Residual(2, width=4)
    params = module.init(jax.random.key(3), X)
    np.testing.assert_array_equal(model.apply(params, X), module.apply(params, X))
    jax.tree.map(np.testing.assert_array_equal, model.init(jax.random.key(3), X), params)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (3, {}, "model must be an import path such as models.Wide: received 3"),
        (
            "own model.x",
            {},
            "model must be an import path such as models.Wide: received 'own model.x'",
        ),
        ("os; import x", {}, "model must be an import path"),
        ("os.path", {}, "the import path of a Flax module, .* received os.path, which is module"),
        ("nowhere.Wide", {}, "model must be an import path: there is no nowhere.Wide"),
        ("own_model.Wide", {}, "model must be an import path: there is no own_model.Wide"),
        (
            "own_model.VALUE",
            {},
            "the import path of a Flax module, .* received own_model.VALUE, which is int",
        ),
        ("own_model.nothing", {}, "received own_model.nothing, which gives NoneType"),
        ("os", {}, "received os, which is module"),
        (
            "own_model.module",
            {"width": 3},
            "options must be empty for own_model.module, which is a network .* received width",
        ),
        (
            "notebooks.models.Residual",
            {},
            "notebooks.models.Residual do not fit: missing a required argument: 'n_outputs'",
        ),
        (
            "notebooks.models.Residual",
            {"n_outputs": 1, "depht": 2},
            "do not fit: got an unexpected keyword argument 'depht'",
        ),
    ],
)
def test_what_is_no_network_is_one_clear_error(path, options, message):
    with pytest.raises(ValueError, match=message):
        imported.load_model(path, options)


def test_a_module_that_lacks_another_says_so(tmp_path, monkeypatch):
    (tmp_path / "lacking_model.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        imported.load_model("lacking_model.Wide")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "own_model.NormalisedOverPoints",
            r"The model own_model.NormalisedOverPoints cannot be called .* in evaluation mode "
            r"\(a batch normalisation needs use_running_average=True\)",
        ),
        (
            "own_model.AlwaysDropped",
            r"in evaluation mode \(give its __call__ an argument deterministic or train",
        ),
        ("own_model.broken", "cannot be called as init.key, x. and apply.params, x.*: TypeError: "),
        (
            "own_model.Centred",
            "The model own_model.Centred must treat every point separately: "
            "the outputs of one point change by 0.7",
        ),
        (
            "own_model.Flat",
            r"apply_fn must return \(n_points, n_outputs\) = \(2, …\): received the shape \(2,\)",
        ),
        ("own_model.counting", "must hold at least one floating-point array: received int32"),
        ("own_model.classes", "must return real floating-point numbers.*: received int32"),
        ("own_model.complex_numbers", r"params\['w'\] must be of real numbers: received complex64"),
    ],
)
def test_a_network_without_a_kernel_between_single_points_is_refused_in_one_line(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        parameters.check_fit(imported.load_model(path), X, Y[:, :1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "own_model.instance",
            "An NNX module has its parameters.*: own_model.instance must be its",
        ),
        (
            "own_model.make_nnx",
            "An NNX module has its parameters.*: own_model.make_nnx must be",
        ),
        ("own_model.called", "the import path of .* received own_model.called, which is Callable"),
        ("own_model.Callable", "received own_model.Callable, which gives Callable"),
        ("own_model.with_state", r"must take \(params, x\): it takes \(params, state, rng, x\)"),
    ],
)
def test_what_has_no_parameters_to_draw_is_refused_in_one_line(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        imported.load_model(path)
    assert "\n" not in str(caught.value)


def kernel_by_jacobian(function, params, x):
    """The mean over outputs of the products of explicit derivatives, in float64."""
    leaves = jax.tree.leaves(jax.jit(jax.jacobian(function))(params, x))
    rows = np.concatenate(
        [np.asarray(leaf, np.float64).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1
    )
    return np.einsum("icp,jcp->ij", rows, rows) / rows.shape[1]


def evaluated(path, options, params):
    """The outputs as the module gives them, called as its author would in evaluation."""
    module = getattr(own_model, path)
    if path == "OfNNX":
        network = own_model.OfNNX(**options, rngs=nnx.Rngs(jax.random.key(0)))
        network.eval()
        graph, state, others = nnx.split(network, nnx.Param, ...)

        def apply(values, x):
            nnx.replace_by_pure_dict(state, values)
            return nnx.merge(graph, state, others)(x)

        return apply
    if path == "masked":
        whole = module()[0](jax.random.key(0), X[:1])
        return lambda values, x: module()[1](whole | {"w": values["w"]}, x)
    if path == "with_key":
        return lambda values, x: module()[1](values, None, x)
    call = {"Normalised": {"train": False}, "Dropped": {"deterministic": True}}.get(path, {})
    made = module(deterministic=True) if path == "DroppedByField" else module()
    whole = made.init(jax.random.key(0), X[:1], **call)
    return lambda values, x: made.apply(whole | {"params": values["params"]}, x, **call)


@pytest.mark.parametrize(
    ("path", "options", "n_leaves"),
    [
        ("Normalised", {}, 6),
        ("Dropped", {}, 4),
        ("DroppedByField", {}, 4),
        ("Fourier", {}, 2),
        ("OfNNX", {"width": 5}, 6),
        ("masked", {}, 1),
        ("with_key", {}, 1),
    ],
)
def test_what_is_not_trained_is_fixed_and_has_no_share_in_the_kernel(path, options, n_leaves):
    model = imported.load_model(f"own_model.{path}", options)
    parameters.check_fit(model, X, Y)
    params = model.init(jax.random.key(3), X[:1])
    assert len(jax.tree.leaves(params)) == n_leaves
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    assert parameters.n_parameters(model, X) == sum(leaf.size for leaf in jax.tree.leaves(params))
    function = evaluated(path, options, params)
    np.testing.assert_allclose(model.apply(params, X), function(params, X), rtol=1e-6, atol=1e-6)
    expected = kernel_by_jacobian(function, params, X)
    kernel = empirical.empirical_ntk(model.apply, params, X)
    np.testing.assert_allclose(kernel, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("path", ["Normalised", "OfNNX", "masked"])
def test_it_is_trained_and_the_rest_stays_as_it_was(path):
    model = imported.load_model(f"own_model.{path}")
    runs = [ensemble_training.runs(np.array([[0, 1, 2, 3]]), np.array([[4]]), seed=0)]
    (curves,) = ensemble_training.train_ensemble(
        model, loop.Points(X, Y), loop.Points(X, Y), runs, schedule=schedules.Schedule(n_epochs=20)
    )
    assert (curves.train_loss[:, -1] < curves.train_loss[:, 0]).all()


def test_a_module_given_itself_has_parameters_alone():
    module = own_model.Normalised()
    with pytest.raises(ValueError, match="must have no variables but parameters: received batch_s"):
        parameters.check_fit(module, X, Y)
    with pytest.raises(ValueError, match="Centred must treat every point separately"):
        registry.select(X, 3, method="rnd", network=own_model.Centred(), key=jax.random.key(0))


def test_another_number_of_outputs_than_targets_is_refused():
    with pytest.raises(ValueError, match="as many outputs as the targets: 3 != 2"):
        parameters.check_fit(
            imported.load_model("notebooks.models.fourier", {"n_outputs": 3}), X, Y
        )


def test_equality_and_name_are_those_of_path_options_and_version():
    one = imported.load_model("notebooks.models.fourier", {"n_outputs": 2}, version="a")
    assert one == imported.load_model("notebooks.models.fourier", {"n_outputs": 2}, version="a")
    others = [({"n_outputs": 3}, "a"), ({"n_outputs": 2}, "b")]
    for other in (
        imported.load_model("notebooks.models.fourier", options, version=version)
        for options, version in others
    ):
        assert one != other and repr(one) != repr(other)
    assert (
        repr(one)
        == "Model(path='notebooks.models.fourier', options=\"{'n_outputs': 2}\", version='a')"
    )


def test_pickled_it_is_imported_anew_and_refused_where_its_file_is_another(monkeypatch):
    model = imported.load_model("notebooks.models.fourier", {"n_outputs": 2}, version="a")
    sent = pickle.dumps(model)
    arrived = pickle.loads(sent)
    params = model.init(jax.random.key(0), X)
    np.testing.assert_array_equal(arrived.apply(params, X), model.apply(params, X))
    assert arrived == model
    monkeypatch.setattr(imported, "_digest", lambda module: "0123")
    with pytest.raises(
        RuntimeError,
        match="The file of the model notebooks.models.fourier differs here: SHA-256 0123",
    ):
        pickle.loads(sent)


@pytest.mark.parametrize("path", ["notebooks.models.Residual", "notebooks.models.fourier"])
def test_selection_kernels_and_training_take_it_as_they_take_the_module(path):
    model = imported.load_model(path, {"n_outputs": 2})
    sizes = np.tile([4, 8], (2, 1))
    problem = registry.Problem(X, Y, "regression", model, 0)
    indices = registry.select_by("rnd", problem, registry.Budget(8, 2), {"n_epochs": 2}).indices
    (measured,) = measurement.measure_ensemble(
        model, measurement.Pool(X, Y), [indices], sizes, seed=0
    )
    params = model.init(seeding.member_keys(seeding.key(0, "initialisation"), 2)[0], X[:1])
    jacobian = jax.jacobian(model.apply)(params, X[indices[0, :4]])
    rows = np.concatenate(
        [np.asarray(leaf, np.float64).reshape(4, -1) for leaf in jax.tree.leaves(jacobian)], axis=-1
    )
    expected = np.linalg.eigvalsh(rows @ rows.T / 2)  # the mean over two outputs
    np.testing.assert_allclose(
        np.sort(measured.eigenvalues[0, 0, :4]), expected, atol=1e-4 * expected[-1]
    )
    runs = [ensemble_training.runs(indices, sizes, seed=0)]
    (curves,) = ensemble_training.train_ensemble(
        model, loop.Points(X, Y), loop.Points(X, Y), runs, schedule=schedules.Schedule(n_epochs=20)
    )
    assert (curves.train_loss[:, -1] < curves.train_loss[:, 0]).all()


@pytest.mark.parametrize("options", [{"width": 3}, {"layers": ["dense 3"]}])
def test_it_has_no_layers_to_exchange(options):
    problem = registry.Problem(
        X, Y, "regression", imported.load_model("notebooks.models.fourier", {"n_outputs": 2}), 0
    )
    with pytest.raises(
        ValueError,
        match="layers and width need a network that is built from layers: received Model",
    ):
        registry.select_by("rnd", problem, registry.Budget(4, 1), options)


def test_nothing_is_imported_but_what_is_named():
    before = set(sys.modules)
    with pytest.raises(ValueError):
        imported.load_model("json.nothing_of_this_name")
    assert {name.split(".")[0] for name in set(sys.modules) - before} <= {"json"}
