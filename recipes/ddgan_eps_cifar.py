"""DDGAN with the ε-centred gradient penalty on CIFAR-10: ``accelerate launch recipes/ddgan_eps_cifar.py --help``."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("ddgan_eps_cifar")
