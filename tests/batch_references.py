"""The rules for batches from their formulas, over the full kernel matrix, as slow as they come.

Sums and differences are decimal numbers of 50 digits, so that a reference loses none.
"""

import decimal
from decimal import Decimal

import numpy as np

DIGITS = decimal.Context(prec=50)
COMPARED = decimal.Context(prec=30)  # fewer, so that rounding does not decide between equals


def exact(array):
    """The array in decimal numbers, which are its floats exactly."""
    decimal.setcontext(DIGITS)
    return np.vectorize(lambda value: Decimal(float(value)), otypes=[object])(array)


def kernel_matrix(features):
    features = exact(features)
    return features @ features.T


def squared_distances(kernel):
    diagonal = np.diag(kernel)
    return diagonal[:, None] + diagonal - 2 * kernel


def conditioned(kernel, known, noise):
    """K − K(·, L) (K(L, L) + s²)⁻¹ K(L, ·), one label after another."""
    for row in known:
        variance = kernel[row, row] + Decimal(noise) ** 2
        kernel = kernel - np.outer(kernel[:, row], kernel[row]) / variance
    return kernel


def best(scores, taken):
    """The first of the largest scores that is not taken."""
    scores = [COMPARED.plus(Decimal(float(s)) if isinstance(s, float) else s) for s in scores]
    return max((x for x in range(len(scores)) if x not in taken), key=lambda x: scores[x])


def one_by_one(score, n_selected, labelled):
    """Choose by score(centres, x): `centres` are labelled rows in order, then chosen ones."""
    centres = sorted(labelled)
    while len(centres) < len(labelled) + n_selected:
        centres.append(best(score(centres), centres))
    return centres[len(labelled) :]


def max_diag(features, n_selected, labelled, noise):
    variances = np.diag(conditioned(kernel_matrix(features), labelled, noise))
    return one_by_one(lambda _: variances, n_selected, labelled)


def max_det(features, n_selected, labelled, noise):
    kernel = kernel_matrix(features)
    return one_by_one(
        lambda centres: np.diag(conditioned(kernel, centres, noise)), n_selected, labelled
    )


def bait(features, n_selected, labelled, noise):
    """By what is left of the sum of variances once x is known too."""
    kernel = kernel_matrix(features)

    def score(centres):
        now = conditioned(kernel, centres, noise)
        falls = [now[x] ** 2 / (now[x, x] + Decimal(noise) ** 2) for x in range(len(now))]
        return [-sum(np.diag(now) - fall) for fall in falls]

    return one_by_one(score, n_selected, labelled)


def max_dist(features, n_selected, labelled):
    kernel = kernel_matrix(features)
    squared = squared_distances(kernel)
    return one_by_one(
        lambda centres: squared[centres].min(axis=0) if centres else np.diag(kernel),
        n_selected,
        labelled,
    )


def lcmd(features, n_selected, labelled, weights=None):
    kernel = kernel_matrix(features)
    squared = squared_distances(kernel)
    shares = [Decimal(1)] * len(kernel) if weights is None else [Decimal(w) ** 2 for w in weights]

    def score(centres):
        if not centres:
            return [share * entry for share, entry in zip(shares, np.diag(kernel))]
        owners = [min(centres, key=lambda centre: squared[centre, x]) for x in range(len(kernel))]
        weights = {centre: Decimal(0) for centre in centres}
        for x, owner in enumerate(owners):
            weights[owner] += shares[x] * squared[owner, x]
        heaviest = max(centres, key=lambda centre: weights[centre])
        if weights[heaviest] == 0:
            return [0] * len(kernel)
        return [shares[x] * squared[o, x] if o == heaviest else -1 for x, o in enumerate(owners)]

    return one_by_one(score, n_selected, labelled)


def k_means_plus_plus(features, n_selected, labelled, seed):
    squared = squared_distances(kernel_matrix(features))
    generator = np.random.default_rng(seed)
    centres = sorted(labelled)
    while len(centres) < len(labelled) + n_selected:
        weights = [1.0] * len(squared)
        if centres:
            weights = squared[centres].min(axis=0).astype(float)
        weights = np.array([w if x not in centres else 0.0 for x, w in enumerate(weights)])
        if weights.sum() == 0:
            weights = np.array([float(x not in centres) for x in range(len(squared))])
        centres.append(int(generator.choice(len(squared), p=weights / weights.sum())))
    return centres[len(labelled) :]


def frank_wolfe(features, n_selected, labelled, noise):
    """With e = Σ_x w(x) φ(x), so that only the kernel is needed."""
    kernel = conditioned(kernel_matrix(features), labelled, noise)
    lengths = [value.sqrt() for value in np.diag(kernel)]
    pool = [Decimal(x not in labelled) for x in range(len(kernel))]
    total = sum(length * is_pool for length, is_pool in zip(lengths, pool))
    weights = [Decimal(0)] * len(kernel)
    chosen = []
    for _ in range(n_selected):
        missing = kernel @ [p - w for p, w in zip(pool, weights)]
        # Once nothing is missing, only the last digits are left.
        scores = [
            round(m / (length * total), 12) if length * total else 0
            for m, length in zip(missing, lengths)
        ]
        row = best(scores, [*labelled, *chosen])
        chosen.append(row)
        if lengths[row]:
            step = np.array([-w for w in weights])
            step[row] += total / lengths[row]
            square = step @ kernel @ step
            gamma = (step @ missing) / square if square > total**2 * Decimal("1e-30") else 0
            weights = [w + gamma * change for w, change in zip(weights, step)]
    return chosen


def typiclust(features, n_selected, labelled, clusters, n_neighbours):
    distances = np.sqrt(squared_distances(kernel_matrix(features)).astype(float))
    members = [np.flatnonzero(clusters == number).tolist() for number in range(max(clusters) + 1)]
    taken, chosen = list(labelled), []
    for _ in range(n_selected):
        rank = [
            (sum(x in taken for x in cluster), -len(cluster), number)
            for number, cluster in enumerate(members)
            if set(cluster) - set(taken)
        ]
        cluster = members[min(rank)[2]]
        k = min(n_neighbours, len(cluster) // 2)
        means = {
            x: round(sum(sorted(distances[x, y] for y in cluster if y != x)[:k]) / max(k, 1), 6)
            for x in cluster
            if x not in taken
        }
        chosen.append(min(means, key=means.get))
        taken.append(chosen[-1])
    return chosen


def prob_cover(features, n_selected, labelled, radius):
    squared = squared_distances(kernel_matrix(features))
    balls = [set(np.flatnonzero(row <= Decimal(radius) ** 2).tolist()) for row in squared]
    centres = sorted(labelled)
    while len(centres) < len(labelled) + n_selected:
        uncovered = set(range(len(balls))).difference(*(balls[x] for x in centres))
        scores = [len(ball & uncovered) for ball in balls]
        centres.append(
            best(scores if uncovered else squared[centres].min(axis=0).tolist(), centres)
        )
    return centres[len(labelled) :]


def max_herding(features, n_selected, labelled):
    features = exact(features)
    lengths = [(row @ row).sqrt() for row in features]
    units = np.array([row / length if length else row for row, length in zip(features, lengths)])
    squared = squared_distances(units @ units.T)
    kernel = np.vectorize(lambda value: float((-value).exp()))(squared)

    def score(centres):
        return [
            round(sum(max(row[c] for c in [*centres, x]) for row in kernel), 12)
            for x in range(len(kernel))
        ]

    return one_by_one(score, n_selected, labelled)
