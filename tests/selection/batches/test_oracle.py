"""The same features in, the same rows out, as from the package of the rules' authors."""

import json
from pathlib import Path

import batch_pools
import batch_references as references
import pytest

from collective_variables.selection.batches.rules import bait, frank_wolfe, lcmd, max_det, max_dist

CHOICES = json.loads(Path(__file__).with_name("oracle.json").read_text())["choices"]
RULES = {
    "lcmd": lcmd.lcmd,
    "max_dist": max_dist.max_dist,
    "max_det": max_det.max_det,
    "bait": bait.bait,
    "frank_wolfe": frank_wolfe.frank_wolfe,
}


def is_lost(choice):
    """Whether BAIT of bmdal_reg had to tell points apart by what rounding has left.

    It subtracts the squares of covariances: with a noise of 0.001 they fall by 12 orders of
    magnitude or more once all features are known.
    """
    rank = {"plain": 8, "clustered": 5, "low rank": 3}[choice["pool"]]
    n_known = len(batch_pools.LABELLED[choice["labelled"]]) + batch_pools.N_SELECTED
    return choice["rule"] == "bait" and choice["noise"] == 0.001 and n_known > rank + 4


def choose(choice):
    noise = {} if choice["noise"] is None else {"noise": choice["noise"]}
    features = batch_pools.POOLS[choice["pool"]]()
    labelled = batch_pools.LABELLED[choice["labelled"]]
    return RULES[choice["rule"]](features, batch_pools.N_SELECTED, labelled, **noise).tolist()


def name(choice):
    return " ".join(str(choice[key]) for key in ("rule", "noise", "pool", "labelled"))


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if not is_lost(choice)], ids=name)
def test_the_authors_package_chooses_the_same_rows(choice):
    assert choice["status"] is None
    assert choose(choice) == choice["indices"]


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if is_lost(choice)], ids=name)
def test_bait_keeps_the_digits_that_the_authors_package_loses(choice):
    features = batch_pools.POOLS[choice["pool"]]()
    labelled = batch_pools.LABELLED[choice["labelled"]]
    expected = references.bait(features, batch_pools.N_SELECTED, labelled, choice["noise"])
    assert choose(choice) == expected
    assert choice["indices"] != expected
