"""Witnesses that cost a matrix product: the class's own row, its row without the mean, and reflections.

A witness of class k is a z with W z + b largest at k. What these find is checked and certain; what they do not find
says nothing.

Reference: kexue.fm/archives/9046; the reflections are from Grivas, Bogoychev and Lopez, arXiv 2203.06462.
"""

import numpy as np

# Numbers in one block of scores: 64 MB in float32.
BLOCK = 2**24


def margin(W, b, k, z):
    """By how much class k is ahead of the best other one at z, in float64; -inf for a z that is not finite."""
    if not np.isfinite(z).all():
        return -np.inf
    scores = W @ np.asarray(z, "float64") + b
    own, scores[k] = scores[k], -np.inf
    return float(own - scores.max())


def is_ahead(W, b, k, z):
    """Whether class k is ahead at z by more than the rounding of float64 can pretend; the margin too."""
    ahead = margin(W, b, k, z)
    size = np.abs(W).max() * np.abs(z).sum() + np.abs(b).max()
    return ahead > 8 * np.finfo(float).eps * size, ahead


def ray(direction, box):
    """The point of the ray that lies on the surface of the box; far out, where the bias weighs least."""
    largest = np.abs(direction).max()
    return direction * (box / largest) if largest > 0 else direction


def directions(W, classes):
    """Pairs (name, [n, d]) of directions to look in for each of the classes."""
    yield "row", W[classes]
    yield "centred row", W[classes] - W.mean(axis=0)


def screen(W, b, classes, box):
    """Classes that win far out along their own row, or along their row without the mean of all rows.

    Args:
        W: float64 [V, d].
        b: float64 [V].
        classes: int array, which to look at.
        box: number, the largest entry of z.

    Returns:
        dict class -> (witness, margin).
    """
    narrow, found = W.astype("float32"), {}
    lengths = np.linalg.norm(W, axis=1).max()
    for start in range(0, len(classes), max(1, BLOCK // len(W))):
        block = classes[start : start + max(1, BLOCK // len(W))]
        for _, along in directions(W, block):
            left = [i for i, k in enumerate(block) if k not in found]
            if not left:
                break
            z = np.stack([ray(d, box) for d in along[left]])
            scores = z.astype("float32") @ narrow.T + b.astype("float32")
            own = scores[np.arange(len(left)), block[left]].copy()
            scores[np.arange(len(left)), block[left]] = -np.inf
            ahead = own - scores.max(axis=1)
            # A sum of d products in float32 is off by less than this, whatever their order.
            slack = 2.0**-22 * (W.shape[1] + 2) * (lengths * np.linalg.norm(z, axis=1) + np.abs(b).max())
            for i in np.flatnonzero(ahead > -slack):
                certain, exact = (
                    (True, float(ahead[i])) if ahead[i] > slack[i] else is_ahead(W, b, block[left[i]], z[i])
                )
                if certain:
                    found[int(block[left[i]])] = (z[i], exact)
    return found


def braid(W, b, classes, patience, box):
    """Walk from the class's row, reflected each time at the border with the class that is ahead.

    Args:
        W, b, classes, box: as for `screen`.
        patience: int, the most reflections.

    Returns:
        dict class -> (witness, margin).
    """
    classes, found = np.asarray(classes), {}
    z = W[classes].copy()
    left = np.arange(len(classes))
    for _ in range(patience + 1):
        if not len(left):
            break
        scores = z[left] @ W.T + b
        best = scores.argmax(axis=1)
        for i in left[best == classes[left]]:
            certain, exact = is_ahead(W, b, classes[i], z[i])
            if certain and np.abs(z[i]).max() <= box:
                found[int(classes[i])] = (z[i].copy(), exact)
        going = best != classes[left]
        left, best = left[going], best[going]
        normals = W[classes[left]] - W[best]
        lengths = np.linalg.norm(normals, axis=1)
        normals /= lengths[:, None]
        depths = np.sum(normals * z[left], axis=1) + (b[classes[left]] - b[best]) / lengths
        z[left] -= 2 * depths[:, None] * normals
    return found
