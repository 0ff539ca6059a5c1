"""DDGAN with the ε-centred gradient penalty on LSUN at 256 pixels."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("ddgan_eps_lsun")
