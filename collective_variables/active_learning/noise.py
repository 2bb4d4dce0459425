"""Assume how noisy labels are, in the unit of a kernel."""

import numpy as np
from jaxtyping import Float

SHARE = 0.1  # of the root of the mean prior variance


def default_noise(features: Float[np.ndarray, "n_pool n_features"], /) -> float:
    """Return a standard deviation of labels that suits these features; 1 if all of them are 0.

    The scale of a network's kernel follows from its widths, and says nothing of labels. With 0.1 of
    the root of the mean prior variance, a label leaves about 1 % of the variance of its row. With
    less, the smallest distances of the kernel would count, in which it is least reliable.

    Example:
        >>> import numpy as np
        >>> default_noise(np.array([[2.0, 0.0], [0.0, 2.0]]))
        0.2
    """
    return SHARE * float(np.sqrt(np.vecdot(features, features).mean())) or 1.0
