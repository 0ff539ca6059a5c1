"""Data sets by short name: where they lie on the Hub and how GANs are trained on them."""

from dataclasses import dataclass

from .decoding import Crop


@dataclass(frozen=True)
class DataPreset:
    """What the name of a data set stands for; the fields are those of ``DataConfig``.

    Attributes:
        data: id on the Hub.
        image_size: height and width in pixels.
        split: part of the data set.
        image_column: column with the images.
        label_column: column with the integer labels; None where there is none.
        crop: how an image that is not square fits.
    """

    data: str
    image_size: int
    split: str = "train"
    image_column: str = "image"
    label_column: str | None = None
    crop: Crop = "center"

    def __str__(self) -> str:
        labels = "no labels" if self.label_column is None else f"labels in {self.label_column}"
        return f"{self.data}, split {self.split}, images in {self.image_column}, {labels}, {self.image_size} px"


# The ids and columns of cifar10 and mnist were checked against copies. The others are from memory and from other
# people's code: the Hub could not be reached where this table was written, so none of them was tried.
PRESETS = {
    "mnist": DataPreset("ylecun/mnist", 32, label_column="label"),  # 28 px, enlarged for networks that halve often
    "cifar10": DataPreset("uoft-cs/cifar10", 32, image_column="img", label_column="label"),
    # 100,000 unlabelled images of 96 px; GANs are trained on them at 48 px.
    "stl10": DataPreset("jxie/stl10", 48, split="unlabeled"),
    # Aligned faces of 178x218 px: the centre square of 178 px holds the face. 128 px is usual, too.
    "celeba": DataPreset("flwrlabs/celeba", 64),
    "celeba-hq": DataPreset("korexyz/celeba-hq-256x256", 256, label_column="label"),
    "lsun-bedroom": DataPreset("pcuenq/lsun-bedrooms", 256),
    "lsun-church": DataPreset("tglcourse/lsun_church_train", 256),
    "imagenet": DataPreset("ILSVRC/imagenet-1k", 128, label_column="label"),  # gated: needs a token
}
