"""Ensemble: the one place where a group's members, subset sizes and seed are written."""

from pathlib import Path

import zntrack

from collective_variables.ensembles import subset_sizes
from nodes import files, sources
from nodes.alone import alone


class Ensemble(zntrack.Node):
    """Say how many members there are, how large their subsets, and which random numbers they use.

    n_members: independent repetitions; 20 per size in P1's Experiment 2, the runs of its Experiment
    1.
    n_points: a list of subset sizes, which every member goes through (Experiment 2), or `{low,
        high, distribution}`, from which each member draws one size (Experiment 1); distribution is
        "uniform" or "log-uniform".
    seed: of sizes, subsets, initial networks, RND's networks and mini-batches.
    """

    n_members: int = zntrack.params(20)
    n_points: list | dict = zntrack.params()
    seed: int = zntrack.params(0)

    code: tuple = zntrack.deps_path(sources.of(__file__))
    members_path: Path = zntrack.outs_path(zntrack.nwd / "members.json")
    n_points_path: Path = zntrack.outs_path(zntrack.nwd / "n_points.json")

    @alone
    def run(self) -> None:
        n_points = subset_sizes.draw(self.n_points, n_members=self.n_members, seed=self.seed)
        budget = {
            "n_members": self.n_members,
            "n_selected": subset_sizes.largest(self.n_points),
            "seed": self.seed,
        }
        files.write_values(self.members_path, budget)
        files.write_values(self.n_points_path, n_points.tolist())
