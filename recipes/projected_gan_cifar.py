"""A projected GAN on CIFAR-10."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("projected_gan_cifar")
