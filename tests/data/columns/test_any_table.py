"""Random tables: each is encoded by the same rules, or refused with a one-line error."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from collective_variables.data._errors import DataError
from collective_variables.data.encoding import encode_table

MANY = settings(max_examples=60, derandomize=True, deadline=None)
NAMES = ["id", "x", "y", "Unnamed: 0", "class", "file", "a,b", "no", "year", "x missing"]
ROLES = ["target", "ignored", "used", "identity", *["free"] * 8]


@st.composite
def columns(draw, n_rows):
    """A column as a reader may return it."""
    kind = draw(st.sampled_from(["f8", "i8", "?", "M8[s]", "text", "table"] * 3 + ["image"]))
    if kind == "text":
        cells = st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["a", "b", "missing"]))
        return np.array(draw(st.lists(cells, min_size=n_rows, max_size=n_rows)), dtype=object)
    if kind == "table":
        return draw(arrays.arrays("f4", (n_rows, draw(st.integers(1, 3)))))
    if kind == "image":
        return draw(arrays.arrays("u1", (n_rows, 2, 2)))
    if kind == "i8":
        return draw(st.sampled_from([np.arange(n_rows), np.arange(n_rows)[::-1] % 3]))
    if kind == "f8":
        cells = st.sampled_from([np.nan, 0.0, 1.0, 2.5, 3.0, 1e300] * 20 + [np.inf])
        return draw(arrays.arrays(kind, n_rows, elements=cells))
    return draw(arrays.arrays(kind, n_rows))


@st.composite
def tables(draw):
    n_rows = draw(st.integers(2, 24))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=3, max_size=6, unique=True))
    return {name: draw(columns(n_rows)) for name in names}


@MANY
@given(st.data())
def test_a_table_is_encoded_or_refused(data):
    table = data.draw(tables())
    roles = {name: data.draw(st.sampled_from(ROLES)) for name in table}
    targets, ignored, used, identity = (
        [name for name, role in roles.items() if role == wanted] for wanted in ROLES[:4]
    )
    options = {"ignored": ignored, "used": used, "identity": (identity or [None])[0]}
    task = data.draw(st.sampled_from(["auto", "auto", "regression", "classification"]))
    try:
        result = encode_table(table, targets, task=task, **options)
    except DataError as error:
        assert len(str(error).splitlines()) == 1
        return
    n_rows = len(next(iter(table.values())))
    assert result.columns["column"].tolist() == list(table)
    assert len(result.inputs) == len(result.is_labelled) == n_rows
    if result.inputs.ndim == 2:
        n_features = result.inputs.shape[1]
        assert len(result.features) == len(result.sources) == len(result.kinds) == n_features
        assert not np.isinf(result.inputs).any()
        assert {"category", "missing", "number", "flag", "date"} >= set(result.kinds)
    inputs = result.columns.loc[result.columns["role"] == "input", "column"]
    assert set(result.sources) <= set(inputs) and not set(inputs) & set(ignored)
    if result.identities is not None:
        assert len(set(result.identities)) == n_rows and result.identity in table
    if result.targets is not None:
        labelled = ~np.isnan(result.targets).any(axis=1)
        np.testing.assert_array_equal(result.is_labelled, labelled)
        if result.task == "classification":
            assert (result.targets[labelled].sum(axis=1) == 1).all()
    assert result.report().splitlines()[-1].startswith(f"{n_rows} rows")
