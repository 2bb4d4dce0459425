"""Random network distillation by scikit-learn's conventions:
`RNDSelector(n_selected=100).fit(X).indices_`.
"""

from dataclasses import fields
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data  # pyrefly: ignore[missing-module-attribute]

from collective_variables.ensembles import seeding
from collective_variables.selection import rnd_linearised


class RNDSelector(BaseEstimator):
    """Choose rows of a table by random network distillation with a linearised predictor
    (`rnd_linearised.select`).

    n_selected: rows to choose, without those already labelled; None ranks all rows. depth,
    activation, normalisation,
    first: of `rnd_linearised.Settings`. random_state: a seed, a generator, or None for another
    choice each time; it matters where `first` is "random", and in tables of more rows than are
    compared exactly.

    fit gives indices_ (n_selected,), rows of X in the order of choice, distances_ (n_selected,),
    the distance of each when it was chosen (NaN without one), and n_features_in_.
    """

    def __init__(
        self,
        n_selected: int | None = None,
        *,
        depth: int = 3,
        activation: str = "relu",
        normalisation: str = "standard",
        first: str = "best",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_selected = n_selected
        self.depth = depth
        self.activation = activation
        self.normalisation = normalisation
        self.first = first
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None, *, labelled: ArrayLike = ()) -> Self:
        """Choose rows of X (n_samples, n_features).

        y is not used. labelled: rows of X that are labelled already; they count as chosen and are
        not among `indices_`. Raises TypeError or ValueError for a table that is not finite or has
        fewer rows than are to be chosen.
        """
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        settings = rnd_linearised.Settings(
            **{
                of.name: getattr(self, of.name)
                for of in fields(rnd_linearised.Settings)
                if of.name in self.get_params()
            }
        )
        seed = int(check_random_state(self.random_state).randint(seeding.MAX_SEED, dtype=np.uint32))
        labelled = np.atleast_1d(np.asarray(labelled, dtype=np.int64))
        n_new = len(X) - len(labelled) if self.n_selected is None else self.n_selected
        chosen = rnd_linearised.select(
            X,
            settings,
            n_selected=len(labelled) + n_new,
            key=seeding.key(seed, "rnd"),
            labelled=labelled.tolist(),
        )
        self.indices_ = chosen.indices[0, len(labelled) :]
        self.distances_ = chosen.distances[0, len(labelled) :]
        return self
