"""Define Findings: tests of what later papers say on learning dynamics, with all recordings."""

from pathlib import Path

import pandas as pd
import plotly.io
import zntrack

from collective_variables.analysis import entropy_phases
from collective_variables.papers import claims, claims_2024, report, results_2024
from collective_variables.papers.position import claims as position_claims
from collective_variables.papers.position import results as position_results
from nodes import _files
from nodes.scaling_study import ScalingStudy
from nodes.train_agent import TrainAgent
from nodes.train_autoencoder import TrainAutoencoder

Recorded = ScalingStudy | TrainAutoencoder | TrainAgent
KINDS = {TrainAutoencoder: "autoencoder", TrainAgent: "agent"}


class Findings(zntrack.Node):
    """Test the findings on learning dynamics on all recordings.

    They are those of P2 (`collective_variables.papers.claims_2024`), and those of the papers after
    it on spectral position and scaling (`collective_variables.papers.position.claims`).

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
    position_path: Path = zntrack.outs_path(zntrack.nwd / "position.csv")
    findings_path: Path = zntrack.outs_path(zntrack.nwd / "findings.json")
    networks_path: Path = zntrack.outs_path(zntrack.nwd / "networks.csv")
    phases_path: Path = zntrack.outs_path(zntrack.nwd / "phases.csv")
    laws_path: Path = zntrack.outs_path(zntrack.nwd / "laws.csv")
    pictures_path: Path = zntrack.outs_path(zntrack.nwd / "pictures.json")
    verdicts: dict = zntrack.metrics()

    def run(self) -> None:
        """Write the evidence, the verdicts, the tables and the figures."""
        groups = {node.nwd.parent.name: _group(node) for node in self.recorded}
        verdicts, record = {}, []
        for findings, path in (
            (claims_2024, self.evidence_path),
            (position_claims, self.position_path),
        ):
            evidence = findings.evidence(groups, confidence=self.confidence)
            _files.write_table(path, evidence)
            record += claims.claims_record(evidence, findings.FINDINGS)
            judged = claims.judge_claims(evidence, findings.FINDINGS)
            verdicts |= judged.set_index("claim")["verdict"].to_dict()
        self.verdicts = verdicts
        _files.write_values(self.findings_path, record)
        for table in results_2024.tables(
            groups, resolution=self.resolution, confidence=self.confidence
        ):
            _files.write_table(getattr(self, f"{table.name}_path"), table.frame)
        pictures = [
            picture._asdict() | {"figure": picture.figure.to_json()}
            for picture in results_2024.pictures(groups) + position_results.pictures(groups)
        ]
        _files.write_values(self.pictures_path, pictures)

    @property
    def parts(self) -> list[report.Part]:
        """Findings with their evidence, those of P2 and those of the papers after it."""
        words = ("findings", "Findings on learning dynamics"), ("position", position_results.TITLE)
        known = claims_2024.FINDINGS, position_claims.FINDINGS
        paths = self.evidence_path, self.position_path
        return [
            report.Part(*texts, findings, _files.read_table(self, path))
            for texts, findings, path in zip(words, known, paths)
        ]

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
