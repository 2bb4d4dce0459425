"""Define Findings: tests of P2's findings on learning dynamics with all recordings."""

from pathlib import Path

import pandas as pd
import plotly.io
import zntrack

from collective_variables.analysis import entropy_phases
from collective_variables.papers import claims, claims_2024, report, results_2024
from nodes import _files
from nodes.scaling_study import ScalingStudy
from nodes.train_agent import TrainAgent
from nodes.train_autoencoder import TrainAutoencoder

Recorded = ScalingStudy | TrainAutoencoder | TrainAgent
KINDS = {TrainAutoencoder: "autoencoder", TrainAgent: "agent"}


class Findings(zntrack.Node):
    """Test the findings of P2 (`collective_variables.papers.claims_2024`) on all recordings.

    Args:
        resolution: Smallest change of the entropy in nats that counts as a phase
            (`collective_variables.analysis.entropy_phases`).
        confidence: Confidence of all intervals, and 1 - level of the tests.
    """

    recorded: list[Recorded] = zntrack.deps()

    resolution: float = zntrack.params(entropy_phases.RESOLUTION)
    confidence: float = zntrack.params(0.95)

    code: Path = zntrack.deps_path(Path("nodes/Sources/Findings.txt"))
    evidence_path: Path = zntrack.outs_path(zntrack.nwd / "evidence.csv")
    findings_path: Path = zntrack.outs_path(zntrack.nwd / "findings.json")
    networks_path: Path = zntrack.outs_path(zntrack.nwd / "networks.csv")
    phases_path: Path = zntrack.outs_path(zntrack.nwd / "phases.csv")
    laws_path: Path = zntrack.outs_path(zntrack.nwd / "laws.csv")
    pictures_path: Path = zntrack.outs_path(zntrack.nwd / "pictures.json")
    verdicts: dict = zntrack.metrics()

    def run(self) -> None:
        """Write the evidence, the verdicts, the tables and the figures."""
        groups = {node.nwd.parent.name: _group(node) for node in self.recorded}
        evidence = claims_2024.evidence(groups, confidence=self.confidence)
        _files.write_table(self.evidence_path, evidence)
        _files.write_values(
            self.findings_path, claims.claims_record(evidence, claims_2024.FINDINGS)
        )
        for table in results_2024.tables(
            groups, resolution=self.resolution, confidence=self.confidence
        ):
            _files.write_table(getattr(self, f"{table.name}_path"), table.frame)
        pictures = [
            picture._asdict() | {"figure": picture.figure.to_json()}
            for picture in results_2024.pictures(groups)
        ]
        _files.write_values(self.pictures_path, pictures)
        self.verdicts = (
            claims.judge_claims(evidence, claims_2024.FINDINGS)
            .set_index("claim")["verdict"]
            .to_dict()
        )

    @property
    def part(self) -> report.Part:
        """Findings with their evidence."""
        evidence = _files.read_table(self, self.evidence_path)
        return report.Part(
            "findings", "Findings on learning dynamics", claims_2024.FINDINGS, evidence
        )

    @property
    def tables(self) -> list[report.Table]:
        """Networks, phases of their entropy, and power laws."""
        return [
            report.Table(name, *words, _files.read_table(self, getattr(self, f"{name}_path")))
            for name, words in results_2024.TABLES.items()
        ]

    @property
    def pictures(self) -> list[report.Picture]:
        """Figures with their captions."""
        pictures = _files.read_node_values(self, self.pictures_path)
        return [
            report.Picture(**picture | {"figure": plotly.io.from_json(picture["figure"])})
            for picture in pictures
        ]


def _group(node: Recorded) -> claims_2024.Group:
    if isinstance(node, ScalingStudy):
        return claims_2024.Group(node.recording, node.cases, node.modes, node.kind)
    return claims_2024.Group(node.recording, {}, pd.DataFrame(), KINDS[type(node)])
