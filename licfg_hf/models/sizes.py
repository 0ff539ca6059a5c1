"""Channel widths by image size: the published table of an architecture, or the caller's own.

What is outside its range is a ValueError here.
"""

import math
from collections.abc import Mapping, Sequence

LARGEST = 2**16  # of any number that a network is built from: no network here is near it


def require_positive(**values: float | None) -> None:
    """Checks by name that arguments are numbers above 0 and not absurdly large; ``None`` is not checked."""
    for name, value in values.items():
        if value is not None and not 0 < value <= LARGEST:
            raise ValueError(f"{name} is a number above 0 and at most {LARGEST:,}, not {value}")


def require_depth(**values: int) -> None:
    """Checks numbers of layers, which take time to build before they take memory; no published network is near 64."""
    for name, value in values.items():
        if not 1 <= value <= 64:
            raise ValueError(f"{name} is in 1 to 64, not {value}")


def attention_places(sizes: Sequence[int], resolutions: Sequence[int]) -> list[int]:
    """Indices of the blocks that self-attention follows; resolutions that a smaller network lacks are passed over.

    Args:
        sizes: height and width in pixels after each block.
        resolutions: those after which self-attention is wanted, powers of two apart from the sizes.
    """

    def is_of_the_network(resolution: int) -> bool:
        small, large = sorted((sizes[0], resolution))
        return small > 0 and large % small == 0 and math.log2(large // small).is_integer()

    strange = [resolution for resolution in resolutions if not is_of_the_network(resolution)]
    if strange:
        raise ValueError(f"attention_resolutions are among {sorted(set(sizes))} in this network, not {strange}")
    return [index for index, size in enumerate(sizes) if size in resolutions]


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
    if not 2 <= len(multipliers) <= 16:
        raise ValueError(f"channel_multipliers are 2 to 16 numbers, not {len(multipliers)}")
    result = [round(base * multiplier) for multiplier in multipliers]
    if min(result) < 1 or max(result) > LARGEST:
        raise ValueError(f"channels are in 1 to {LARGEST:,}, not {result}")
    return result


def smallest_size(sample_size: int, halvings: int) -> int:
    """``sample_size`` halved so many times, if it can be."""
    # The lowest bit that is set: 2 to the power of the number of possible halvings.
    if sample_size < 1 or not 0 <= halvings < (sample_size & -sample_size).bit_length():
        raise ValueError(f"sample_size {sample_size} cannot be halved {halvings} times, as channel_multipliers ask")
    return sample_size >> halvings


def halvings_of(halvings: int | None, published: int | None, sample_size: int, blocks: int) -> int:
    """How many of a discriminator's blocks halve its input: the caller's number, the published one, or to 4 pixels."""
    if halvings is None:
        to_four_pixels = max(0, min(blocks, int(math.log2(max(sample_size // 4, 1)))))
        halvings = to_four_pixels if published is None else published
    smallest_size(sample_size, halvings)
    return halvings
