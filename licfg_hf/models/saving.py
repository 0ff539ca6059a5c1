"""What every network of this library is: a diffusers model that is saved only if its config brings it back."""

from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from diffusers import ConfigMixin, ModelMixin


class SavedByConfig(ModelMixin, ConfigMixin):
    """A model whose ``save_pretrained`` refuses weights that ``from_pretrained`` would not load."""

    def require_saveable(self) -> None:
        """Checks that a network built from the config has the same weights.

        Raises:
            ValueError: it has not; a part of the model was normalized by itself, for example.
        """
        arguments = {name: value for name, value in self.config.items() if not name.startswith("_")}
        with init_empty_weights():
            rebuilt = type(self)(**arguments)
        strange = set(self.state_dict()) ^ set(rebuilt.state_dict())
        if strange:
            raise ValueError(
                f"the config would not bring back {sorted(strange)[0]}: normalize the whole discriminator, or call "
                "remove_weight_normalization before saving"
            )

    def save_pretrained(self, save_directory: str | Path, *args: Any, **options: Any) -> None:
        """As in diffusers.

        Raises:
            ValueError: as ``require_saveable``.
        """
        self.require_saveable()
        super().save_pretrained(save_directory, *args, **options)
