"""Write oracle.json: what bmdal_reg, the package of the rules' authors, chooses from the pools.

Needs torch and bmdal-reg 3.0.2 (Apache-2.0) with NumPy 1, in an environment apart from this one:

    PYTHONPATH=tests python tests/selection/batches/write_oracle.py
"""

import json
from pathlib import Path

import batch_pools
import numpy as np
import torch
from bmdal_reg.bmdal import selection
from bmdal_reg.bmdal.feature_data import TensorFeatureData
from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap
from bmdal_reg.bmdal.features import Features

# The class of each rule, the noises, and whether it sees posterior features alone ("P" of the
# authors) or the features with the labelled points ("TP").
RULES = {
    "lcmd": (selection.LargestClusterMaxDistSelectionMethod, [None], "TP"),
    "max_dist": (selection.MaxDistSelectionMethod, [None], "TP"),
    "max_det": (selection.MaxDetSelectionMethod, batch_pools.NOISES, "TP"),
    "bait": (selection.BaitFeatureSpaceSelectionMethod, batch_pools.NOISES, "TP"),
    "frank_wolfe": (selection.FrankWolfeSelectionMethod, batch_pools.NOISES, "P"),
}


def choose(rule, points, labelled, noise):
    """Return the rows that are chosen, and the status of the choice."""
    left = np.setdiff1d(np.arange(len(points)), labelled)
    identity = IdentityFeatureMap(n_features=points.shape[1])
    pool, train = (
        Features(identity, TensorFeatureData(torch.as_tensor(points[rows], dtype=torch.float64)))
        for rows in (left, np.array(labelled, int))
    )
    method, _, mode = RULES[rule]
    if mode == "P" and labelled:
        posterior = train.posterior_tfm(sigma=noise, allow_kernel_space_posterior=False)
        pool, train = posterior(pool), posterior(train)
    with_train = mode == "TP" and bool(labelled)
    chosen = method(pool, train, sel_with_train=with_train, verbosity=0, noise_sigma=noise)
    torch.manual_seed(0)  # it fills a batch with random points where it fails
    return left[chosen.select(batch_pools.N_SELECTED).numpy()].tolist(), chosen.get_status()


def main():
    choices = [
        {
            "pool": name,
            "labelled": known,
            "rule": rule,
            "noise": noise,
            "indices": indices,
            "status": status,
        }
        for name, pool in batch_pools.POOLS.items()
        for known, labelled in batch_pools.LABELLED.items()
        for rule, (_, noises, _) in RULES.items()
        for noise in noises
        for indices, status in [choose(rule, pool(), labelled, noise)]
    ]
    lines = ",\n".join("  " + json.dumps(choice) for choice in choices)
    made = "write_oracle.py with bmdal-reg 3.0.2 (Apache-2.0), in float64"
    path = Path(__file__).with_name("oracle.json")
    path.write_text(f'{{"made": "{made}", "choices": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
