"""Hide a pattern in noise and find it: ``python -m find_template``."""

import numpy as np
from detector import Detector

SIDE = 16  # of the template; a window is a pixel larger, since the pool forgives a pixel


def part_detector(template):
    """A detector whose filters are the template's four quarters, each expected in its place."""
    half = SIDE // 2
    corners = [(0, 0), (0, half), (half, 0), (half, half)]
    parts = np.stack([template[y : y + half, x : x + half] for y, x in corners])
    parts = parts - parts.mean(axis=(1, 2), keepdims=True)
    n = (SIDE + 1 - half + 1) // 2  # pooled rows and columns of a window
    weights = np.zeros((n, n, 4), np.float32)
    for i, (y, x) in enumerate(corners):
        weights[y // 2, x // 2, i] = 1
    return Detector(parts.astype(np.float32), weights.reshape(-1, 1), (SIDE + 1, SIDE + 1))


def main():
    rng = np.random.default_rng(1)
    template = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
    image = rng.standard_normal((240, 320)).astype(np.float32)
    image[100 : 100 + SIDE, 200 : 200 + SIDE] += 2 * template
    scores = np.asarray(part_detector(template).scores(image))
    y, x = np.unravel_index(scores.argmax(), scores.shape)
    print(f"{scores.size} windows; the first of the best is at row {y}, column {x}")


if __name__ == "__main__":
    main()
