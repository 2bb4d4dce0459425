"""Tables from which the chosen points and the history of a selection are drawn."""

import base64
import struct
import zlib

import numpy as np
import pandas as pd
from jaxtyping import Array, Float, UInt8

from collective_variables.selection.base import Selection

N_DRAWN = 60
COLUMNS = 10
N_BACKGROUND = 1000


def chosen_points(points: Selection, pool: Float[Array, "n_pool ..."], /) -> pd.DataFrame:
    """The first 60 points of the first member: their order of choice, row of the pool, distance,
    and a place to draw at.

    Of images a contact sheet: ten in a row, each as a PNG in a data URL. Of a table the pool's
    first two principal components of standardised features, with at most 1000 other points of the
    pool behind the chosen ones, which have no order.
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
    table = pd.concat([pd.DataFrame({"index": rest}), table], ignore_index=True)
    x, y = _principal_components(pool.reshape(len(pool), -1))[table["index"]].T
    return table.assign(x=x, y=y, image="")[
        ["order", "index", "distance", "x", "y", "image"]
    ].astype({"order": "Int64"})


def history(points: Selection, /) -> pd.DataFrame:
    """One row for each member and point that has distances: its own, and the mean and largest of
    the pool.
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
    pool = pool.astype(np.float64)
    # The std of equal values is round-off rather than 0: compare the values themselves.
    scale = np.where(np.ptp(pool, axis=0) > 0, pool.std(axis=0), np.inf)
    standardised = (pool - pool.mean(axis=0)) / scale
    directions = np.linalg.svd(standardised, full_matrices=False)[2][:2]
    components = np.zeros((len(pool), 2))
    components[:, : len(directions)] = standardised @ directions.T
    return components


def _bytes(images: Float[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    """0 to 255 from the smallest to the largest value of all of them."""
    low, high = images.min(), images.max()
    return np.round((images - low) * (255.0 / (high - low if high > low else 1.0))).astype(np.uint8)


def _data_url(image: UInt8[np.ndarray, "h w c"]) -> str:
    """A PNG (W3C recommendation of 2003) of a grey image or, of three channels, a coloured one."""
    height, width, channels = image.shape
    image = image if channels == 3 else image[:, :, :1]
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(of)) + kind + of + struct.pack(">I", zlib.crc32(kind + of))
        for kind, of in parts
    )
    return (
        "data:image/png;base64,"
        + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
    )
