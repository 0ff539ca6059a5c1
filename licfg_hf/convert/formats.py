"""The foreign formats by name; importing this costs nothing, so that the command line can list them."""

FORMATS = ("biggan-pytorch", "pytorch-pretrained-biggan", "ddgan", "gngan", "mimicry", "studiogan")
