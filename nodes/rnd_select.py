"""Define RNDSelect: subsets of the pool chosen by random network distillation."""

from pathlib import Path

import zntrack

from nodes import select_subset


class RNDSelect(select_subset.SelectSubset):
    """Choose subsets by random network distillation, with which all other methods are compared.

    Args:
        method: "rnd", Algorithm 1 of Tovey et al. 2023 with a trained predictor, or
            "rnd-linearised".
        options: Options of the method: fields of `collective_variables.selection.rnd.RNDSettings`
            for "rnd", or of `collective_variables.selection.rnd_linearised.LinearisedRNDSettings`
            for "rnd-linearised", and those of `collective_variables.selection.registry.select_by`.
    """

    method: str = zntrack.params("rnd")

    code: Path = zntrack.deps_path(Path("nodes/Sources/RNDSelect.txt"))
