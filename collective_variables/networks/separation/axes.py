"""Locate the points in the arrays of a traced program, primitive by primitive.

The program is traced for a prime number of points, so an axis may hold points only if its size is a
multiple of the prime. A rule locates the points in the result of a primitive. It applies if entry i
of the result depends only on entry i of the operands, in the same way for all i.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Mixed(Exception):
    """Points may depend on each other, or on their number or order; no rule excludes it."""


class Place(NamedTuple):
    """The axis that holds the points.

    It may also hold other positions, as after a reshape to (n_points · n_tokens, n_features).

    Attributes:
        axis: Number of the axis.
        after: Number of positions within each point; None if all entries along the axis are equal,
            as after a broadcast.
    """

    axis: int
    after: int | None = 1


Places = Sequence[Place | None]  # of arrays; None for one that does not depend on points
Rule = Callable[[Any, Places, int], list[Place | None]]


def point_axes(shape: Sequence[int], n_points: int) -> list[int]:
    """Return the axes that may hold points."""
    return [axis for axis, size in enumerate(shape) if size and size % n_points == 0]


def join(places: Places) -> Place | None:
    """Return the place in arrays combined entry by entry, or None if no array has points."""
    present = [place for place in places if place is not None]
    if not present:
        return None
    if len({place.axis for place in present}) > 1:
        raise Mixed
    known = {place.after for place in present if place.after is not None}
    if len(known) > 1:
        raise Mixed
    return Place(present[0].axis, known.pop() if known else None)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _entry_by_entry(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    place = join(places)
    ranks = {len(_shape(atom)) for atom in (*equation.invars, *equation.outvars)}
    if len(ranks - {0}) > 1:  # an axis of size 1 is repeated, a missing one is not
        raise Mixed
    return [place] * len(equation.outvars)


def _each_operand(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    return list(places)


def _broadcast(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    if places[0] is not None:
        return [Place(axes[places[0].axis], places[0].after)]
    found = point_axes(shape, n_points)
    return [Place(found[0], None) if found else None]


def _iota(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    found = point_axes(equation.params["shape"], n_points)
    if equation.params["dimension"] in found:
        raise Mixed
    return [Place(found[0], None) if found else None]


def _reshape(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    (axis, after), old = _required(places[0]), _shape(equation.invars[0])
    new = equation.params["new_sizes"]
    (found,) = point_axes(new, n_points) or [None]
    if found is None or equation.params["dimensions"] is not None:
        raise Mixed
    before, behind = math.prod(new[:found]), math.prod(new[found + 1 :])
    old_before, old_behind = math.prod(old[:axis]), math.prod(old[axis + 1 :])
    if after is None:
        if before % old_before or behind % old_behind:
            raise Mixed
        return [Place(found, None)]
    old_before *= old[axis] // (n_points * after)
    old_behind *= after
    if old_before % before or old_behind % behind:
        raise Mixed
    return [Place(found, old_behind // behind)]


def _transpose(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    axis, after = _required(places[0])
    return [Place(equation.params["permutation"].index(axis), after)]


def _squeeze(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    return [_without(places[0], equation.params["dimensions"])]


def _expand(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    axis, after = _required(places[0])
    new = set(equation.params["dimensions"])
    rest = [number for number in range(len(_shape(equation.outvars[0]))) if number not in new]
    return [Place(rest[axis], after)]


def _reduce(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    return [_without(join(places), equation.params["axes"])] * len(equation.outvars)


def _without(place: Place | None, removed: Sequence[int]) -> Place:
    """Return the place in an array that has lost some other axes."""
    axis, after = _required(place)
    if axis in removed:
        raise Mixed
    return Place(axis - sum(number < axis for number in removed), after)


def _required(place: Place | None) -> Place:
    if place is None:
        raise Mixed
    return place


def _along(*names: str) -> Rule:
    """Return the rule of primitives that work along the axes in a parameter and keep the shape."""

    def rule(equation: Any, places: Places, n_points: int) -> list[Place | None]:
        place = join(places)
        options = [equation.params[name] for name in names]
        worked = [
            axis
            for option in options
            for axis in (option if isinstance(option, tuple) else [option])
        ]
        if None in places or place.axis in worked:
            raise Mixed
        return [place] * len(equation.outvars)

    return rule


def _last(n_axes: Callable[[Any], int]) -> Rule:
    """Return the rule of primitives that work along the last axes and keep the others."""

    def rule(equation: Any, places: Places, n_points: int) -> list[Place | None]:
        place = join(places)
        rank = len(_shape(equation.invars[0]))
        if None in places or place.axis >= rank - n_axes(equation):
            raise Mixed
        return [place] * len(equation.outvars)

    return rule


def _product(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    contracted, batch = equation.params["dimension_numbers"]
    if None not in places:
        axes = [
            batch[side].index(place.axis)
            for side, place in enumerate(places)
            if place.axis in batch[side]
        ]
        if len(axes) < 2 or axes[0] != axes[1]:
            raise Mixed
        return [Place(axes[0], join([place._replace(axis=0) for place in places]).after)]
    side = 0 if places[0] is not None else 1
    axis, after = places[side]
    if axis in contracted[side] or axis in batch[side]:
        raise Mixed
    taken = (*contracted[side], *batch[side])
    position = axis - sum(number < axis for number in taken)
    if side == 1:
        rank = len(_shape(equation.invars[0]))
        position += rank - len(contracted[0]) - len(batch[0])
    return [Place(len(batch[side]) + position, after)]


def _convolution(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    images, _, result = equation.params["dimension_numbers"]
    axis, after = _required(places[0])
    if places[1] is not None or axis != images[0] or equation.params["batch_group_count"] > 1:
        raise Mixed
    return [Place(result[0], after)]


def _window(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    place = _required(places[0])
    options = equation.params
    sizes = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    if any(options[name][place.axis] != 1 for name in sizes):
        raise Mixed
    if tuple(options["padding"][place.axis]) != (0, 0) or any(places[1:]):
        raise Mixed
    return [place]


def _slice(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    place, options = _required(places[0]), equation.params
    size = _shape(equation.invars[0])[place.axis]
    bounds = options["start_indices"][place.axis], options["limit_indices"][place.axis]
    if bounds != (0, size) or (options["strides"] or [1] * 99)[place.axis] != 1:
        raise Mixed
    return [place]


def _dynamic_slice(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    place = _required(places[0])
    if (
        any(places[1:])
        or _shape(equation.outvars[0])[place.axis] != _shape(equation.invars[0])[place.axis]
    ):
        raise Mixed
    return [place]


def _dynamic_update(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    place = join(places[:2])
    shapes = [_shape(atom) for atom in equation.invars[:2]]
    if None in places[:2] or any(places[2:]) or shapes[0][place.axis] != shapes[1][place.axis]:
        raise Mixed
    return [place]


def _pad(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    place = _required(places[0])
    if places[1] is not None or tuple(equation.params["padding_config"][place.axis]) != (0, 0, 0):
        raise Mixed
    return [place]


def _split(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    place = _required(places[0])
    if equation.params["axis"] == place.axis:
        raise Mixed
    return [place] * len(equation.outvars)


def _gather(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    numbers, operand, rows = equation.params["dimension_numbers"], places[0], places[1]
    rank = len(_shape(equation.outvars[0]))
    others = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    if operand is None:  # rows of a table
        return [Place(others[_required(rows).axis], rows.after)]
    if operand.axis in numbers.operand_batching_dims:
        place = numbers.operand_batching_dims.index(operand.axis)
        if numbers.start_indices_batching_dims[place] != _required(rows).axis:
            raise Mixed
        after = join([Place(0, operand.after), Place(0, rows.after)]).after
        return [Place(others[rows.axis], after)]
    is_whole = (
        equation.params["slice_sizes"][operand.axis] == _shape(equation.invars[0])[operand.axis]
    )
    if rows is not None or not is_whole or operand.axis in numbers.start_index_map:
        raise Mixed
    removed = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [axis for axis in range(len(_shape(equation.invars[0]))) if axis not in removed]
    return [Place(numbers.offset_dims[kept.index(operand.axis)], operand.after)]


def _scatter(equation: Any, places: Places, n_points: int) -> list[Place | None]:
    numbers, operand = equation.params["dimension_numbers"], _required(places[0])
    missing = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    is_written = operand.axis in (*missing, *numbers.scatter_dims_to_operand_dims)
    if is_written or places[1] is not None:
        raise Mixed
    kept = [axis for axis in range(len(_shape(equation.invars[0]))) if axis not in missing]
    updates = _required(places[2])
    if numbers.update_window_dims[kept.index(operand.axis)] != updates.axis:
        raise Mixed
    return [join([operand, updates._replace(axis=operand.axis)])]


_ENTRY_BY_ENTRY = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz
complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp
exp2 expm1 floor ge gt igamma igammac imag integer_pow is_finite le le_to lgamma log log1p logistic
lt lt_to max min mul name ne neg nextafter not or polygamma population_count pow real
reduce_precision regularized_incomplete_beta rem round rsqrt select_n sharding_constraint shift_left
shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
stop_gradient sub tan tanh xor zeta
"""
_REDUCTIONS = """
argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor
"""

# The rule of each primitive that has one.
RULES: dict[str, Rule] = {
    **dict.fromkeys(_ENTRY_BY_ENTRY.split(), _entry_by_entry),
    **dict.fromkeys(_REDUCTIONS.split(), _reduce),
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), _along("axis")),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window),
    **dict.fromkeys(("cholesky", "eigh", "lu", "qr", "svd"), _last(lambda equation: 2)),
    "broadcast_in_dim": _broadcast,
    "concatenate": _along("dimension"),
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "expand_dims": _expand,
    "fft": _last(lambda equation: len(equation.params["fft_lengths"])),
    "gather": _gather,
    "iota": _iota,
    "optimization_barrier": _each_operand,
    "pad": _pad,
    "reshape": _reshape,
    **dict.fromkeys(("scatter", "scatter-add", "scatter_add", "scatter_mul"), _scatter),
    "rev": _along("dimensions"),
    "slice": _slice,
    "sort": _along("dimension"),
    "split": _split,
    "squeeze": _squeeze,
    "top_k": _along("axis"),
    "transpose": _transpose,
    "triangular_solve": _last(lambda equation: 2),
}
