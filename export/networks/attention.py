"""Windowed attention (Swin), for networks that work at stride 16."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 8  # positions on a side: 128 pixels at stride 16


class WindowBlock(nn.Module):
    """x + attention(x), then x + MLP(x), inside windows of 8x8 positions (Swin Transformer, Liu et al. 2021).

    Every second block of a stack shifts its windows by half of one, so that neighbours across a border meet. Position
    is told by a depthwise convolution before attention, so any size works. float32 [B, width, h, w] in and out.
    """

    def __init__(self, width: int, *, shifted: bool, head: int = 32) -> None:
        super().__init__()
        self.heads, self.shift = width // head, WINDOW // 2 if shifted else 0
        self.place = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        for layer in (self.place, self.join, self.mlp[2]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [B, width, h, w] in and out."""
        batch, width, height, across = x.shape
        x = x + self.place(x)
        below, right = -(height + self.shift) % WINDOW, -(across + self.shift) % WINDOW
        grid = F.pad(x, (self.shift, right, self.shift, below))
        rows, columns = grid.shape[2] // WINDOW, grid.shape[3] // WINDOW
        tokens = grid.reshape(batch, width, rows, WINDOW, columns, WINDOW).permute(0, 2, 4, 3, 5, 1)
        tokens = tokens.reshape(-1, WINDOW * WINDOW, width)
        tokens = tokens + self.attend(self.norm_attention(tokens))
        tokens = tokens + self.mlp(self.norm_mlp(tokens))
        tokens = tokens.reshape(batch, rows, columns, WINDOW, WINDOW, width).permute(0, 5, 1, 3, 2, 4)
        grid = tokens.reshape(batch, width, rows * WINDOW, columns * WINDOW)
        return grid[:, :, self.shift : self.shift + height, self.shift : self.shift + across]

    def attend(self, tokens: Tensor) -> Tensor:
        """Multi-head attention among the tokens of each window, [windows, 64, width]."""
        windows, count, width = tokens.shape
        split = self.queries_keys_values(tokens).reshape(windows, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        # written out: the fused kernel's backward pass is five times slower on a CPU for windows this small
        mixed = torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, -1) @ value
        return self.join(mixed.transpose(1, 2).reshape(windows, count, width))


def stack(width: int, depth: int) -> nn.Sequential:
    """`depth` blocks, every second one shifted."""
    return nn.Sequential(*[WindowBlock(width, shifted=bool(index % 2)) for index in range(depth)])
