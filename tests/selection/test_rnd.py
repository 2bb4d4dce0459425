import functools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import UNFIT_BUDGETS, assert_close
from jax.flatten_util import ravel_pytree

from collective_variables.networks import sequential
from collective_variables.selection import distances, rnd

KEY = jax.random.key(3)
DENSE = sequential.build_network(["dense 6", "dense 3"])
CONV = sequential.build_network(["conv 2 2x2", "avgpool 2x2", "dense 3"], activation="tanh")
POOL = np.random.default_rng(0).normal(size=(20, 4)) + 0.3
IMAGES = np.random.default_rng(1).normal(
    size=(70, 4, 4, 1)
)  # more than go through a network at once
TRAINING = rnd.RNDSettings(n_epochs=10, learning_rate=0.02)
# Round-off grows over some hundred steps of Adam; a wrong step changes distances by more than 1e-3.
ADAM = dict(operations=1_000_000)


pytestmark = pytest.mark.usefixtures("quick_float64")


class Predictor:
    """A network whose parameters are one vector, with Adam (Kingma, Ba 2015) written out."""

    def __init__(self, network, key, points, learning_rate):
        params = network.init(key, points[:1])
        self.flat, self.unravel = np.asarray(ravel_pytree(params)[0]), ravel_pytree(params)[1]
        self.first, self.second, self.t, self.learning_rate = 0.0, 0.0, 0, learning_rate

    def train(self, gradient, losses, rows, n_epochs, tolerance):
        """Full-batch epochs on these rows of the pool, until the loss is within the tolerance."""
        for _ in range(n_epochs if len(rows) else 0):
            if tolerance is not None and losses(self.flat, rows).mean() <= tolerance:
                return
            g, self.t = gradient(self.flat, rows), self.t + 1
            self.first, self.second = 0.9 * self.first + 0.1 * g, 0.999 * self.second + 0.001 * g**2
            step = (
                self.first / (1 - 0.9**self.t) / (np.sqrt(self.second / (1 - 0.999**self.t)) + 1e-8)
            )
            self.flat = self.flat - self.learning_rate * step


def info_nce(constants, predicted, truth):
    first, second = (
        vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (predicted, truth)
    )
    likeness = jnp.exp(first @ second.T / constants["scale"])
    return -jnp.log(jnp.diagonal(likeness) / likeness.sum(axis=1))


def isolated_potential(constants, predicted, truth):
    n = len(predicted)
    near = jnp.exp(-jnp.abs(predicted[:, None] - truth[None]) / constants["scale"]).mean(axis=2)
    repelled = (near.sum(axis=1) - jnp.diagonal(near)) / (n - 1) if n > 1 else 0.0
    bowl = (predicted**4).mean(axis=1)
    return (
        ((predicted - truth) ** 2).mean(axis=1)
        + constants["repulsion"] * repelled
        + constants["confinement"] * bowl
    )


BATCH = {"info-nce": info_nce, "isolated-potential": isolated_potential}


def outputs_of(network, shape):
    """The outputs of a network as a function of its parameters in one vector, and of points."""
    unravel = ravel_pytree(network.init(KEY, jnp.zeros((1, *shape))))[1]
    return lambda flat, points: network.apply(unravel(flat), points)


@functools.cache
def compiled_distance(network, shape, name, order, scale):
    """The distances of all points, compiled once for all members and settings."""
    outputs = outputs_of(network, shape)

    def every_distance(flat, points, truth, covariance):
        distance = distances.build(name, order=order, scale=scale, covariance=covariance)
        return distance(outputs(flat, points), truth)

    return jax.jit(every_distance), jax.jit(jax.jacobian(every_distance))


@functools.cache
def compiled_batch_loss(network, shape, name):
    """The losses of a subset and the gradient of their mean, compiled once for each size."""
    outputs = outputs_of(network, shape)

    def losses(flat, rows, points, truth, constants):
        return BATCH[name](constants, outputs(flat, points)[rows], truth[rows])

    return jax.jit(losses), jax.jit(jax.grad(lambda *arguments: losses(*arguments).mean()))


def pointwise_loss(compiled, *data):
    """Losses of a subset, and the gradient of their mean, of which each point's is computed once
    for every subset.
    """
    all_losses, jacobian = compiled
    return (
        lambda flat, rows: np.asarray(all_losses(flat, *data))[rows],
        lambda flat, rows: np.asarray(jacobian(flat, *data))[rows].mean(axis=0),
    )


def batch_loss(compiled, *data):
    """The same for a loss of a point that depends on the others."""
    return tuple(
        lambda flat, rows, function=function: np.asarray(function(flat, np.array(rows), *data))
        for function in compiled
    )


def algorithm_1(pool, network, key, settings, n_selected, n_members=1, labelled=(), classes=None):
    """Algorithm 1 of P1 with growing lists."""
    points = {"none": lambda x: x, "standard": standardised, "unit": on_the_sphere}[
        settings.normalisation
    ](pool)
    shape, rows = points.shape[1:], []
    constants = {name: getattr(settings, name) for name in ("scale", "repulsion", "confinement")}
    compiled = functools.partial(
        compiled_distance, network, shape, order=settings.order, scale=settings.scale
    )
    loss = settings.loss or settings.distance
    for m in range(n_members):
        member_key = jax.random.fold_in(key, m)
        keys = jax.random.split(member_key)
        truth = network.apply(network.init(keys[0], points[:1]), points)
        data = (points, truth, np.cov(truth.T, bias=True))
        every_distance, _ = compiled(settings.distance)
        losses, gradient = (
            batch_loss(compiled_batch_loss(network, shape, loss), points, truth, constants)
            if loss in BATCH
            else pointwise_loss(compiled(loss), *data)
        )
        train = functools.partial(
            Predictor.train, gradient=gradient, losses=losses, tolerance=settings.tolerance
        )
        predictor = Predictor(network, keys[1], points, settings.learning_rate)
        chosen, history = list(labelled), [(np.nan,) * 3] * len(labelled)
        while len(chosen) < n_selected:
            if settings.restart == "cold":
                predictor = Predictor(network, keys[1], points, settings.learning_rate)
            rehearsed = list(chosen)
            if settings.rehearsal == "newest-first":
                train(predictor, rows=chosen[-1:], n_epochs=settings.n_epochs)
            if settings.rehearsal == "replay" and chosen:
                errors = dict(zip(chosen, losses(predictor.flat, chosen)))
                worst = sorted(chosen[:-1], key=lambda i: -errors[i])
                rehearsed = chosen[-1:] + worst[: settings.n_replay - 1]
            train(predictor, rows=rehearsed, n_epochs=settings.n_epochs)
            for attempt in range(settings.n_restarts if chosen else 0):
                if losses(predictor.flat, rehearsed).mean() <= settings.tolerance:
                    break
                new_key = jax.random.fold_in(jax.random.fold_in(member_key, len(chosen)), attempt)
                new = Predictor(network, new_key, points, settings.learning_rate)
                train(new, rows=rehearsed, n_epochs=settings.n_epochs)
                if losses(new.flat, rehearsed).mean() < losses(predictor.flat, rehearsed).mean():
                    predictor = new
            values = np.asarray(every_distance(predictor.flat, *data))
            candidates = [i for i in range(len(pool)) if i not in chosen]
            if classes is not None:
                counts = {
                    c: sum(classes[i] == c for i in chosen)
                    for c in sorted({classes[i] for i in candidates})
                }
                turn = min(counts, key=counts.get)
                candidates = [i for i in candidates if classes[i] == turn]
            best = max(candidates, key=lambda i: values[i])
            if settings.threshold is not None and values[best] <= settings.threshold:
                break
            chosen.append(best)
            history.append((values[best], values.mean(), values.max()))
        rows.append((chosen, *zip(*history)))
    return rows


def standardised(pool):
    return (pool - pool.mean(axis=0)) / pool.std(axis=0)


def on_the_sphere(pool):
    return pool / np.sqrt((pool**2).sum(axis=1, keepdims=True))


def assert_is_algorithm_1(selection, expected):
    """The same points in the same order, and the same history; what is behind the last point is
    marked.
    """
    for member, (indices, *history) in enumerate(expected):
        n = len(indices)
        assert selection.indices[member, :n].tolist() == indices
        assert (selection.indices[member, n:] == -1).all()
        for name, values in zip(("distances", "mean_distances", "max_distances"), history):
            row = getattr(selection, name)[member]
            assert np.isnan(row[n:]).all()
            np.testing.assert_array_equal(np.isnan(row[:n]), np.isnan(values))
            assert_close(row[:n][~np.isnan(values)], np.array(values)[~np.isnan(values)], **ADAM)


@functools.cache
def whole_pool():
    """Seven members, more than one chunk, that choose every point of the pool."""
    return rnd.select(POOL, DENSE, TRAINING, n_selected=20, key=KEY, n_members=7)


@functools.cache
def first_points(n_selected, labelled=()):
    return rnd.select(
        POOL, DENSE, TRAINING, n_selected=n_selected, key=KEY, n_members=2, labelled=labelled
    )


def begin(settings):
    """Points labelled before: InfoNCE of one point is 0, and its gradient is round-off that Adam
    makes larger.
    """
    return (11, 2) if settings.loss == "info-nce" else ()


# the algorithm


def test_a_dense_network_follows_algorithm_1_to_the_last_point_of_the_pool_for_every_member():
    assert_is_algorithm_1(whole_pool(), algorithm_1(POOL, DENSE, KEY, TRAINING, 20, 7))


@pytest.mark.parametrize("loss, n_members", [(None, 1), (None, 2), ("info-nce", 1)])
def test_a_convolutional_network_follows_algorithm_1_also_for_a_pool_and_a_subset_of_several_blocks(
    loss, n_members
):
    settings = replace(TRAINING, loss=loss)
    labelled = begin(settings)
    n = 10 + len(labelled)
    selection = rnd.select(
        IMAGES, CONV, settings, n_selected=n, key=KEY, n_members=n_members, labelled=labelled
    )
    assert_is_algorithm_1(
        selection, algorithm_1(IMAGES, CONV, KEY, settings, n, n_members, labelled)
    )


OPTIONS = {
    **{
        f"distance {name}": {"distance": name}
        for name in distances.NAMES
        if name not in ("mean-squared", "power")
    },
    "distance l1": {"distance": "lp", "order": 1.0},
    "distance cubed": {"distance": "power", "order": 3.0},
    "distance exponential, wide": {"distance": "exponential", "scale": 3.0},
    "cross-entropy": {"loss": "kullback-leibler"},
    "another loss": {"distance": "cosine", "loss": "mean-squared"},
    "info-nce": {"loss": "info-nce", "scale": 0.5},
    "isolated potential": {
        "loss": "isolated-potential", "scale": 0.3, "repulsion": 0.2, "confinement": 0.1
    },
    "info-nce on replay": {"loss": "info-nce", "rehearsal": "replay", "n_replay": 3},
    "isolated potential with restarts": {
        "loss": "isolated-potential", "repulsion": 0.2,
        "tolerance": 0.02, "n_epochs": 15, "n_restarts": 2
    },
    "cold": {"restart": "cold"},
    "newest first": {"rehearsal": "newest-first"},
    "replay": {"rehearsal": "replay", "n_replay": 3},
    "replay of only the newest": {"rehearsal": "replay", "n_replay": 1},
    "cold replay": {"rehearsal": "replay", "n_replay": 3, "restart": "cold"},
    "tolerance": {"tolerance": 0.05, "n_epochs": 40},
    "restarts": {"tolerance": 0.02, "n_epochs": 15, "n_restarts": 2},
    "cold restarts on replay": {
        "tolerance": 0.02, "n_epochs": 15, "n_restarts": 2,
        "rehearsal": "replay", "n_replay": 3, "restart": "cold"
    },
    "standard": {"normalisation": "standard"},
    "unit": {"normalisation": "unit"},
    "threshold": {"threshold": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("changed", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_is_the_plain_loop_index_by_index_and_changes_what_is_chosen_or_how_far_it_was(
    changed,
):
    settings = replace(TRAINING, **changed)
    labelled = begin(settings)
    n = 8 + len(labelled)
    selection = rnd.select(
        POOL, DENSE, settings, n_selected=n, key=KEY, n_members=2, labelled=labelled
    )
    assert_is_algorithm_1(selection, algorithm_1(POOL, DENSE, KEY, settings, n, 2, labelled))
    if "threshold" not in changed:
        assert not np.array_equal(
            selection.distances, first_points(n, labelled).distances, equal_nan=True
        )


def test_restarts_are_drawn_where_the_tolerance_is_not_reached_and_nowhere_else():
    changed = {"tolerance": 0.02, "n_epochs": 15, "n_restarts": 2}
    with_restarts = rnd.select(
        POOL, DENSE, replace(TRAINING, **changed), n_selected=8, key=KEY, n_members=2
    )
    without = rnd.select(
        POOL,
        DENSE,
        replace(TRAINING, **changed | {"n_restarts": 0}),
        n_selected=8,
        key=KEY,
        n_members=2,
    )
    assert not np.array_equal(with_restarts.distances, without.distances)
    loose = {"tolerance": 1e6, "n_restarts": 2}
    never = [
        rnd.select(POOL, DENSE, replace(TRAINING, **changed), n_selected=8, key=KEY, n_members=2)
        for changed in (loose, loose | {"n_restarts": 0}, {"n_epochs": 0})
    ]
    for other in never[1:]:
        np.testing.assert_array_equal(never[0].distances, other.distances)


LABELLED, CLASSES = [11, 2, 7], np.array([0, 1, 1, 2] * 4 + [1, 1, 1, 1])


@pytest.mark.parametrize(
    "options",
    [{"labelled": LABELLED}, {"classes": CLASSES}, {"labelled": LABELLED, "classes": CLASSES}],
    ids=["labelled", "classes", "both"],
)
def test_labelled_points_come_first_and_classes_take_turns_as_in_the_plain_loop(options):
    selection = rnd.select(POOL, DENSE, TRAINING, n_selected=14, key=KEY, n_members=2, **options)
    assert_is_algorithm_1(selection, algorithm_1(POOL, DENSE, KEY, TRAINING, 14, 2, **options))


def test_with_classes_each_has_as_many_points_as_it_can():
    selection = rnd.select(
        POOL, DENSE, TRAINING, n_selected=14, key=KEY, n_members=2, classes=CLASSES
    )
    for row in selection.indices:
        assert np.bincount(CLASSES[row[:12]]).tolist() == [
            4,
            4,
            4,
        ]  # all there are of classes 0 and 2
        assert np.bincount(CLASSES[row]).tolist() == [4, 6, 4]
    other_names = rnd.select(
        POOL, DENSE, TRAINING, n_selected=14, key=KEY, n_members=2, classes=10 * CLASSES + 5
    )
    np.testing.assert_array_equal(other_names.indices, selection.indices)


def test_a_threshold_alone_ends_each_member_separately_and_marks_what_is_not_chosen():
    settings = replace(TRAINING, threshold=0.1)
    selection = rnd.select(POOL, DENSE, settings, key=KEY, n_members=7)
    assert selection.indices.shape == (7, 20)
    assert_is_algorithm_1(selection, algorithm_1(POOL, DENSE, KEY, settings, 20, 7))
    counts = (selection.indices >= 0).sum(axis=1)
    assert len(set(counts.tolist())) > 1 and counts.max() < 20
    np.testing.assert_array_equal(np.isfinite(selection.distances), selection.indices >= 0)


def test_without_epochs_the_points_are_in_the_order_of_the_untrained_distances():
    result = rnd.select(POOL, DENSE, rnd.RNDSettings(n_epochs=0), n_selected=5, key=KEY)
    target, predictor = (
        DENSE.init(key, POOL[:1]) for key in jax.random.split(jax.random.fold_in(KEY, 0))
    )
    untrained = np.mean((DENSE.apply(target, POOL) - DENSE.apply(predictor, POOL)) ** 2, axis=1)
    np.testing.assert_array_equal(result.indices[0], np.argsort(-untrained)[:5])
    assert_close(result.distances[0], np.sort(untrained)[:-6:-1])
    assert (
        result.indices[0, 0] == whole_pool().indices[0, 0]
    )  # the first point is that of untrained networks
    assert (
        result.indices[0].tolist() != whole_pool().indices[0, :5].tolist()
    )  # and training changes the others


def test_a_shorter_run_of_fewer_members_is_the_start_of_a_longer_one_of_more():
    np.testing.assert_array_equal(first_points(7).indices, whole_pool().indices[:2, :7])
    assert_close(first_points(7).distances, whole_pool().distances[:2, :7], **ADAM)


def test_padding_to_wider_subsets_changes_nothing(monkeypatch):
    monkeypatch.setattr(rnd, "NARROWEST", 4)
    selection = rnd.select(POOL, DENSE, TRAINING, n_selected=20, key=KEY, n_members=7)
    np.testing.assert_array_equal(selection.indices, whole_pool().indices)
    assert_close(selection.distances, whole_pool().distances, **ADAM)


@pytest.mark.parametrize(
    "first, n_selected", [(0, 1), (0, 7), (0, 128), (3, 300), (128, 129), (200, 1000)]
)
def test_segments_cover_a_run_once_and_are_padded_to_a_width_that_holds_them(first, n_selected):
    segments = rnd.plan_segments(first, n_selected)
    assert [point for begin, end, _ in segments for point in range(begin, end)] == list(
        range(first, n_selected)
    )
    assert all(end <= width <= n_selected for _, end, width in segments)
    assert all(width <= max(128, 2 * end) for _, end, width in segments)


@pytest.mark.parametrize(
    "key, same", [(KEY, True), (jax.random.key(4), False)], ids=["same key", "other key"]
)
def test_the_key_alone_decides_the_result(key, same):
    result = rnd.select(POOL, DENSE, TRAINING, n_selected=7, key=key, n_members=2)
    assert np.array_equal(result.indices, first_points(7).indices) is same
    assert np.array_equal(result.distances, first_points(7).distances) is same


def test_members_differ_choose_no_point_twice_and_have_positive_distances():
    assert len({tuple(row) for row in whole_pool().indices}) == 7
    assert all(sorted(row) == list(range(20)) for row in whole_pool().indices.tolist())
    assert (whole_pool().distances > 0).all()
    assert (whole_pool().max_distances >= whole_pool().distances).all()
    assert (whole_pool().max_distances > whole_pool().mean_distances).all()


def test_exact_copies_are_chosen_once_each_the_first_row_first_and_the_dtype_is_that_of_the_pool():
    pool = np.repeat(POOL[:2], 4, axis=0).astype(np.float32)
    result = rnd.select(pool, DENSE, TRAINING, n_selected=8, key=KEY)
    assert sorted(result.indices[0].tolist()) == list(range(8))
    for copies in (range(4), range(4, 8)):
        assert [row for row in result.indices[0] if row in copies] == list(copies)
    assert result.distances.dtype == np.float32 and np.isfinite(result.distances).all()


def test_of_tight_clusters_each_gives_one_point_before_any_gives_a_second():
    """A predictor trained on a point knows all that are near it, and nothing of those that are
    elsewhere.
    """
    generator = np.random.default_rng(5)
    centers = 3.0 * np.eye(5)
    pool = np.repeat(centers, 6, axis=0) + 0.001 * generator.normal(size=(30, 5))
    network = sequential.build_network(["dense 64", "dense 16"], parametrisation="ntk")
    settings = rnd.RNDSettings(n_epochs=300, learning_rate=0.02)
    chosen = rnd.select(pool, network, settings, n_selected=5, key=KEY, n_members=4).indices
    assert [sorted(row // 6) for row in chosen] == [list(range(5))] * 4


# checkpoints


class Interrupted(Exception):
    pass


class Store(dict):
    """Counts what is stored, and interrupts the run when it stores the `limit`-th time."""

    def __init__(self, content, limit):
        super().__init__(content)
        self.limit, self.n_written = limit, 0

    def __setitem__(self, name, arrays):
        super().__setitem__(name, arrays)
        self.n_written += 1
        if self.n_written == self.limit:
            raise Interrupted


STORED = dict(n_selected=12, key=KEY, n_members=2)


@pytest.mark.parametrize(
    "options", [{}, {"labelled": LABELLED}], ids=["from the start", "labelled"]
)
def test_an_interrupted_selection_resumes_and_ends_with_the_same_points(options):
    options = STORED | options
    run = functools.partial(rnd.select, POOL, DENSE, TRAINING, **options)
    whole, interrupted = Store({}, limit=None), Store({}, limit=3)
    expected = run(store=whole)
    with pytest.raises(Interrupted):
        run(store=interrupted)
    rest = Store(interrupted, limit=None)
    again = run(store=rest)
    assert rest.n_written == whole.n_written - 3 > 3
    without = run()
    for name in ("indices", "distances", "mean_distances", "max_distances"):
        np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))
        np.testing.assert_array_equal(getattr(without, name), getattr(expected, name))


@functools.cache
def stored():
    """What a selection keeps."""
    store = {}
    rnd.select(POOL, DENSE, TRAINING, **STORED, store=store)
    return store


@pytest.mark.parametrize(
    "changed",
    [{"key": jax.random.key(4)}, {"n_selected": 11}, {"labelled": [1]}, {"classes": CLASSES}],
    ids=str,
)
def test_a_store_of_another_call_is_not_used(changed):
    options, store, before = STORED | changed, dict(stored()), set(stored())
    selection = rnd.select(POOL, DENSE, TRAINING, **options, store=store)
    np.testing.assert_array_equal(
        selection.indices, rnd.select(POOL, DENSE, TRAINING, **options).indices
    )
    # How far it was, and what it chose.
    assert len(set(store) - before) == 2


# errors


def test_a_predictor_that_diverges_is_an_error_that_names_its_member():
    pool, network = np.abs(POOL[:, :1]), sequential.build_network(["dense 1", "dense 1"])
    settings = rnd.RNDSettings(n_epochs=1, learning_rate=1e200)
    with np.errstate(all="ignore"):
        rows = algorithm_1(pool, network, KEY, settings, 2, 4)
    diverged = [m for m, (_, values, *_) in enumerate(rows) if not np.isfinite(values[1])]
    assert diverged  # a member whose ReLU is 0 on the whole pool has no gradient and stays as it is
    message = (
        rf"distance of member {diverged[0]}, point 1 is (inf|nan); "
        r".* Lower learning_rate \(now 1e\+200\)"
    )
    with pytest.raises(FloatingPointError, match=message):
        rnd.select(pool, network, settings, n_selected=2, key=KEY, n_members=4)


@pytest.mark.parametrize("pool, changed, error, message", UNFIT_BUDGETS)
def test_wrong_arguments_are_one_error_that_names_them(pool, changed, error, message):
    with pytest.raises(error) as caught:
        rnd.select(pool, DENSE, **{"n_selected": 5, "key": KEY} | changed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"n_epochs": -1}, ValueError, "n_epochs must be at least 0: received -1."),
        (
            {"learning_rate": 0.0},
            ValueError,
            "learning_rate must be greater than 0.0: received 0.0.",
        ),
        (
            {"learning_rate": "1e-3"},
            TypeError,
            "learning_rate must be a number: received '1e-3'. "
            "YAML reads 1e-3 as text: write 0.001.",
        ),
        (
            {"distance": "euclid"},
            ValueError,
            "distance must be one of angular, cosine, .*: received 'euclid'.",
        ),
        (
            {"loss": "euclid"},
            ValueError,
            "loss must be one of angular, cosine, .*: received 'euclid'.",
        ),
        (
            {"distance": "info-nce"},
            ValueError,
            "distance must be one of angular, cosine, .*: received 'info-nce'.",
        ),
        ({"repulsion": -1.0}, ValueError, "repulsion must be at least 0.0: received -1.0."),
        ({"order": 0.5}, ValueError, "order must be at least 1.0: received 0.5."),
        ({"restart": "hot"}, ValueError, "restart must be one of cold, warm: received 'hot'."),
        (
            {"rehearsal": "none"},
            ValueError,
            "rehearsal must be one of all, newest-first, replay: received 'none'.",
        ),
        ({"n_replay": 0}, ValueError, "n_replay must be at least 1: received 0."),
        ({"tolerance": -1.0}, ValueError, "tolerance must be at least 0.0: received -1.0."),
        ({"n_restarts": 3}, ValueError, "n_restarts needs a tolerance: received 3 without one."),
        (
            {"normalisation": "z"},
            ValueError,
            "normalisation must be one of none, standard, unit: received 'z'.",
        ),
        ({"threshold": float("nan")}, ValueError, "threshold must be finite: received nan."),
    ],
)
def test_wrong_settings_are_one_error_that_names_them(changed, error, message):
    with pytest.raises(error) as caught:
        rnd.RNDSettings(**changed)
    assert re.fullmatch(message.replace("(", r"\(").replace(")", r"\)"), str(caught.value))
