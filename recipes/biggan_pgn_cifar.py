"""BigGAN with penalty gradient normalization on CIFAR-10."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("biggan_pgn_cifar")
