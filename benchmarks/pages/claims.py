"""Show the claims of the papers next to our effects and verdicts, at each scale of our runs."""

import functools

import pandas as pd

from benchmarks._markdown import NONE, fold, table
from benchmarks.pages.files import read
from collective_variables.papers import claims, claims_2023, claims_2024, report
from collective_variables.papers.position.claims import FINDINGS as position_claims

# Short names, which are the headings of docs/results/index.md.
TITLES = {
    "C1": "A larger trace goes with a lower test loss",
    "C2": "A larger entropy goes with a lower test loss in dense networks",
    "C3": "In convolutional networks the entropy does not matter",
    "C4": "The spread of the test loss shrinks as trace and entropy grow",
    "C5": "Entropy and trace matter beyond the subset size",
    "C6": "Larger entropy and trace go with larger train losses",
    "C7": "RND gives a lower minimum test loss than random choice",
    "C8": "RND gives less over-fitting",
    "C9": "RND gives a larger entropy or trace",
    "C10": "The NTK parametrisation has traces a hundred times smaller",
    "C11": "The largest eigenvalue approximates the trace",
    "F1": "Small networks compress information",
    "F2": "Large networks form structure",
    "F3": "Size decides between compression and structure formation",
    "F4": "The trace grows while the loss falls",
    "F5": "The trace grows in every architecture",
    "F6": "Errors along large eigenvalues fall faster",
    "G1": "The spectral position falls during training",
    "G2": "Larger models reach a lower spectral position",
    "G3": "Frozen features stall earlier",
    "G4": "The early fall is one curve over compute",
    "H1a": "Points and parameters have similar exponents",
    "H1b": "Points and parameters change the kernel in opposite ways",
    "H2": "Feature learning is lost as the width grows",
}
# The kinds of runs of each paper, and the file of their evidence.
SCALES = {
    "C": {
        "default parameters": "evidence.csv",
        "the paper's numbers of runs": "paper/evidence.csv",
    },
    "F": {
        "default parameters": "dynamics/evidence.csv",
        "1000 images, 500 epochs": "paper/evidence-dynamics.csv",
    },
    "G": {"default parameters": "dynamics/position.csv"},
    "H": {"default parameters": "dynamics/position.csv"},
}
STATEMENTS = {
    "C": claims_2023.CLAIMS,
    "F": claims_2024.FINDINGS,
    **{
        paper: {name: claim for name, claim in position_claims.items() if name[0] == paper}
        for paper in "GH"
    },
}
SHORTER = {"lecun": "LeCun", "ntk": "NTK", "both": "LeCun over NTK"}


def sources(claim: str) -> tuple[str, ...]:
    """Return the files that hold the evidence for a claim."""
    return tuple(f"reference/{name}" for name in SCALES[claim[0]].values())


@functools.cache
def judge(paper: str, scale: str) -> dict[str, dict]:
    """Return the judgement of each claim of a paper ("C", "F", "G" or "H") at a scale."""
    evidence = read(SCALES[paper][scale])
    judged = claims.judge_claims(evidence, STATEMENTS[paper]).dropna(subset="smallest")
    return {row["claim"]: row for row in judged.to_dict("records")}


def effects_cell(judged: dict) -> str:
    """Return effects and the ends of their intervals in two lines of a cell."""
    values, _, interval = report.effects(judged).partition(" [")
    return f"{values}<br>[{interval}".replace(" ", "\u00a0")


def emphasise(verdict: str) -> str:
    """Return a verdict, in bold if it is decided."""
    return verdict if verdict == claims.UNDECIDED else f"**{verdict}**"


def summary(paper: str) -> str:
    """Return a row for each claim of a paper: our effects and verdicts at each scale."""
    rows = []
    scales = list(SCALES[paper])
    for claim in STATEMENTS[paper]:
        row = [f"[{claim}](#{claim.lower()})", TITLES[claim]]
        for scale in scales:
            judged = judge(paper, scale).get(claim)
            row += [effects_cell(judged), emphasise(judged["verdict"])] if judged else [NONE] * 2
        rows.append(row)
    header = ["claim", "in short"]
    for scale in scales:
        header += [f"effects, {scale}", "verdict"]
    return table(header, rows)


def describe(claim: str) -> str:
    """Return the text of a claim, our effects and verdicts, and the evidence of each network."""
    paper = claim[0]
    statement = STATEMENTS[paper][claim]
    judged = {scale: judge(paper, scale).get(claim) for scale in SCALES[paper]}
    rows = [
        [scale, effects_cell(row), emphasise(row["verdict"]), row["why"]]
        for scale, row in judged.items()
        if row
    ]
    header = ["our runs", "effects [and ends of their intervals]", "verdict", "in detail"]
    evidence = [
        fold(f"Evidence for {claim}, {scale}: each network", evidence_table(claim, scale))
        for scale, row in judged.items()
        if row
    ]
    measured = f"Measured: {statement.effect}."
    return "\n\n".join([f"> {statement.words}", measured, table(header, rows), *evidence])


def evidence_table(claim: str, scale: str) -> str:
    """Return all rows of evidence for a claim at a scale."""
    evidence = read(SCALES[claim[0]][scale])
    boundaries = STATEMENTS[claim[0]][claim].boundaries
    part = evidence[evidence["claim"] == claim]
    has_sizes = bool(part["n_lower"].notna().any())
    rows = []
    for row in part.itertuples():
        effect, *ends = (
            report.number(value, boundaries) for value in (row.effect, row.lower, row.upper)
        )
        cells = [row.group, SHORTER.get(row.parametrisation, row.parametrisation)]
        cells += [row.variable.replace("_", " "), f"{effect} [{', '.join(ends)}]"]
        cells += [_probability(row.p_value_holm), f"{row.n:.0f}"]
        if has_sizes:
            cells.append(f"{row.n_lower:.0f} / {row.n_undecided:.0f} / {row.n_higher:.0f}")
        rows.append([*cells, row.verdict])
    header = ["group", "parametrisation" if claim[0] == "C" else "network", "variable", "effect"]
    header += ["p, corrected", "n"]
    if has_sizes:
        header.append("sizes below / undecided / above random")
    return table([*header, "verdict"], rows)


def _probability(value: float) -> str:
    return NONE if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
