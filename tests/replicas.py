"""Every rule once more, as its formula in the dense matrix of one image."""

import torch
from torch import Tensor

EPS = 1e-6


def dense(function, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (W, b) of an affine function at x (1, ...): z = W x + b, flattened."""
    jacobian = torch.autograd.functional.jacobian(function, x)
    W = jacobian.reshape(-1, x.numel())  # (outputs, inputs)
    return W, function(x).detach().flatten() - W @ x.flatten()


def divided(N: Tensor, total: Tensor, R: Tensor, eps: float) -> Tensor:
    """Return R_i = sum_j N_ji / (total_j + eps sign(total_j)) R_j, sign(0) = 1."""
    sign = torch.where(total >= 0, 1.0, -1.0).to(N)
    return (N * (R / (total + eps * sign))[:, None]).sum(0)


def plus(a: Tensor) -> Tensor:
    return torch.where(a > 0, a, 0.0)


def minus(a: Tensor) -> Tensor:
    return torch.where(a < 0, a, 0.0)


def epsilon(W, b, x, R, eps=EPS):
    return divided(W * x, W @ x + b, R, eps)


def gamma(W, b, x, R, g=0.25):
    P = W * x
    up = (P.sum(1) + b >= 0)[:, None]
    N = P + g * torch.where(up, plus(P), minus(P))
    shift = b + g * torch.where(up[:, 0], plus(b), minus(b))
    return divided(N, N.sum(1) + shift, R, EPS)


def alpha_beta(W, b, x, R, alpha, beta):
    P = W * x
    up = divided(plus(P), plus(P).sum(1) + plus(b), R, EPS)
    down = divided(minus(P), minus(P).sum(1) + minus(b), R, EPS)
    return alpha * up - beta * down


def z_plus(W, b, x, R, bias=True):
    P = plus(W * x)
    return divided(P, P.sum(1) + bias * plus(b), R, EPS)


def z_box(W, b, x, R, low, high):
    N = W * x - plus(W) * low - minus(W) * high
    return divided(N, N.sum(1), R, EPS)


def w_square(W, b, x, R):
    return divided(W**2, (W**2).sum(1), R, 1e-12)


def flat(W, b, x, R):
    linked = (W != 0).to(W)
    return divided(linked, linked.sum(1), R, 1e-12)


def windows(shape, kernel: int, stride: int, padding: int):
    """Return, for each output of a 2-D pooling, the flat places its window covers."""
    channels, height, width = shape
    for c in range(channels):
        for top in range(-padding, height + padding - kernel + 1, stride):
            for left in range(-padding, width + padding - kernel + 1, stride):
                yield [
                    (c * height + top + i) * width + left + j
                    for i in range(kernel)
                    for j in range(kernel)
                    if 0 <= top + i < height and 0 <= left + j < width
                ]


def winner_takes_all(x, R, shape, kernel=2, stride=2, padding=0, key=None):
    """Give each window's relevance to its largest value, the first of equals."""
    key, result = x if key is None else key, torch.zeros_like(x)
    for j, places in enumerate(windows(shape, kernel, stride, padding)):
        result[max(places, key=lambda i: (key[i], -i))] += R[j]
    return result


def share_by_value(x, R, shape, kernel=2, stride=2, padding=0):
    """Give each input of a window R x / mean of the window / its size."""
    result = torch.zeros_like(x)
    for j, places in enumerate(windows(shape, kernel, stride, padding)):
        mean = sum(x[i] for i in places) / kernel**2
        for i in places:
            result[i] += x[i] * R[j] / (mean + 1e-10) / kernel**2
    return result
