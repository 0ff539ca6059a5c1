"""BigGAN with the ε-centred gradient penalty on ImageNet at 128 pixels."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("biggan_eps_imagenet")
