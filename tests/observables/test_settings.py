"""Settings that do not fit together are refused when they are created."""

import pytest

from collective_variables.observables.measurement import Settings


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (
            {"outputs": "all"},
            ValueError,
            "outputs must be one of full, mean, per-output, sum: received 'all'.",
        ),
        (
            {"implementation": "fast"},
            ValueError,
            "implementation must be one of .*: received 'fast'.",
        ),
        (
            {"dtype": "float16"},
            ValueError,
            "dtype must be one of float32, float64: received 'float16'.",
        ),
        (
            {"spectrum": "some"},
            ValueError,
            "spectrum must be one of auto, exact, stochastic: received 'some'.",
        ),
        ({"block_size": 0}, ValueError, "block_size must be at least 1: received 0."),
        ({"n_leading": 0}, ValueError, "n_leading must be at least 1: received 0."),
        ({"n_probes": 2}, ValueError, "n_probes must be at least 3: received 2."),
        ({"n_steps": "ten"}, TypeError, "n_steps must be an integer: received 'ten'."),
        (
            {"subsample": 5},
            ValueError,
            "subsample must have n_samples and sample_size: received 5.",
        ),
        (
            {"subsample": {"n_samples": 5}},
            ValueError,
            "subsample must have n_samples and sample_size: .*{'n_samples",
        ),
        (
            {"subsample": {"n_samples": 1, "sample_size": 5}},
            ValueError,
            "subsample.n_samples must be at least 2: received 1.",
        ),
        (
            {"subsample": {"n_samples": 2, "sample_size": 0}},
            ValueError,
            "subsample.sample_size must be at least 1: received 0.",
        ),
        ({"accuracy": 0}, ValueError, "accuracy must be greater than 0.0: received 0."),
        (
            {"outputs": "full", "spectrum": "stochastic"},
            ValueError,
            "outputs must be mean or sum for spectrum stochastic: received 'full'.",
        ),
        (
            {"outputs": "per-output", "accuracy": 0.1},
            ValueError,
            "outputs must be mean or sum for subsample and accuracy: received 'per-output'.",
        ),
    ],
)
def test_unfit_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Settings(**settings)
