"""Sketched features of the empirical neural tangent kernel."""

from collective_variables.kernels.features.sketches import compute_features as compute_features
from collective_variables.kernels.features.sketches import ntk_features as ntk_features
