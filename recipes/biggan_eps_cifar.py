"""BigGAN with the ε-centred gradient penalty on CIFAR-10."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("biggan_eps_cifar")
