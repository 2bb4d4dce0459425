"""Find phases in which the entropy S(t) of a kernel falls or rises during training.

Source: Tovey et al. (2024), who call a phase in which S falls information compression and one in
which it rises structure formation. The rule here can reject a phase:

1. Phases are the swings of the members' mean curve from turning point to turning point. A change
   smaller than `resolution` does not count: the mean has to return by that much to make a turning
   point.
2. The size of a phase is measured on one member at a time, between the turning points of the mean
   of the *others*. A mean curve of noise has swings too, but a member that did not choose them does
   not follow them.
3. A phase is supported if the mean of these changes has the phase's sign, is as large as
   `resolution`, and differs from 0 by a t-test over members. The test is corrected for the number
   of phases (Holm).
4. Its onset is the last epoch at which at most a tenth of the change has happened. The uncertainty
   of the onset is the jackknife's standard error over members.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Float, Int

from collective_variables import _checks
from collective_variables.analysis import statistics

COMPRESSION, FORMATION = "information compression", "structure formation"
RESOLUTION = 0.05  # nats of entropy; smaller changes do not matter in practice
MIN_MEMBERS = 3  # the fewest for which a mean without one member is still a mean
BEGUN = 0.1  # the fraction of its change after which a phase has begun


class Phase(NamedTuple):
    """Hold a phase between two recorded epochs.

    Attributes:
        kind: COMPRESSION or FORMATION.
        onset: Epoch at which the phase begins.
        onset_error: Standard error of the onset, from the jackknife.
        end: Epoch at which the phase ends.
        change: Mean change of the entropy over members in nats.
        low: Lower end of the interval of the change.
        high: Upper end of the interval of the change.
        p: Corrected p-value of the t-test.
        supported: Whether the rule above supports the phase.
    """

    kind: str
    onset: int
    onset_error: float
    end: int
    change: float
    low: float
    high: float
    p: float
    supported: bool


def phases(
    epochs: Int[np.ndarray, " n_epochs"],
    entropy: Float[np.ndarray, "n_members n_epochs"],
    /,
    *,
    resolution: float = RESOLUTION,
    confidence: float = 0.95,
) -> list[Phase]:
    """Find the phases of the curves, in their order in time.

    Members whose entropy is not finite everywhere (diverged networks) are left out.

    Args:
        epochs: (n_epochs,) ascending epochs.
        entropy: (n_members, n_epochs) entropies in nats.
        resolution: Smallest change in nats that counts.
        confidence: Confidence of the intervals, and 1 - level of the tests.

    Returns:
        The phases; none if no change is as large as `resolution`.

    Raises:
        ValueError: Fewer than three members remain, epochs do not ascend, or the shapes do not fit.

    Also raises TypeError or ValueError for a resolution that is not positive.
    """
    epochs, entropy = np.asarray(epochs), np.asarray(entropy, dtype=np.float64)
    if entropy.ndim != 2 or entropy.shape[1] != len(epochs) or (np.diff(epochs) <= 0).any():
        raise ValueError(
            "entropy must be (n_members, n_epochs) at ascending epochs: "
            f"received {entropy.shape} and {len(epochs)} epochs."
        )
    _checks.number("resolution", resolution, above=0.0)
    entropy = entropy[np.isfinite(entropy).all(axis=1)]
    if len(entropy) < MIN_MEMBERS:
        raise ValueError(
            f"Phases need at least {MIN_MEMBERS} members with a finite entropy: "
            f"received {len(entropy)}."
        )
    swings = _swings(entropy.mean(axis=0), resolution)
    others = (entropy.sum(axis=0) - entropy) / (len(entropy) - 1)
    measured = [
        _changes_and_onsets(epochs, entropy, others, swings, place) for place in range(len(swings))
    ]
    if not measured:
        return []
    tests = [t_test(changes, confidence) for changes, _ in measured]
    corrected = statistics.holm(np.array([p for *_, p in tests]))
    return [
        _phase(epochs, entropy.mean(axis=0), swing, test, float(p), onsets, resolution, confidence)
        for swing, test, p, (_, onsets) in zip(swings, tests, corrected, measured)
    ]


def recording_phases(
    table: pd.DataFrame,
    by: Sequence[str],
    /,
    *,
    resolution: float = RESOLUTION,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Find the phases of every network of a recording, for each kind of points.

    Args:
        table: Recording with the columns `by`, member, points, epoch and entropy.
        by: Columns that distinguish networks.
        resolution: Smallest change in nats that counts.
        confidence: Confidence of the intervals, and 1 - level of the tests.

    Returns:
        One row per phase, with the columns `by`, points, the number of the phase in time, and the
        fields of `Phase`. A network with fewer than three members that did not diverge has no rows.
    """
    rows = []
    for labels, part in table.groupby([*by, "points"], sort=False):
        curves = part.pivot(index="member", columns="epoch", values="entropy")
        if curves.notna().all(axis=1).sum() < MIN_MEMBERS:
            continue
        network_phases = phases(
            curves.columns.to_numpy(),
            curves.to_numpy(),
            resolution=resolution,
            confidence=confidence,
        )
        rows += [
            dict(zip([*by, "points"], labels)) | {"phase": number} | phase._asdict()
            for number, phase in enumerate(network_phases, start=1)
        ]
    return pd.DataFrame(rows, columns=[*by, "points", "phase", *Phase._fields])


def regime(network_phases: Sequence[Phase], /) -> str:
    """Return the kinds of the supported phases in their order, or "none"."""
    kinds = [phase.kind for phase in network_phases if phase.supported]
    return ", then ".join(kind for kind, _ in itertools.groupby(kinds)) or "none"


Swing = tuple[int, int]


def _swings(curve: Float[np.ndarray, " n_epochs"], resolution: float) -> list[Swing]:
    """Return the places of the beginning and end of each swing of at least `resolution`."""
    points, high, low, direction = [], 0, 0, 0
    for place, value in enumerate(curve):
        high = place if value > curve[high] else high
        low = place if value < curve[low] else low
        if direction <= 0 and value - curve[low] >= resolution:
            points.append(low)
            direction, high = 1, place
        elif direction >= 0 and curve[high] - value >= resolution:
            points.append(high)
            direction, low = -1, place
    if direction:
        points.append(high if direction > 0 else low)
    return list(itertools.pairwise(points))


def _changes_and_onsets(
    epochs: Int[np.ndarray, " n_epochs"],
    entropy: Float[np.ndarray, "n_members n_epochs"],
    others: Float[np.ndarray, "n_members n_epochs"],
    swings: list[Swing],
    place: int,
) -> tuple[Float[np.ndarray, " n_members"], Float[np.ndarray, " n_members"]]:
    """Return the change of each member in one phase, and the phase's onset without that member.

    Both lie between the turning points of the mean of the other members.
    """
    sign = np.sign(_change(entropy.mean(axis=0), swings[place]))
    # The other members may turn earlier or later: search the neighbouring swings as well.
    first = swings[max(place - 1, 0)][0]
    last = swings[min(place + 1, len(swings) - 1)][1]
    changes, onsets = [], []
    for member_curve, others_mean in zip(entropy, others):
        start, end = _largest_rise(sign * others_mean[first : last + 1])
        swing = first + start, first + end
        changes.append(_change(member_curve, swing))
        onsets.append(epochs[_onset(others_mean, swing)])
    return np.array(changes), np.array(onsets, dtype=np.float64)


def _change(curve: Float[np.ndarray, " n_epochs"], swing: Swing) -> float:
    return float(curve[swing[1]] - curve[swing[0]])


def _largest_rise(curve: Float[np.ndarray, " n"]) -> Swing:
    """Return the two places between which a curve rises most."""
    lowest = np.minimum.accumulate(curve)
    end = int(np.argmax(curve - lowest))
    return int(np.argmin(curve[: end + 1])), end


def _onset(curve: Float[np.ndarray, " n_epochs"], swing: Swing) -> int:
    """Return the last place of a swing at which at most a tenth of its change has happened."""
    start, end = swing
    if curve[end] == curve[start]:
        return start
    progress = (curve[start : end + 1] - curve[start]) / (curve[end] - curve[start])
    return start + max(0, int(np.argmax(progress > BEGUN)) - 1)


def t_test(
    changes: Float[np.ndarray, " n_members"], confidence: float
) -> tuple[float, float, float, float]:
    """Return the mean, both ends of its interval, and p of the two-sided t-test against 0.

    If all changes are equal, p is 1 for changes of 0 and 0 otherwise.
    """
    n, mean = len(changes), float(changes.mean())
    error = float(changes.std(ddof=1)) / math.sqrt(n)
    if error == 0.0:
        return mean, mean, mean, 0.0 if mean else 1.0
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return mean, mean - half, mean + half, float(2 * scipy.stats.t.sf(abs(mean) / error, n - 1))


def _phase(
    epochs: Int[np.ndarray, " n_epochs"],
    mean: Float[np.ndarray, " n_epochs"],
    swing: Swing,
    test: tuple[float, float, float, float],
    p: float,
    onsets: Float[np.ndarray, " n_members"],
    resolution: float,
    confidence: float,
) -> Phase:
    falls = _change(mean, swing) < 0
    change, low, high, _ = test
    n = len(onsets)
    error = math.sqrt((n - 1) / n * float(np.sum((onsets - onsets.mean()) ** 2)))
    supported = (change < 0) == falls and abs(change) >= resolution and p < 1 - confidence
    return Phase(
        kind=COMPRESSION if falls else FORMATION,
        onset=int(epochs[_onset(mean, swing)]),
        onset_error=error,
        end=int(epochs[swing[1]]),
        change=change,
        low=low,
        high=high,
        p=p,
        supported=supported,
    )
