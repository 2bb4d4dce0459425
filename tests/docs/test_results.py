"""The tables of the pages of results are what reference/ gives, and the words agree with them."""

import re

import numpy as np
import pandas as pd
import pytest
from compiled import ROOT

from benchmarks import write_pages
from benchmarks.pages import claims, experiments, paper_scale, readme, timings
from benchmarks.pages.files import GENERATED, PICTURES

DOCS = ROOT / "docs"
FRAGMENTS = write_pages.fragments()
PAGES = {
    page: page.read_text()
    for page in sorted(DOCS.rglob("*.md"))
    if GENERATED not in page.parents and page.parent.name != "api"
}
INCLUDED = re.compile(r'^--8<-- "results/generated/([^:"]*)\.md(?::[\w-]+)?"$', re.MULTILINE)
ORIGIN = re.compile(r"\*Printed by `[^`]+`.*(20\d\d-\d\d-\d\d, commit `\w+`|not committed yet)\.\*")


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_committed_fragment_is_what_reference_gives_and_says_where_it_is_from(name):
    text, _, origin = (GENERATED / f"{name}.md").read_text().rstrip("\n").rpartition("\n\n")
    assert text == FRAGMENTS[name].write(), "run `make results`"
    assert ORIGIN.fullmatch(origin)
    assert all((ROOT / source).exists() for source in FRAGMENTS[name].sources)


def test_every_fragment_has_its_file_and_its_page():
    included = {name for text in PAGES.values() for name in INCLUDED.findall(text)}
    files = {path.stem for path in GENERATED.iterdir()}
    home = {"six-findings", "paper-and-ours"}  # the home page and the README have these
    assert set(FRAGMENTS) <= files == included | home


@pytest.mark.parametrize("claim", claims.TITLES)
def test_every_claim_has_its_heading_anchor_and_evidence(claim):
    heading = f'### <a id="{claim.lower()}"></a>{claim}: {claims.TITLES[claim]}\n'
    _, found, rest = PAGES[DOCS / "results/index.md"].partition(heading)
    assert found
    assert INCLUDED.search(rest)[1] == f"claim-{claim.lower()}"


def test_every_picture_of_the_results_is_shown_with_words():
    shown = {
        (page.parent / path).resolve()
        for page, text in PAGES.items()
        for words, path in re.findall(r"!\[([^\]]+)\]\((.*?\.png)\)", text)
        if words
    }
    assert set(PICTURES.rglob("*.png")) <= shown


def test_the_readme_has_its_parts_as_reference_gives_them():
    text = readme.README.read_text()
    assert readme.replace_parts(text) == text, "run `make results`"


def test_parts_of_a_readme_are_replaced_between_their_markers():
    text = "# Title\n<!-- findings -->\nold\n<!-- /findings -->\nwords\n<!-- paper -->\n"
    new = readme.replace_parts(f"{text}<!-- /paper -->\nend\n")
    parts = list(readme.readme_parts().values())
    assert new == (
        f"# Title\n<!-- findings -->\n{parts[0]}\n<!-- /findings -->\nwords\n"
        f"<!-- paper -->\n{parts[1]}\n<!-- /paper -->\nend\n"
    )
    assert readme.replace_parts(text) == text  # without a marker of its end


def test_there_are_six_findings_with_a_number_each_and_at_most_ten_rows():
    findings = readme.six_findings().splitlines()
    assert len(findings) == 6
    without_links = [re.sub(r"\[.*?\]\(.*?\)", "", finding) for finding in findings]
    assert [len(re.findall(r"\d+(?:\.\d+)?", text)) for text in without_links] == [1] * 6
    assert len(readme.paper_and_ours().splitlines()) - 2 <= 10


def test_the_best_of_runs_leaves_out_those_that_diverged():
    runs = pd.DataFrame(
        {
            "group": "fuel-dense",
            "parametrisation": ["lecun", "lecun", "ntk"],
            "n_points": [5, 9, 7],
            "max_test_accuracy": np.nan,
            "min_test_loss": [0.5, 0.01, 0.3],
            "diverged": [False, True, False],
        }
    )
    best = experiments.best_runs(runs)
    assert best["min_test_loss"].tolist() == [0.5, 0.3]
    assert best["n_runs"].tolist() == [2, 1]
    assert best["n_points"].tolist() == [9, 7]


def test_means_of_limits_are_those_of_random_subsets():
    limits = pd.DataFrame({"method": ["random", "random", "rnd"], "n_points": [8, 10, 99]})
    limits["relative_distance"] = [0.1, 0.3, 5.0]
    others = ("alignment", "entropy", "limit_entropy", "trace", "limit_trace")
    means = experiments.mean_limits(limits.assign(**dict.fromkeys(others, 2.0)), "fuel")
    assert means["relative_distance"] == pytest.approx(0.2)
    assert means["relative_distance_standard_error"] == pytest.approx(0.1)
    assert (means["n_members"], means["n_points"], means["trace"]) == (2, 10, 2.0)


def test_a_line_of_a_benchmark_is_split_where_two_spaces_are():
    line = "MNIST conv, 100    ours   2.1 to    4.7    3.8e-07"
    assert timings.split_columns(line) == ["MNIST conv, 100", "ours", "2.1 to 4.7", "3.8e-7"]


def test_what_is_kept_of_differences_are_columns_that_they_have():
    second = readme.kept_runs()[1]
    assert set(experiments.DIFFERENCES) <= set(paper_scale.analyse(second).differences)
    kept = pd.read_csv(ROOT / "reference/differences.csv")
    assert list(kept) == experiments.DIFFERENCES
    assert set(kept["variable"]) == set(experiments.MEASURED)
