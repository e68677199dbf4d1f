"""How a classifier is wired to look at a grid: GridPG, DiFull, DiPart."""

from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import sha256

import torch
from torch import Tensor, nn

from xai_lib._check import check_choice, check_model
from xai_lib.assets.layers import last_spatial_layer, token_grid
from xai_lib.attribute._forward import find_layer, forward_hook
from xai_lib.evaluate.cells import cell_of, sliding, stitch, unstitch

SETTINGS = ("grid_pg", "di_full", "di_part")


class GridNet(nn.Module):
    """A classifier's grid version, as a function of one layer's output.

    The model is not edited, and must not be between `before` and the calls that follow:
    logits of rows seen are remembered. `before` gives the layer's output on grids;
    ``forward`` takes that output, runs the rest and gives the logits of the cell
    ``head``. So every method explains a layer (ML-Att) when it explains this module's
    input.

    - "grid_pg": the model sees the grid; one head for all cells. A head that only pools
      takes the larger map as it is; one with a weight per position (VGG) slides over
      it, and the logits of all its places are averaged.
    - "di_full": the model sees every cell alone. Head i runs on the features of cell i.
    - "di_part": the model sees the grid up to its last layer with positions; head i
      then gets what lies in cell i.

    Parameters
    ----------
    model : Module in eval mode
    size : (C, H, W) of a cell
    n : cells per side
    setting : one of the three
    layer : name of a module that all paths go through, or None (also "input")

    Raises
    ------
    ValueError
        if a skip connection goes round the layer, if it has no positions, if the model
        has to see the grid and takes images of its own size only, or if, for DiPart,
        its map of the grid does not divide into cells

    References
    ----------
    [rao2022]_

    Examples
    --------
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *head).eval()
    >>> cells = torch.randn(1, 4, 1, 8, 8)
    >>> grid = GridNet(net, (1, 8, 8), 2, "di_full", layer="0")
    >>> grid.head = 3  # bottom right
    >>> h = grid.before(stitch(cells))
    >>> torch.allclose(grid(h), net(cells[:, 3]), atol=1e-6)
    True
    """

    def __init__(
        self,
        model: nn.Module,
        size: tuple[int, int, int],
        n: int,
        setting: str,
        layer: str | None = None,
    ):
        check_model(model)
        check_choice("setting", setting, SETTINGS)
        super().__init__()
        self.model, self.n, self.setting = model, n, setting
        self.size, self.head, self.heads = tuple(size), 0, range(n**2)
        self.layer = None if layer in (None, "input") else layer
        self.known: dict[bytes, Tensor] = {}  # logits of rows seen, until `before`
        self.eval()
        self._try()

    def before(self, grid: Tensor) -> Tensor:
        """Return the layer's output on grids (B, C, n*H, n*W), (B, K, n*h, n*w)."""
        self.known.clear()
        if self.layer is None:
            return grid.contiguous(memory_format=torch.channels_last)
        alone = self.setting == "di_full"
        images = unstitch(grid, self.n).flatten(0, 1) if alone else grid
        h = [output_of(self.model, self.layer, part) for part in images.split(8)]
        h = self._as_map(torch.cat(h), *images.shape[2:])
        h = stitch(h.unflatten(0, (-1, self.n**2))) if alone else h
        return h.contiguous(memory_format=torch.channels_last)

    def forward(self, h: Tensor) -> Tensor:
        if torch.is_grad_enabled() and h.requires_grad:
            return self._logits(h, [self.head])[:, 0]
        place = self.heads.index(self.head) if self.setting == "di_part" else 0
        return self._remembered(h)[:, place]

    def _remembered(self, h: Tensor) -> Tensor:
        """Return the logits of all heads; run only rows that were never seen.

        Occlusion and RISE ask for the same edited grids once per head.
        """
        alone = self.setting == "di_full"
        rows = cell_of(h, self.n, self.head) if alone else h
        keys = [_digest(row) for row in rows]
        new = [i for i, key in enumerate(keys) if key not in self.known]
        if new:
            heads = self.heads if self.setting == "di_part" else [self.head]
            with torch.no_grad():
                logits = self._logits(h[new], heads)
            self.known |= {keys[i]: row for i, row in zip(new, logits, strict=True)}
        return torch.stack([self.known[key] for key in keys])

    def _logits(self, h: Tensor, heads: Sequence[int]) -> Tensor:
        """Return the logits of some heads, (R, heads, classes)."""
        if self.setting == "di_full":
            return self._rest(cell_of(h, self.n, heads[0]))[:, None]
        if self.setting == "di_part":

            def cells(module, inputs, output) -> Tensor:
                whole = self._as_map(output, *self._seen)
                parts = [cell_of(whole, self.n, i) for i in heads]
                return _like(torch.stack(parts, 1).flatten(0, 1), output)

            logits = self._rest(h, (self._last, cells))
            return logits.unflatten(0, (len(h), len(heads)))
        if self._pools:
            return self._rest(h)[:, None]

        def windows(module, inputs, output) -> Tensor:
            whole = self._as_map(output, *self._seen)
            return _like(sliding(whole, self._own).flatten(0, 1), output)

        logits = self._rest(h, (self._last, windows))
        return logits.unflatten(0, (len(h), -1)).mean(1, keepdim=True)

    def _rest(self, h: Tensor, *hooks) -> Tensor:
        """Run the model from the layer on; the part before it runs on nothing."""
        with ExitStack() as stack:
            x = h
            if self.layer is not None:
                module = find_layer(self.model, self.layer)

                def replace(module, inputs, output) -> Tensor:
                    return _like(h, output).clone()  # an in-place ReLU may follow

                stack.enter_context(forward_hook(module, replace))
                x = h.new_zeros(1, *self._nothing)
            for name, hook in hooks:
                stack.enter_context(forward_hook(find_layer(self.model, name), hook))
            return self.model(x)

    @property
    def windowed(self) -> bool:
        """Whether a head slides, so that a grid has many rows behind it."""
        return self.setting == "grid_pg" and not self._pools

    @property
    def _seen(self) -> tuple[int, int]:
        """Height and width of what the model sees at once."""
        n = 1 if self.setting == "di_full" else self.n
        return n * self.size[1], n * self.size[2]

    def _as_map(self, output: Tensor, height: int, width: int) -> Tensor:
        """Return a layer's output as (B, K, h, w); tokens that tile the image too."""
        if output.ndim == 4:
            return output
        places = token_grid(output.shape[1], height, width) if output.ndim == 3 else 0
        if not places:
            raise ValueError(
                f"a grid needs a layer with a map, (B, K, h, w) or tokens that tile "
                f"the image, got {tuple(output.shape)} from {self.layer or self._last}"
            )
        return output.transpose(1, 2).unflatten(2, places)

    def _try(self) -> None:
        """Find where the head begins and how it works; refuse what cannot be wired."""
        whole, layer = self.setting != "di_full", self.layer is not None
        if not (whole or layer):
            return
        some = next(self.model.parameters(), torch.empty(0))
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, *self.size, generator=generator).to(some)
        with torch.no_grad():
            if whole:
                self._last = last_spatial_layer(self.model, x, tokens=True)
                h = self._try_whole(x.repeat(1, 1, self.n, self.n))
            if self.setting == "grid_pg":
                self._look_at_head(x)
            if self.setting == "di_part":
                self._check_cells(x, h)
            if layer:
                self._nothing = self._smallest(x)

    def _try_whole(self, grid: Tensor) -> Tensor:
        try:
            return output_of(self.model, self._last, grid)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ValueError(
                f"{self.setting} shows the model the whole grid, {grid.shape[2]} x "
                f"{grid.shape[3]}, and {type(self.model).__name__} refused it: "
                f"{error}. di_full does without"
            ) from None

    def _check_cells(self, x: Tensor, h: Tensor) -> None:
        """Refuse a model whose map of a grid does not divide into maps of images."""
        alone = output_of(self.model, self._last, x)
        one = tuple(self._as_map(alone, *x.shape[2:]).shape[2:])
        whole = tuple(self._as_map(h, *self._seen).shape[2:])
        if whole != tuple(self.n * side for side in one):
            raise ValueError(
                f"di_part needs a map of the grid that divides into {self.n} x "
                f"{self.n} maps of an image, {one[0]} x {one[1]}, got {whole[0]} x "
                f"{whole[1]} at {self._last!r}: use di_full, or images of another size"
            )

    def _look_at_head(self, x: Tensor) -> None:
        """Note whether the head only pools, and the map that it sees on one image."""
        module = find_layer(self.model, self._last)
        own = self._as_map(output_of(self.model, self._last, x), *x.shape[2:])
        noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(1))
        own = own + noise.to(own) * own.std()

        def logits(h: Tensor) -> Tensor:
            with forward_hook(module, lambda *call: _like(h, call[2]).clone()):
                return self.model(x)

        self._pools = _close(logits(own), logits(own.flip(2, 3)))
        self._own = tuple(own.shape[2:])

    def _smallest(self, x: Tensor) -> tuple[int, int, int]:
        """Return the size of an image that the part before the layer may run on."""
        h = self._as_map(output_of(self.model, self.layer, x), *x.shape[2:])
        wanted = self.model(x)
        for divisor in (4, 1):
            C, H, W = self.size
            self._nothing = C, H // divisor, W // divisor
            try:
                if _close(self._rest(h), wanted):
                    return self._nothing
            except (RuntimeError, ValueError, AssertionError):
                continue  # too small for the model, or two batch sizes met
        raise ValueError(
            f"layer must be one that every path goes through, got {self.layer!r}, "
            "which a skip connection goes round"
        )


class _Stop(Exception):
    """Raised to leave a model early."""


def output_of(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """Return a layer's output for x, without a graph; what is behind it is not run."""
    outputs = []

    def keep(module, inputs, output):
        outputs.append(output)
        raise _Stop

    with torch.no_grad(), forward_hook(find_layer(model, layer), keep):
        try:
            model(x)
        except _Stop:
            pass
    if not outputs or not isinstance(outputs[0], Tensor):
        raise ValueError(f"layer must return one tensor, {layer!r} does not")
    return outputs[0]


def _like(h: Tensor, output: Tensor) -> Tensor:
    """Return a map in the layout of a layer's output: as it is, or as tokens."""
    return h.flatten(2).transpose(1, 2) if output.ndim == 3 else h


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-3 * b.abs().max())


def _digest(row: Tensor) -> bytes:
    last = row.detach().cpu().permute(1, 2, 0)  # channels last, as maps lie in memory
    last = last.contiguous().flatten().view(torch.uint8)  # numpy knows no bfloat16
    found = sha256(f"{row.dtype} {tuple(row.shape)}".encode())
    found.update(last.numpy())
    return found.digest()
