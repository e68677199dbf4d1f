"""Small nets for texts, which come as pictures (B, E, 1, T): T words, E coordinates.

Each gate is a call of torch of its own, so that a rule of modified backpropagation can
see it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cifar_zoo import Net
from .text import PADDING, UNKNOWN

WORDS, CHANNELS = 10_000, 32
WIDTH, STATES = 64, 32  # of the dense layer; of the LSTM


class MLP(nn.Module):
    """Mean over the positions, dense, ReLU, dense."""

    def __init__(self, channels: int = CHANNELS, width: int = WIDTH):
        super().__init__()
        self.hidden = nn.Linear(channels, width)
        self.relu = nn.ReLU()
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.mean((2, 3))  # (B, E)
        return self.head(self.relu(self.hidden(h)))


class LSTM(nn.LSTM):
    """The hidden state of an LSTM at each position, (B, E, 1, T) to (B, H, 1, T).

    Notes
    -----
    With i, f, g, o the four parts of z = W x_t + b + U h_{t-1} + c,

        C_t = sigmoid(f) C_{t-1} + sigmoid(i) tanh(g),  h_t = sigmoid(o) tanh(C_t).

    In training and where no gradient is asked for, torch's own fused call gives the
    same (to rounding) faster.
    """

    def __init__(self, channels: int, width: int):
        super().__init__(channels, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, 0].transpose(1, 2)  # (B, T, E)
        if self.training or not torch.is_grad_enabled():
            h = super().forward(x)[0]  # (B, T, H)
        else:
            h = self.unrolled(x)
        return h.transpose(1, 2)[:, :, None]

    def unrolled(self, x: Tensor) -> Tensor:
        """Return the hidden states (B, T, H), step by step."""
        h = c = x.new_zeros(len(x), self.hidden_size)
        states = []
        for z in F.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(1):
            z = z + F.linear(h, self.weight_hh_l0, self.bias_hh_l0)  # (B, 4 H)
            i, f, g, o = z.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states, 1)


class Recurrent(nn.Module):
    """LSTM, mean of its hidden states over the positions, dense."""

    def __init__(self, channels: int = CHANNELS, width: int = STATES):
        super().__init__()
        self.lstm = LSTM(channels, width)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lstm(x)  # (B, H, 1, T)
        return self.head(h.mean((2, 3)))


class Reader(nn.Module):
    """A net with the embedding that makes its input; what is trained and stored."""

    def __init__(self, net: nn.Module):
        super().__init__()
        rows = WORDS + UNKNOWN + 1
        self.embedding = nn.Embedding(rows, CHANNELS, padding_idx=PADDING)
        with torch.no_grad():
            self.embedding.weight *= 0.1
        self.net = net

    def embed(self, ids: Tensor) -> Tensor:
        """Return the picture (B, E, 1, T) of numbers of words (B, T)."""
        return self.embedding(ids).transpose(1, 2)[:, :, None]

    def forward(self, ids: Tensor) -> Tensor:
        return self.net(self.embed(ids))


NETS = {
    "imdb_mlp": Net(
        MLP,
        {"final": "relu"},
        f"embedding {CHANNELS}, mean over 200 positions, dense {WIDTH}, ReLU, dense 2 "
        "(an embedding-MLP, after Ancona et al. 2018)",
    ),
    "imdb_lstm": Net(
        Recurrent,
        {"final": "lstm"},
        f"embedding {CHANNELS}, one LSTM layer of {STATES}, mean of its states over 200"
        " positions, dense 2 (after Ancona et al. 2018)",
    ),
}
"""Our text nets by name, in the order of training."""


def fresh_reader(name: str, seed: int) -> Reader:
    """Build a text net with random weights, leaving torch's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reader(NETS[name].build())
