"""Inputs of tables on one scale, which no blank cell, rare value, typo or outlier upsets."""

import numpy as np
import pytest

from collective_variables import _scaling
from collective_variables.cli import commands, main
from collective_variables.data import scaling
from collective_variables.data.encoding import Table, encode_table, split_table
from collective_variables.data.reading import read_file
from nodes.load_file import LoadFile

N = 200
RNG = np.random.default_rng(0)
DISTRICTS = np.array(["north", "east", "south", "west"], dtype=object)
HOUSES = {
    "area": RNG.normal(100.0, 25.0, N).round(2),
    "rooms": RNG.integers(1, 8, N),
    "year": RNG.integers(1900, 2021, N),
    "district": DISTRICTS[RNG.integers(0, 4, N)],
    "garden": RNG.random(N) < 0.5,
    "price": RNG.normal(size=N),
}
LOOKING = ["rnd-linearised", "k-center", "facility-location", "kernel-herding", "k-means++"]
ROOT = np.sqrt(np.float64(12))
SCALED = [name for name in scaling.SCALINGS if name != "none"]


def texts(*values):
    return np.array(values, dtype=object)


def scaled(contents, name="ranks", reference=None):
    """The scaled inputs by their names."""
    table = encode_table(contents)
    rows = np.arange(len(table.inputs)) if reference is None else np.array(reference)
    return dict(zip(table.features, scaling.scale_table(table, rows, scaling=name).T))


def changed(rows, values, column="area"):
    """The houses with other values in some rows of a column."""
    array = np.array(HOUSES[column])
    array = array.astype(float) if array.dtype.kind == "i" else array
    array[rows] = values
    return HOUSES | {column: array}


def chosen(contents, method="rnd-linearised", n_points=20, **options):
    table = encode_table(contents, ["price"])
    return commands.select(table, n_points=n_points, method=method, **options)["row"].tolist()


def write(path, contents):
    """Write columns as a CSV; a missing value is an empty cell."""
    cells = [
        ["" if value is None or value != value else str(value) for value in column.tolist()]
        for column in contents.values()
    ]
    path.write_text("\n".join([",".join(contents), *map(",".join, zip(*cells))]) + "\n")
    return str(path)


def test_numbers_become_ranks_with_the_mean_rank_of_equal_ones():
    values = scaled({"a": np.array([30.0, 10.0, 20.0, 20.0, 45.0])})["a"]
    np.testing.assert_allclose(values, ROOT * np.array([0.2, -0.4, -0.1, -0.1, 0.4]))
    # Evenly from −√3 to √3, with mean 0 and variance 1.
    many = scaled({"a": RNG.normal(size=1000)})["a"]
    assert abs(many).max() < np.sqrt(3) and many.mean() == pytest.approx(0, abs=1e-12)
    assert many.var() == pytest.approx(1, rel=1e-5)


def test_ranks_of_other_rows_are_interpolated_and_end_with_the_reference():
    numbers = np.array([0.0, 10.0, 20.0, 40.0, 15.0, 25.0, -5.0, 99.0])
    values = scaled({"a": numbers}, reference=[0, 1, 2, 3])["a"]
    expected = [-0.375, -0.125, 0.125, 0.375, 0.0, 0.1875, -0.375, 0.375]
    np.testing.assert_allclose(values, ROOT * np.array(expected))


def test_missing_numbers_are_the_mean_and_weigh_as_much_as_they_are_frequent():
    numbers = RNG.normal(size=100)
    numbers[[3, 50]] = np.nan
    values = scaled({"a": numbers})
    assert values["a"][[3, 50]].tolist() == [0, 0]
    # 2 % of the rows: two fifths of COMMON.
    expected = np.where(np.isnan(numbers), 0.4, 0.0) - 0.4 * 0.02
    np.testing.assert_allclose(values["a missing"], expected, rtol=1e-12)
    half = scaled({"a": np.array([1.0, 2.0, np.nan, np.nan])})
    np.testing.assert_allclose(half["a missing"], [-0.5, -0.5, 0.5, 0.5])


def test_texts_are_as_far_apart_as_numbers_and_rare_ones_lie_close_to_the_common_one():
    labels = texts(*(["u"] * 60 + ["v"] * 38 + ["x"] * 2))
    points = np.stack(list(scaled({"a": labels}).values()), axis=1)
    squares = ((points[:, None] - points) ** 2).sum(axis=2)
    weight = 0.02 / scaling.COMMON
    assert squares[0, 60] == pytest.approx(2)
    assert squares[0, 98] == pytest.approx(2 * weight**2)
    assert squares[60, 98] == pytest.approx(1 + weight**2 + (1 - weight) ** 2)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-15)


@pytest.mark.parametrize("missing", [[5], range(50)])
def test_a_missing_text_is_a_text(missing):
    labels = np.array(["u", "v"] * 50, dtype=object)
    labels[list(missing)] = None
    filled = np.where(labels == None, "w", labels)  # noqa: E711
    with_blank, as_text = scaled({"a": labels}), scaled({"a": filled})
    np.testing.assert_array_equal(
        np.stack(list(with_blank.values())), np.stack(list(as_text.values()))
    )


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_a_flag_is_the_same_in_every_way_of_writing(share):
    is_set = np.arange(100) < 100 * share
    words = np.where(is_set, "yes", "no").astype(object)
    ways = (is_set, is_set.astype(int), is_set * 7.5 - 2, words)
    points = [np.stack(list(scaled({"a": way}).values()), axis=1) for way in ways]
    weight = min(1.0, share / scaling.COMMON)
    for pair in points:
        assert ((pair[0] - pair[-1]) ** 2).sum() == pytest.approx(2 * weight**2)


def test_thirty_sparse_flags_together_weigh_less_than_a_number():
    flags = {f"tag {number}": RNG.random(1000) < 0.01 for number in range(30)}
    values = scaled(flags | {"a": RNG.normal(size=1000)})
    number = values.pop("a").var()
    assert len(values) == 30 and sum(column.var() for column in values.values()) < 0.1 * number


@pytest.mark.parametrize("name", list(scaling.SCALINGS)[:3])
@pytest.mark.parametrize("n_others", [3, 50, 200])
def test_a_number_that_nearly_all_rows_share_weighs_like_a_flag(name, n_others):
    counts = np.zeros(1000)
    counts[:n_others] = 1.0 + np.arange(n_others) % 3
    counts[0] = 1e8
    values = scaled({"a": counts}, name)["a"]
    weight = min(1.0, n_others / 1000 / scaling.COMMON)
    assert 0.5 * weight < abs(values[1]) < np.sqrt(3) * weight
    assert abs(values[0]) <= 2.5 * weight


def test_robust_scores_are_cut():
    numbers = np.array([*range(21), 40.0, 60.0, -44.0, np.nan])
    # The quartiles of 0 … 20 are 5 and 15. No known number is cut.
    expected = (numbers[:21] - 10) / np.arange(21).std()
    values = scaled({"a": numbers}, "robust", reference=range(21))["a"]
    np.testing.assert_allclose(values[:21], expected, rtol=1e-12, atol=1e-12)
    end = 2.5 * (10 / 1.349) / np.arange(21).std()
    np.testing.assert_allclose(values[21:24], [end, end, -end], rtol=1e-12)
    assert values[24] == 0


@pytest.mark.parametrize("name", list(scaling.SCALINGS)[:3])
@pytest.mark.parametrize("size", [1e3, 1e9, 1e300])
def test_a_number_far_from_all_others_is_a_rare_value(name, size):
    numbers = np.concatenate([RNG.normal(size=200), [size, -size]])
    values = scaled({"a": numbers}, name)["a"]
    # Two of 202 rows, and COMMON is one of 20.
    assert abs(values[200:]).max() < 2.6 * 20 * 2 / 202
    # Far numbers that are many enough are no errors: they end the column.
    numbers[:12] = size
    values = scaled({"a": numbers}, name)["a"]
    assert values[0] == values.max() > 1.2


def test_the_default_is_the_mean_of_ranks_and_robust_scores():
    contents = changed([3, 9], np.nan) | {"large": RNG.standard_cauchy(N), "flag": HOUSES["garden"]}
    rows = range(0, N, 2)
    bounded, ranks, robust = (scaled(contents, name, rows) for name in list(scaling.SCALINGS)[:3])
    for name, values in bounded.items():
        np.testing.assert_allclose(values, (ranks[name] + robust[name]) / 2, atol=1e-12)
    assert scaling.DEFAULT == "bounded" and abs(bounded["large"]).max() < 2.5
    np.testing.assert_array_equal(bounded["flag"], ranks["flag"])


@pytest.mark.parametrize("reference", [range(N), range(0, N, 3)])
def test_standard_is_the_z_score_to_the_bit(reference):
    contents = changed([3, 9], np.nan) | {"large": 1e9 * HOUSES["area"] ** 5}
    table = encode_table(contents, ["price"])
    rows = np.array(reference)
    means = np.nanmean(table.inputs[rows], axis=0)
    filled = np.where(np.isnan(table.inputs), means, table.inputs)
    expected = (filled - filled[rows].mean(axis=0)) / filled[rows].std(axis=0)
    result = scaling.scale_table(table, rows, scaling="standard")
    np.testing.assert_array_equal(result, expected)


def test_none_leaves_all_but_missing_numbers_as_they_are():
    contents = changed([3, 9], np.nan) | {"large": 1e9 * HOUSES["area"]}
    table = encode_table(contents, ["price"])
    result = scaling.scale_table(table, np.arange(0, N, 3), scaling="none")
    is_missing = np.isnan(table.inputs)
    np.testing.assert_array_equal(result[~is_missing], table.inputs[~is_missing])
    means = np.nanmean(table.inputs[::3], axis=0)
    expected = np.broadcast_to(means, table.inputs.shape)[is_missing]
    np.testing.assert_allclose(result[is_missing], expected, rtol=1e-14)
    images = encode_table({"image": np.full((5, 4, 4, 1), 255, np.uint8)})
    assert (scaling.scale_table(images, np.arange(5), scaling="none") == 1).all()


def test_unit_rows_of_unscaled_embeddings_depend_on_their_angles_alone():
    embeddings = RNG.normal(size=(40, 8)) + 3.0
    longer = embeddings * RNG.uniform(0.1, 9.0, (40, 1))
    options = {"method": "rnd-linearised", "options": {"normalisation": "unit"}}
    first, second = (
        commands.select(encode_table({"x": table}), n_points=8, scaling="none", **options)
        for table in (embeddings, longer)
    )
    assert first["row"].tolist() == second["row"].tolist()


@pytest.mark.parametrize("name", SCALED)
def test_images_and_arrays_are_the_same_under_every_scaling(name):
    labels = texts(*"abababab")
    images = RNG.integers(0, 256, (8, 4, 5, 3), dtype=np.uint8)
    table = encode_table({"image": images, "class": labels}, ["class"])
    rows = np.arange(8)
    result = scaling.scale_table(table, rows, scaling=name)
    np.testing.assert_array_equal(result, np.divide(images, 255, dtype=np.float32))
    arrays = RNG.normal(size=(8, 4, 5, 2))
    arrays[:, 0, 0, 0] = 0.1  # constant
    table = encode_table({"array": arrays, "class": labels}, ["class"])
    result = scaling.scale_table(table, rows[:6], scaling=name)
    np.testing.assert_array_equal(result, _scaling.standardise(arrays, arrays[:6]))


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("size", [1e-300, 1e300, 8e307])
def test_numbers_of_any_size_stay_finite(name, size):
    numbers = size * np.linspace(-1, 1, 50)
    one = np.where(np.arange(50) == 7, size, RNG.normal(size=50))
    two = np.where(np.arange(50) < 20, -size, size)
    values = scaled({"a": numbers, "b": one, "c": two}, name)
    assert all(np.isfinite(column).all() and 2.5 > column.std() > 0.1 for column in values.values())


@pytest.mark.parametrize("name", SCALED)
def test_what_is_constant_in_the_reference_is_zero_everywhere(name):
    numbers = np.array([0.1, 0.1, 0.1, 7.0, np.nan])
    labels = texts("u", "u", "u", "v", None)
    never = np.array([np.nan, np.nan, np.nan, 1.0, 2.0])
    contents = {"a": numbers, "b": labels, "c": numbers > 1, "d": never}
    assert not np.any(list(scaled(contents, name, reference=[0, 1, 2]).values()))


def test_statistics_are_those_of_the_rows_that_scaling_names():
    table = encode_table({"a": RNG.normal(size=50), "y": RNG.normal(size=50)}, ["y"])
    for rule in ("train", "all"):
        result = split_table(table, "user", n_test=10, seed=1, scaling=rule)
        rows = result.index if rule == "train" else np.arange(50)
        expected = scaling.scale_table(table, rows).astype(np.float32)
        np.testing.assert_array_equal(result.inputs, expected[result.index])
        np.testing.assert_array_equal(result.test_inputs, expected[result.test_index])
    other = split_table(table, "user", n_test=10, seed=1, input_scaling="standard")
    assert not np.array_equal(other.inputs, result.inputs)


def test_an_unknown_scaling_is_named():
    table = encode_table({"a": np.arange(5.0)})
    words = "scaling must be one of bounded, none, ranks, robust, standard: received 'zscore'"
    with pytest.raises(ValueError, match=words):
        scaling.scale_table(table, np.arange(5), scaling="zscore")


def test_the_graph_and_the_command_line_have_one_default():
    default = {field.name: field.default for field in LoadFile.__dataclass_fields__.values()}
    assert default["input_scaling"] == scaling.DEFAULT


@pytest.mark.parametrize("method", LOOKING)
def test_units_constants_and_names_do_not_change_the_choice(method):
    expected = chosen(HOUSES, method)
    other_units = HOUSES | {"area": 10.7639 * HOUSES["area"], "year": HOUSES["year"] - 1900}
    assert chosen(other_units, method) == expected
    assert chosen(HOUSES | {"country": texts(*["D"] * N)}, method) == expected
    renamed = np.array([2 * name for name in HOUSES["district"]], dtype=object)
    assert chosen(HOUSES | {"district": renamed}, method) == expected
    assert chosen(dict(reversed(HOUSES.items())), method) == expected


@pytest.mark.parametrize("method", LOOKING)
def test_the_size_of_an_outlier_does_not_matter(method):
    expected = chosen(changed(77, 1e6), method)
    assert chosen(changed(77, 1e12), method) == expected


@pytest.mark.parametrize("method", LOOKING[:2])
def test_ranks_do_not_change_with_a_growing_function_of_a_column(method):
    grown = HOUSES | {"area": np.exp(HOUSES["area"] / 9)}
    ranks = {"method": method, "scaling": "ranks"}
    assert chosen(grown, **ranks) == chosen(HOUSES, **ranks)


DIRTY = {
    "blank": (changed([20, 60], np.nan), [20, 60], "area (2 without a value)"),
    "misspelt": (
        changed([11, 22], ["nroth", "Est"], "district"),
        [11, 22],
        "district (2 with a rare text)",
    ),
    "no text": (changed([11, 22], None, "district"), [11, 22], "district (2 without a value)"),
    "flag": (HOUSES | {"flag": np.arange(N) == 55}, [55], "flag (1 with a rare text)"),
    "number": (HOUSES | {"tag": (np.arange(N) == 55) * 1}, [55], "tag (1 with a rare value)"),
    "outlier": (changed(100, 1e6), [100], "area (1 far from the others)"),
    "year 9999": (changed(100, 9999, "year"), [100], "year (1 far from the others)"),
}


@pytest.mark.parametrize("method", LOOKING[:3])
@pytest.mark.parametrize("kind", DIRTY)
def test_dirty_rows_do_not_come_first(kind, method, tmp_path, capsys):
    contents, rows, where = DIRTY[kind]
    path = write(tmp_path / "houses.csv", contents)
    command = ["select", path, "--target", "price", "--n-points", "10", "--method", method]
    assert main.main(command) == 0
    output = capsys.readouterr()
    first = [int(line) for line in output.out.split()]
    assert len(first) == 10 and not set(first[:5]) & set(rows)
    assert f"Single rows stand out in {where}." in output.err
    n_first = len(set(first) & set(rows))
    words = f"Of the 10 chosen rows {n_first} stand out, of all {N} rows {len(rows)}."
    assert words in output.err
    if method == "k-center":
        assert main.main([*command, "--scaling", "standard"]) == 0
        assert set(map(int, capsys.readouterr().out.split()[:5])) & set(rows)


def test_a_clean_table_has_no_note(tmp_path, capsys):
    path = write(tmp_path / "houses.csv", HOUSES)
    assert main.main(["select", path, "--target", "price", "--n-points", "5"]) == 0
    assert "stand out" not in capsys.readouterr().err


def test_rows_that_stand_out_are_named_with_their_columns():
    area = np.where(np.arange(N) == 7, np.nan, HOUSES["area"])
    area[[8, 9]] = [-1e9, 1e300]
    counts = np.where(np.arange(N) == 4, 12, 0)
    counts[5] = 3
    table = encode_table(
        {"area": area, "count": counts, "spread": RNG.standard_cauchy(N) ** 3, "image": area[::-1]}
    )
    found = [
        (column.column, column.how, column.rows.tolist()) for column in scaling.standing_out(table)
    ]
    assert found == [
        ("area", "far from the others", [8, 9]),
        ("area", "without a value", [7]),
        ("count", "with a rare value", [4, 5]),
        ("image", "far from the others", [190, 191]),
        ("image", "without a value", [192]),
    ]
    assert scaling.notes(table, np.array([9, 4, 0])) == [
        "Single rows stand out in area (2 far from the others), area (1 without a value), "
        "count (2 with a rare value), image (2 far from the others), image (1 without a value).",
        "Of the 3 chosen rows 2 stand out, of all 200 rows 8.",
    ]


def test_many_columns_are_named_in_one_sentence():
    flags = {f"t{number}": np.arange(N) == number for number in range(40)}
    table = encode_table(flags | {"a": RNG.normal(size=N)})
    # 40 rows of 200 stand out, each in a column of its own.
    named, counted = scaling.notes(table, np.arange(5))
    assert named.endswith("t9 (1 with a rare value) and 30 others.")
    assert counted == "Of the 5 chosen rows 5 stand out, of all 200 rows 40."


def test_small_tables_and_images_have_no_note():
    small = encode_table({"a": np.array([1.0, 2.0, 1e9]), "b": texts("u", "v", "w")})
    assert [column.column for column in scaling.standing_out(small)] == []
    images = encode_table({"image": np.zeros((3, 4, 4, 3), np.uint8)})
    assert isinstance(images, Table) and scaling.notes(images, np.array([0])) == []


def test_the_file_is_scaled_the_same_from_every_format(tmp_path):
    path = write(tmp_path / "houses.csv", HOUSES)
    np.savez(tmp_path / "houses.npz", **{k: v for k, v in HOUSES.items() if v.dtype != object})
    from_csv = encode_table(read_file(path), ["price"], ignored=["district"])
    from_npz = encode_table(read_file(tmp_path / "houses.npz"), ["price"])
    rows = np.arange(N)
    np.testing.assert_array_equal(
        scaling.scale_table(from_csv, rows)[:, :3], scaling.scale_table(from_npz, rows)[:, :3]
    )
