"""Define Network: the only place where a group's architecture is written."""

from pathlib import Path

import zntrack

from collective_variables import _checks, _errors
from collective_variables.networks import imported, sequential
from nodes import _files, _sources


class Network(zntrack.Node):
    """Check an architecture and pass it to the stages that select, measure and train.

    Args:
        model_files: Files that the model runs; main.py fills this in.
        layers: Layers such as "dense 32", "conv 32 3x3", "avgpool 4x4 stride 2"
            (`collective_variables.networks.sequential.parse`).
        model: Instead of layers, the import path of a custom network, such as
            "notebooks.models.Wide" (`collective_variables.networks.imported.load_model`). The
            parameters below `options` are for layers only.
        options: Arguments of the factory that makes the model.
        activation: Activation between the layers, never after the last.
        parametrisations: "lecun" and/or "ntk"; each is measured and trained, RND uses the first.
        padding: Padding of convolutions, SAME or VALID.
        b_std: Scale of the biases in "ntk", null for none.
    """

    model_files: list[Path] = zntrack.deps_path(default_factory=list)

    layers: list | None = zntrack.params(None)
    model: str | None = zntrack.params(None)
    options: dict = zntrack.params(default_factory=dict)
    activation: str = zntrack.params("relu")
    parametrisations: list = zntrack.params(default_factory=lambda: ["ntk"])
    padding: str = zntrack.params("SAME")
    b_std: float | None = zntrack.params(None)

    code: Path = zntrack.deps_path(Path("nodes/Sources/Network.txt"))
    architecture_path: Path = zntrack.outs_path(zntrack.nwd / "architecture.json")

    def run(self) -> None:
        """Check the architecture and write it."""
        architecture = self._from_layers() if self.model is None else self._from_model()
        build(architecture)
        _files.write_values(self.architecture_path, architecture)

    def _from_layers(self) -> dict:
        if self.layers is None:
            raise _errors.InvalidValueError(
                "A network must have layers or a model: received neither."
            )
        _checks.unique("parametrisations", self.parametrisations)
        return {
            name: getattr(self, name)
            for name in ("layers", "activation", "parametrisations", "padding", "b_std")
        }

    def _from_model(self) -> dict:
        if self.layers is not None:
            raise _errors.InvalidValueError(
                f"A network must have layers or a model: received {self.layers} and {self.model}."
            )
        expected = _sources.model_files(self.model)
        if sorted(expected) != sorted(map(str, self.model_files)):
            raise _errors.InvalidValueError(
                "The graph must follow the files of the model, "
                f"{', '.join(sorted(expected)) or 'none'}: received "
                f"{', '.join(map(str, self.model_files)) or 'none'}. Run python main.py."
            )
        # Stages that train the model read only this file, so an edit of its code must change it.
        version = _sources.digest(_sources.hashes(expected))[:16]
        in_words = (
            f"{self.model}({', '.join(f'{name}={value}' for name, value in self.options.items())})"
        )
        model = {"model": self.model, "options": self.options, "version": version}
        return model | {"layers": [in_words], "parametrisations": [imported.PARAMETRISATION]}


def build(architecture: dict) -> dict[str, sequential.Network | imported.Model]:
    """Return the networks of an architecture by parametrisation."""
    if "model" in architecture:
        model = imported.load_model(
            architecture["model"], architecture["options"], version=architecture["version"]
        )
        return {imported.PARAMETRISATION: model}
    options = {name: architecture[name] for name in ("activation", "padding", "b_std")}
    return {
        parametrisation: sequential.build_network(
            architecture["layers"], parametrisation=parametrisation, **options
        )
        for parametrisation in architecture["parametrisations"]
    }


def read(path: Path) -> dict[str, sequential.Network | imported.Model]:
    """Return the networks that the stage Network wrote."""
    return build(_files.read_values(path))
