"""What is measured of one member of an ensemble: its network's kernel on nested subsets of
points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.kernels import empirical, products
from collective_variables.observables import collective, lanczos, spectrum, subsampling

Row = dict[str, float]
OF_KERNEL = (*spectrum.SPECTRAL, "cosine_entropy", "magnitude_entropy")
VARIABLES = (*OF_KERNEL, "target_alignment", "centred_target_alignment")
ERRORS = (
    "entropy_standard_error",
    "entropy_quadrature_error",
    "trace_standard_error",
    "largest_eigenvalue_residual",
)
SAMPLED = ("entropy", "trace", "effective_entropy", "trace_per_point")
REQUIRED = (
    "sample_size",
    "n_samples",
    "reachable",
    "relative_cost",
    "bias",
    "standard_deviation",
    "entropy",
    "entropy_uncertainty",
)
# The columns of each table, behind the member and its number of points.
COLUMNS = {
    "collective_variables": (*VARIABLES, *ERRORS),
    "per_output": ("output", *VARIABLES),
    "classes": ("class", "n_in_class", *OF_KERNEL),
    "limits": (
        "relative_distance",
        "alignment",
        "entropy",
        "trace",
        "limit_entropy",
        "limit_trace",
    ),
    "samples": ("sample_size", "n_samples", "variable", "estimate", "standard_deviation", "exact"),
    "required": ("accuracy", *REQUIRED, "exact_entropy"),
}


@dataclass(frozen=True)
class Settings:
    """How kernels and their spectra are computed, and which of them beyond the whole one.

    outputs, implementation, block_size: of `empirical.empirical_ntk`. "per-output" gives a kernel
    for each output, whose collective variables are averaged; "full" one with a row for each point
    and output.
    dtype: "float32" or "float64", of points, parameters and kernel. The networks are the same in
    both.
    spectrum: "exact" decomposes every kernel, in float64; "stochastic" estimates entropy, trace and
    largest eigenvalue from products of the kernel (`lanczos.estimate_entropy`, with n_leading,
    n_probes and n_steps), for outputs "mean" and "sum" alone; "auto" does so where kernel and
    decomposition don't fit the free memory.
    subsample: {"n_samples", "sample_size"} of `subsampling.subsampled`, None for none.
    accuracy: relative one of `subsampling.required`, None for none.
    """

    outputs: str = "mean"
    implementation: str = "auto"
    block_size: int | None = None
    dtype: str = "float32"
    spectrum: str = "auto"
    n_leading: int = 32
    n_probes: int = 32
    n_steps: int = 24
    subsample: dict[str, int] | None = None
    accuracy: float | None = None

    def __post_init__(self) -> None:
        _checks.choice("outputs", self.outputs, empirical.OUTPUTS)
        _checks.choice("implementation", self.implementation, empirical.IMPLEMENTATIONS)
        _checks.choice("dtype", self.dtype, ("float32", "float64"))
        _checks.choice("spectrum", self.spectrum, ("auto", "exact", "stochastic"))
        if self.block_size is not None:
            _checks.integer("block_size", self.block_size, minimum=1)
        _checks.integer("n_leading", self.n_leading, minimum=1)
        _checks.integer("n_probes", self.n_probes, minimum=lanczos.MIN_PROBES)
        _checks.integer("n_steps", self.n_steps, minimum=1)
        if self.subsample is not None:
            subsampling.check_subsample(self.subsample, smallest=1)
        if self.accuracy is not None:
            _checks.number("accuracy", self.accuracy, above=0.0)
        if self.spectrum == "stochastic":
            self.check_one_kernel("spectrum stochastic")
        if self.subsample is not None or self.accuracy is not None:
            self.check_one_kernel("subsample and accuracy")

    def check_one_kernel(self, what: str) -> None:
        """Raise ValueError unless there is one kernel with a row for each point, which `what`
        needs.
        """
        if self.outputs not in spectrum.ONE_KERNEL:
            raise ValueError(f"outputs must be mean or sum for {what}: received {self.outputs!r}.")


@dataclass(frozen=True, eq=False)
class Member:
    """A network on the points of its largest subset, its targets there, and what its measurements
    are made from.

    kernel: that of `empirical.empirical_ntk` on the first points, on as many as are decomposed;
    None for none.
    kernel_of(rows): the kernel of any of the points. product_of(n): products of that of the first
    n.
    classes: of the points. limit: their kernel of infinite width. Either may be None, and is then
    not measured.
    key(purpose): of what is drawn at random for it.
    """

    kernel: Float[np.ndarray, "..."] | None
    kernel_of: Callable[[Int[np.ndarray, " k"]], Float[np.ndarray, "k k"]]
    product_of: Callable[[int], products.KernelProduct]
    targets: Float[np.ndarray, "n_points n_outputs"]
    classes: Int[np.ndarray, " n_points"] | None
    limit: Float[np.ndarray, "n_points n_points"] | None
    key: Callable[[str], PRNGKeyArray]


@dataclass(frozen=True, eq=False)
class Result:
    """Spectra of every size, in a list of one, of one for each output or, if estimated, of none;
    rows of each table.
    """

    spectra: list[list[spectrum.Spectrum]] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in COLUMNS})


def measure_member(
    member: Member, sizes: Sequence[int], n_exact: int, settings: Settings
) -> Result:
    """Everything that `settings` and the parts of `member` ask for, on its first n points for each
    n of `sizes`.

    sizes: ascending. Those up to n_exact are decomposed, larger ones estimated. Samples and the
    limit of infinite width belong to the largest.
    """
    result, n, of_size, variables = Result(), 0, {}, {}
    for n in map(int, sizes):
        of_size = {"n_points": n}
        spectra, found = (
            _exact(member, n, settings.outputs) if n <= n_exact else _estimated(member, n, settings)
        )
        result.spectra.append(spectra)
        variables = {name: float(np.mean([row[name] for row in found])) for name in found[0]}
        result.rows["collective_variables"].append(of_size | variables)
        if settings.outputs == "per-output":
            result.rows["per_output"] += [
                of_size | {"output": output} | row for output, row in enumerate(found)
            ]
        if member.classes is not None:
            of_classes = collective.class_variables(member.kernel_of, member.classes[:n])
            result.rows["classes"] += [of_size | row for row in of_classes]
    if member.limit is not None:
        result.rows["limits"].append(of_size | _against_limit(member, n, variables))
    result.rows["samples"] += [of_size | row for row in _sampled(member, n, variables, settings)]
    result.rows["required"] += [of_size | row for row in _required(member, n, variables, settings)]
    return result


def _exact(member: Member, n: int, outputs: str) -> tuple[list[spectrum.Spectrum], list[Row]]:
    """Spectrum and collective variables of the kernel of the first n points, or of that of each
    output.
    """
    side = n * member.targets.shape[1] if outputs == "full" else n
    block, targets = member.kernel[..., :side, :side], member.targets[:n]
    pairs = [(block, None if outputs == "full" else targets)]
    if outputs == "per-output":
        pairs = [(kernel, targets[:, [output]]) for output, kernel in enumerate(block)]
    spectra = [spectrum.decompose(kernel) for kernel, _ in pairs]
    found = [
        collective.kernel_variables(*pair, eigenvalues=of.eigenvalues)
        for pair, of in zip(pairs, spectra)
    ]
    # A kernel over all outputs has more rows than points.
    return spectra, [row | {"trace_per_point": row["trace"] / n} for row in found]


def _estimated(
    member: Member, n: int, settings: Settings
) -> tuple[list[spectrum.Spectrum], list[Row]]:
    """No spectrum, and the collective variables of the kernel of the first n points from its
    products, with errors.
    """
    product, diagonal = member.product_of(n)
    found = lanczos.estimate_entropy(
        product,
        n,
        key=jax.random.fold_in(member.key("probes"), n),
        diagonal=diagonal,
        n_leading=settings.n_leading,
        n_probes=settings.n_probes,
        n_steps=settings.n_steps,
    )
    variables = spectrum.with_size_free_forms(
        found.entropy, found.trace, found.largest_eigenvalue, n
    )
    return [], [variables | {name: getattr(found, name) for name in ERRORS}]


def _against_limit(member: Member, n: int, variables: Row) -> Row:
    kernel, limit = member.kernel_of(np.arange(n)), member.limit[:n, :n]
    # Points that are nearly parallel have an analytic kernel of half the digits, so that its
    # round-off is float32's.
    values = spectrum.eigenvalues(limit.astype(np.float32))
    return {
        "relative_distance": collective.relative_distance(kernel, limit),
        "alignment": collective.kernel_alignment(kernel, limit),
        "entropy": variables["entropy"],
        "trace": variables["trace"],
        "limit_entropy": spectrum.entropy(values),
        "limit_trace": spectrum.trace(values),
    }


def _sampled(member: Member, n: int, variables: Row, settings: Settings) -> list[Row]:
    """Collective variables from samples of the points, beside those of all of them."""
    if settings.subsample is None:
        return []
    key = jax.random.fold_in(member.key("samples"), 0)
    found = subsampling.subsampled(member.kernel_of, n, **settings.subsample, key=key)
    samples = [(name, getattr(found, name)) for name in SAMPLED]
    return [
        settings.subsample
        | {
            "variable": name,
            "estimate": of.mean,
            "standard_deviation": of.standard_deviation,
            "exact": variables[name],
        }
        for name, of in samples
    ]


def _required(member: Member, n: int, variables: Row, settings: Settings) -> list[Row]:
    """The samples that a wanted accuracy takes, and the entropy extrapolated from a pilot, beside
    the exact one.
    """
    if settings.accuracy is None:
        return []
    key = jax.random.fold_in(member.key("samples"), 1)
    found = subsampling.required(member.kernel_of, n, accuracy=settings.accuracy, key=key)
    row = {name: getattr(found, name) for name in REQUIRED}
    return [{"accuracy": settings.accuracy} | row | {"exact_entropy": variables["entropy"]}]
