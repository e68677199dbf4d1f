"""Make ssim.npz: pairs of small maps and scikit-image's SSIM of them.

Needs numpy and scikit-image (made with 0.26.0), which the library does not:

    python tests/references/make_ssim.py
"""

from pathlib import Path

import numpy as np
from skimage.metrics import structural_similarity

draw = np.random.default_rng(0)
a = draw.random((4, 12, 17)).round(4)
b = np.stack([draw.random((12, 17)), 1 - a[1], 0.5 + 0 * a[2], 0.9 * a[3] + 0.05])
b = b.round(4)
values = {
    f"window{window}_range{data_range}": [
        structural_similarity(x, y, win_size=window, data_range=data_range)
        for x, y in zip(a, b, strict=True)
    ]
    for window in (5, 7)
    for data_range in (1, 2)
}
np.savez_compressed(Path(__file__).with_name("ssim.npz"), a=a, b=b, **values)
