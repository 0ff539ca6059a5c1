"""Li-CFG on LSUN at 64 pixels: a ResNet trained by functional gradient learning."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("licfg_lsun")
