"""A module with a network, as the file of a user."""

MODELS = """\
import flax.linen as nn


class Residual(nn.Module):
    n_outputs: int

    @nn.compact
    def __call__(self, x):
        hidden = nn.Dense(8)(x)
        return nn.Dense(self.n_outputs)(hidden + nn.relu(nn.Dense(8)(hidden)))


def broken():
    return int("no number")
"""
