"""The page as its source, and as a browser draws it."""

import functools

import pandas as pd
import plotly.graph_objects as go
import pytest
from pages import Elements, in_browser

from collective_variables.papers import claims_2023, report

EVIDENCE = pd.DataFrame(
    {
        "claim": ["C1", "C1", "C7"],
        "group": ["fuel-dense", "mnist-dense", "fuel"],
        "parametrisation": ["lecun", "ntk", "ntk"],
        "variable": ["trace", "trace", "min_test_loss"],
        "effect": [-0.9, float("nan"), -0.1],
        "lower": [-0.95, float("nan"), -0.2],
        "upper": [-0.85, float("nan"), 0.05],
        "p_value": [0.0001, float("nan"), 0.25],
        "p_value_holm": [0.0002, float("nan"), 0.25],
        "n": [300, 0, 20],
        "n_lower": [float("nan"), float("nan"), 4],
        "n_undecided": [float("nan"), float("nan"), 3],
        "n_higher": [float("nan"), float("nan"), 1],
        "verdict": ["supported", "undecided", "not supported"],
    }
)
AWKWARD = "a < b & </script><script>alert(1)</script>"
CONTENT = report.Content(
    title="Does it hold?",
    introduction=["First.", AWKWARD],
    parts=[report.Part("claims", "Claims", claims_2023.CLAIMS, EVIDENCE)],
    pictures=[
        report.Picture(
            "lines", "Lines", AWKWARD, go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name=AWKWARD))
        ),
        report.Picture(
            "points",
            "Points",
            "Points.",
            go.Figure(go.Scattergl(x=[1, 2], y=[3, 4], mode="markers")),
        ),
    ],
    tables=[
        report.Table(
            "data",
            "Data",
            "What there is.",
            pd.DataFrame({"problem": ["fuel", AWKWARD], "n_points": [272, 1]}),
        ),
        report.Table(
            "many",
            "Many",
            "Numbers.",
            pd.DataFrame({"value": [float("inf"), float("nan"), 1 / 3, *range(20)]}, dtype=object),
        ),
    ],
    settings={"fuel_Network": {"layers": ["dense 32", "dense 1"], "b_std": None}},
    about="JAX 0.10 on a CPU.",
)


@functools.cache
def page():
    return report.html(CONTENT)


@functools.cache
def source():
    return Elements(page())


def test_every_claim_has_a_row_with_its_words_verdict_and_numbers():
    texts = " ".join(source().texts)
    for name, claim in claims_2023.CLAIMS.items():
        assert name in source().attributes(
            "id", "tr"
        ) and f"evidence-{name}" in source().attributes("id", "details")
        assert " ".join(claim.words.split()) in " ".join(texts.split())
    verdicts = source().attributes("class", "span")
    # C1 is undecided, because only one of its two networks supports it.
    assert verdicts.count("verdict supported") == 1
    assert verdicts.count("verdict not-supported") == 2
    # All claims but C7, and one row of evidence.
    assert verdicts.count("verdict undecided") == len(claims_2023.CLAIMS)


def test_numbers_are_written_with_their_interval_and_missing_ones_as_a_dash():
    texts = source().texts
    for expected in ("-0.90", "-0.95 … -0.85", "< 0.001", "4 / 3 / 1", "0.250", "– … –", "300"):
        assert expected in texts


def test_the_table_of_claims_says_how_large_the_effects_are():
    texts = source().texts
    assert (
        "-0.90 [-0.95, -0.85]" in texts and "-0.10 [-0.20, +0.05]" in texts and "– [–, –]" in texts
    )


def test_tables_show_three_digits_and_long_ones_are_folded():
    texts = source().texts
    assert "∞" in texts and "0.333" in texts and "n points" in texts
    assert source().attributes("open", "details") == [None]  # of the two tables the short one


def test_all_links_lead_to_a_place_of_the_page_and_names_are_unique():
    places = source().attributes("id")
    assert len(places) == len(set(places))
    links = source().attributes("href")
    assert len(links) > len(claims_2023.CLAIMS)
    assert all(link.startswith("#") and link[1:] in places for link in links)


def test_nothing_comes_from_elsewhere_and_texts_are_texts():
    assert source().attributes("src") == [] and source().attributes("href", "link") == []
    assert page().count("<script>alert(1)") == 0
    assert AWKWARD in source().texts
    scripts = [element for element, _ in source().elements if element == "script"]
    assert len(scripts) == 2 + len(CONTENT.pictures)


def test_wide_parts_can_be_reached_and_scrolled_by_keyboard():
    wide = [attributes for _, attributes in source().elements if attributes.get("class") == "wide"]
    assert len(wide) > len(claims_2023.CLAIMS)
    for attributes in wide:
        assert attributes["tabindex"] == "0" and attributes["role"] == "region"
        assert attributes["aria-label"]
    assert (
        source().attributes("name", "meta") == ["viewport"]
        and dict(source().elements)["html"]["lang"] == "en"
    )


def test_a_browser_draws_every_figure_without_an_error_or_a_network(tmp_path):
    document, messages = in_browser(page(), tmp_path)
    classes = Elements(document).attributes("class", "div")
    assert sum("js-plotly-plot" in names for names in classes) == len(CONTENT.pictures)
    assert document.count('class="main-svg"') >= len(CONTENT.pictures)
    assert messages == []


def test_an_error_in_the_page_would_be_seen(tmp_path):
    _, messages = in_browser(
        page().replace("Plotly.newPlot(place", "Plotly.newPlots(place"), tmp_path
    )
    assert len(messages) == 1 and "Uncaught TypeError" in messages[0]


@pytest.mark.parametrize(
    ("value", "boundaries", "text"),
    [
        (-0.0046, [0.0], "-0.005"),
        (-0.000004, [0.0], "-0.000004"),
        (0.004, [0.0], "+0.004"),
        (1e-9, [0.0], "+1e-09"),
        (0.0, [0.0], "+0.00"),
        (-0.1234, [0.0], "-0.12"),
        (0.8996, [0.9, 1.0], "+0.8996"),
        (0.9, [0.9, 1.0], "+0.90"),
        (0.9996, [0.9, 1.0], "+0.9996"),
        (2.5004, [1.5, 2.5], "+2.5004"),
        (-0.2983, [-0.3, 0.0], "-0.298"),
        (None, [0.0], "–"),
    ],
)
def test_a_number_has_as_many_digits_as_show_on_which_side_of_a_limit_it_is(
    value, boundaries, text
):
    assert report.number(value, boundaries) == text
