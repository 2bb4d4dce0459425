"""Tabulate the chosen points and the history of a selection for figures."""

import base64
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from collective_variables import _scaling

if TYPE_CHECKING:  # a selection comes with JAX, which a table does not need
    from collective_variables.selection.base import Selection

N_DRAWN = 60
COLUMNS = 10
N_BACKGROUND = 1000


def chosen_points(points: "Selection", pool: Float[np.ndarray, "n_pool ..."], /) -> pd.DataFrame:
    """Tabulate the first 60 points of the first member, and where a picture shows each.

    Args:
        points: The selection.
        pool: (n_pool, ...) points. Images, (n_pool, height, width, channels), become a contact
            sheet: ten in a row, each as a PNG in a data URL. The rows of a table lie at the pool's
            first two principal components of standardised features, in front of at most 1000 other
            points of the pool.

    Returns:
        Columns: order of choice (missing for other points), index (row of the pool), distance, x,
        y, image.
    """
    pool, indices = np.asarray(pool), points.indices[0][points.indices[0] >= 0][:N_DRAWN]
    order = np.arange(1, len(indices) + 1)
    table = pd.DataFrame(
        {"order": order, "index": indices, "distance": points.distances[0][: len(indices)]}
    )
    if pool.ndim == 4:
        images = [_data_url(image) for image in _bytes(pool[indices])]
        return table.assign(x=(order - 1) % COLUMNS, y=-((order - 1) // COLUMNS), image=images)
    rest = np.setdiff1d(np.arange(len(pool)), indices)[:N_BACKGROUND]
    # The chosen points come last, so that they are drawn on top.
    table = pd.concat([pd.DataFrame({"index": rest}), table], ignore_index=True)
    x, y = _principal_components(pool.reshape(len(pool), -1))[table["index"]].T
    return table.assign(x=x, y=y, image="")[
        ["order", "index", "distance", "x", "y", "image"]
    ].astype({"order": "Int64"})


def history(points: "Selection", /) -> pd.DataFrame:
    """Tabulate the distance of each chosen point, and the pool's mean and largest distance.

    Args:
        points: The selection.

    Returns:
        One row per member and point with distances: member, n_points, distance, mean_distance,
        max_distance.
    """
    n_members, n_selected = points.indices.shape
    table = pd.DataFrame(
        {
            "member": np.repeat(np.arange(n_members), n_selected),
            "n_points": np.tile(np.arange(1, n_selected + 1), n_members),
            "distance": points.distances.ravel(),
            "mean_distance": points.mean_distances.ravel(),
            "max_distance": points.max_distances.ravel(),
        }
    )
    return table.dropna(ignore_index=True)


def _principal_components(pool: np.ndarray) -> Float[np.ndarray, "n_pool 2"]:
    standardised = _scaling.standardise(pool.astype(np.float64))
    directions = np.linalg.svd(standardised, full_matrices=False)[2][:2]
    components = np.zeros((len(pool), 2))
    components[:, : len(directions)] = standardised @ directions.T
    return components


def _bytes(images: Float[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    """Return images scaled to 0 for the smallest and 255 for the largest value of all of them."""
    low, high = images.min(), images.max()
    return np.round((images - low) * (255.0 / (high - low if high > low else 1.0))).astype(np.uint8)


def _data_url(image: UInt8[np.ndarray, "h w c"]) -> str:
    """Return an image as a PNG (W3C recommendation of 2003), in colour if it has three channels."""
    height, width, channels = image.shape
    image = image if channels == 3 else image[:, :, :1]
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    png = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    return "data:image/png;base64," + base64.b64encode(png).decode()
