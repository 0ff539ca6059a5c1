"""Li-CFG on MNIST: a DCGAN trained by functional gradient learning, its discriminator ε-centred penalized."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("licfg_mnist")
