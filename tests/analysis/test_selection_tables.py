import base64
import re
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from helpers import assert_close

from collective_variables.analysis import selection_tables
from collective_variables.selection.base import Selection, without_distances
from plots import draw, having, words

GENERATOR = np.random.default_rng(0)
POOL = GENERATOR.normal(size=(40, 2, 3)) * [[1, 5, 1], [2, 1, 100]] + 7
IMAGES = {"grey": GENERATOR.normal(size=(30, 5, 4, 1)), "RGB": GENERATOR.normal(size=(30, 5, 4, 3))}


def selection(n_pool, n_selected, n_members=2, seed=1):
    """Subsets at random, with distances that go down."""
    generator = np.random.default_rng(seed)
    indices = np.stack([generator.permutation(n_pool)[:n_selected] for _ in range(n_members)])
    distances = -np.sort(-generator.lognormal(size=indices.shape), axis=1)
    return Selection(indices, distances, distances / 4, distances * 2)


def labelled(table, group="fuel"):
    return table.assign(group=group, method="rnd")


# what is chosen, and where it is drawn


def test_the_chosen_points_of_a_table_are_the_first_members_in_their_order_over_the_pool():
    points = selection(40, 9)
    table = selection_tables.chosen_points(points, POOL)
    assert (
        list(table) == ["order", "index", "distance", "x", "y", "image"]
        and (table["image"] == "").all()
    )
    rest, front = table[table["order"].isna()], table[table["order"].notna()]
    assert list(front["order"]) == list(range(1, 10)) and list(front["index"]) == list(
        points.indices[0]
    )
    assert list(front["distance"]) == list(points.distances[0])
    assert (
        sorted([*rest["index"], *points.indices[0]]) == list(range(40))
        and rest["distance"].isna().all()
    )
    assert (
        list(table.index) == list(range(40)) and table.index[-1] == front.index[-1]
    )  # drawn last, so on top


def test_at_most_60_points_are_drawn_before_at_most_1000_others():
    points, pool = selection(1300, 80), GENERATOR.normal(size=(1300, 3))
    orders = selection_tables.chosen_points(points, pool)["order"]
    assert (orders.notna().sum(), orders.isna().sum()) == (60, 1000)
    assert list(selection_tables.chosen_points(selection(1000, 80), pool[:1000])["order"].isna())[
        :941
    ] == [True] * 940 + [False]
    assert len(selection_tables.chosen_points(selection(100, 80), np.zeros((100, 2, 2, 1)))) == 60


def naive_components(pool):
    """The two eigenvectors of the correlation matrix with the largest eigenvalues, times the
    z-scores.
    """
    columns = [
        column
        for column in pool.reshape(len(pool), -1).T.astype(np.float64)
        if len(set(column)) > 1
    ]
    scores = [(column - sum(column) / len(column)) / np.sqrt(np.var(column)) for column in columns]
    eigenvalues, vectors = np.linalg.eigh([[np.mean(a * b) for a in scores] for b in scores])
    return np.transpose(
        [np.transpose(scores) @ vectors[:, i] for i in np.argsort(eigenvalues)[::-1][:2]]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [False, True])
def test_points_of_a_table_lie_at_the_principal_components_of_all_features_that_vary(
    dtype, constant
):
    pool = POOL.astype(dtype)
    if constant:
        pool[:, :, 1:] = 0.1
        assert (pool.reshape(40, 6).std(axis=0) > 0).all()  # by round-off
    table = selection_tables.chosen_points(selection(40, 9), pool)
    expected = naive_components(pool)[table["index"]]
    for name, column in zip("xy", expected.T, strict=True):
        actual = table[name].to_numpy()
        assert_close(actual * np.sign(actual @ column), column, operations=1000)


def test_a_table_of_one_feature_has_no_second_component_and_one_of_equal_points_none():
    one = selection_tables.chosen_points(selection(40, 9), POOL[:, 0, :1])
    assert (one["y"] == 0).all() and one["x"].nunique() == 40
    assert (
        selection_tables.chosen_points(selection(40, 9), np.full((40, 3), 0.1, np.float32))[
            ["x", "y"]
        ]
        == 0
    ).all(axis=None)


def decoded(url):
    """The pixels of a PNG in a data URL, of 8 bits a channel and rows that are not filtered."""
    kind, _, content = url.partition(",")
    png = base64.b64decode(content, validate=True)
    assert (kind, png[:8]) == ("data:image/png;base64", b"\x89PNG\r\n\x1a\n")
    chunks, start = [], 8
    while start < len(png):
        (length,) = struct.unpack(">I", png[start : start + 4])
        name, body = png[start + 4 : start + 8], png[start + 8 : start + 8 + length]
        assert struct.unpack(">I", png[start + 8 + length : start + 12 + length]) == (
            zlib.crc32(name + body),
        )
        chunks.append((name, body))
        start += 12 + length
    (_, header), (_, pixels), _ = chunks
    assert [name for name, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(
        ">IIBBBBB", header
    )
    assert (depth, compression, filtering, interlace) == (8, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(pixels), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, {0: 1, 2: 3}[colour])


@pytest.mark.parametrize("colours", IMAGES)
def test_images_are_pngs_of_the_chosen_points_from_0_for_the_darkest_to_255_for_the_brightest_pixel(
    colours,
):
    points, pool = selection(30, 23), IMAGES[colours]
    table = selection_tables.chosen_points(points, pool)
    images = pool[points.indices[0]]
    expected = np.round(255 * (images - images.min()) / (images.max() - images.min()))
    actual = np.stack([decoded(url) for url in table["image"]])
    np.testing.assert_array_equal(actual, expected)
    assert (actual.min(), actual.max()) == (0, 255)


def test_images_of_another_number_of_channels_show_the_first_and_equal_ones_are_black():
    points = selection(30, 4)
    two = selection_tables.chosen_points(
        points, np.concatenate([IMAGES["grey"], IMAGES["grey"] / 2], axis=3)
    )["image"]
    assert list(two) == list(selection_tables.chosen_points(points, IMAGES["grey"])["image"])
    assert not decoded(
        selection_tables.chosen_points(points, np.ones((30, 2, 2, 1)))["image"][0]
    ).any()


def test_images_lie_ten_in_a_row_from_the_top_left_and_have_no_background():
    points = selection(30, 23)
    table = selection_tables.chosen_points(points, IMAGES["grey"])
    assert list(table["order"]) == list(range(1, 24)) and list(table["index"]) == list(
        points.indices[0]
    )
    places = [(column, -row) for row in range(3) for column in range(10)][:23]
    assert list(zip(table["x"], table["y"], strict=True)) == places


@pytest.mark.parametrize("pool", [POOL[:30], IMAGES["grey"]], ids=["table", "images"])
def test_a_selection_that_a_threshold_stopped_or_without_distances_is_drawn_as_far_as_it_goes(pool):
    points = selection(30, 6)
    whole, bare = (
        selection_tables.chosen_points(points, pool),
        selection_tables.chosen_points(without_distances(points.indices), pool),
    )
    assert bare["distance"].isna().all()
    pd.testing.assert_frame_equal(bare.drop(columns="distance"), whole.drop(columns="distance"))
    for array, nothing in ((points.indices, -1), (points.distances, np.nan)):
        array[0, 4:] = nothing
    stopped = selection_tables.chosen_points(points, pool).dropna(subset="order")
    assert (
        list(stopped["index"]) == list(points.indices[0, :4]) and stopped["distance"].notna().all()
    )


def test_a_pool_that_is_chosen_whole_has_no_background():
    assert list(selection_tables.chosen_points(selection(40, 40), POOL)["order"]) == list(
        range(1, 41)
    )


def test_history_holds_the_distances_of_every_member_and_point():
    points = selection(40, 5, n_members=3)
    table = selection_tables.history(points)
    assert list(table) == ["member", "n_points", "distance", "mean_distance", "max_distance"]
    arrays = points.distances, points.mean_distances, points.max_distances
    expected = [
        [member, n + 1, *(array[member, n] for array in arrays)]
        for member in range(3)
        for n in range(5)
    ]
    np.testing.assert_array_equal(table, expected)


def test_history_leaves_out_points_without_distance():
    points = selection(40, 5)
    for array in (points.distances, points.mean_distances, points.max_distances):
        array[0, 0] = array[1, 3:] = (
            np.nan
        )  # a first point at random, and a member that a threshold stopped
    table = selection_tables.history(points)
    assert table.groupby("member")["n_points"].agg(list).to_dict() == {
        0: [2, 3, 4, 5],
        1: [1, 2, 3],
    }
    assert list(table.index) == list(range(7)) and table.notna().all(axis=None)
    assert selection_tables.history(without_distances(points.indices)).empty


# the templates of `dvc plots show`


def histories(*groups):
    return pd.concat(
        [
            labelled(selection_tables.history(selection(40, 5, seed=len(group))), group)
            for group in groups
        ]
    )


def lines(panel):
    """The places of the corners of every line, and how wide and of what colour it is."""
    result = []
    for line in having(panel, "mark-line"):
        corners = np.array(re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", line.get("d")), np.float64)
        result.append((corners, float(line.get("stroke-width")), line.get("stroke")))
    return result


@pytest.mark.parametrize("groups", [("mnist", "fuel"), ("fuel",)])
@pytest.mark.parametrize("revisions", [("workspace",), ("workspace", "HEAD")])
def test_the_history_template_draws_three_lines_per_group_and_revision_in_the_order_of_the_data(
    groups, revisions
):
    svg = draw("history", dict.fromkeys(revisions, histories(*groups)), "n_points", "distance")
    assert words(having(svg, "column_header")) == list(groups)
    for panel in having(svg, "cell"):
        assert [len(corners) for corners, *_ in lines(panel)] == [5] * 3 * len(revisions)
        assert len({line.get("stroke-dasharray") for line in having(panel, "mark-line")}) == len(
            revisions
        )
    written = {word for word in words([svg]) if word}
    legend = {"Chosen point", "Pool's mean", "Pool's largest", "label of x", "label of y", "title"}
    assert legend <= written
    # A single revision needs no name.
    named = {f"Revision {revision}" for revision in revisions} if len(revisions) > 1 else set()
    assert {word for word in written if "Revision" in word or word in revisions} == named


def test_the_history_template_draws_means_over_members_on_a_logarithmic_axis():
    distances = np.array(
        [[4.0, 10.0, 100.0], [4.0, 10.0, 100.0], [22.0, 280.0, 2800.0]]
    )  # of means 10, 100, 1000
    points = Selection(np.zeros((3, 3), int), distances, distances / 10, distances * 10)
    svg = draw(
        "history", {"workspace": labelled(selection_tables.history(points))}, "n_points", "distance"
    )
    (panel,) = having(svg, "cell")
    heights = {colour: corners[:, 1] for corners, _, colour in lines(panel)}
    steps = np.diff(heights["#0072B2"])  # a pixel further down is more
    assert steps[0] == pytest.approx(steps[1]) and steps[0] < 0
    np.testing.assert_allclose(heights["#009E73"], heights["#0072B2"] - steps[0])
    np.testing.assert_allclose(heights["#E69F00"], heights["#0072B2"] + steps[0])


def test_the_history_template_shows_both_lines_where_the_chosen_point_is_the_farthest():
    table = labelled(selection_tables.history(selection(40, 5))).assign(
        max_distance=lambda table: table["distance"]
    )
    for revisions in (("workspace",), ("workspace", "HEAD")):
        svg = draw("history", dict.fromkeys(revisions, table), "n_points", "distance")
        (panel,) = having(svg, "cell")
        wide, narrow = (
            lines(panel)[: len(revisions)],
            lines(panel)[len(revisions) :],
        )  # in the order they are painted
        narrow_chosen = [
            (corners, width) for corners, width, colour in narrow if colour == "#0072B2"
        ]
        assert {colour for *_, colour in wide} == {"#E69F00"} and len(narrow_chosen) == len(
            revisions
        )
        for (under, width, _), (over, thin) in zip(wide, narrow_chosen, strict=True):
            np.testing.assert_array_equal(under, over)
            assert width > 2 * thin


def test_the_history_template_ends_a_line_where_the_distance_is_zero():
    distances = np.array([[1.0, 0.1, 0.01, 0.0, 0.0]])
    points = Selection(np.arange(5)[None], distances, distances / 2, np.maximum(distances, 0.005))
    svg = draw(
        "history", {"workspace": labelled(selection_tables.history(points))}, "n_points", "distance"
    )
    (panel,) = having(svg, "cell")
    assert {colour: len(corners) for corners, _, colour in lines(panel)} == {
        "#0072B2": 3,
        "#009E73": 3,
        "#E69F00": 5,
    }
    assert all(
        np.isfinite(corners).all() and "NaN" not in colour for corners, _, colour in lines(panel)
    )
    assert [corners[:, 1].max() <= 200 for corners, *_ in lines(panel)] == [
        True
    ] * 3  # none leaves the panel


def sheets(*groups):
    """A table of 40 points of which 9 are chosen for "fuel", 12 images for "mnist"."""
    tables = {
        "fuel": selection_tables.chosen_points(selection(40, 9), POOL),
        "mnist": selection_tables.chosen_points(selection(30, 12), IMAGES["grey"]),
    }
    return pd.concat([labelled(tables[group], group) for group in groups])


def place(element):
    return np.array(
        re.match(r"translate\((-?[\d.]+),(-?[\d.]+)\)", element.get("transform")).groups(),
        np.float64,
    )


def numbers(panel):
    """Where each number stands; that of a dot is painted twice, first as a white halo."""
    return {
        int(text.text): place(text) for text in having(panel, "mark-text") if text.text.isdigit()
    }


def dots(panel, grey):
    """Where the dots lie, in the order of the table."""
    symbols = having(panel, "mark-symbol")
    return [place(dot) for dot in symbols if (dot.get("fill") == "#C4C4C4") == grey]


def texts(panel):
    return [text for text in words(having(panel, "mark-text")) if text.isdigit()]


@pytest.mark.parametrize("groups", [("mnist", "fuel"), ("fuel",), ("mnist",)])
@pytest.mark.parametrize("revisions", [("workspace",), ("workspace", "HEAD")])
def test_the_template_of_chosen_points_has_a_panel_for_each_group_and_revision(groups, revisions):
    svg = draw("chosen-points", dict.fromkeys(revisions, sheets(*groups)), "x", "y")
    names = [
        group if len(revisions) == 1 else f"{group}, {rev}" for group in groups for rev in revisions
    ]
    assert [text for text in words(having(svg, "role-title-text")) if text != "title"] == names
    for name, panel in zip(names, having(svg, "cell"), strict=True):
        counts = [
            len(dots(panel, grey=True)),
            len(dots(panel, grey=False)),
            len(having(panel, "mark-image")),
        ]
        titles = {"label of x", "label of y"} & set(words([panel]))
        if "fuel" in name:
            assert (
                counts == [31, 9, 0]
                and texts(panel) == [str(n) for n in range(1, 10)] * 2
                and len(titles) == 2
            )
        else:
            assert (
                counts == [0, 0, 12]
                and texts(panel) == [str(n) for n in range(1, 13)]
                and not titles
            )


def test_dots_lie_like_the_points_of_the_table_and_fill_their_panel():
    table = sheets("fuel")
    svg = draw("chosen-points", {"workspace": table}, "x", "y")
    (panel,) = having(svg, "cell")
    places = np.array([*dots(panel, grey=True), *dots(panel, grey=False)])
    assert places.min(axis=0) == pytest.approx([22, 20]) and places.max(axis=0) == pytest.approx(
        [378, 280]
    )
    for places_drawn, values in zip(
        places.T * [[1], [-1]], table[["x", "y"]].to_numpy().T, strict=True
    ):
        slope, _ = np.polyfit(values, places_drawn, 1)
        assert np.corrcoef(values, places_drawn)[0, 1] == pytest.approx(1) and slope > 0


def test_dots_get_brighter_with_the_order_of_choice():
    svg = draw("chosen-points", {"workspace": sheets("fuel")}, "x", "y")
    fills = [dot.get("fill") for dot in having(svg, "mark-symbol") if dot.get("fill") != "#C4C4C4"]
    brightness = [
        np.dot([0.2126, 0.7152, 0.0722], [int(part) for part in re.findall(r"\d+", fill)])
        for fill in fills
    ]
    assert len(fills) == 9 and (np.diff(brightness) > 0).all()


def numbered(corners):
    """Where the numbers 1, 2 … of dots at these places stand, and where the dots do."""
    order, (x, y) = np.arange(1, len(corners) + 1), np.transpose(corners)
    table = pd.DataFrame(
        {"order": order, "index": order, "distance": 1.0, "x": x, "y": y, "image": ""}
    )
    (panel,) = having(draw("chosen-points", {"workspace": labelled(table)}, "x", "y"), "cell")
    places = numbers(panel)
    assert list(places) == list(order)
    return np.array(list(places.values())) - [0, 3], np.array(
        dots(panel, grey=False)
    )  # from the baseline to the middle


def test_numbers_stand_next_to_their_dot_inside_the_panel_and_those_of_close_dots_apart():
    twins, three = (
        [(0, 0), (0.01, 0), (1, 1), (1, 0.99), (0, 1), (1, 0)],
        [(0.5, 0.5), (0.52, 0.52), (0.54, 0.54)],
    )
    places, dot_places = numbered([*twins, *three])
    distances = np.linalg.norm(places - dot_places, axis=1)
    assert (distances > 8).all() and (distances < 12).all()
    assert (places > 6).all() and (places < [394, 294]).all()
    apart = np.abs(places[:, None] - places)
    assert ((apart[..., 0] > 11) | (apart[..., 1] > 9) | np.eye(9, dtype=bool)).all()


def test_the_numbers_of_two_neighbours_stand_on_their_outer_sides():
    places, dot_places = numbered([(0.45, 0.5), (0.55, 0.5)])
    np.testing.assert_allclose(places - dot_places, [[-11, 0], [11, 0]], atol=1e-9)


def test_images_stand_above_their_numbers_in_a_sheet_of_ten_a_row():
    table = sheets("mnist")
    svg = draw("chosen-points", {"workspace": table}, "x", "y")
    images = having(svg, "mark-image")
    href = "{http://www.w3.org/1999/xlink}href"
    assert [image.get(href) for image in images] == list(table["image"])
    corners = np.array([place(image) for image in images])
    np.testing.assert_allclose(np.diff(corners[:10], axis=0), [[40, 0]] * 9)
    np.testing.assert_allclose(corners[10:] - corners[:2], [[0, 50]] * 2)
    below = np.array(list(numbers(svg).values())) - corners - [18, 36]
    assert (np.abs(below[:, 0]) < 1).all() and (below[:, 1] > 7).all() and (below[:, 1] < 14).all()


def test_one_point_is_drawn_in_the_middle_and_points_of_one_feature_at_half_the_height():
    one = selection_tables.chosen_points(selection(1, 1), POOL[:1])
    line = selection_tables.chosen_points(selection(40, 9), POOL[:, 0, :1])
    for table, left in ((one, 200), (line, 22)):
        svg = draw("chosen-points", {"workspace": labelled(table)}, "x", "y")
        places = np.array([place(dot) for dot in having(svg, "mark-symbol")])
        assert (
            len(places) == len(table) and (places[:, 1] == 150).all() and places[:, 0].min() == left
        )
