"""Li-CFG with DDGAN on CIFAR-10: denoising steps trained by functional gradient learning, not by minimax."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("licfg_ddgan_cifar")
