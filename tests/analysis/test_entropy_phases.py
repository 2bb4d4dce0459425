"""Phases of curves that have known ones, and how often the rule errs in noise."""

import math

import numpy as np
import pytest
import scipy.stats

from collective_variables.analysis.entropy_phases import COMPRESSION, FORMATION, phases, regime

EPOCHS = np.arange(40) * np.arange(1, 41)
N = len(EPOCHS)


def curve(*points):
    """Straight lines in the number of the recorded epoch between (place, value)."""
    places, values = zip(*points)
    return np.interp(np.arange(N), places, values)


def noisy(mean, n_members, sd, generator):
    return mean + sd * generator.normal(size=(n_members, len(mean)))


def test_a_fall_and_a_rise_are_found_where_they_are():
    mean = curve((0, 3.0), (10, 3.0), (26, 2.0), (28, 2.0), (35, 2.5))
    members = np.linspace(-0.2, 0.2, 5)[:, None] + mean
    first, second = phases(EPOCHS, members)
    assert (first.kind, second.kind) == (COMPRESSION, FORMATION)
    # A sixteenth of the fall is done at place 11 and an eighth at place 12; a seventh of the rise
    # at place 29.
    assert (first.onset, first.end) == (EPOCHS[11], EPOCHS[26]) and (second.onset, second.end) == (
        EPOCHS[28],
        EPOCHS[35],
    )
    assert first.change == pytest.approx(-1.0) and second.change == pytest.approx(0.5)
    assert first.supported and second.supported and first.onset_error == second.onset_error == 0
    assert regime([first, second]) == f"{COMPRESSION}, then {FORMATION}"


def test_a_change_below_the_resolution_is_none():
    members = curve((0, 3.0), (35, 3.04)) + np.zeros((4, 1))
    assert phases(EPOCHS, members) == [] and regime([]) == "none"
    (phase,) = phases(EPOCHS, members, resolution=0.03)
    assert phase.kind == FORMATION and phase.supported


def test_a_small_step_back_does_not_end_a_phase():
    members = curve((0, 3.0), (10, 2.5), (12, 2.53), (30, 2.0)) + np.zeros((4, 1))
    (phase,) = phases(EPOCHS, members)
    assert phase.change == pytest.approx(-1.0)
    assert len(phases(EPOCHS, members, resolution=0.02)) == 3


def test_members_that_disagree_support_nothing():
    rise, fall = curve((0, 2.0), (35, 3.0)), curve((0, 2.0), (35, 1.2))
    result = phases(EPOCHS, np.stack([rise, rise, fall, fall, rise]))
    assert result and not any(phase.supported for phase in result) and regime(result) == "none"


@pytest.mark.parametrize("walk", [False, True], ids=["white noise", "random walks"])
def test_noise_has_supported_phases_no_more_often_than_stated(walk):
    """Members have nothing in common: at most 5 % of the ensembles may have any phase.

    The bound allows for the error of the simulation.
    """
    generator, n_ensembles, hits = np.random.default_rng(0), 300, 0
    for _ in range(n_ensembles):
        noise = generator.normal(size=(5, N)) * (0.2 if walk else 0.5)
        members = 3.0 + (np.cumsum(noise, axis=1) if walk else noise)
        hits += any(phase.supported for phase in phases(EPOCHS, members))
    assert hits <= scipy.stats.binom.ppf(0.999, n_ensembles, 0.05)


def test_intervals_cover_the_true_change_as_often_as_stated():
    generator, n_ensembles, covered, found_at_all = np.random.default_rng(1), 300, 0, 0
    mean = curve((0, 3.0), (5, 3.0), (15, 2.0))
    for _ in range(n_ensembles):
        # Members differ in how far they fall; the truth is the mean over all that there could be.
        depth = 1.0 + 0.3 * generator.normal(size=(6, 1))
        members = 3.0 + (mean - 3.0) * depth + 0.01 * generator.normal(size=(6, N))
        large = [
            phase for phase in phases(EPOCHS, members, resolution=0.2) if phase.kind == COMPRESSION
        ]
        found_at_all += len(large) == 1
        covered += large[0].low <= -1.0 <= large[0].high
    assert found_at_all == n_ensembles
    assert covered >= scipy.stats.binom.ppf(0.001, n_ensembles, 0.95)


def test_the_onset_is_as_uncertain_as_members_differ():
    def members(spread, generator):
        begin = 12 + spread * generator.normal(size=8)
        return np.stack([np.interp(np.arange(N), [0, b, b + 6, N], [3, 3, 2, 2]) for b in begin])

    generator = np.random.default_rng(2)
    (sharp,), (blurred,) = (phases(EPOCHS, members(spread, generator)) for spread in (0.0, 3.0))
    assert sharp.onset_error == 0.0 and blurred.onset_error > 0.0
    assert blurred.supported


def test_diverged_members_are_left_out():
    members = curve((0, 3.0), (35, 2.0)) + np.linspace(0, 0.1, 4)[:, None]
    with_diverged = np.vstack([members, np.where(np.arange(N) > 5, np.nan, 3.0)])
    assert phases(EPOCHS, with_diverged) == phases(EPOCHS, members)


def test_the_correction_is_for_the_number_of_phases():
    generator = np.random.default_rng(3)
    members = noisy(curve((0, 3.0), (15, 2.0), (30, 3.0)), 5, 0.15, generator)
    result = phases(EPOCHS, members, resolution=0.5)
    assert len(result) == 2
    for phase in result:
        # The t-test of one phase, from its own interval.
        error = (phase.high - phase.low) / 2 / scipy.stats.t.ppf(0.975, 4)
        p = 2 * scipy.stats.t.sf(abs(phase.change) / error, 4)
        assert any(math.isclose(phase.p, factor * p, rel_tol=1e-6) for factor in (1, 2))


@pytest.mark.parametrize(
    ("epochs", "entropy", "message"),
    [
        (
            EPOCHS[:3],
            np.ones((4, 5)),
            r"entropy must be \(n_members, n_epochs\) at ascending epochs: received \(4, 5\) and 3",
        ),
        ([0, 2, 1], np.ones((4, 3)), "ascending epochs"),
        ([0, 1, 2], np.ones((2, 3)), "at least 3 members with a finite entropy: received 2"),
    ],
)
def test_curves_that_make_no_sense_are_refused(epochs, entropy, message):
    with pytest.raises(ValueError, match=message):
        phases(epochs, entropy)
