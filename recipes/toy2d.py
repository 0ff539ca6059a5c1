"""Losses and regularizers on 2-D mixtures: ``python recipes/toy2d.py --help``."""

from licfg_hf.recipes.toy2d import main

if __name__ == "__main__":
    main()
