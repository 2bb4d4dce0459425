"""Define Ensemble: the only place where a group's members, subset sizes and seed are written."""

from pathlib import Path

import zntrack

from collective_variables.ensembles import subset_sizes
from nodes import _files


class Ensemble(zntrack.Node):
    """Set the number of members, their subset sizes, and their random numbers.

    Args:
        n_members: Number of independent repetitions: 20 per size in P1's Experiment 2, the runs of
            its Experiment 1.
        n_points: A list of subset sizes, all of which every member uses (Experiment 2), or `{low,
            high, distribution}`, from which each member draws one size (Experiment 1); distribution
            is "uniform" or "log-uniform".
        seed: Seed of sizes, subsets, initial networks, RND's networks and mini-batches.
    """

    n_members: int = zntrack.params(20)
    n_points: list | dict = zntrack.params()
    seed: int = zntrack.params(0)

    code: Path = zntrack.deps_path(Path("nodes/Sources/Ensemble.txt"))
    members_path: Path = zntrack.outs_path(zntrack.nwd / "members.json")
    n_points_path: Path = zntrack.outs_path(zntrack.nwd / "n_points.json")

    def run(self) -> None:
        """Draw the subset sizes and write them with the number of members and the seed."""
        n_points = subset_sizes.draw(self.n_points, n_members=self.n_members, seed=self.seed)
        budget = {
            "n_members": self.n_members,
            "n_selected": subset_sizes.largest(self.n_points),
            "seed": self.seed,
        }
        _files.write_values(self.members_path, budget)
        _files.write_values(self.n_points_path, n_points.tolist())
