"""scikit-learn's 1,797 handwritten digits, 8 × 8 pixels (Alpaydin & Kaynak, 1998): a set that is always at hand."""

import numpy as np
from sklearn.datasets import load_digits

from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.images import ArrayImage


def read() -> Contents:
    """The digits, white on black."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    examples = [
        Example(ArrayImage(image), {str(digit): 1.0})
        for image, digit in zip(pixels, digits.target, strict=True)
    ]
    return Contents(examples, [str(digit) for digit in range(10)], multi_label=False)
