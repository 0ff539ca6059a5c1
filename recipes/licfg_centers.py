"""The 0-, 1- and ε-centred penalties in functional gradient learning, on MNIST."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("licfg_centers")
