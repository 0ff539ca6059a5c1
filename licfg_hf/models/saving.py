"""What every network of this library is: a diffusers model that is saved only if its config brings it back."""

from functools import wraps
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from diffusers import ConfigMixin, ModelMixin
from torch import nn

from .class_names import ID2LABEL


class SavedByConfig(ModelMixin, ConfigMixin):
    """A model whose ``save_pretrained`` refuses weights that ``from_pretrained`` would not load.

    ``from_pretrained`` refuses networks of another class: their weights would not fit, and diffusers would leave them
    at random with a warning.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, **kwargs: Any) -> Any:
        """As in diffusers; the weights lie in memory as those of a network that was built.

        Tensors of a safetensors file begin at any address of the mapped file, and some processors' kernels round
        differently by address: with one copy, the loaded network gives the logits of the saved one, bit for bit.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        network = loaded[0] if isinstance(loaded, tuple) else loaded
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = tensor.data.clone()
        return loaded

    @classmethod
    @wraps(ConfigMixin.load_config.__func__)
    def load_config(cls, *args: Any, **options: Any) -> dict[str, Any] | tuple[Any, ...]:
        """As in diffusers, but of this class, or of one that it extends.

        Raises:
            ValueError: the config is that of another class, or this class is only a base of networks.
        """
        loaded = super().load_config(*args, **options)
        name = (loaded[0] if isinstance(loaded, tuple) else loaded).get("_class_name")
        networks = [kind for kind in cls.__mro__ if _is_network(kind)]
        if not networks:
            raise ValueError(f"{cls.__name__} is a base of networks: load {name or 'a network'} by its own class")
        if name is not None and name not in [kind.__name__ for kind in networks]:
            raise ValueError(f"the network that lies there is of class {name}, not {cls.__name__}")
        return loaded

    @classmethod
    def extract_init_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> tuple[dict, dict, dict]:
        """As in diffusers; the names of classes are no argument, and stay in the config without a warning."""
        names = {ID2LABEL: config_dict[ID2LABEL]} if ID2LABEL in config_dict else {}
        rest = {name: value for name, value in config_dict.items() if name != ID2LABEL}
        arguments, unused, hidden = super().extract_init_dict(rest, **kwargs)
        return arguments, unused, hidden | names

    def require_saveable(self) -> None:
        """Checks that a network built from the config has the same weights.

        Raises:
            ValueError: it has not; a part of the model was normalized by itself, for example.
        """
        arguments = {name: value for name, value in self.config.items() if name[0] != "_" and name != ID2LABEL}
        with init_empty_weights():
            rebuilt = type(self)(**arguments)
        strange = set(self.state_dict()) ^ set(rebuilt.state_dict())
        if strange:
            raise ValueError(
                f"the config would not bring back {sorted(strange)[0]}: normalize the whole discriminator, or call "
                "remove_weight_normalization before saving"
            )

    @wraps(ModelMixin.save_pretrained)  # diffusers reads the signature to know which options a method takes
    def save_pretrained(self, save_directory: str | Path, *args: Any, **options: Any) -> None:
        """As in diffusers.

        Raises:
            ValueError: as ``require_saveable``.
        """
        self.require_saveable()
        super().save_pretrained(save_directory, *args, **options)


def _is_network(kind: type) -> bool:
    return issubclass(kind, SavedByConfig) and kind.forward is not nn.Module.forward
