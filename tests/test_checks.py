import numpy as np
import pytest

from collective_variables import _checks, _errors


@pytest.mark.parametrize(
    "check, value, options, expected",
    [
        (_checks.integer, 3, {}, 3),
        (_checks.integer, np.int64(3), {"minimum": 3}, 3),
        (_checks.integer, -5, {}, -5),
        (_checks.number, 2, {"above": 1.5}, 2.0),
        (_checks.number, np.float32(0.5), {"minimum": 0.5}, 0.5),
        (_checks.number, -1e300, {}, -1e300),
        (_checks.choice, "b", {"allowed": ("a", "b")}, "b"),
        (_checks.unique, (5, 10), {}, [5, 10]),
    ],
)
def test_a_right_value_is_returned_as_a_plain_one(check, value, options, expected):
    result = check("name", value, **options)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    "check, value, options, error, message",
    [
        (_checks.integer, True, {}, TypeError, "name must be an integer: received True."),
        (
            _checks.integer,
            np.True_,
            {},
            TypeError,
            f"name must be an integer: received {np.True_!r}.",
        ),
        (_checks.integer, 3.0, {}, TypeError, "name must be an integer: received 3.0."),
        (_checks.integer, "3", {}, TypeError, "name must be an integer: received '3'."),
        (_checks.integer, None, {}, TypeError, "name must be an integer: received None."),
        (_checks.integer, 1, {"minimum": 2}, ValueError, "name must be at least 2: received 1."),
        (_checks.number, False, {}, TypeError, "name must be a number: received False."),
        (_checks.number, None, {}, TypeError, "name must be a number: received None."),
        (_checks.number, 1j, {}, TypeError, "name must be a number: received 1j."),
        (
            _checks.number,
            "1e-3",
            {},
            TypeError,
            "name must be a number: received '1e-3'. YAML reads 1e-3 as text: write 0.001.",
        ),
        (_checks.number, float("nan"), {}, ValueError, "name must be finite: received nan."),
        (_checks.number, float("-inf"), {}, ValueError, "name must be finite: received -inf."),
        (
            _checks.number,
            0.0,
            {"above": 0.0},
            ValueError,
            "name must be greater than 0.0: received 0.0.",
        ),
        (
            _checks.number,
            -0.1,
            {"minimum": 0.0},
            ValueError,
            "name must be at least 0.0: received -0.1.",
        ),
        (
            _checks.choice,
            "c",
            {"allowed": {"b", "a"}},
            ValueError,
            "name must be one of a, b: received 'c'.",
        ),
        (_checks.choice, 1, {"allowed": ("a",)}, TypeError, "name must be one of a: received 1."),
        (
            _checks.choice,
            ["a"],
            {"allowed": ("a",)},
            TypeError,
            "name must be one of a: received ['a'].",
        ),
        (
            _checks.unique,
            [],
            {},
            TypeError,
            "name must be a list of at least one entry: received [].",
        ),
        (
            _checks.unique,
            "ab",
            {},
            TypeError,
            "name must be a list of at least one entry: received 'ab'.",
        ),
        (
            _checks.unique,
            5,
            {},
            TypeError,
            "name must be a list of at least one entry: received 5.",
        ),
        (
            _checks.unique,
            [5, 6, 5],
            {},
            ValueError,
            "name must not repeat an entry: received [5, 6, 5].",
        ),
    ],
)
def test_a_wrong_value_is_one_error_that_names_quantity_expected_and_received(
    check, value, options, error, message
):
    with pytest.raises(error) as caught:
        check("name", value, **options)
    assert isinstance(caught.value, _errors.UserError) and str(caught.value) == message


@pytest.mark.parametrize(
    "array", [np.zeros((3, 2)), np.arange(4), np.zeros((0, 2)), np.array([True])]
)
def test_a_finite_array_passes(array):
    assert _checks.finite("pool", array) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_are_counted_and_the_first_is_located(bad, dtype):
    array = np.zeros((3, 4), dtype)
    array[1, 2] = array[2, 0] = bad
    with pytest.raises(ValueError) as caught:
        _checks.finite("pool", array)
    assert (
        str(caught.value)
        == "pool must be finite: 2 of 12 values are NaN or infinite, the first at (1, 2)."
    )


def test_rows_of_an_array_pass_and_others_are_an_error():
    _checks.rows("indices", np.array([[0, 4], [2, 2]]), 5)
    for bad in (5, -1):
        with pytest.raises(
            ValueError, match=f"^indices must be rows of the pool, 0 to 4: received {bad}.$"
        ):
            _checks.rows("indices", np.array([[0, 4], [bad, 2]]), 5)
