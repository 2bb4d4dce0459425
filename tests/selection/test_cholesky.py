import numpy as np
import pytest
from helpers import assert_close

from collective_variables.selection import _cholesky

GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(30, 40)) * np.linspace(0.2, 2, 30)[:, None]
KERNEL = FEATURES @ FEATURES.T
RULES = {
    "largest": {"criterion": "largest"},
    **{f"reduction {emphasis}": {"emphasis": emphasis} for emphasis in (0.0, 0.5, 1.0, 2.0)},
}


def run(
    kernel,
    *,
    n_selected,
    dtype=np.float64,
    known=(),
    turn=lambda unused: unused,
    threshold=None,
    **rule,
):
    kernel = kernel.astype(dtype)
    counted = []
    result = _cholesky.pivots(
        lambda rows, columns: kernel[rows] if columns is None else kernel[np.ix_(rows, columns)],
        np.diag(kernel).copy(),
        _cholesky.Rule(**rule),
        n_selected=n_selected,
        generator=np.random.default_rng(1),
        known=known,
        turn=turn,
        threshold=threshold,
        advance=counted.append,
    )
    assert sum(counted) == len(result.indices) - len(known)
    return result


def residual_kernel(kernel, chosen):
    """K − K(:, T) K(T, T)⁻¹ K(T, :), by solving anew."""
    if not chosen:
        return kernel
    return kernel - kernel[:, chosen] @ np.linalg.solve(
        kernel[np.ix_(chosen, chosen)], kernel[chosen]
    )


def naive(
    kernel,
    n_selected,
    known=(),
    turn=lambda unused: unused,
    threshold=None,
    criterion="reduction",
    emphasis=0.0,
    references=(),
):
    """The rule, point by point, with what is not known computed anew at every step.

    references: those of each step.
    """
    chosen, history, n_pool = list(known), [(np.nan,) * 3] * len(known), len(kernel)
    while len(chosen) < n_selected:
        left = residual_kernel(kernel, chosen)
        scores = {}
        for x in np.flatnonzero(turn(~np.isin(np.arange(len(kernel)), chosen))):
            scores[x] = left[x, x]
            if criterion == "reduction":
                others = [
                    left[y, x] ** 2
                    for y in (references[len(chosen)] if references else range(n_pool))
                    if y != x
                ]
                mean = (left[x, x] ** 2 + (n_pool - 1) * np.mean(others)) / n_pool
                scores[x] = mean / left[x, x] * left[x, x] ** emphasis
        best = max(scores, key=scores.get)
        if threshold is not None and left[best, best] <= threshold:
            break
        history.append((left[best, best], np.diag(left).mean(), np.diag(left).max()))
        chosen.append(int(best))
    return chosen, np.array(history).T


def assert_same(result, expected, n_known=0):
    chosen, history = expected
    assert result.indices.tolist() == chosen
    for actual, right in zip(result[1:], history):
        assert np.isnan(actual[:n_known]).all()
        assert_close(actual[n_known:], right[n_known:], operations=10_000)


@pytest.mark.parametrize("block_size", [1, 4, 64])
@pytest.mark.parametrize("known", [[], [3, 17, 5]], ids=["from none", "from three"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_points_and_history_are_those_of_what_is_computed_anew_at_every_step_whatever_the_block(
    rule, known, block_size
):
    result = run(KERNEL, n_selected=20, known=known, block_size=block_size, **rule)
    assert_same(result, naive(KERNEL, 20, known, **rule), len(known))


@pytest.mark.parametrize("n_candidates", [1, 3, 10])
def test_the_largest_distance_is_found_exactly_among_any_number_of_candidates(n_candidates):
    result = run(KERNEL, n_selected=30, n_candidates=n_candidates, criterion="largest")
    assert_same(result, naive(KERNEL, 30, criterion="largest"))


@pytest.mark.parametrize("block_size", [1, 4])
def test_a_reference_of_few_points_is_drawn_anew_after_half_as_many_choices(block_size):
    generator = np.random.default_rng(1)
    draws = [np.sort(generator.choice(30, 8, replace=False)) for _ in range(4)]
    expected = naive(KERNEL, 16, references=[draws[step // 4] for step in range(16)])
    assert_same(run(KERNEL, n_selected=16, n_reference=8, block_size=block_size), expected)
    assert_same(run(KERNEL, n_selected=16, n_reference=8, block_size=1, n_candidates=2), expected)
    assert expected[0] != naive(KERNEL, 16)[0]


@pytest.mark.parametrize("n_candidates", [1, 3, 10])
def test_the_largest_reduction_is_found_among_few_candidates_because_scores_fall(n_candidates):
    result = run(KERNEL, n_selected=20, n_candidates=n_candidates)
    assert_same(result, naive(KERNEL, 20))


def test_the_largest_distance_is_the_greedy_maximum_of_the_log_determinant():
    result, chosen = run(KERNEL, n_selected=12, criterion="largest").indices, []
    for point in result.tolist():
        rest = [i for i in range(30) if i not in chosen]
        best = max(
            rest, key=lambda i: np.linalg.slogdet(KERNEL[np.ix_([*chosen, i], [*chosen, i])])[1]
        )
        assert point == best
        chosen.append(point)


def test_the_reduction_without_emphasis_is_the_greedy_minimum_of_the_mean_distance_left():
    result, chosen = run(KERNEL, n_selected=12, emphasis=0.0).indices, []
    for point in result.tolist():
        rest = [i for i in range(30) if i not in chosen]
        assert point == min(rest, key=lambda i: np.trace(residual_kernel(KERNEL, [*chosen, i])))
        chosen.append(point)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_single_precision_chooses_the_same_points_of_a_kernel_without_near_ties(rule):
    double, single = (
        run(KERNEL, n_selected=15, dtype=dtype, **rule) for dtype in (np.float64, np.float32)
    )
    np.testing.assert_array_equal(single.indices, double.indices)
    np.testing.assert_allclose(single.distances, double.distances, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_exact_copies_end_in_distances_of_zero_and_no_point_is_chosen_twice(rule, dtype):
    kernel = np.repeat(np.repeat(KERNEL[:10, :10], 3, axis=0), 3, axis=1)
    result = run(kernel, n_selected=30, dtype=dtype, block_size=7, **rule)
    assert sorted(result.indices.tolist()) == list(range(30))
    assert len(set(result.indices[:10] // 3)) == 10 and (result.indices[:10] % 3 == 0).all()
    assert (result.distances[:10] > 1e-3).all() and (result.distances[10:] < 1e-4).all()
    assert np.isfinite(result.distances).all() and np.isfinite(result.mean_distances).all()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_kernel_with_other_round_off_in_every_block_gives_the_same_points(rule):
    """As angles do that are computed from cosines: another value of K(x, x) in each block, far
    above an epsilon.
    """
    noise = np.random.default_rng(2)

    def rough(rows, columns):
        block = KERNEL[rows] if columns is None else KERNEL[np.ix_(rows, columns)]
        return block * (1 + 1e-9 * noise.normal(size=block.shape))

    generator = np.random.default_rng(1)
    for block_size in (4, 64):
        rule_of_size = _cholesky.Rule(block_size=block_size, **rule)
        result = _cholesky.pivots(
            rough, np.diag(KERNEL).copy(), rule_of_size, n_selected=20, generator=generator
        )
        assert result.indices.tolist() == naive(KERNEL, 20, **rule)[0]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_only_points_whose_turn_it_is_are_chosen(rule):
    def alternating(unused):
        even = np.arange(30) % 2 == unused.sum() % 2
        return unused & even

    result = run(KERNEL, n_selected=20, turn=alternating, block_size=6, n_candidates=30, **rule)
    assert_same(result, naive(KERNEL, 20, turn=alternating, **rule))
    few = run(KERNEL, n_selected=20, turn=alternating, block_size=6, n_candidates=2, **rule)
    assert (few.indices % 2 == np.arange(20) % 2).all() and len(set(few.indices.tolist())) == 20


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_the_threshold_stops_before_a_point_that_is_known_well_enough(rule):
    whole = run(KERNEL, n_selected=30, **rule)
    threshold = float(np.sort(whole.distances)[12]) * (1 + 1e-9)
    result = run(KERNEL, n_selected=30, threshold=threshold, block_size=4, **rule)
    assert_same(result, naive(KERNEL, 30, threshold=threshold, **rule))
    assert 0 < len(result.indices) < 30 and (result.distances > threshold).all()
    assert len(run(KERNEL, n_selected=30, threshold=1e6, **rule).indices) == 0


@pytest.mark.parametrize(
    "changed, error, message",
    [
        (
            {"criterion": "best"},
            ValueError,
            "criterion must be one of largest, reduction: received 'best'.",
        ),
        ({"emphasis": -1.0}, ValueError, "emphasis must be at least 0.0: received -1.0."),
        ({"n_reference": 0}, ValueError, "n_reference must be at least 1: received 0."),
        ({"n_candidates": 1.5}, TypeError, "n_candidates must be an integer: received 1.5."),
        ({"block_size": 0}, ValueError, "block_size must be at least 1: received 0."),
    ],
)
def test_wrong_rules_are_one_error_that_names_them(changed, error, message):
    with pytest.raises(error) as caught:
        _cholesky.Rule(**changed)
    assert str(caught.value) == message
