"""Lipschitz GANs with every phi on CIFAR-10."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("lgan_cifar")
