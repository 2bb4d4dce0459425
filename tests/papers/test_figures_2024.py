"""What the figures of learning dynamics show, from tables made by hand."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from collective_variables.papers import figures_2024, results_2024
from collective_variables.papers.claims_2024 import Group
from collective_variables.training.study_cases import Case

EPOCHS = (0, 1, 9)
CASES = [Case("relu", width, depth, 20, 20) for width in (10, 30) for depth in (1, 4)]


def recording(level, points="train", **labels):
    """Two members, whose entropy is level - 1 and level + 1, trace ten and loss a hundredth of
    that.
    """
    parts = []
    for member, off in enumerate((-1.0, 1.0)):
        values = level + off + np.array(EPOCHS)
        columns = {
            "member": member,
            "points": points,
            "epoch": EPOCHS,
            "loss": values / 100,
            "entropy": values,
        }
        parts.append(pd.DataFrame(labels | columns | {"trace": 10 * values}))
    return pd.concat(parts, ignore_index=True)


def both(level, **labels):
    return pd.concat(
        [recording(level, **labels), recording(level + 5, "test", **labels)], ignore_index=True
    )


RECORDING = pd.concat(
    [both(10.0 * place + 10, **asdict(case)) for place, case in enumerate(CASES)], ignore_index=True
)
NO_MODES = pd.DataFrame({"activation": [], "points": []})


def traces(figure, axis):
    """The lines and areas in the panel of an x axis."""
    panel = [trace for trace in figure.data if (trace.xaxis or "x") == axis]
    return [trace for trace in panel if not trace.fill], [trace for trace in panel if trace.fill]


def test_the_evolution_has_a_row_for_each_study_and_mean_and_deviation_in_each_panel():
    recordings = {"width 10": both(10.0), "width 30": both(20.0)}
    figure = figures_2024.evolution({"width": recordings, "depth": {"depth 1": both(30.0)}})
    assert [figure.get_subplot(2, column).yaxis.title.text for column in (1, 2, 3)] == [
        "Loss (no unit)",
        "Entropy S (nats)",
        "Trace Tr",
    ]
    lines, areas = traces(figure, "x2")
    assert [line.name for line in lines] == [
        "width 10, train",
        "width 10, test",
        "width 30, train",
        "width 30, test",
    ]
    assert [line.line.dash for line in lines] == ["solid", "dot"] * 2
    assert lines[0].line.color == lines[1].line.color != lines[2].line.color
    np.testing.assert_allclose(lines[0].x, [1, 2, 10])
    np.testing.assert_allclose(lines[0].y, [10, 11, 19])
    np.testing.assert_allclose(lines[1].y, [15, 16, 24])
    np.testing.assert_allclose(
        areas[0].y, [10 + 2**0.5, 11 + 2**0.5, 19 + 2**0.5, 19 - 2**0.5, 11 - 2**0.5, 10 - 2**0.5]
    )
    in_trace, _ = traces(figure, "x3")
    np.testing.assert_allclose(in_trace[2].y, [200, 210, 290])
    in_loss, _ = traces(figure, "x4")
    np.testing.assert_allclose(in_loss[0].y, [0.3, 0.31, 0.39])
    assert figure.get_subplot(1, 1).yaxis.type == figure.get_subplot(2, 3).xaxis.type == "log"
    # One entry for each line, in the legend of its row.
    entries = [(trace.legend, trace.name) for trace in figure.data if trace.showlegend]
    assert len(entries) == len(set(entries)) == 6 and {legend for legend, _ in entries} == {
        "legend",
        "legend2",
    }


def test_the_only_line_of_a_row_is_named_by_its_points():
    figure = figures_2024.evolution({"resnet": {"": both(10.0)}})
    assert [trace.name for trace in figure.data if trace.showlegend] == ["train", "test"]


def test_a_band_never_leaves_a_logarithmic_axis():
    table = recording(1.0)  # the first member's loss is 0 at first
    _, areas = traces(figures_2024.evolution({"width": {"width 10": table}}), "x")
    assert min(areas[0].y) > 0


def test_the_joint_figure_has_a_column_for_each_network_and_the_reward_of_agents():
    agent = (
        recording(30.0, "observations")
        .assign(mean_reward=lambda table: 100 * table["epoch"])
        .assign(loss=np.nan)
    )
    figure = figures_2024.joint({"resnet": both(10.0), "actor": agent})
    titles = [
        [figure.get_subplot(row, column).yaxis.title.text for row in (1, 2, 3)] for column in (1, 2)
    ]
    assert titles == [
        ["Entropy S (nats)", "Trace Tr", "Loss (no unit)"],
        ["Entropy S (nats)", "Trace Tr", "Reward, mean of 10 updates"],
    ]
    (reward,), _ = traces(figure, "x6")
    np.testing.assert_allclose(reward.y, [0, 100, 900])
    assert (
        figure.get_subplot(3, 1).yaxis.type == "log" and figure.get_subplot(3, 2).yaxis.type is None
    )
    assert [note.text for note in figure.layout.annotations] == ["resnet", "actor"]
    assert [figure.get_subplot(3, column).xaxis.title.text for column in (1, 2)] == [
        "Epoch + 1",
        "Update + 1",
    ]


def test_maps_have_a_cell_for_each_network_and_none_for_one_that_diverged():
    broken = RECORDING.copy()
    broken.loc[(broken["width"] == 30) & (broken["depth"] == 4), ["entropy", "trace", "loss"]] = (
        np.nan
    )
    figure = figures_2024.maps(broken, (0, 9))
    entropy, trace, loss = figure.data[3:]
    assert (entropy.x, entropy.y) == (("10", "30"), ("1", "4"))
    # Levels are 10 and 20 for width 10, 30 and 40 for width 30; rows are depths.
    np.testing.assert_allclose(entropy.z, [[19, 39], [29, np.nan]])
    np.testing.assert_allclose(trace.z, np.log10([[190, 390], [290, np.nan]]))
    np.testing.assert_allclose(loss.z, np.log10([[0.24, 0.44], [0.34, np.nan]]))
    assert trace.colorbar.ticktext[0] == "190" and trace.colorbar.ticktext[-1] == "390"
    large = figures_2024.maps(broken.assign(trace=2e6 * broken["trace"]), (0, 9)).data[4]
    assert large.colorbar.ticktext[-1] == "780M"
    assert [note.text for note in figure.layout.annotations][:3] == [
        "Entropy S (nats), epoch 0",
        "Trace Tr, epoch 0",
        "Test loss, epoch 0",
    ]


@pytest.mark.parametrize("n_columns", [1, 5])
def test_panels_have_one_size_however_many_there_are(n_columns):
    figure = figures_2024.joint({f"network {number}": both(10.0) for number in range(n_columns)})
    across = figure.layout.width - figure.layout.margin.l - figure.layout.margin.r
    down = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    for row, column in ((1, 1), (3, n_columns)):
        x, y = (axis.domain for axis in figure.get_subplot(row, column))
        assert ((x[1] - x[0]) * across, (y[1] - y[0]) * down) == pytest.approx(figures_2024.PANEL)


def test_the_page_has_evolutions_maps_and_all_other_architectures_together():
    study = Group(RECORDING, {"map": CASES, "width": CASES[::2]}, NO_MODES, "dense")
    other = Group(both(10.0, **asdict(CASES[0])), {"resnet": CASES[:1]}, NO_MODES, "resnet")
    pictures = {
        picture.name: picture
        for picture in results_2024.pictures({"mnist": study, "images": other})
    }
    assert list(pictures) == ["evolution-mnist", "map-mnist-map", "evolution-images", "joint"]
    assert [note.text for note in pictures["joint"].figure.layout.annotations] == ["resnet"]
    assert all(picture.title and picture.caption for picture in pictures.values())
    # A study of more lines than can be told apart is only a map.
    five = {"many": [*CASES, Case("relu", 100, 1, 20, 20)]}
    more = pd.concat([RECORDING, both(90.0, **asdict(five["many"][-1]))], ignore_index=True)
    pictures = results_2024.pictures({"mnist": Group(more, five, NO_MODES, "dense")})
    assert [picture.name for picture in pictures] == ["map-mnist-many"]


def test_the_page_has_a_table_of_networks_phases_and_laws():
    tables = results_2024.tables(
        {"mnist": Group(RECORDING, {"map": CASES}, NO_MODES, "dense")},
        resolution=0.05,
        confidence=0.95,
    )
    assert [table.name for table in tables] == list(results_2024.TABLES)
    networks = tables[0].frame
    assert len(networks) == 8 and set(networks["regime"]) == {"too few members"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.56e6, "6.56M"),
        (12_500, "12.5k"),
        (469, "469"),
        (0.633, "0.633"),
        (0.012, "0.012"),
        (0.00185, "1.85m"),
        (6.76e-5, "67.6µ"),
        (3e-8, "3e-08"),
        (0.0, "0"),
    ],
)
def test_values_next_to_colour_bars_have_three_digits_and_a_prefix(value, text):
    assert figures_2024._short(value) == text
