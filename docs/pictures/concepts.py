"""Draw the pictures of docs/concepts as SVG: PYTHONPATH=. python docs/pictures/concepts.py

Numbers come from the library and from reference/. A white panel keeps them readable on dark pages.
"""

import gzip
import math
from pathlib import Path

import jax
import numpy as np
import pandas as pd

import collective_variables as cv

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "concepts"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
DARK, GREY, PALE = "#222222", "#777777", "#DDDDDD"
HEAD = (
    '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="context-stroke"/></marker>'
)


class Picture:
    """Shapes on a white panel of a width and height in pixels."""

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self.shapes = [f'<rect width="{width}" height="{height}" rx="6" fill="#FFFFFF"/>']

    def text(self, x, y, words, *, size=16, colour=DARK, anchor="middle", bold=False):
        weight = ' font-weight="bold"' if bold else ""
        self.shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}"{weight}>{words}</text>'
        )

    def rectangle(self, x, y, width, height, *, fill="none", stroke="none", radius=0):
        self.shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{radius}" fill="{fill}" stroke="{stroke}"/>'
        )

    def circle(self, x, y, radius, fill, opacity=1.0):
        fading = "" if opacity == 1 else f' opacity="{opacity}"'
        self.shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}"{fading}/>'
        )

    def line(self, points, *, colour=DARK, width=1.5, arrow=False):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        end = ' marker-end="url(#head)"' if arrow else ""
        self.shapes.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}"{end}/>'
        )

    def box(self, x, y, width, height, lines, colour):
        """A rounded box with lines of text in its middle."""
        self.rectangle(x, y, width, height, fill="#FFFFFF", stroke=colour, radius=8)
        top = y + height / 2 - 8 * (len(lines) - 1) + 4
        for number, words in enumerate(lines):
            self.text(x + width / 2, top + 16 * number, words, bold=number == 0)

    def write(self, name: str) -> None:
        (OUT / f"{name}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'font-family="sans-serif" role="img"><title>{self.title}</title>'
            f"<defs>{HEAD}</defs>{''.join(self.shapes)}</svg>\n"
        )


class Axes:
    """A frame in a picture that places values, on a logarithmic scale where asked for."""

    def __init__(self, picture, left, top, width, height, x_range, y_range, *, log=""):
        self.picture, self.log = picture, log
        self.left, self.bottom, self.width, self.height = left, top + height, width, height
        self.x_range = self._scaled("x", x_range)
        self.y_range = self._scaled("y", y_range)
        picture.line([(left, top), (left, top + height), (left + width, top + height)], width=1)

    def _scaled(self, axis, values):
        return np.log(values) if axis in self.log else np.asarray(values, dtype=float)

    def x(self, value):
        low, high = self.x_range
        return self.left + self.width * (self._scaled("x", value) - low) / (high - low)

    def y(self, value):
        low, high = self.y_range
        return self.bottom - self.height * (self._scaled("y", value) - low) / (high - low)

    def label(self, x_ticks, y_ticks, x_words, y_words):
        picture = self.picture
        for value in x_ticks:
            picture.text(self.x(value), self.bottom + 16, f"{value:g}", size=14, colour=GREY)
        for value in y_ticks:
            place = self.y(value) + 4
            picture.text(self.left - 6, place, f"{value:g}", size=14, colour=GREY, anchor="end")
        picture.text(self.left + self.width / 2, self.bottom + 34, x_words, size=15)
        picture.text(self.left, self.bottom - self.height - 8, y_words, size=15, anchor="start")


def draw_kernel() -> None:
    """The kernel of 20 images of five digits, and its eigenvalues as shares of the trace."""
    data = cv.load_problem("mnist")
    digits = np.argmax(data.targets, axis=1)
    rows = np.concatenate([np.flatnonzero(digits == digit)[:4] for digit in (0, 1, 3, 8, 9)])
    network = cv.build_network(["dense 128", "dense 128", "dense 10"], parametrisation="ntk")
    images = data.inputs[rows]
    params = network.init(jax.random.key(0), images)
    kernel = np.asarray(cv.empirical_ntk(network.apply, params, images))
    variables = cv.collective_variables(kernel)
    shares = cv.eigenvalues(kernel)[::-1] / variables["trace"]

    picture = Picture(720, 330, "A kernel of 20 images, and its eigenvalues")
    side, left, top = 13, 50, 40
    for (i, j), value in np.ndenumerate(kernel / kernel.max()):
        part = max(0.0, float(value))
        colour = "#" + "".join(
            f"{round(255 + part * (int(BLUE[k : k + 2], 16) - 255)):02X}" for k in (1, 3, 5)
        )
        picture.rectangle(left + side * j, top + side * i, side, side, fill=colour)
    for number, digit in enumerate((0, 1, 3, 8, 9)):
        middle = side * (4 * number + 2)
        picture.text(left - 12, top + middle + 4, digit)
        picture.text(left + middle, top + 20 * side + 18, digit)
    picture.text(left + 10 * side, 24, "K: dark where two images move together", size=15)

    axes = Axes(picture, 400, 50, 290, 230, (0, 21), (0, 0.45))
    for number, share in enumerate(shares, start=1):
        height = axes.bottom - axes.y(share)
        picture.rectangle(axes.x(number) - 5, axes.y(share), 10, height, fill=ORANGE)
    axes.label((1, 5, 10, 15, 20), (0, 0.2, 0.4), "eigenvalue, largest first", "share of Tr")
    entropy, rank = variables["entropy"], variables["effective_rank"]
    picture.text(690, 90, f"Tr = {variables['trace']:.2f}", anchor="end")
    picture.text(690, 110, f"S = {entropy:.2f} of at most ln 20 = {math.log(20):.2f}", anchor="end")
    picture.text(690, 130, f"exp S = {rank:.1f} effective points", anchor="end")
    picture.write("kernel")


def draw_entropy_and_trace() -> None:
    """Two gradients, alike or not, short or long, with entropy and trace of their kernel."""
    picture = Picture(720, 390, "Entropy and trace of the kernel of two points")
    for column, (angle, words) in enumerate(((14, "alike"), (90, "unlike"))):
        picture.text(255 + 300 * column, 28, f"gradients {words}", bold=True)
        for row, (length, name) in enumerate(((1.0, "short"), (1.6, "long"))):
            half = math.radians(angle / 2)
            gradients = length * np.array(
                [[math.sin(-half), math.cos(half)], [math.sin(half), math.cos(half)]]
            )
            variables = cv.collective_variables(gradients @ gradients.T)
            x, y = 255 + 300 * column, 185 + 170 * row
            picture.rectangle(x - 125, y - 140, 250, 158, stroke=PALE, radius=6)
            for (dx, dy), colour in zip(gradients, (BLUE, RED), strict=True):
                end = (x - 42 + 62 * dx, y - 62 * dy)
                picture.line([(x - 42, y), end], colour=colour, width=3, arrow=True)
            picture.text(x + 78, y - 35, f"S = {abs(variables['entropy']):.2f}", size=19)
            picture.text(x + 78, y - 12, f"Tr = {variables['trace']:.1f}", size=19)
            if column == 0:
                picture.text(115, y - 60, name, anchor="end", bold=True)
    picture.write("entropy-and-trace")


def draw_rnd() -> None:
    """The loop of random network distillation."""
    picture = Picture(720, 300, "The loop of random network distillation")
    picture.box(20, 115, 110, 60, ("pool", "all points p"), DARK)
    picture.box(190, 40, 150, 60, ("target F", "random, fixed"), GREEN)
    picture.box(190, 190, 150, 60, ("predictor G", "trained"), RED)
    picture.box(400, 115, 120, 60, ("distance d", "F(p) from G(p)"), DARK)
    picture.box(580, 115, 120, 60, ("subset T", "+ largest d"), BLUE)
    for ends in (
        [(130, 135), (188, 72)],
        [(130, 155), (188, 218)],
        [(340, 72), (398, 133)],
        [(340, 218), (398, 157)],
        [(520, 145), (578, 145)],
    ):
        picture.line(ends, arrow=True)
    loop = [(640, 175), (640, 275), (265, 275), (265, 252)]
    picture.line(loop, colour=RED, width=2.5, arrow=True)
    picture.text(470, 266, "train G until G = F on T, then choose again", colour=RED)
    picture.write("rnd")


def draw_experiments() -> None:
    """Fuel: entropy and loss of runs of all sizes, and test loss against size of two methods."""
    picture = Picture(720, 330, "What Experiments 1 and 2 compare, on Fuel")
    with gzip.open(ROOT / "reference" / "paper" / "fuel-dense.csv.gz", "rt") as file:
        runs = pd.read_csv(file)
    runs = runs[(runs["parametrisation"] == "lecun") & ~runs["diverged"]]
    band = runs[runs["n_points"].between(48, 52)]
    axes = Axes(picture, 50, 60, 290, 210, (0.8, 2.6), (0.08, 1.5), log="y")
    for part, colour, opacity in ((runs[:600], BLUE, 0.3), (band, RED, 0.6)):
        for run in part.itertuples():
            if 0.8 < run.entropy < 2.6 and run.min_test_loss < 1.5:
                picture.circle(axes.x(run.entropy), axes.y(run.min_test_loss), 2, colour, opacity)
    for number, (part, words, colour) in enumerate(
        ((runs, "5 to 256 points", BLUE), (band, "48 to 52 points", RED))
    ):
        correlation = part["entropy"].corr(part["min_test_loss"], method="spearman")
        words = f"{words}: ρ = {correlation:.2f}".replace("-", "−")
        picture.text(345, 76 + 18 * number, words, colour=colour, anchor="end", size=15)
    axes.label(
        (1, 1.5, 2, 2.5),
        (0.1, 0.3, 1),
        "entropy S before training, nats",
        "minimum test loss (no unit)",
    )
    picture.text(195, 24, "Experiment 1: one dot is one run", bold=True)

    table = pd.read_csv(ROOT / "reference" / "summary.csv")
    table = table[table["group"] == "fuel"]
    axes = Axes(picture, 410, 60, 280, 210, (5, 110), (0.1, 0.6), log="xy")
    for method, colour in (("random", GREY), ("rnd", ORANGE)):
        part = table[table["method"] == method].sort_values("n_points")
        mean, error = part["min_test_loss"], part["min_test_loss_standard_error"]
        places = list(zip(axes.x(part["n_points"]), axes.y(mean), strict=True))
        picture.line(places, colour=colour, width=2)
        ends = zip(places, axes.y(mean - error), axes.y(mean + error), strict=True)
        for (x, y), low, high in ends:
            picture.line([(x, low), (x, high)], colour=colour)
            picture.circle(x, y, 3, colour)
    axes.label(
        (5, 10, 20, 40, 100), (0.1, 0.2, 0.4), "points in the subset", "minimum test loss (no unit)"
    )
    picture.text(550, 24, "Experiment 2: one curve is one method", bold=True)
    picture.text(688, 72, "random", colour=GREY, anchor="end", size=15)
    picture.text(688, 88, "RND", colour="#A87400", anchor="end", size=15)
    picture.write("experiments")


def draw_names() -> None:
    """How pool, subset, member, network, kernel, entropy and trace belong together."""
    picture = Picture(720, 250, "The words of this project, and how they belong together")
    picture.rectangle(20, 40, 200, 170, stroke=GREY, radius=8)
    random = np.random.default_rng(3)
    places = random.uniform((35, 60), (205, 195), (60, 2))
    chosen = np.linalg.norm(places - (95, 110), axis=1).argsort()[:8]
    for x, y in np.delete(places, chosen, axis=0):
        picture.circle(x, y, 4, PALE)
    for x, y in places[chosen]:
        picture.circle(x, y, 4, BLUE)
    picture.text(120, 28, "pool: all points", bold=True)
    picture.text(120, 230, "subset: the chosen ones", colour=BLUE, bold=True)
    for layer in (2, 1, 0):
        shift = 9 * layer
        picture.rectangle(290 + shift, 95 - shift, 120, 60, fill="#FFFFFF", stroke=GREEN, radius=8)
    picture.text(350, 122, "network", bold=True)
    picture.text(350, 140, "one member")
    picture.text(350, 185, "ensemble: all of them", colour=GREEN, bold=True)
    for i in range(8):
        for j in range(8):
            near = math.exp(-0.5 * abs(i - j))
            picture.rectangle(500 + 9 * i, 90 + 9 * j, 8, 8, fill=BLUE if near > 0.3 else PALE)
    picture.text(536, 80, "kernel K", bold=True)
    picture.text(546, 185, "a row for each point", size=15)
    picture.text(655, 112, "entropy S", bold=True, colour=RED)
    picture.text(655, 142, "trace Tr", bold=True, colour=RED)
    for ends in ([(222, 125), (288, 125)], [(430, 125), (495, 125)], [(576, 125), (615, 125)]):
        picture.line(ends, arrow=True)
    picture.write("names")


if __name__ == "__main__":
    for draw in (draw_kernel, draw_entropy_and_trace, draw_rnd, draw_experiments, draw_names):
        draw()
