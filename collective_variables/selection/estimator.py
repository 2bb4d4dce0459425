"""Choose rows of a table by random network distillation, with scikit-learn's conventions."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from collective_variables import _extras
from collective_variables.ensembles import seeding
from collective_variables.selection import base, rnd_linearised

with _extras.required("sklearn"):
    from sklearn.base import BaseEstimator
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import validate_data  # pyrefly: ignore[missing-module-attribute]


class RNDSelector(BaseEstimator):
    """Choose rows of a table by random network distillation with a linearised predictor.

    The method is `select(..., method="rnd-linearised")`; see `LinearisedRNDSettings`.

    Args:
        n_selected: Number of rows to choose, beyond those already labelled; None ranks all rows.
        depth: Number of hidden layers of the network.
        activation: Activation of the hidden layers.
        normalisation: Normalisation of the table. "standard" gives every column mean 0 and standard
            deviation 1 (0 for a constant column), "unit" gives every row the norm 1, "none" changes
            nothing.
        first: "best" chooses the first row by the rule, "random" draws it.
        random_state: A seed, a generator, or None for another choice each time. It matters if
            `first` is "random", and for tables with more than 1024 rows, for which the choice
            compares a sample.

    Attributes:
        indices_: (n_selected,) rows of the table, in the order of choice.
        distances_: (n_selected,) distance of each row when it was chosen; NaN without one.
        n_features_in_: Number of columns of the table.

    Example:
        >>> import collective_variables as cv, numpy as np
        >>> table = np.array([[0.0, 0.0], [0.1, 0.0], [3.0, 4.0], [3.0, 4.1]])
        >>> cv.RNDSelector(2, random_state=0).fit(table).indices_ // 2
        array([1, 0])
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
        """Choose rows of a table.

        Args:
            X: (n_samples, n_features) table.
            y: Ignored.
            labelled: Rows of X that are labelled already. They count as chosen and are not among
                `indices_`.

        Returns:
            This object.

        Raises TypeError or ValueError for a table that is not finite or has fewer rows than are to
        be chosen.
        """
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        settings = rnd_linearised.LinearisedRNDSettings(
            depth=self.depth,
            activation=self.activation,
            normalisation=self.normalisation,
            first=self.first,
        )
        seed = int(check_random_state(self.random_state).randint(seeding.MAX_SEED, dtype=np.uint32))
        labelled = base.check_labelled(labelled, len(X))
        n_new = len(X) - len(labelled) if self.n_selected is None else self.n_selected
        selection = rnd_linearised.select(
            X,
            settings,
            n_selected=len(labelled) + n_new,
            key=seeding.key(seed, "rnd"),
            labelled=labelled,
        )
        self.indices_ = selection.indices[0, len(labelled) :]
        self.distances_ = selection.distances[0, len(labelled) :]
        return self
