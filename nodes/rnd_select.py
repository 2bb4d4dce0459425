"""RNDSelect: subsets of the pool chosen by random network distillation."""

import zntrack

from nodes import select_subset, sources


class RNDSelect(select_subset.SelectSubset):
    """SelectSubset with random network distillation, the method that all others are compared with.

    method: rnd, its best form, or paper, that of Tovey et al. 2023.
    options: fields of `collective_variables.selection.rnd_linearised.Settings` for rnd, of
        `collective_variables.selection.rnd.Settings` for paper, and what
        `collective_variables.selection.registry.select_by` says.
    """

    method: str = zntrack.params("rnd")

    code: tuple = zntrack.deps_path(sources.of(select_subset.__file__, "nodes/rnd_select.py"))
