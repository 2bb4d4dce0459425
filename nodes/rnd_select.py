"""RNDSelect: subsets of the pool chosen by random network distillation."""

from pathlib import Path

import zntrack

from nodes import select_subset


class RNDSelect(select_subset.SelectSubset):
    """Choose subsets by random network distillation, with which all other methods are compared.

    Args:
        method: rnd, its best form, or paper, that of Tovey et al. 2023.
        options: Fields of `collective_variables.selection.rnd_linearised.Settings` for rnd, of
            `collective_variables.selection.rnd.Settings` for paper, and what
            `collective_variables.selection.registry.select_by` says.
    """

    method: str = zntrack.params("rnd")

    code: Path = zntrack.deps_path(Path("nodes/Sources/RNDSelect.txt"))
