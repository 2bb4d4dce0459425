"""Where the panels of a figure are when a page is as wide as a screen, and as a phone."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from collective_variables.papers import figures_2023, figures_2024
from collective_variables.papers.pages import panels


def summary(groups, parametrisations=("lecun", "ntk")):
    keys = ["group", "parametrisation", "method", "n_points"]
    levels = [list(groups), parametrisations, ["random", "rnd-linearised"], [5, 10]]
    table = pd.MultiIndex.from_product(levels, names=keys).to_frame(index=False)
    return table.assign(trace=1.0, trace_lower=0.5, trace_upper=1.5)


def recording(level):
    columns = {"member": 0, "points": "train", "epoch": [0, 9], "loss": [level, 1.0]}
    return pd.DataFrame(columns | {"entropy": [level, 2.0], "trace": [level, 3.0]})


def boxes(layout):
    """The domains of each panel, by the name of its x axis."""
    names = [name.removeprefix("xaxis") for name in layout if name.startswith("xaxis")]
    return {
        name: (*layout[f"xaxis{name}"]["domain"], *layout[f"yaxis{name}"]["domain"])
        for name in names
    }


def pixels(layout):
    """The height of each panel."""
    height = layout["height"] - layout["margin"]["t"] - layout["margin"]["b"]
    return [(box[3] - box[2]) * height for box in boxes(layout).values()]


def test_panels_keep_their_height_and_never_overlap():
    figure = figures_2023.comparison(summary("abcd"), "trace")
    for made in panels.wrap(figure)["layouts"]:
        assert pixels(made["layout"]) == pytest.approx([190] * 8)
        placed = list(boxes(made["layout"]).values())
        assert all(0 <= end <= 1 for box in placed for end in box)
        for k, one in enumerate(placed):
            for other in placed[:k]:
                beside = one[0] > other[1] or other[0] > one[1]
                above = one[2] > other[3] or other[2] > one[3]
                assert beside or above


def test_columns_that_have_no_room_follow_below_with_their_titles():
    wide, three, two, one = panels.wrap(figures_2023.comparison(summary("abcd"), "trace"))[
        "layouts"
    ]
    assert wide["least"] > three["least"] > two["least"] > one["least"] == 0
    assert wide["most"] > wide["least"]
    placed = boxes(two["layout"])
    # Axes are numbered row by row: 3 is the third group's first row, 5 the first one's second.
    assert placed["3"][0] == placed[""][0] == 0 and placed["4"][0] == placed["2"][0]
    assert placed[""][2] > placed["5"][3] > placed["5"][2] > placed["3"][3]
    titles = {note["text"]: (note["x"], note["y"]) for note in two["layout"]["annotations"]}
    assert titles["c, LeCun"] == pytest.approx((np.mean(placed["3"][:2]), placed["3"][3]))
    # The left edge has the title of the axis, whichever column is there.
    assert [two["layout"][f"yaxis{n}"]["title"]["text"] for n in ("", "3", "5", "7")] == [
        "Trace Tr"
    ] * 4
    assert "title" not in wide["layout"]["yaxis3"]


def test_a_figure_of_one_panel_is_as_wide_as_the_page_if_it_has_no_width():
    (made,) = panels.wrap(go.Figure(go.Scatter(x=[1], y=[2])))["layouts"]
    assert (made["least"], made["most"]) == (0, None) and "width" not in made["layout"]
    assert "template" not in made["layout"]


def test_colour_bars_stay_below_the_columns_of_their_panels():
    runs = summary("ab").assign(diverged=False, entropy=[*range(16)], min_test_loss=0.5)
    figure = figures_2023.scatter(runs, "entropy", "trace", "n_points")
    wide, narrow = panels.wrap(figure)["layouts"]
    assert wide["layout"]["margin"]["r"] == 20  # nothing is at the right
    for made in (wide["layout"], narrow["layout"]):
        placed = boxes(made)
        for bar, lowest in (("coloraxis", "3"), ("coloraxis2", "4")):
            bar = made[bar]["colorbar"]
            assert bar["x"] == pytest.approx(np.mean(placed[lowest][:2]))
            assert bar["len"] == pytest.approx(placed[lowest][1] - placed[lowest][0])
            assert bar["y"] < placed[lowest][2] and bar["yref"] == "paper"
    # Below the first group's bar comes the second group.
    assert boxes(narrow["layout"])["2"][3] < narrow["layout"]["coloraxis"]["colorbar"]["y"]


def test_the_bar_of_all_panels_takes_no_width():
    keys = {"group": "a", "parametrisation": "ntk", "kind": "pearson"}
    table = pd.DataFrame({"x_variable": ["trace"], "y_variable": ["trace"], "coefficient": 1.0})
    figure = figures_2023.correlation_matrix(table.assign(**keys), "pearson")
    (made,) = panels.wrap(figure)["layouts"]
    bar = made["layout"]["coloraxis"]["colorbar"]
    assert bar["orientation"] == "h" and bar["lenmode"] == "pixels" and bar["len"] < 200
    assert made["layout"]["margin"]["r"] == 20


def test_the_colour_bar_of_a_heat_map_stays_at_its_right():
    cases = [recording(1.0).assign(width=width, depth=2) for width in (10, 30)]
    table = pd.concat([*cases, *(case.assign(points="test") for case in cases)])
    made = panels.wrap(figures_2024.maps(table, (0, 9)))
    assert not any("colorbar" in trace for trace in made["data"])
    for one in made["layouts"]:
        placed = boxes(one["layout"])
        for trace in made["data"]:
            bar = one["layout"][trace["coloraxis"]]["colorbar"]
            box = placed[trace["xaxis"].removeprefix("x")]
            assert bar["y"] == pytest.approx((box[2] + box[3]) / 2)
            assert bar["len"] == pytest.approx(box[3] - box[2]) and bar["x"] > box[1]
            assert bar["x"] - box[1] < 0.1


def test_the_rows_of_an_evolution_stay_together_and_long_legends_have_room():
    lines = {f"a network with a long name, {n}": recording(float(n + 2)) for n in range(4)}
    figure = figures_2024.evolution({"width": lines, "depth": {"": recording(2.0)}})
    made = panels.wrap(figure)
    wide, *_, narrow = (one["layout"] for one in made["layouts"])
    tops = [boxes(narrow)[name][3] for name in ("", "2", "3", "4", "5", "6")]
    assert tops == sorted(tops, reverse=True) and len(set(tops)) == 6
    assert narrow["legend2"]["y"] == pytest.approx(tops[3])
    assert narrow["margin"]["t"] > wide["margin"]["t"]
    names = made["panels"]
    assert names["x5"] == {"panel": "depth", "x_name": "Epoch + 1", "y_name": "Entropy S (nats)"}


def test_panels_have_names_for_the_table_of_their_data():
    names = panels.wrap(figures_2023.comparison(summary("ab"), "trace"))["panels"]
    assert names["x2"] == {
        "panel": "b, LeCun",
        "x_name": "Subset size n",
        "y_name": "Trace Tr",
    }
    assert set(names) == {"x", "x2", "x3", "x4"}
