"""Join the results of all members into arrays and tables."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from collective_variables.observables import _member
from collective_variables.observables.spectrum import Spectrum

Spectra = list[list[list[Spectrum]]]  # by member, size and output


class RoundOff(NamedTuple):
    """The effect of round-off on the spectra.

    Attributes:
        n_eigenvalues: Number of eigenvalues.
        n_negative: Number of eigenvalues that were negative and set to 0.
        worst_relative: The most negative one, relative to the largest eigenvalue of its kernel.
    """

    n_eigenvalues: int
    n_negative: int
    worst_relative: float


class Measurement(NamedTuple):
    """The measurement of one array of subsets.

    Attributes:
        eigenvalues: (n_members, n_sizes, n_largest), ascending. NaN follows the eigenvalues of a
            smaller kernel, and stands for a kernel that was not decomposed. For outputs
            "per-output" the shape is (n_members, n_sizes, n_outputs, n_largest).
        round_off: The effect of round-off on these eigenvalues.
        tables: Tables of `_member.COLUMNS`, with the columns member and n_points in front; empty
            unless requested.
        description: How the variables were computed, in words.
    """

    eigenvalues: Float[np.ndarray, "n_members n_sizes *n_outputs n_largest"]
    round_off: RoundOff
    tables: dict[str, pd.DataFrame]
    description: dict[str, str]


def join_results(
    results: list[_member.Result], outputs: str, description: dict[str, str]
) -> Measurement:
    """Join the results of the members of one array of subsets."""
    tables = {}
    for name, columns in _member.COLUMNS.items():
        rows = [
            {"member": number} | row
            for number, result in enumerate(results)
            for row in result.rows[name]
        ]
        tables[name] = pd.DataFrame(rows, columns=["member", "n_points", *columns])
    spectra = [result.spectra for result in results]
    eigenvalues = pad_eigenvalues(spectra)
    if outputs != "per-output":
        eigenvalues = eigenvalues[:, :, 0]
    return Measurement(eigenvalues, count_round_off(spectra), tables, description)


def count_round_off(spectra: Spectra, /) -> RoundOff:
    """Count the eigenvalues that were negative and set to 0."""
    flat = [spectrum for member in spectra for size in member for spectrum in size]
    ratios = (
        spectrum.most_negative / spectrum.eigenvalues[-1]
        for spectrum in flat
        if spectrum.eigenvalues[-1] > 0
    )
    return RoundOff(
        n_eigenvalues=sum(len(spectrum.eigenvalues) for spectrum in flat),
        n_negative=sum(spectrum.n_negative for spectrum in flat),
        worst_relative=float(min(ratios, default=0.0)),
    )


def pad_eigenvalues(
    spectra: Spectra, /
) -> Float[np.ndarray, "n_members n_sizes n_kernels n_largest"]:
    """Return all eigenvalues, ascending, in one array with at least one kernel for each size.

    Missing eigenvalues are NaN.
    """
    flat = [size for member in spectra for size in member]
    n_kernels = max(1, *map(len, flat))
    n_largest = max((len(spectrum.eigenvalues) for size in flat for spectrum in size), default=0)
    array = np.full((len(flat), n_kernels, n_largest), np.nan)
    for place, size in enumerate(flat):
        for output, spectrum in enumerate(size):
            array[place, output, : len(spectrum.eigenvalues)] = spectrum.eigenvalues
    return array.reshape(len(spectra), len(spectra[0]), n_kernels, n_largest)
