"""Measure one member of an ensemble: its network's kernel on nested subsets of points."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from collective_variables.ensembles import seeding
from collective_variables.observables import collective, lanczos, spectrum, subsampling
from collective_variables.observables._kernels import MemberKernel
from collective_variables.observables._settings import Settings

Row = dict[str, float]
KERNEL_VARIABLES = (*spectrum.SPECTRAL, "cosine_entropy", "magnitude_entropy")
VARIABLES = (*KERNEL_VARIABLES, "target_alignment", "centred_target_alignment")
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
# The columns of each table, after the member and its number of points.
COLUMNS = {
    "collective_variables": (*VARIABLES, *ERRORS),
    "per_output": ("output", *VARIABLES),
    "classes": ("class", "n_in_class", *KERNEL_VARIABLES),
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


@dataclass(frozen=True, eq=False)
class Member:
    """A network on the points of its largest subset, with the data of these points.

    Attributes:
        kernel: The kernel of the points.
        targets: Targets (n_points, n_outputs).
        classes: Classes (n_points,); None to measure none separately.
        limit: Kernel of infinite width (n_points, n_points); None for no comparison.
        seed: Seed of the ensemble.
        number: Number of the member; with the seed it determines the random keys.
    """

    kernel: MemberKernel
    targets: Float[np.ndarray, "n_points n_outputs"]
    classes: Int[np.ndarray, " n_points"] | None
    limit: Float[np.ndarray, "n_points n_points"] | None
    seed: int
    number: int

    def key(self, purpose: str) -> PRNGKeyArray:
        """Return the member's key for one purpose, as in `seeding.member_keys`."""
        return jax.random.fold_in(seeding.key(self.seed, purpose), self.number)


@dataclass(frozen=True, eq=False)
class Result:
    """The results for one member.

    Attributes:
        spectra: For each size, a list with one spectrum or one per output; empty if the variables
            were estimated.
        rows: Rows of each table.
    """

    spectra: list[list[spectrum.Spectrum]] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, table: str, n_points: int, rows: Sequence[Row]) -> None:
        """Append rows of a number of points to a table."""
        self.rows[table] += [{"n_points": n_points} | row for row in rows]


def measure_member(
    member: Member, sizes: Sequence[int], n_exact: int, settings: Settings
) -> Result:
    """Measure one member, on the first n points for each n of `sizes`.

    Samples and the limit of infinite width belong to the largest size.

    Args:
        member: The member.
        sizes: Numbers of points, ascending.
        n_exact: Kernels of up to this size are decomposed, larger ones are estimated.
        settings: How kernels are computed, and which variables are measured.

    Returns:
        Spectra and rows of the tables.
    """
    result = Result()
    variables: Row = {}
    for n in map(int, sizes):
        if n <= n_exact:
            spectra, rows = _decompose(member, n, settings.outputs)
        else:
            spectra, rows = _estimate(member, n, settings)
        variables = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        result.spectra.append(spectra)
        result.add("collective_variables", n, [variables])
        if settings.outputs == "per-output":
            result.add("per_output", n, [{"output": i} | row for i, row in enumerate(rows)])
        if member.classes is not None:
            classes = member.classes[:n]
            result.add("classes", n, collective.class_variables(member.kernel.among, classes))
    largest = int(sizes[-1])
    if member.limit is not None:
        result.add("limits", largest, [_compare_with_limit(member, largest, variables)])
    if settings.subsample is not None:
        result.add("samples", largest, _sample(member, largest, variables, settings.subsample))
    if settings.accuracy is not None:
        result.add("required", largest, [_plan(member, largest, variables, settings.accuracy)])
    return result


def _decompose(member: Member, n: int, outputs: str) -> tuple[list[spectrum.Spectrum], list[Row]]:
    """Return spectra and variables of the kernel of the first n points, or of each output's."""
    side = n * member.targets.shape[1] if outputs == "full" else n
    block = member.kernel.block[..., :side, :side]
    targets = member.targets[:n]
    if outputs == "per-output":
        pairs = [(kernel, targets[:, [output]]) for output, kernel in enumerate(block)]
    else:
        pairs = [(block, None if outputs == "full" else targets)]
    spectra = [spectrum.decompose(kernel) for kernel, _ in pairs]
    rows = [
        collective.kernel_variables(*pair, eigenvalues=result.eigenvalues)
        for pair, result in zip(pairs, spectra)
    ]
    # A kernel over all outputs has more rows than points.
    return spectra, [row | {"trace_per_point": row["trace"] / n} for row in rows]


def _estimate(
    member: Member, n: int, settings: Settings
) -> tuple[list[spectrum.Spectrum], list[Row]]:
    """Estimate the variables of the kernel of the first n points, with errors; no spectrum."""
    product, diagonal = member.kernel.product(n)
    estimate = lanczos.estimate_entropy(
        product,
        n,
        key=jax.random.fold_in(member.key("probes"), n),
        diagonal=diagonal,
        n_leading=settings.n_leading,
        n_probes=settings.n_probes,
        n_steps=settings.n_steps,
    )
    variables = spectrum.with_size_free_forms(
        estimate.entropy, estimate.trace, estimate.largest_eigenvalue, n
    )
    return [], [variables | {name: getattr(estimate, name) for name in ERRORS}]


def _compare_with_limit(member: Member, n: int, variables: Row) -> Row:
    """Compare the kernel of the first n points with that of infinite width."""
    kernel = member.kernel.among(np.arange(n))
    limit = member.limit[:n, :n]
    # The analytic kernel of nearly parallel points has half of the digits, so its round-off is that
    # of float32.
    values = spectrum.eigenvalues(limit.astype(np.float32))
    return {
        "relative_distance": collective.relative_distance(kernel, limit),
        "alignment": collective.kernel_alignment(kernel, limit),
        "entropy": variables["entropy"],
        "trace": variables["trace"],
        "limit_entropy": spectrum.entropy(values),
        "limit_trace": spectrum.trace(values),
    }


def _sample(member: Member, n: int, variables: Row, subsample: dict[str, int]) -> list[Row]:
    """Estimate variables from samples of the points, next to those of all points."""
    key = jax.random.fold_in(member.key("samples"), 0)
    samples = subsampling.draw_samples(member.kernel.among, n, **subsample, key=key)
    return [
        subsample
        | {
            "variable": name,
            "estimate": getattr(samples, name).mean,
            "standard_deviation": getattr(samples, name).standard_deviation,
            "exact": variables[name],
        }
        for name in SAMPLED
    ]


def _plan(member: Member, n: int, variables: Row, accuracy: float) -> Row:
    """Plan samples for an accuracy, next to the exact entropy of all points."""
    key = jax.random.fold_in(member.key("samples"), 1)
    plan = subsampling.plan_samples(member.kernel.among, n, accuracy=accuracy, key=key)
    columns = {name: getattr(plan, name) for name in REQUIRED}
    return {"accuracy": accuracy} | columns | {"exact_entropy": variables["entropy"]}
