"""Name variables, methods and parametrisations in figures, tables and legends."""

VARIABLES = {
    "n_points": "Subset size n",
    "entropy": "Entropy S",
    "trace": "Trace Tr",
    "largest_eigenvalue": "Largest eigenvalue",
    "effective_rank": "Effective rank exp S",
    "effective_entropy": "Entropy S / ln n",
    "trace_per_point": "Trace Tr / n",
    "largest_eigenvalue_fraction": "Largest eigenvalue / Tr",
    "min_test_loss": "Minimum test loss",
    "final_test_loss": "Final test loss",
    "min_train_loss": "Minimum train loss",
    "final_train_loss": "Final train loss",
    "max_test_accuracy": "Maximum test accuracy",
    "final_test_accuracy": "Final test accuracy",
}
# Losses are mean squared errors of standardised or one-hot targets, or cross-entropies.
UNITS = {
    "entropy": "nats",
    **dict.fromkeys(
        ("min_test_loss", "final_test_loss", "min_train_loss", "final_train_loss"), "no unit"
    ),
}
METHODS = {
    "random": "Random",
    "stratified": "Stratified",
    "rnd": "RND (Algorithm 1)",
    "rnd-linearised": "RND, linearised",
    "k-center": "k-center",
    "k-means++": "k-means++",
    "kernel-herding": "Kernel herding",
    "facility-location": "Facility location",
    "log-determinant": "Log determinant",
    "trace": "Largest trace",
    "best-entropy": "Best entropy of random sets",
    "greedy": "Greedy",
    "max-diag": "MaxDiag",
    "max-det": "MaxDet",
    "max-dist": "MaxDist",
    "bait": "BAIT",
    "frank-wolfe": "Frank–Wolfe",
    "lcmd": "LCMD",
    "typiclust": "TypiClust",
    "prob-cover": "ProbCover",
    "max-herding": "MaxHerding",
    "margin": "Margin",
    "predictive-entropy": "Predictive entropy",
    "ensemble-variance": "Ensemble variance",
}
PARAMETRISATIONS = {"lecun": "LeCun", "ntk": "NTK"}


def variable_label(name: str, /) -> str:
    """Return a variable's name in words, or an unknown name unchanged."""
    return VARIABLES.get(name, name)


def axis_label(name: str, /) -> str:
    """Return a variable's name in words with its unit, for an axis or a colour bar."""
    return f"{variable_label(name)} ({UNITS[name]})" if name in UNITS else variable_label(name)


def method_label(name: str, /) -> str:
    """Return a selection method's name in words, or an unknown name unchanged."""
    return METHODS.get(name, name)


def parametrisation_label(name: str, /) -> str:
    """Return a parametrisation's name in words, or an unknown name unchanged."""
    return PARAMETRISATIONS.get(name, name)


def method_order(name: str, /) -> tuple[bool, bool, str]:
    """Return the key by which figures sort methods.

    Random and the linearised RND come first, so that other methods do not change their colours.
    """
    return name != "random", name != "rnd-linearised", name != "rnd", name
