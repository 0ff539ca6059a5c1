"""The centre of the gradient penalty: a resumable grid over penalties, weights, architectures and seeds."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("ablate_eps")
