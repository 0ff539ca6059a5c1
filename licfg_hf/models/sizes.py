"""Channel widths by image size: the published table of an architecture, or the caller's own."""

import math
from collections.abc import Mapping, Sequence


def widths(
    table: Mapping[int, tuple[int, tuple[int, ...]]],
    sample_size: int,
    base_channels: int | None,
    multipliers: Sequence[int] | None,
) -> list[int]:
    """Channels at each resolution.

    Args:
        table: published image sizes -> (base channels, multipliers).
        sample_size: height and width of the images in pixels.
        base_channels: replaces the published number; ``None`` keeps it (64 where there is none).
        multipliers: channels in units of the base; ``None`` takes the published ones.

    Raises:
        ValueError: there is no published network of this size and no multipliers are given, or a number is below 1.
    """
    published = table.get(sample_size)
    if multipliers is None:
        if published is None:
            sizes = ", ".join(map(str, sorted(table)))
            raise ValueError(
                f"there is no published network for {sample_size} pixels (there is for {sizes}): pass "
                "channel_multipliers, one for each resolution"
            )
        multipliers = published[1]
    base = base_channels if base_channels is not None else published[0] if published else 64
    result = [round(base * multiplier) for multiplier in multipliers]
    if len(result) < 2 or min(result) < 1:
        raise ValueError(f"channel_multipliers are two numbers or more and channels at least 1, not {result}")
    return result


def smallest_size(sample_size: int, halvings: int) -> int:
    """``sample_size`` halved so many times.

    Raises:
        ValueError: it cannot be.
    """
    if sample_size < 1 or sample_size % 2**halvings:
        raise ValueError(f"sample_size {sample_size} cannot be halved {halvings} times, as channel_multipliers ask")
    return sample_size >> halvings


def default_halvings(sample_size: int, blocks: int) -> int:
    """How often a discriminator of so many blocks halves its input when nothing is published: down to 4 pixels."""
    return max(0, min(blocks, int(math.log2(max(sample_size // 4, 1)))))
