"""The LSTM autoencoder of the benchmarks."""

from __future__ import annotations

import torch
from torch import nn


class Autoencoder(nn.Module):
    """Squeezes a sequence ``[n, t, f]`` into one state, and makes it again out of that."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(features, hidden, num_layers=2, batch_first=True)
        self.decoder = nn.LSTM(hidden, features, num_layers=2, batch_first=True)

    @classmethod
    def seeded(cls, features: int, hidden: int, seed: int) -> Autoencoder:
        """Make one whose weights are the same in every run."""
        torch.manual_seed(seed)
        return cls(features, hidden).eval()

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """Decode the last hidden state, repeated for every step."""
        _, (last, _) = self.encoder(sequences)
        repeated = last[-1].unsqueeze(1).expand(-1, sequences.shape[1], -1)
        return self.decoder(repeated)[0]
