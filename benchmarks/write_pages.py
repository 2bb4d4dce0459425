"""Write the generated parts of the pages of results and of README.md from the files of reference/.

    python -m benchmarks.write_pages

Every fragment goes to docs/results/generated/NAME.md. Its last line names the command that printed
the numbers, and the date and commit of the last change of their files. Two parts of README.md are
rewritten if it has their markers (`benchmarks.pages.readme`).
"""

from benchmarks._markdown import fold
from benchmarks.pages import claims, dynamics, experiments, paper_scale, readme, timings
from benchmarks.pages.files import GENERATED, Fragment, describe_origin, read
from studies import (
    compare_methods,
    compare_rnd_forms,
    growth_laws,
    predict_loss,
    selection_cost,
)

PICTURES, PAPER_SCALE = ("make pictures",), ("python -m studies.paper_scale",)
JUDGED = (*PICTURES, "python -m studies.paper_scale_report")
RESULTS = ("make results",)
KEPT = ("reference/paper",)


def selection() -> str:
    """Return Experiment 2 in short."""
    return experiments.verdicts_table(read("differences.csv"))


def selection_sizes() -> str:
    """Return every size of Experiment 2."""
    tables = read("summary.csv"), read("differences.csv")
    return fold("Every problem, size and method", experiments.selection_table(*tables))


def correlations() -> str:
    """Return the correlations of Experiment 1."""
    groups = list(experiments.describe_networks())
    return experiments.correlations_table(read("correlations.csv"), groups)


def table_2() -> str:
    """Return the networks of Experiment 1 next to Table 2."""
    networks = experiments.describe_networks()
    return experiments.compare_with_table_2(read("best-runs.csv"), networks)


def kept_table_2() -> str:
    """Return `table_2` with the paper's numbers of runs."""
    runs, about = paper_scale.read_runs()
    first, _ = paper_scale.split_experiments(runs)
    best = experiments.best_runs(first)
    return experiments.compare_with_table_2(best, paper_scale.networks_of(about))


def kept_selection() -> str:
    """Return Experiment 2 at the paper's sizes, in short and at every size."""
    _, second = paper_scale.split_experiments(paper_scale.read_runs()[0])
    analysis = paper_scale.analyse(second)
    sizes = experiments.selection_table(analysis.summary, analysis.differences)
    return f"{experiments.verdicts_table(analysis.differences)}\n\n{fold('Every size', sizes)}"


def machines(stage: str) -> str:
    """Return where the groups with a stage ran at the papers' scale."""
    return paper_scale.machines_table(paper_scale.describe_groups(stage))


def field_sizes() -> str:
    """Return the tables of every method, part by part."""
    tables = compare_methods.read_tables()
    parts = (compare_methods.describe(*part).partition("\n\n") for part in tables.items())
    return "\n\n".join(fold(title.removeprefix("## "), text) for title, _, text in parts)


def scaling_sources() -> tuple[str, ...]:
    """Return the files of `studies.selection_cost`."""
    return tuple(f"reference/scaling-{name}.csv" for name in selection_cost.TITLES)


def csv_of(name: str, parts: list[str]) -> tuple[str, ...]:
    """Return the files of a study's parts."""
    return tuple(f"reference/{name}-{part}.csv" for part in parts)


def fragments() -> dict[str, Fragment]:
    """Return every fragment by its name."""
    field, forms = (
        csv_of("field", compare_methods.PARTS),
        csv_of("form", compare_rnd_forms.PARTS),
    )
    printed = {
        "claims": Fragment(lambda: claims.summary("C"), JUDGED, claims.sources("C1")),
        "findings": Fragment(lambda: claims.summary("F"), JUDGED, claims.sources("F1")),
        "reach": Fragment(lambda: claims.summary("G"), PICTURES, claims.sources("G1")),
        "scaling-laws": Fragment(lambda: claims.summary("H"), PICTURES, claims.sources("H2")),
        **{
            f"claim-{name.lower()}": Fragment(
                lambda name=name: claims.describe(name),
                JUDGED if len(claims.sources(name)) > 1 else PICTURES,
                claims.sources(name),
            )
            for name in claims.TITLES
        },
        "six-findings": Fragment(lambda: readme.six_findings("results/"), RESULTS, ("reference",)),
        "paper-and-ours": Fragment(
            lambda: readme.paper_and_ours("results/"), RESULTS, ("reference",)
        ),
        "selection": Fragment(selection, PICTURES, ("reference/differences.csv",)),
        "selection-sizes": Fragment(
            selection_sizes, PICTURES, ("reference/differences.csv", "reference/summary.csv")
        ),
        "correlations": Fragment(correlations, PICTURES, ("reference/correlations.csv",)),
        "table-2": Fragment(table_2, PICTURES, ("reference/best-runs.csv",)),
        "limits": Fragment(
            lambda: experiments.limits_table(read("limits.csv")),
            PICTURES,
            ("reference/limits.csv",),
        ),
        "paper-table-2": Fragment(kept_table_2, PAPER_SCALE, KEPT),
        "paper-selection": Fragment(kept_selection, PAPER_SCALE, KEPT),
        "paper-machines": Fragment(lambda: machines("TrainModel"), PAPER_SCALE, KEPT),
        "dynamics-machines": Fragment(lambda: machines("ScalingStudy"), PAPER_SCALE, KEPT),
        **{
            f"dynamics-{name}": Fragment(write, PICTURES, (f"reference/dynamics/{name}.csv",))
            for name, write in {
                "networks": dynamics.networks_table,
                "phases": dynamics.phases_table,
                "laws": dynamics.laws_table,
            }.items()
        },
        "field": Fragment(
            lambda: compare_methods.summary(compare_methods.read_tables()), ("make field",), field
        ),
        "field-sizes": Fragment(field_sizes, ("make field",), field),
        "forms": Fragment(
            lambda: compare_rnd_forms.describe(compare_rnd_forms.read_tables()),
            ("make form",),
            forms,
        ),
        "scaling": Fragment(
            lambda: selection_cost.describe(selection_cost.read_tables()),
            ("make scaling",),
            scaling_sources(),
        ),
        "predictors": Fragment(
            lambda: predict_loss.correlations_table(read("predictors.csv")),
            ("make predictors",),
            ("reference/predictors.csv",),
        ),
        "predictors-shares": Fragment(
            lambda: predict_loss.shares_table(read("predictors-shares.csv")),
            ("make predictors",),
            ("reference/predictors-shares.csv",),
        ),
        "growth-laws": Fragment(
            lambda: growth_laws.describe(read("growth-laws.csv")),
            ("make growth",),
            ("reference/growth-laws.csv",),
        ),
        "decisions": Fragment(experiments.decisions_table, RESULTS, ("nodes/decisions.yaml",)),
    }
    return printed | timing_fragments()


def timing_fragments() -> dict[str, Fragment]:
    """Return the fragments of texts that benchmarks printed."""
    headings = {
        "bench-all": ("what", "make bench"),
        "bench-training": ("case", "make bench-training"),
        "bench-ntk": ("case", "make bench-ntk"),
        "bench-selection": ("case", "make bench-selection"),
        "bench-dynamics": ("what", "python -m benchmarks.bench_dynamics groups"),
        "bench-forecast": ("case", "make bench-forecast"),
    }
    tables = {
        name: Fragment(
            lambda name=name, first=first: timings.bench_table(f"{name}.txt", first),
            (command,),
            (f"reference/{name}.txt",),
        )
        for name, (first, command) in headings.items()
    }
    texts = {
        name: Fragment(
            lambda name=name: timings.verbatim(f"{name}.txt"),
            (command,),
            (f"reference/{name}.txt",),
        )
        for name, command in (
            ("bench-tables", "make bench-tables"),
            ("bench-recorder", "make bench-dynamics"),
            ("bench-decompose", "make bench-dynamics"),
        )
    }
    labels = Fragment(
        timings.labels_tables, ("make bench-labels",), ("reference/bench-labels.txt",)
    )
    return tables | texts | {"bench-labels": labels}


def main() -> None:
    """Write all fragments and both parts of README.md."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    written = fragments()
    for name, fragment in written.items():
        text = f"{fragment.write()}\n\n{describe_origin(fragment)}\n"
        (GENERATED / f"{name}.md").write_text(text)
    text = readme.README.read_text()
    readme.README.write_text(readme.replace_parts(text))
    print(f"{len(written)} fragments in {GENERATED.relative_to(readme.ROOT)}")


if __name__ == "__main__":
    main()
