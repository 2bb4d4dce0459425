"""Network: the one place where a group's architecture is written."""

from pathlib import Path

import zntrack

from collective_variables import checks, networks
from nodes import files, sources


class Network(zntrack.Node):
    """Check an architecture and hand it to the stages that select, measure and train.

    layers: such as "dense 32", "conv 32 3x3", "avgpool 4x4 stride 2" (`collective_variables.networks.parse`).
    activation: between the layers, never after the last.
    parametrisations: "lecun" and/or "ntk"; each is measured and trained, RND uses the first.
    padding: of convolutions, SAME or VALID.
    b_std: scale of the biases in "ntk", null for none.
    """

    layers: list = zntrack.params()
    activation: str = zntrack.params("relu")
    parametrisations: list = zntrack.params(default_factory=lambda: ["ntk"])
    padding: str = zntrack.params("SAME")
    b_std: float | None = zntrack.params(None)

    code: tuple = zntrack.deps_path(sources.of(__file__))
    architecture_path: Path = zntrack.outs_path(zntrack.nwd / "architecture.json")

    def run(self) -> None:
        checks.unique("parametrisations", self.parametrisations)
        names = ("layers", "activation", "parametrisations", "padding", "b_std")
        architecture = {name: getattr(self, name) for name in names}
        build(architecture)
        files.write_values(self.architecture_path, architecture)


def build(architecture: dict) -> dict[str, networks.Network]:
    """The networks of an architecture by parametrisation."""
    options = {name: architecture[name] for name in ("activation", "padding", "b_std")}
    return {
        parametrisation: networks.build(architecture["layers"], parametrisation=parametrisation, **options)
        for parametrisation in architecture["parametrisations"]
    }


def read(path: Path) -> dict[str, networks.Network]:
    """The networks that the stage Network wrote."""
    return build(files.read_values(path))
