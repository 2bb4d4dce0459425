"""Settings of the measurement of an ensemble: how kernels and spectra are computed."""

from dataclasses import dataclass

from collective_variables import _checks
from collective_variables.kernels import empirical
from collective_variables.observables import lanczos, spectrum, subsampling


@dataclass(frozen=True)
class Settings:
    """How kernels and their spectra are computed, and what else is measured.

    Attributes:
        outputs: As in `empirical.empirical_ntk`. "per-output" gives a kernel for each output, whose
            collective variables are averaged; "full" gives one kernel with a row for each point and
            output.
        implementation: As in `empirical.empirical_ntk`.
        block_size: As in `empirical.empirical_ntk`.
        dtype: "float32" or "float64", of points, parameters and kernel. The networks are the same
            in both.
        spectrum: "exact" decomposes every kernel, in float64. "stochastic" estimates entropy, trace
            and largest eigenvalue from products of the kernel (`lanczos.estimate_entropy`); it
            requires the outputs "mean" or "sum". "auto" estimates if kernel and decomposition do
            not fit in the free memory.
        n_leading: As in `lanczos.estimate_entropy`.
        n_probes: As in `lanczos.estimate_entropy`.
        n_steps: As in `lanczos.estimate_entropy`.
        subsample: {"n_samples", "sample_size"} of `subsampling.draw_samples`; None for no samples.
        accuracy: Relative accuracy for `subsampling.plan_samples`; None for no plan.
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

    def check_one_kernel(self, feature: str) -> None:
        """Raise ValueError unless there is one kernel with a row per point, as `feature` needs."""
        if self.outputs not in spectrum.ONE_KERNEL:
            raise ValueError(
                f"outputs must be mean or sum for {feature}: received {self.outputs!r}."
            )
