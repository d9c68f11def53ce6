"""Tiles that photographs of many sizes share, so that few programs are compiled for them."""

# Parts of the largest side. A program is compiled for each that is used, by rows and columns.
_PARTS = (1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4)
_MORE_WORK = 1.1


def common_tile(
    height: int, width: int, *, largest: int, margins: tuple[int, int]
) -> tuple[int, int]:
    """Tile for an image, one of few; it follows from the image's size alone.

    Args:
      height: of the image, in pixels.
      width: of the image, in pixels.
      largest: side that no tile exceeds.
      margins: rows and columns that are computed around a tile.

    Returns:
      Height and width: on each axis the largest that takes at most a tenth more work than the best.
    """
    rows, columns = (
        _side(size, largest, margin) for size, margin in zip((height, width), margins, strict=True)
    )
    return rows, columns


def _side(size: int, largest: int, margin: int) -> int:
    sides = [max(1, round(part * largest)) for part in _PARTS]
    work = {side: -(-size // side) * (side + margin) for side in sides}
    least = min(work.values())
    return max(side for side in sides if work[side] <= _MORE_WORK * least)
