"""The contact sheet: each picture as it was, as a JPEG of the same bytes, as it was received, and redrawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_CELL = 320  # widest and tallest a picture is drawn
_GAP = 10
_BLOCK_GAP = 44
_MARGIN = 32
_CAPTION = 52
_PAPER, _INK, _FAINT, _MARK, _HOLE = "#14171c", "#f2f4f7", "#98a2b3", "#7dd3fc", "#232830"


@dataclass(frozen=True)
class Cell:
    """One picture (uint8 [H, W, 3], or None if there is none) and the two lines under it."""

    image: NDArray[np.uint8] | None
    headline: str
    detail: str


def draw_sheet(title: str, subtitle: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """All `rows`, in two blocks side by side when there are more than three, each under its column headings."""
    blocks = 2 if len(rows) > 3 else 1
    block_width = len(columns) * _CELL + (len(columns) - 1) * _GAP
    # Neighbours in the list share a line, so that pictures of one shape leave no empty strips.
    lines = [rows[start : start + blocks] for start in range(0, len(rows), blocks)]
    heights = [max(_size(cell)[1] for row in line for cell in row) for line in lines]
    top = _MARGIN + 92 + 36
    width = 2 * _MARGIN + blocks * block_width + (blocks - 1) * _BLOCK_GAP
    sheet = Image.new("RGB", (width, top + sum(heights) + len(lines) * _CAPTION + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, font=_font(34), fill=_INK)
    draw.text((_MARGIN, _MARGIN + 42), subtitle, font=_font(18), fill=_FAINT)
    for block in range(blocks):
        for column, heading in enumerate(columns):
            ink = _MARK if column == len(columns) - 1 else _INK
            draw.text((_x(block, column, block_width), top - 32), heading, font=_font(20), fill=ink)
    y = top
    for line, height in zip(lines, heights, strict=True):
        for block, row in enumerate(line):
            for column, cell in enumerate(row):
                _draw_cell(sheet, draw, cell, _x(block, column, block_width), y, height)
        y += height + _CAPTION
    return sheet


def _x(block: int, column: int, block_width: int) -> int:
    return _MARGIN + block * (block_width + _BLOCK_GAP) + column * (_CELL + _GAP)


def _size(cell: Cell) -> tuple[int, int]:
    """Width and height that a cell's picture is drawn with; small pictures are not blown up."""
    if cell.image is None:
        return _CELL, _CELL // 2
    height, width = cell.image.shape[:2]
    scale = min(1.0, _CELL / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draw_cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, x: int, y: int, height: int) -> None:
    size = _size(cell)
    top = y + height - size[1]  # captions of a line stand level
    if cell.image is None:
        draw.rectangle((x, top, x + size[0] - 1, top + size[1] - 1), fill=_HOLE)
    else:
        sheet.paste(Image.fromarray(cell.image).resize(size, Image.Resampling.LANCZOS), (x, top))
    draw.text((x, y + height + 5), cell.headline, font=_font(16), fill=_INK)
    draw.text((x, y + height + 25), cell.detail, font=_font(14), fill=_FAINT)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
