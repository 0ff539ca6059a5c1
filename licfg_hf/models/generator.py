"""What every one-pass generator of this library is."""

from collections.abc import Collection

from .saving import SavedByConfig


class Generator(SavedByConfig):
    """Base of the generators that are called with latents; the config has ``latent_dim``."""

    @property
    def latent_dim(self) -> int:
        """Length of the latent vector."""
        return self.config["latent_dim"]

    def forget_normalizers(self, kinds: Collection[str]) -> None:
        """Takes spectral normalization out of the config, once it was removed from the layers."""
        if "spectral" in kinds and self.config.get("spectral_norm"):
            self.register_to_config(spectral_norm=False)
