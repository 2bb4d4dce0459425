"""Draw every selection method on one pool of two columns, and write the tables of docs/gallery.md.

    python -m scripts.draw_gallery [pictures] [seconds] [tables]

pictures: docs/gallery/METHOD.svg for each of `SELECTION_METHODS`, and all of them in overview.svg.
seconds: time each method on this machine, docs/gallery/seconds.csv.
tables: docs/results/generated/gallery-*.md from seconds.csv and from the comparison of methods in
    reference/ (`make field`, `make bench-selection`, `make bench-tables`).

All by default. Pool, network and seeds of the page are the constants below. The methods that choose
by predictions have those of networks that are trained on a few labelled points, which the pictures
show as squares.
"""

import platform
import sys
import time
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import softmax

from collective_variables import _machine
from collective_variables.active_learning import fitting
from collective_variables.networks import sequential
from collective_variables.selection import registry
from scripts import gallery_tables

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "gallery"
SECONDS = PICTURES / "seconds.csv"

SEED = 0
N_CHOSEN = 20
PARTS = {"large cluster": 210, "small cluster": 60, "crescent": 122, "outliers": 8}
LARGER = 10  # factor of the points in each part for the times
REPEATS = 3
# ReLU networks without biases see a point and its multiples as one direction, and a plane has few
# directions. The networks of this page therefore have biases.
B_STD = 0.5
NETWORK = sequential.build_network(
    ["dense 64", "dense 64", "dense 64", "dense 3"], parametrisation="ntk", b_std=B_STD
)
# Products of the two columns have few directions, too, so rules for batches have another kernel.
BY_KERNEL = ("max-diag", "max-det", "max-dist", "bait", "frank-wolfe", "lcmd", "max-herding")
OPTIONS = {
    "rnd-linearised": {"b_std": B_STD},
    **{method: {"kernel": "infinite-width", "n_features": 256} for method in BY_KERNEL},
}
LABELLED_ONLY = ("margin", "predictive-entropy", "ensemble-variance")  # they need predictions
N_LABELLED, N_NETWORKS = 12, 5

BLUE, POOL = "#0072B2", "#808080"
CLASSES = ("#E69F00", "#009E73", "#CC79A7")  # of the pool, if a method uses them
WIDTH, HEIGHT, SCALE = 360, 240, 54  # of a picture; units of SVG for a unit of the pool
COLUMNS, HEADING = 4, 34  # of the overview


def pool(times: int = 1) -> Float[np.ndarray, "n_pool 2"]:
    """Return the points part by part, `times` as many in each."""
    generator = np.random.default_rng(SEED)
    large, small, crescent, outliers = (times * count for count in PARTS.values())
    angles = generator.uniform(0.0, np.pi, crescent)
    around = 2.0 * np.pi * (np.arange(outliers) + generator.uniform(0.0, 0.5, outliers)) / outliers
    directions = np.column_stack([np.cos(around), np.sin(around)])
    parts = [
        generator.normal((-1.2, 0.5), 0.28, (large, 2)),
        generator.normal((1.5, -0.9), 0.16, (small, 2)),
        (1.3, 0.35)
        + 0.95 * np.column_stack([np.cos(angles), np.sin(angles)])
        + generator.normal(0.0, 0.06, (crescent, 2)),
        (3.1, 2.0) * directions * generator.uniform(0.8, 1.0, (outliers, 1)),
    ]
    return np.concatenate(parts)


def classes(times: int = 1) -> Int[np.ndarray, " n_pool"]:
    """Return the class of each point, which only "stratified" uses; outliers alternate."""
    counts = [times * count for count in PARTS.values()]
    return np.concatenate([np.repeat(range(3), counts[:3]), np.arange(counts[3]) % 3])


def labelled() -> list[int]:
    """Return rows that are labelled for the methods that need predictions."""
    generator = np.random.default_rng(SEED)
    return generator.choice(sum(PARTS.values()), N_LABELLED, replace=False).tolist()


@cache
def class_probabilities(times: int = 1) -> Float[np.ndarray, "n_networks n_pool 3"]:
    """Return the predictions of networks that are trained on the labelled rows."""
    inputs, rows = pool(times).astype(np.float32), labelled()
    keys = jax.random.split(jax.random.key(SEED), N_NETWORKS)
    trained = fitting.fit(
        NETWORK,
        inputs[rows],
        np.eye(3, dtype=np.float32)[classes(times)[rows]],
        task="classification",
        initial=fitting.initialise(NETWORK, inputs, keys),
        settings=fitting.FitSettings(n_networks=N_NETWORKS),
    )
    return softmax(fitting.outputs(NETWORK, trained, inputs).astype(np.float64), axis=2)


def choose(method: str, times: int = 1) -> list[int]:
    """Return the rows that a method chooses."""
    options = dict(OPTIONS.get(method, {}))
    if method in LABELLED_ONLY:
        options |= {"labelled": labelled(), "predictions": class_probabilities(times)}
    chosen = registry.select(
        pool(times),
        N_CHOSEN,
        method=method,
        key=jax.random.key(SEED),
        network=NETWORK,
        targets=classes(times),
        **options,
    )
    return chosen.indices[0].tolist()


def place(points: Float[np.ndarray, "n_points 2"]) -> Float[np.ndarray, "n_points 2"]:
    """Return where points are in a picture."""
    return np.round(points * (SCALE, -SCALE) + (WIDTH / 2, HEIGHT / 2), 1)


def dots(points: Float[np.ndarray, "n_points 2"], colour: str) -> str:
    """Return points as one path of lines with round ends and no length."""
    path = "".join(f"M{x:g} {y:g}h0" for x, y in place(points))
    return (
        f'<path d="{path}" stroke="{colour}" stroke-opacity="0.75" stroke-width="4" '
        'stroke-linecap="round" fill="none"/>'
    )


def squares(points: Float[np.ndarray, "n_points 2"], colour: str) -> str:
    """Return labelled points as squares."""
    path = "".join(f"M{x - 5:g} {y - 5:g}h10v10h-10z" for x, y in place(points))
    return f'<path d="{path}" stroke="#ffffff" stroke-width="1" fill="{colour}"/>'


def marks(rows: list[int], is_ordered: bool, radius: float) -> str:
    """Return the chosen points, the first on top, with the numbers of their order."""
    lines = []
    for number, (row, (x, y)) in reversed(list(enumerate(zip(rows, place(pool()[rows])), 1))):
        lines.append(
            f'<circle data-row="{row}" cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{BLUE}" '
            'stroke="#ffffff" stroke-width="1"/>'
        )
        if is_ordered:
            lines.append(
                f'<text x="{x:g}" y="{y + 3:g}" font-size="9" text-anchor="middle" '
                f'font-family="sans-serif" fill="#ffffff">{number}</text>'
            )
    return "\n".join(lines)


def svg(title: str, width: int, height: int, body: str) -> str:
    """Return a picture on a transparent background."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">\n'
        f"<title>{title}</title>\n{body}\n</svg>\n"
    )


def draw(method: str, rows: list[int]) -> str:
    """Return the picture of one method; classes are coloured if the method uses them."""
    points = pool()
    ground = dots(points, POOL)
    if method == "stratified":
        groups = (dots(points[classes() == k], colour) for k, colour in enumerate(CLASSES))
        ground = "\n".join(groups)
    if method in LABELLED_ONLY:
        rows_by_class = (np.array(labelled())[classes()[labelled()] == k] for k in range(3))
        groups = zip(rows_by_class, CLASSES)
        ground = "\n".join([ground, *(squares(points[part], colour) for part, colour in groups)])
    title = f"{method}: {N_CHOSEN} of {len(points)} points"
    body = f"{ground}\n{marks(rows, gallery_tables.FACTS[method].is_ordered, 7.0)}"
    return svg(title, WIDTH, HEIGHT, body)


def draw_overview(chosen: dict[str, list[int]]) -> str:
    """Return all methods in rows of `COLUMNS`, without numbers."""
    body = [f'<defs><g id="pool">{dots(pool(), POOL)}</g></defs>']
    for number, (method, rows) in enumerate(chosen.items()):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * (HEIGHT + HEADING)
        body += [
            f'<g transform="translate({x} {y + HEADING})"><text x="{WIDTH // 2}" y="-4" '
            f'font-size="32" text-anchor="middle" font-family="sans-serif" fill="{POOL}">'
            f'{method}</text><use href="#pool"/>',
            marks(rows, False, 8.0),
            "</g>",
        ]
    n_rows = -(-len(chosen) // COLUMNS)
    title = f"{N_CHOSEN} points of one pool, chosen by {len(chosen)} methods"
    return svg(title, COLUMNS * WIDTH, n_rows * (HEIGHT + HEADING), "\n".join(body))


def draw_pictures() -> None:
    """Write the pictures."""
    chosen = {method: choose(method) for method in registry.SELECTION_METHODS}
    for method, rows in chosen.items():
        (PICTURES / f"{method}.svg").write_text(draw(method, rows))
    (PICTURES / "overview.svg").write_text(draw_overview(chosen))


def measure_seconds() -> None:
    """Write the shortest of several times of each method, after a call that compiles."""
    rows = []
    for method in registry.SELECTION_METHODS:
        for times in (1, LARGER):
            choose(method, times)
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                choose(method, times)
                seconds.append(time.perf_counter() - start)
            rows.append((method, times * sum(PARTS.values()), min(seconds)))
            print(*rows[-1], flush=True)
    cores, processor = _machine.n_cores(), platform.machine()
    machine = f"{cores} cores, {processor}, JAX {jax.__version__} on {jax.default_backend()}"
    table = pd.DataFrame(rows, columns=["method", "n_pool", "seconds"]).assign(machine=machine)
    table.to_csv(SECONDS, index=False, float_format="%.3g")


def write_tables() -> None:
    """Write the tables."""
    gallery_tables.write_all(pd.read_csv(SECONDS))


def main() -> None:
    """Write the named parts, or all."""
    PICTURES.mkdir(exist_ok=True)
    parts = {"pictures": draw_pictures, "seconds": measure_seconds, "tables": write_tables}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
