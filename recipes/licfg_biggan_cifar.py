"""Li-CFG with BigGAN on CIFAR-10: its networks, trained by functional gradient learning instead of its hinge game."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("licfg_biggan_cifar")
