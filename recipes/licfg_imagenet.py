"""Li-CFG on ImageNet at 64 pixels: a ResNet trained by functional gradient learning, without labels."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("licfg_imagenet")
