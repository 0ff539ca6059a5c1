"""What the recipes with a pretrained feature network say when it is a random one."""

from ..command_line import is_main_process

RANDOM = "random"


def announce_random(what: str, option: str) -> None:
    """Prints, once over all processes, that a feature network is untrained and which option changes it."""
    if is_main_process():
        print(f"NOTE: {what} has random weights and its features are those of an untrained network: see {option}")
