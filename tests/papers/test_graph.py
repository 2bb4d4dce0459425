"""Where the stages of a graph are drawn."""

import itertools

from collective_variables.papers.pages import graph

STAGES = [
    graph.Stage("a_Train", "Train", "a", ["a_Choose", "a_Load"], "train.py", {"seed": 0}, 12.4),
    graph.Stage("a_Choose", "Choose", "a", ["a_Load"], "choose.py", {}),
    graph.Stage("a_Load", "Load", "a", [], "load.py", {}, 0.04),
    graph.Stage("all_Report", "Report", "all", ["a_Train"], "report.py", {}),
]


def test_a_stage_is_to_the_right_of_all_that_it_takes_results_from():
    first, last = graph.draw(STAGES)
    assert (first["name"], last["name"]) == ("a", "all")
    placed = {stage["name"]: stage for stage in first["stages"]}
    assert list(placed) == ["a_Load", "a_Choose", "a_Train"]
    xs = [stage["x"] for stage in placed.values()]
    assert xs == sorted(set(xs)) and xs[-1] + graph.WIDTH < first["width"]
    assert len(first["edges"]) == 3 and last["edges"] == []


def test_stages_next_to_each_other_do_not_overlap():
    many = [graph.Stage(f"a_{k}", str(k), "a", [], "x.py", {}) for k in range(5)]
    (drawn,) = graph.draw(many)
    ys = [stage["y"] for stage in drawn["stages"]]
    assert all(low + graph.HEIGHT < high for low, high in itertools.pairwise(ys))
    assert ys[-1] + graph.HEIGHT < drawn["height"]


def test_a_stage_has_its_time_its_code_and_its_parameters():
    (drawn, _) = graph.draw(STAGES)
    load, choose, train = drawn["stages"]
    assert (load["label"], choose["label"], train["label"]) == (
        "Load, 0.0 s",
        "Choose",
        "Train, 12 s",
    )
    assert (choose["seconds"], train["seconds"]) == ("–", "12")
    assert train["code"] == "train.py" and train["parameters"] == [("seed", 0)]
