"""Li-CFG on CIFAR-10: a DCGAN trained by functional gradient learning."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("licfg_cifar")
