"""Which images make a grid: by confidence, with a seed, classes as the setting asks."""

from functools import reduce

import torch
from torch import Tensor, nn

from xai_lib._check import check_choice, check_images, check_model, check_positive
from xai_lib.attribute._forward import rows_per_pass
from xai_lib.evaluate.grids import SETTINGS


def confident(
    model: nn.Module, x: Tensor, y: Tensor, threshold: float = 0.99
) -> Tensor:
    """Return the images that a model classifies rightly and surely, surest first.

    Parameters
    ----------
    model : Module in eval mode
    x : Tensor, shape (N, C, H, W), normalised as the model wants
    y : Tensor of class indices, shape (N,)
    threshold : smallest softmax probability of the class, in [0, 1]

    Returns
    -------
    Tensor of indices into x, long

    Notes
    -----
    [rao2022]_ takes 0.99, for each model on its own; the code of the paper takes images
    on which all models agree.

    Near 1 the probabilities of many images differ in the last digit only. The softmax
    is therefore summed class by class: torch sums in an order that depends on the
    processor, and the images would come in another order on another one.

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x = torch.randn(10, 1, 2, 2)
    >>> y = net(x).argmax(1)
    >>> confident(net, x, y, threshold=0.5).sort().values.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    check_model(model)
    check_images(x)
    if not isinstance(y, Tensor) or y.shape != (len(x),):
        raise ValueError(f"y must be a tensor of shape ({len(x)},), a class per image")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    with torch.no_grad():
        logits = [model(part) for part in x.split(rows_per_pass(model, x))]
    sure, found = _softmax(torch.cat(logits)).max(1)
    right = ((found == y.to(found.device)) & (sure >= threshold)).nonzero().flatten()
    return right[sure[right].argsort(descending=True, stable=True)].cpu()


def _softmax(logits: Tensor) -> Tensor:
    """Return the softmax of (B, classes), summed from the first class to the last."""
    exp = (logits - logits.amax(1, keepdim=True)).exp()
    return exp / reduce(torch.add, exp.unbind(1))[:, None]


def sample_grids(
    y: Tensor, n: int, grids: int, setting: str = "grid_pg", seed: int = 0
) -> Tensor:
    """Draw the images of grids.

    Parameters
    ----------
    y : Tensor of class indices, shape (N,), of the images to draw from
    n : cells per side
    grids : how many
    setting : "grid_pg": all classes of a grid differ. "di_full", "di_part": the last
        cell has the class of the first one and another image, all others differ
    seed : of the draw

    Returns
    -------
    Tensor of indices into y, shape (grids, n*n), long

    Raises
    ------
    ValueError
        if there are fewer images or classes than a grid needs

    Notes
    -----
    No image comes a second time before all had their turn, as far as the classes allow
    it; in pairs this holds for the first cell. [rao2022]_ uses every image once.

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> y = torch.arange(10).repeat(3)
    >>> y[sample_grids(y, 2, 5)].shape
    torch.Size([5, 4])
    >>> drawn = y[sample_grids(y, 2, 5, "di_full")]
    >>> (drawn[:, 0] == drawn[:, 3]).all()
    tensor(True)
    """
    if not isinstance(y, Tensor) or y.ndim != 1:
        raise ValueError("y must be a tensor of shape (N,), a class per image")
    check_choice("setting", setting, SETTINGS)
    check_positive(grids=grids)
    if n < 2:
        raise ValueError(f"n must be at least 2 cells per side, got {n}")
    cells, classes = n * n, len(y.unique())
    pair = setting != "grid_pg"
    if len(y) < cells:
        raise ValueError(f"a {n} x {n} grid needs {cells} images, got {len(y)}")
    if classes < cells - pair:
        raise ValueError(
            f"a {n} x {n} grid of {setting} needs {cells - pair} classes, got {classes}"
        )
    classes, generator = y.tolist(), torch.Generator().manual_seed(seed)
    same: dict[int, list[int]] = {}
    for i, c in enumerate(classes):
        same.setdefault(c, []).append(i)
    twice = [i for i in range(len(y)) if len(same[classes[i]]) > 1]
    if pair and not twice:
        raise ValueError(f"{setting} needs two images of one class, got none")
    first, others = (_Turns(of, generator) for of in (twice, list(range(len(y)))))
    rows = []
    for _ in range(grids):
        if not pair:
            rows.append(others.take(cells, classes, set()))
            continue
        i = first.take(1, classes, set())[0]
        partners = [k for k in same[classes[i]] if k != i]
        last = partners[_draw(len(partners), generator)]
        rows.append([i, *others.take(cells - 2, classes, {classes[i]}), last])
    return torch.tensor(rows)


def _draw(number: int, generator: torch.Generator) -> int:
    return int(torch.randint(number, (1,), generator=generator))


class _Turns:
    """Images in a random order, mixed again when all had their turn."""

    def __init__(self, images: list[int], generator: torch.Generator):
        self.images, self.generator = images, generator
        self.queue: list[int] = []

    def take(self, count: int, classes: list[int], taken: set[int]) -> list[int]:
        """Take the next images whose classes differ from each other and from taken."""
        found, taken = [], set(taken)
        while len(found) < count:
            place = next(
                (k for k, i in enumerate(self.queue) if classes[i] not in taken), None
            )
            if place is None:  # what is left of this turn repeats a class
                order = torch.randperm(len(self.images), generator=self.generator)
                self.queue += [self.images[k] for k in order.tolist()]
                continue
            found.append(self.queue.pop(place))
            taken.add(classes[found[-1]])
        return found
