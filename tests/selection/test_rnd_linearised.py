import functools
import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from helpers import UNFIT_BUDGETS, assert_close
from scipy import stats

from collective_variables import _memory
from collective_variables.data import problems
from collective_variables.kernels import infinite_width
from collective_variables.selection import _cholesky, rnd_linearised

KEY = jax.random.key(3)
POOL = (
    np.random.default_rng(0).normal(size=(25, 4)) + 0.3
)  # other pools are as large, so that few shapes are compiled
CLEAR = (
    np.random.default_rng(10).normal(size=(25, 4)) + 0.3
)  # at ten choices the next best point is 2 % behind the best
LABELLED, CLASSES = [11, 2, 7], np.array([0, 1, 1, 2, 1] * 5)
RULES = {
    "largest": {"criterion": "largest"},
    "reduction": {"criterion": "reduction", "emphasis": 0.0},
    "emphasis": {"criterion": "reduction", "emphasis": 1.0},
}
# The angle of nearly parallel points keeps half of the digits, and the kernel of a point and itself
# is one of those.
ANGLES = dict(operations=10**9)
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())

pytestmark = pytest.mark.usefixtures("quick_compilation")


def select(
    pool=POOL, *, n_selected=None, key=KEY, n_members=1, labelled=(), classes=None, **settings
):
    """With one hidden layer, which is traced sooner than three, and some emphasis, unless the
    settings say otherwise.
    """
    settings = rnd_linearised.LinearisedRNDSettings(**{"depth": 1, "emphasis": 0.5} | settings)
    budget = dict(n_selected=n_selected, n_members=n_members)
    return rnd_linearised.select(
        pool, settings, key=key, labelled=labelled, classes=classes, **budget
    )


@functools.cache
def ten_points(name):
    return select(n_selected=10, **RULES[name])


def closed_form(points, depth=1, b_std=None):
    """The NTK of an infinitely wide ReLU network, entry by entry (Jacot et al. 2018; Cho & Saul
    2009).
    """
    bias = (b_std or 0.0) ** 2

    def covariances(x, y):
        """(⟨x, x⟩, ⟨y, y⟩, ⟨x, y⟩, NTK) of the first layer, and through every hidden one."""
        xx, yy, xy = (
            sum(a * b for a, b in zip(*pair)) / len(x) + bias for pair in ((x, x), (y, y), (x, y))
        )
        kernel = xy
        for _ in range(depth):
            norms = math.sqrt(xx * yy)
            angle = 0.0 if x is y else math.acos(min(max(xy / norms, -1.0), 1.0))
            xy = (
                norms * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)
                + bias
            )
            xx, yy = xx / 2 + bias, yy / 2 + bias
            kernel = xy + kernel * (math.pi - angle) / (2 * math.pi)
        return kernel

    rows = np.reshape(points, (len(points), -1)).tolist()
    return np.array([[covariances(x, y) for y in rows] for x in rows])


def residual(kernel, known):
    """K − K(:, T) K(T, T)⁻¹ K(T, :), solved anew."""
    if not known:
        return kernel
    return kernel - kernel[:, known] @ np.linalg.solve(kernel[np.ix_(known, known)], kernel[known])


def scores(left, candidates, *, criterion="reduction", emphasis=0.5):
    """What each of these points is chosen by."""
    if criterion == "largest":
        return {x: left[x][x] for x in candidates}
    return {
        x: sum(entry**2 / left[x][x] for entry in left[x]) / len(left) * left[x][x] ** emphasis
        for x in candidates
    }


def naive(
    kernel,
    n_selected,
    *,
    criterion="reduction",
    emphasis=0.5,
    first_points=(),
    classes=None,
    threshold=None,
):
    """The points, and d(x), its mean and its maximum at every choice: a plain loop over rows of the
    pool.
    """
    chosen, history, pool = (
        list(first_points),
        [(math.nan,) * 3] * len(first_points),
        range(len(kernel)),
    )
    while len(chosen) < n_selected:
        left = residual(kernel, chosen).tolist()
        candidates = [x for x in pool if x not in chosen]
        if classes is not None:
            counts = {
                c: sum(classes[x] == c for x in chosen)
                for c in sorted({classes[x] for x in candidates})
            }
            turn = min(counts, key=counts.get)
            candidates = [x for x in candidates if classes[x] == turn]
        score = scores(left, candidates, criterion=criterion, emphasis=emphasis)
        best = max(candidates, key=score.get)
        if threshold is not None and left[best][best] <= threshold:
            break
        unknown = [left[y][y] for y in pool]
        chosen.append(best)
        history.append((unknown[best], sum(unknown) / len(unknown), max(unknown)))
    return chosen, *zip(*history)


def history(selection):
    return selection.distances, selection.mean_distances, selection.max_distances


def assert_is(selection, expected, member=0):
    """The points and distances of one member; what is behind its last point is marked."""
    indices, *distances = expected
    n = len(indices)
    assert selection.indices[member].tolist() == indices + [-1] * (selection.indices.shape[1] - n)
    for actual, right in zip(history(selection), distances):
        assert np.isnan(actual[member, n:]).all()
        np.testing.assert_array_equal(np.isnan(actual[member, :n]), np.isnan(right))
        known = ~np.isnan(right)
        assert_close(actual[member, :n][known], np.array(right)[known], **ANGLES)


def assert_equal(selection, expected):
    np.testing.assert_array_equal(selection.indices, expected.indices)
    for actual, right in zip(history(selection), history(expected)):
        np.testing.assert_array_equal(actual, right)


# the rule and the kernel


@each_rule
@pytest.mark.parametrize("b_std", [None, 0.3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_points_and_history_are_those_of_the_plain_loop_over_the_closed_form_of_the_kernel(
    depth, b_std, rule
):
    selection = select(n_selected=20, depth=depth, b_std=b_std, **rule)
    assert_is(selection, naive(closed_form(POOL, depth, b_std), 20, **rule))


@each_rule
def test_the_last_point_of_the_pool_is_chosen_too_and_none_twice(rule):
    selection = select(n_selected=25, **rule)
    assert_is(selection, naive(closed_form(POOL), 25, **rule))
    assert sorted(selection.indices[0].tolist()) == list(range(25))


@pytest.mark.parametrize(
    "changed", [{"depth": 2}, {"b_std": 0.3}, {"criterion": "largest"}, {"emphasis": 0.0}], ids=str
)
def test_every_option_changes_what_is_chosen_or_how_far_it_was(changed):
    selection = select(n_selected=10, **{"emphasis": 1.0} | changed)
    assert not np.array_equal(selection.distances, ten_points("emphasis").distances)


def test_the_rule_of_the_largest_takes_the_largest_distance_and_that_of_the_reduction_does_not():
    assert_close(ten_points("largest").distances, ten_points("largest").max_distances)
    assert (ten_points("reduction").distances < ten_points("reduction").max_distances).any()


def test_the_kernel_in_blocks_of_few_rows_is_the_same(monkeypatch):
    monkeypatch.setattr(rnd_linearised, "ENTRIES", 32)
    monkeypatch.setattr(rnd_linearised, "NARROWEST", 8)
    selection, whole = select(n_selected=10, **RULES["emphasis"]), ten_points("emphasis")
    np.testing.assert_array_equal(selection.indices, whole.indices)
    for actual, right in zip(history(selection), history(whole)):
        assert_close(actual, right, **ANGLES)


def test_a_pool_of_more_points_than_the_entries_of_a_block_is_taken(monkeypatch):
    """As one of more than 2²³ points is."""
    monkeypatch.setattr(rnd_linearised, "ENTRIES", 24)
    assert_equal(select(n_selected=10, **RULES["emphasis"]), ten_points("emphasis"))


# what the distances are


def assert_is_mean_of(draws, expected):
    """The mean over draws is the expected one, within 5 standard errors, and not half or twice of
    it.
    """
    errors = [
        abs(draws.mean() - factor * expected) / (draws.std(ddof=1) / math.sqrt(len(draws)))
        for factor in (1, 0.5, 2)
    ]
    assert errors[0] < 5 and min(errors[1:]) > 20, (
        f"{draws.mean()} for {expected}: off by {errors[0]:.1f} errors"
    )


@each_rule
def test_distances_are_half_the_mean_square_between_functions_one_of_which_learns_the_other(
    rule,
):
    n_draws, kernel = 20_000, closed_form(POOL, 2, 0.3)
    selection, generator = (
        select(n_selected=8, depth=2, b_std=0.3, **rule),
        np.random.default_rng(7),
    )
    target, predictor = np.linalg.cholesky(kernel) @ generator.normal(size=(2, 25, n_draws))
    for n in range(8):
        known = selection.indices[0, :n]
        weights = np.linalg.solve(kernel[np.ix_(known, known)], (target - predictor)[known])
        squares = (target - predictor - kernel[:, known] @ weights) ** 2
        assert np.abs(squares[known]).max(initial=0.0) < 1e-20
        largest = np.argmax(np.diag(residual(kernel, known.tolist())))
        assert_is_mean_of(squares[selection.indices[0, n]], 2 * selection.distances[0, n])
        assert_is_mean_of(squares.mean(axis=0), 2 * selection.mean_distances[0, n])
        assert_is_mean_of(squares[largest], 2 * selection.max_distances[0, n])


def gradients(width, generator, b_std=0.3):
    """(n_pool, n_parameters) of a random network with one hidden layer, whose linearisation is this
    times parameters.

    The output is v relu(W x / √4 + b_std b) / √width + b_std c, with all of v, W, b, c from N(0,
    1).
    """
    inputs = np.concatenate([POOL / 2, np.full((len(POOL), 1), b_std)], axis=1)
    hidden = inputs @ generator.normal(size=(inputs.shape[1], width))
    through = generator.normal(size=width) * (hidden > 0) / math.sqrt(width)
    first_layer = (through[:, :, None] * inputs[:, None, :]).reshape(len(POOL), -1)
    return np.concatenate(
        [first_layer, np.maximum(hidden, 0) / math.sqrt(width), np.full((len(POOL), 1), b_std)],
        axis=1,
    )


def trained(jacobian, known, target, predictor):
    """The parameters nearest to those of the predictor with which the known points have the outputs
    of the target.
    """
    return predictor + np.linalg.pinv(jacobian[known]) @ (jacobian[known] @ (target - predictor))


def test_gradient_descent_of_a_linearised_network_ends_in_the_least_change_that_fits():
    generator, known = np.random.default_rng(2), [5, 19, 3, 8, 14, 22]
    jacobian = gradients(100, generator)
    target, start = generator.normal(size=(2, jacobian.shape[1], 3))
    known_rows, predictor = jacobian[known], start.copy()
    rate = 1.0 / np.linalg.norm(known_rows, 2) ** 2
    for _ in range(2000):
        predictor -= rate * known_rows.T @ (known_rows @ (predictor - target))
    assert_close(
        jacobian @ predictor, jacobian @ trained(jacobian, known, target, start), operations=10**6
    )
    errors = np.abs(jacobian @ (predictor - target))
    assert errors[known].max() < 1e-9 and errors.max() > 0.1


def test_distances_are_half_the_mean_square_between_networks_one_of_which_learns_the_other():
    """Means over 4 networks and 200 pairs of parameters each: 5 % off by the draws, and as much by
    the width.
    """
    selection, generator = select(n_selected=7, b_std=0.3), np.random.default_rng(11)

    def ratios(width):
        """Of the mean square to what is reported, over the pool, after 0, 3 and 6 points."""
        squares = np.zeros((3, len(POOL)))
        for _ in range(4):
            jacobian = gradients(width, generator)
            target, predictor = generator.normal(size=(2, jacobian.shape[1], 200))
            for row, n in enumerate((0, 3, 6)):
                learnt = trained(jacobian, selection.indices[0, :n].tolist(), target, predictor)
                squares[row] += ((jacobian @ (target - learnt)) ** 2).mean(axis=1) / 4
        at_next = (
            squares[range(3), selection.indices[0, [0, 3, 6]]] / selection.distances[0, [0, 3, 6]]
        )
        return np.concatenate(
            [at_next, squares.mean(axis=1) / selection.mean_distances[0, [0, 3, 6]]]
        )

    np.testing.assert_allclose(ratios(width=1000), 2, rtol=0.2)
    assert np.abs(ratios(width=4) / 2 - 1).max() > 0.4


# labelled points, classes, threshold


@each_rule
@pytest.mark.parametrize(
    "options",
    [{"labelled": LABELLED}, {"classes": CLASSES}, {"labelled": LABELLED, "classes": CLASSES}],
    ids=["labelled", "classes", "both"],
)
def test_labelled_points_come_first_without_a_distance_and_classes_take_turns_as_in_the_plain_loop(
    rule, options
):
    selection = select(n_selected=20, **rule, **options)
    first_points, classes = options.get("labelled", []), options.get("classes")
    assert_is(
        selection, naive(closed_form(POOL), 20, first_points=first_points, classes=classes, **rule)
    )
    for values in history(selection):
        np.testing.assert_array_equal(np.isnan(values[0]), np.arange(20) < len(first_points))


def test_more_labelled_points_than_a_block_are_taken():
    assert_is(
        select(n_selected=20, labelled=range(12), block_size=5),
        naive(closed_form(POOL), 20, first_points=list(range(12))),
    )


@each_rule
def test_labelled_copies_of_labelled_points_teach_nothing(rule):
    pool = POOL.copy()
    pool[20:] = pool[:5]
    selection = select(pool, n_selected=14, labelled=[0, 1, 20, 2, 21, 22], **rule)
    once = select(pool, n_selected=11, labelled=[0, 1, 2], **rule)
    np.testing.assert_array_equal(selection.indices[0, 6:], once.indices[0, 3:])
    assert_close(selection.distances[0, 6:], once.distances[0, 3:], **ANGLES)


def test_with_classes_each_has_as_many_points_as_it_can_whatever_their_names():
    for rule in RULES.values():
        selection = select(n_selected=19, classes=CLASSES, **rule)
        assert np.bincount(CLASSES[selection.indices[0, :15]]).tolist() == [
            5,
            5,
            5,
        ]  # all there are of classes 0 and 2
        assert np.bincount(CLASSES[selection.indices[0]]).tolist() == [5, 9, 5]
        assert_equal(select(n_selected=19, classes=10 * CLASSES + 5, **rule), selection)


@each_rule
def test_a_threshold_alone_stops_before_a_point_that_is_known_and_marks_what_is_not_chosen(
    rule,
):
    selection = select(threshold=0.2, **rule)
    expected = naive(closed_form(POOL), 25, threshold=0.2, **rule)
    assert_is(selection, expected)
    assert selection.indices.shape == (1, 25) and 3 < len(expected[0]) < 22
    assert (selection.distances[0, : len(expected[0])] > 0.2).all()
    assert_is(
        select(threshold=0.2, n_selected=4, **rule),
        naive(closed_form(POOL), 4, threshold=0.2, **rule),
    )


def test_a_threshold_above_all_distances_chooses_nothing_but_what_is_labelled():
    assert (select(threshold=100.0).indices == -1).all()
    assert select(threshold=100.0, labelled=LABELLED).indices[0].tolist() == LABELLED + [-1] * 22


def test_each_member_stops_separately():
    selection = select(threshold=0.25, first="random", n_members=6, criterion="largest")
    for member, row in enumerate(selection.indices):
        expected = naive(
            closed_form(POOL), 25, first_points=[row[0]], threshold=0.25, criterion="largest"
        )
        assert_is(selection, expected, member)
    assert len(set((selection.indices >= 0).sum(axis=1).tolist())) > 1


# inputs


def test_normalised_points_are_taken_instead_of_the_pool():
    """To the digits of float64, in which a pool so small is computed."""
    standard = (POOL - POOL.mean(axis=0)) / POOL.std(axis=0)
    unit = POOL / np.linalg.norm(POOL, axis=1, keepdims=True)
    for how, points in {"standard": standard, "unit": unit}.items():
        selection = select(n_selected=15, normalisation=how, b_std=0.3)
        assert_is(selection, naive(closed_form(points, b_std=0.3), 15))
        assert not np.array_equal(selection.indices, select(n_selected=15, b_std=0.3).indices)


@pytest.mark.parametrize("how", ["standard", "unit"])
def test_normalised_points_are_chosen_as_those_of_a_pool_that_was_normalised_before(how):
    norm = np.linalg.norm(POOL, axis=1, keepdims=True)
    points = (POOL - POOL.mean(axis=0)) / POOL.std(axis=0) if how == "standard" else POOL / norm
    selection, expected = (
        select(n_selected=12, normalisation=how, b_std=0.3),
        select(points, n_selected=12, b_std=0.3),
    )
    np.testing.assert_array_equal(selection.indices, expected.indices)
    np.testing.assert_allclose(selection.distances, expected.distances, rtol=1e-3)


def test_images_and_lists_of_integers_are_flattened_and_become_floats():
    images = np.random.default_rng(1).integers(0, 20, size=(25, 2, 2, 1)).astype(np.uint8)
    selection = select(images, n_selected=12)
    assert_equal(selection, select(images.reshape(25, 4).astype(float), n_selected=12))
    assert_equal(selection, select(images.tolist(), n_selected=12))
    assert_is(selection, naive(closed_form(images.astype(float)), 12))


@pytest.fixture
def dtypes(monkeypatch):
    """Those of the blocks of the kernel, and of the diagonal, that are worked with."""
    kernel, choose, seen = infinite_width.infinite_width_kernel, _cholesky.pivots, set()

    def seen_kernel(*arguments, **options):
        kernel_function = kernel(*arguments, **options)

        def seen_function(x1, x2):
            result = kernel_function(x1, x2)
            seen.add(("kernel", str(result.dtype)))
            return result

        return seen_function

    def seen_choose(kernel, diagonal, *arguments, **options):
        seen.add(("diagonal", str(diagonal.dtype)))
        return choose(kernel, diagonal, *arguments, **options)

    monkeypatch.setattr(infinite_width, "infinite_width_kernel", seen_kernel)
    monkeypatch.setattr(_cholesky, "pivots", seen_choose)
    return seen


@pytest.mark.parametrize(
    "pool, wide",
    [(POOL, False), (POOL.astype(np.float32), True)],
    ids=["float64 and 32 bits", "float32 and 64 bits"],
)
@pytest.mark.parametrize(
    "double_up_to, expected", [(25, "float64"), (24, "float32")], ids=["small pool", "large pool"]
)
@pytest.mark.parametrize("normalisation", ["none", "standard", "unit"])
def test_the_number_of_points_alone_decides_the_precision(
    normalisation, double_up_to, expected, pool, wide, monkeypatch, dtypes
):
    monkeypatch.setattr(rnd_linearised, "DOUBLE_UP_TO", double_up_to)
    with jax.enable_x64(wide):
        select(pool, n_selected=1, normalisation=normalisation, criterion="largest")
    assert dtypes == {("kernel", expected), ("diagonal", expected)}


@each_rule
def test_single_precision_chooses_the_same_points_of_a_pool_without_near_ties(rule, monkeypatch):
    double = select(CLEAR, n_selected=10, depth=3, **rule)
    kernel, chosen = closed_form(CLEAR, 3), double.indices[0].tolist()
    for n in range(10):
        left = [x for x in range(25) if x not in chosen[:n]]
        best, next_best = sorted(
            scores(residual(kernel, chosen[:n]).tolist(), left, **rule).values()
        )[:-3:-1]
        assert next_best < 0.98 * best
    monkeypatch.setattr(rnd_linearised, "DOUBLE_UP_TO", 24)
    single = select(CLEAR, n_selected=10, depth=3, **rule)
    np.testing.assert_array_equal(single.indices, double.indices)
    for actual, right in zip(history(single), history(double)):
        np.testing.assert_allclose(actual, right, rtol=0, atol=5e-4)
        assert not np.array_equal(actual, right)


def test_single_precision_chooses_as_well_in_large_blocks_as_in_small_ones(monkeypatch):
    """Of a line the first block teaches nearly all: the squares of what is not known fall a million
    times.
    """
    monkeypatch.setattr(rnd_linearised, "DOUBLE_UP_TO", 0)
    pool = np.random.default_rng(0).normal(size=(100, 1))
    kernel, options = closed_form(pool, 1, 1.0), dict(n_selected=50, b_std=1.0, emphasis=0.0)
    chosen = [select(pool, block_size=size, **options).indices[0].tolist() for size in (16, 64)]
    small, large = (np.trace(residual(kernel, rows)) for rows in chosen)
    assert large < 1.2 * small, (
        f"the mean distance left is {large / 100:.2g}, and {small / 100:.2g} with small blocks"
    )


# members and random numbers


@each_rule
def test_the_best_first_point_and_an_exact_choice_give_all_members_one_subset_whatever_the_key(
    rule,
):
    selection = select(n_selected=10, n_members=4, **rule)
    assert selection.indices.shape == selection.distances.shape == (4, 10)
    one = select(n_selected=10, key=jax.random.key(8), **rule)
    for array, one_values in zip(
        (selection.indices, *history(selection)), (one.indices, *history(one))
    ):
        np.testing.assert_array_equal(array, np.repeat(one_values, 4, axis=0))


@each_rule
def test_a_random_first_point_differs_between_members_and_what_follows_is_the_best(rule):
    selection = select(n_selected=10, first="random", n_members=4, **rule)
    assert len(set(selection.indices[:, 0].tolist())) > 2
    for member, row in enumerate(selection.indices):
        assert_is(selection, naive(closed_form(POOL), 10, first_points=[row[0]], **rule), member)


def test_random_first_points_are_drawn_equally_often():
    """Chi-square: a right generator fails for one key in 10^6."""
    selection = select(n_selected=1, first="random", n_members=75)
    assert stats.chisquare(np.bincount(selection.indices[:, 0], minlength=25)).pvalue > 1e-6
    assert np.isnan(selection.distances).all()


def test_labelled_points_take_the_place_of_a_random_first_point():
    selection = select(n_selected=10, first="random", n_members=3, labelled=LABELLED)
    assert_equal(selection, select(n_selected=10, n_members=3, labelled=LABELLED))


@pytest.mark.parametrize(
    "changed",
    [{"first": "random"}, {"n_reference": 8}, {"first": "random", "n_reference": 8}],
    ids=["first point", "reference", "both"],
)
def test_members_that_draw_differ_and_each_is_the_same_in_an_ensemble_of_any_number(changed):
    many = select(n_selected=8, n_members=3, **changed)
    assert len({tuple(row) for row in many.indices.tolist()}) == 3
    few, other = (
        select(n_selected=8, n_members=2, key=key, **changed) for key in (KEY, jax.random.key(8))
    )
    for few_values, many_values in zip(
        (few.indices, *history(few)), (many.indices, *history(many))
    ):
        np.testing.assert_array_equal(few_values, many_values[:2])
    assert not np.array_equal(other.indices, few.indices)
    assert (np.isnan(many.distances[:, 0]) == ("first" in changed)).all() and not np.isnan(
        many.distances[:, 1:]
    ).any()


@pytest.mark.parametrize(
    "changed",
    [
        {"criterion": "largest", "first": "random"},
        {"first": "random", "classes": CLASSES},
        {"n_reference": 8, "block_size": 4},
        {"n_reference": 8, "block_size": 4, "classes": CLASSES},
        {"n_candidates": 6, "block_size": 4, "classes": CLASSES},
    ],
    ids=["largest", "classes", "reference", "reference and classes", "candidates and classes"],
)
def test_a_shorter_run_of_fewer_members_is_the_start_of_a_longer_one_of_more(changed):
    long, short = (select(n_selected=n, n_members=m, **changed) for n, m in ((18, 2), (7, 1)))
    np.testing.assert_array_equal(short.indices, long.indices[:1, :7])
    for actual, right in zip(history(short), history(long)):
        np.testing.assert_allclose(actual, right[:1, :7], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "changed", [{"n_reference": 12}, {"n_candidates": 8, "block_size": 4}], ids=str
)
def test_a_sampled_choice_is_close_to_the_exact_one_and_no_point_comes_twice(changed):
    kernel, generator = closed_form(POOL), np.random.default_rng(0)

    def left(subsets):
        return np.mean([np.trace(residual(kernel, list(rows))) for rows in subsets])

    selection, exact = (
        select(n_selected=10, n_members=3, emphasis=0.0, **changed).indices,
        left(ten_points("reduction").indices),
    )
    random = left(generator.permutation(25)[:10] for _ in range(100))
    assert all(len(set(row)) == 10 for row in selection.tolist())
    assert left(selection) < exact + 0.3 * (random - exact)


@pytest.mark.parametrize(
    "changed, n_pool, expected",
    [
        ({}, 1024, True),
        ({}, 1025, False),
        ({"n_reference": 25, "n_candidates": 25}, 25, True),
        ({"n_reference": 24}, 25, False),
        ({"n_candidates": 24}, 25, False),
        ({"criterion": "largest", "n_reference": 1, "n_candidates": 1}, 10**6, True),
    ],
)
def test_is_exact_says_whether_a_sample_of_the_pool_decides(changed, n_pool, expected):
    assert rnd_linearised.LinearisedRNDSettings(**changed).is_exact(n_pool) is expected


def test_what_is_said_to_be_exact_is_the_plain_loop_and_what_is_not_differs():
    exact = {
        "largest": {"n_candidates": 2, "n_reference": 1},
        "emphasis": {"n_reference": 25, "n_candidates": 25},
    }
    for rule, changed in exact.items():
        assert rnd_linearised.LinearisedRNDSettings(**RULES[rule] | changed).is_exact(25)
        assert_is(
            select(n_selected=10, **RULES[rule] | changed),
            naive(closed_form(POOL), 10, **RULES[rule]),
        )
    sampled = select(n_selected=10, **RULES["emphasis"] | {"n_reference": 8})
    assert not np.array_equal(sampled.indices, ten_points("emphasis").indices)


@pytest.mark.parametrize(
    "options, n_shown", [({}, 10), ({"labelled": LABELLED}, 7), ({"first": "random"}, 20)], ids=str
)
def test_progress_ends_at_the_number_of_points_that_are_chosen(options, n_shown, capsys):
    labelled = options.get("labelled", ())
    settings = rnd_linearised.LinearisedRNDSettings(first=options.get("first", "best"))
    rnd_linearised.select(
        POOL, settings, n_selected=10, key=KEY, n_members=2, labelled=labelled, progress="choosing"
    )
    shown = capsys.readouterr().err
    assert "choosing (exact)" in shown and f" {n_shown}/{n_shown} " in shown.split("\r")[-1]


@each_rule
def test_the_points_of_a_real_pool_are_those_of_the_loop(rule):
    pool = problems.load_problem("fuel").inputs
    right = naive(closed_form(pool.astype(np.float64)), 40, **rule)[0]
    for n_candidates in (1024, 16):  # of few ones too, as scores hardly ever rise
        assert (
            select(pool, n_selected=40, n_candidates=n_candidates, **rule).indices[0].tolist()
            == right
        )


# copies and clusters


@pytest.fixture(params=[np.float64, np.float32], ids=["double", "single"])
def precision(request, monkeypatch):
    """The round-off of a kernel, half of the digits of the dtype in which all is computed."""
    monkeypatch.setattr(rnd_linearised, "DOUBLE_UP_TO", 4096 if request.param == np.float64 else 0)
    return 2 * math.sqrt(np.finfo(request.param).eps)


@pytest.fixture
def ends(monkeypatch):
    """Make a choice that never ends fail."""
    kernel, calls = infinite_width.infinite_width_kernel, []

    def counted(*arguments, **options):
        kernel_function = kernel(*arguments, **options)

        def counted_function(x1, x2):
            calls.append(1)
            assert len(calls) < 200, "the choice does not end: more than 200 blocks of the kernel"
            return kernel_function(x1, x2)

        return counted_function

    monkeypatch.setattr(infinite_width, "infinite_width_kernel", counted)


@each_rule
@pytest.mark.parametrize("block_size", [7, 64])
def test_exact_copies_come_last_with_distances_of_zero_and_no_point_comes_twice(
    rule, block_size, precision, ends
):
    selection = select(np.tile(POOL[:5], (5, 1)), n_selected=25, block_size=block_size, **rule)
    assert sorted(selection.indices[0].tolist()) == list(range(25))
    assert sorted((selection.indices[0, :5] % 5).tolist()) == list(range(5))
    assert (selection.distances[0, :5] > 0.01).all() and (
        np.abs(selection.distances[0, 5:]) < precision
    ).all()
    assert (
        np.isfinite(selection.mean_distances).all()
        and (np.diff(selection.mean_distances[0]) < precision).all()
    )


@each_rule
def test_where_all_points_have_as_many_exact_copies_they_are_chosen_as_without(rule, precision):
    copied, once = np.repeat(POOL[:5], 5, axis=0), naive(closed_form(POOL[:5]), 5, **rule)
    selection = select(copied, n_selected=5, **rule)
    assert (selection.indices[0] // 5).tolist() == once[0]
    for actual, right in zip(history(selection), once[1:]):
        np.testing.assert_allclose(actual[0], right, rtol=0, atol=precision)


@pytest.mark.parametrize("n_candidates", [1, 10])
def test_the_largest_distance_of_few_candidates_is_found_also_among_exact_copies(
    n_candidates, precision, ends
):
    selection = select(
        np.tile(POOL[:5], (5, 1)), n_selected=25, criterion="largest", n_candidates=n_candidates
    )
    assert sorted((selection.indices[0, :5] % 5).tolist()) == list(range(5))
    assert sorted(selection.indices[0].tolist()) == list(range(25))


def clusters(spread, seed):
    """Five around each of five centers, in any order, and the center of each."""
    generator = np.random.default_rng(seed)
    cluster = generator.permutation(np.repeat(np.arange(5), 5))
    return generator.normal(size=(5, 4))[cluster] + spread * generator.normal(size=(25, 4)), cluster


@each_rule
def test_of_tight_clusters_each_gives_one_point_before_any_gives_a_second(rule, precision):
    pool, cluster = clusters(1e-3, seed=0)
    chosen = select(pool, n_selected=5, first="random", n_members=2, depth=3, **rule).indices
    assert [sorted(cluster[row].tolist()) for row in chosen] == [list(range(5))] * 2


@each_rule
def test_points_that_differ_by_round_off_are_copies_and_none_is_chosen_before_all_others_are_known(
    rule, precision, ends
):
    for seed in range(3):
        pool, cluster = clusters(precision / 500, seed)
        chosen = select(pool, n_selected=5, **rule).indices[0]
        assert sorted(cluster[chosen].tolist()) == list(range(5)), (
            f"clusters {cluster[chosen]} of pool {seed}"
        )


def test_a_pool_of_zeros_has_nothing_to_choose_by_and_is_taken_in_order():
    selection = select(np.zeros((25, 4)), n_selected=25)
    assert selection.indices[0].tolist() == list(range(25)) and not selection.distances.any()
    assert (select(np.zeros((25, 4)), threshold=0.0).indices == -1).all()


# errors


@pytest.mark.parametrize("pool, changed, error, message", UNFIT_BUDGETS)
def test_wrong_arguments_are_one_error_that_names_them(pool, changed, error, message):
    with pytest.raises(error) as caught:
        select(pool, **{"n_selected": 5} | changed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"depth": 0}, ValueError, "depth must be at least 1: received 0."),
        ({"depth": 2.0}, TypeError, "depth must be an integer: received 2.0."),
        (
            {"activation": "tanh"},
            ValueError,
            "activation must be one of erf, linear, relu: received 'tanh'.",
        ),
        ({"b_std": -0.1}, ValueError, "b_std must be at least 0.0: received -0.1."),
        (
            {"b_std": "1e-3"},
            TypeError,
            "b_std must be a number: received '1e-3'. YAML reads 1e-3 as text: write 0.001.",
        ),
        ({"first": "worst"}, ValueError, "first must be one of best, random: received 'worst'."),
        (
            {"normalisation": "z"},
            ValueError,
            "normalisation must be one of none, standard, unit: received 'z'.",
        ),
        ({"threshold": float("nan")}, ValueError, "threshold must be finite: received nan."),
        ({"threshold": -1.0}, ValueError, "threshold must be at least 0.0: received -1.0."),
        (
            {"criterion": "best"},
            ValueError,
            "criterion must be one of largest, reduction: received 'best'.",
        ),
        ({"emphasis": -1.0}, ValueError, "emphasis must be at least 0.0: received -1.0."),
        ({"n_reference": 0}, ValueError, "n_reference must be at least 1: received 0."),
    ],
)
def test_wrong_settings_are_one_error_that_names_them(changed, error, message):
    with pytest.raises(error) as caught:
        rnd_linearised.LinearisedRNDSettings(**changed)
    assert str(caught.value) == message
    with pytest.raises(error):
        replace(rnd_linearised.LinearisedRNDSettings(), **changed)


def test_a_pool_whose_factor_does_not_fit_is_one_error_that_says_how_much_it_needs(monkeypatch):
    pool = np.broadcast_to(np.float32(1.0), (10**6, 1))
    monkeypatch.setattr(_memory, "_machine_free", lambda: 8 * _memory.GIB)
    monkeypatch.setattr(_memory, "_cgroup_free", lambda: math.inf)
    # 10⁶ rows of the factor, 1024 of the reference and two blocks of 64, of as many float32.
    with pytest.raises(MemoryError) as caught:
        select(pool, n_selected=10**6)
    assert (
        str(caught.value)
        == "Selecting 1000000 of 1000000 points need 3729.6 GiB, and 8.0 GiB are free."
    )


def test_a_pool_that_just_fits_is_taken(monkeypatch):
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(_memory, "_cgroup_free", lambda: math.inf)
    n_bytes = (5 + 25 + 2 * 64) * 25 * 8
    monkeypatch.setattr(_memory, "_machine_free", lambda: n_bytes)
    select(n_selected=5)
    monkeypatch.setattr(_memory, "_machine_free", lambda: n_bytes - 1)
    with pytest.raises(MemoryError, match="Selecting 5 of 25 points need"):
        select(n_selected=5)
