"""What the recipes with a pretrained feature network say when it is a random one."""

import os

RANDOM = "random"


def announce_random(what: str, option: str) -> None:
    """Prints, once over all processes, that a feature network is untrained and which option changes it."""
    if os.environ.get("RANK", "0") == "0":
        print(f"NOTE: {what} has random weights and its features are those of an untrained network: see {option}")
