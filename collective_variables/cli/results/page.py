"""A page of HTML with the learning curves of a comparison."""

import base64
import gzip
import html
from collections.abc import Sequence

import pandas as pd

from collective_variables import _extras
from collective_variables.cli.commands import Comparison
from collective_variables.papers import labels

VARIABLES = ("min_test_loss", "entropy", "trace")
HEADINGS = labels.VARIABLES | {
    "method": "Method",
    "min_test_loss_standard_error": "Standard error",
    "root_mean_square_error": "Root-mean-square error",
    "n_diverged": "Diverged",
}
STYLE = """\
body { font-family: sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 75rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: 0.25rem 0.75rem; text-align: right; border-bottom: 1px solid #ccc; }
th:first-child, td:first-child { text-align: left; }"""
BARS = (
    "Each point is a mean over networks, its bar one standard error. Entropy and trace are those "
    "of the neural tangent kernel of the chosen rows before the training."
)


# Plotly's program has 4.6 MB as a text, and 1.9 MB as it is here. Browsers unpack it since 2023.
DRAW = """\
<script type="application/gzip" id="program">{program}</script>
<script>
(async () => {{
  const text = atob(document.getElementById("program").textContent);
  const packed = new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))]);
  const unpacked = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
  const options = {{displayModeBar: false, responsive: true}};
  for (const [name, figure] of Object.entries({figures})) {{
    Plotly.newPlot(name, figure.data, figure.layout, options);
  }}
}})();
</script>"""


def page(
    comparison: Comparison, summary: pd.DataFrame, title: str, sentences: Sequence[str], /
) -> str:
    """Return a page with learning curves, entropy and trace, which needs no other file.

    Args:
        comparison: What is shown.
        summary: The table under the figures.
        title: The name of the user's file.
        sentences: What the figures show.

    Raises:
        MissingPackageError: Plotly is missing.
    """
    with _extras.required("figures"):
        from plotly import io, offline

    from collective_variables.papers import figures_2023

    figures = []
    for variable in VARIABLES:
        figure = figures_2023.comparison(comparison.summary, variable)
        # A single panel, which the page's title names, as wide as the window.
        figure.layout.annotations, figure.layout.width = (), None
        figure.update_layout(height=400, autosize=True)
        figures.append(f'"{variable}": {io.to_json(figure)}')
    packed = gzip.compress(offline.get_plotlyjs().encode(), mtime=0)
    name = html.escape(title)
    told = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    places = "".join(f'<div id="{variable}"></div>' for variable in VARIABLES)
    drawn = DRAW.format(
        program=base64.b64encode(packed).decode(),
        # No text within may end the script.
        figures=f"{{{', '.join(figures)}}}".replace("<", "\\u003c"),
    )
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{STYLE}</style><h1>{name}</h1>"
        f"<p>Test loss, entropy and trace of the rows that each method chooses, by their number. "
        f"{BARS}</p><ul>{told}</ul>{places}{_table(summary)}{drawn}</html>\n"
    )


def _table(summary: pd.DataFrame) -> str:
    table = summary.assign(method=summary["method"].map(labels.method_label))
    return table.rename(columns=HEADINGS).to_html(
        index=False, border=0, na_rep="–", float_format="{:.4g}".format
    )
