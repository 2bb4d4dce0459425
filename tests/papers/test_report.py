"""The page as its source, and as a browser draws it."""

import functools

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from pages import Elements, in_browser, widths_in_frames

from collective_variables.papers import claims_2023, figures_2023, report
from collective_variables.papers.pages import graph

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
            "lines",
            "Lines",
            AWKWARD,
            go.Figure(
                go.Scatter(
                    x=[1, 2],
                    y=[3.0, float("nan")],
                    error_y={"array": np.array([1.0, 2.0]), "arrayminus": [0.5, 1]},
                    name=AWKWARD,
                )
            ),
            "What a line shows.",
            "dvc repro all_Report",
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
    settings={
        "fuel_Network": {"padding": "SAME"},
        "fuel_Other": {"layers": ["dense 32", "dense 1"], "b_std": None},
    },
    about="JAX 0.10 on a CPU.",
    stages=[
        graph.Stage("fuel_Network", "Network", "fuel", [], "nodes/network.py", {"padding": "SAME"}),
        graph.Stage(
            "fuel_TrainModel",
            "TrainModel",
            "fuel",
            ["fuel_Network"],
            "nodes/train_model.py",
            {},
            3.21,
        ),
    ],
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
    # The list of contents, of the two tables the short one, and the first group of stages.
    assert source().attributes("open", "details") == [None] * 3
    cells = [report.table_cells(CONTENT.tables[1])["rows"][row][0]["text"] for row in range(3)]
    assert cells == ["∞", "–", "0.333"]


def test_large_numbers_have_no_power_of_ten_and_columns_of_numbers_a_head_at_their_right():
    frame = pd.DataFrame({"name": ["a"], "trace": [67370.2], "count": [2.5e9]})
    cells = report.table_cells(report.Table("name", "Title", "", frame))
    assert [cell["text"] for cell in cells["rows"][0]] == ["a", "67370", "2.5e+09"]
    assert [cell["is_number"] for cell in cells["header"]] == [False, True, True]


def test_the_answer_comes_first_and_verdicts_before_the_words_of_the_claims():
    text = " ".join(source().texts)
    n_claims = len(claims_2023.CLAIMS)
    answer = f"Claims: of {n_claims}, 0 are supported, 1 is not supported and "
    assert answer in text and text.index(answer) < text.index("Evidence", text.index(answer))
    heads = [text for text in source().texts if text in ("Claim", "Verdict", "What the paper says")]
    assert heads == ["Claim", "Verdict", "What the paper says"]


def test_a_figure_says_what_it_shows_and_has_its_command_and_its_data():
    texts = source().texts
    place = texts.index("What a line shows.")
    assert texts[place : place + 4] == [
        "What a line shows.",
        "Download the data (CSV)",
        "Made by",
        "dvc repro all_Report",
    ]
    assert source().attributes("data-plot", "button") == ["lines", "points"]


def test_each_stage_is_drawn_and_leads_to_its_time_code_and_parameters():
    texts, links = source().texts, source().attributes("href", "a")
    assert "TrainModel, 3.2 s" in texts and "Network" in texts
    assert "#stage-fuel_Network" in links and "stage-fuel_Network" in source().attributes("id")
    assert "nodes/train_model.py" in texts and "padding: SAME" in texts
    # Settings of other sections alone are listed apart.
    assert "fuel_Other" in texts and texts.count("fuel_TrainModel") == 2  # title and row


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
    assert "url(" not in page() and len(page()) < 2.5e6


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
    _, messages = in_browser(page().replace("Plotly.react(place", "Plotly.reacts(place"), tmp_path)
    assert len(messages) == 1 and "Uncaught (in promise) TypeError" in messages[0]


SAVE = """<script>
document.querySelectorAll("button[data-plot]").forEach((button) => {
  const text = document.createElement("pre");
  text.textContent = csv(read(document.getElementById(`plot-${button.dataset.plot}`)));
  document.body.append(text);
});
</script></body>"""


def test_the_data_of_a_figure_are_a_table_with_the_names_of_its_axes(tmp_path):
    band = go.Scatter(x=[1, 2, 2, 1], y=[6.0, 8.0, 2.0, 4.0], fill="toself")
    figure = go.Figure(go.Scatter(x=np.array([1, 2]), y=np.array([5.0, 5.5]), name='a "b", c'))
    figure.add_trace(band).update_layout(xaxis_title="Epoch", yaxis_title="Loss")
    numbers = np.arange(4.0).reshape(2, 2)
    maps = go.Figure(go.Heatmap(x=["u", "v"], y=["1", "2"], z=numbers, colorbar_title="Trace"))
    maps.update_layout(coloraxis_showscale=True)
    pictures = [
        CONTENT.pictures[0],
        report.Picture("band", "Band", "", figure),
        report.Picture("map", "Map", "", maps),
    ]
    made = report.html(CONTENT._replace(pictures=pictures))
    document, messages = in_browser(made.replace("</body>", SAVE), tmp_path)
    assert messages == []
    lines, band, heat = document.rpartition("</script><pre>")[2].split("</pre><pre>")
    assert lines.splitlines()[0] == "series,x,y,low,high"
    assert lines.splitlines()[1].endswith(",1,3,2.5,4")
    assert band.splitlines() == [
        "series,x_name,x,y_name,y,low,high",
        '"a ""b"", c",Epoch,1,Loss,5,4,6',
        '"a ""b"", c",Epoch,2,Loss,5.5,2,8',
    ]
    assert heat.partition("</pre>")[0].splitlines() == [
        "x,y,value_name,value",
        "u,1,Trace,0",
        "v,1,Trace,1",
        "u,2,Trace,2",
        "v,2,Trace,3",
    ]


def test_a_figure_of_four_panels_fits_a_phone_and_a_screen(tmp_path):
    summary = pd.DataFrame({"group": list("abcd"), "parametrisation": "ntk", "method": "random"})
    summary = summary.assign(n_points=5, trace=1.0, trace_lower=0.5, trace_upper=1.5)
    figure = figures_2023.comparison(summary, "trace")
    made = report.html(CONTENT._replace(pictures=[report.Picture("trace", "Trace", "", figure)]))
    widths = widths_in_frames(made, tmp_path, [390, 1400])
    assert widths == ["1400 of 1400 drawn", "390 of 390 drawn"]


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
