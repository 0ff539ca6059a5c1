"""A few-step student trained against the features of a diffusion model."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("distill_diffusion")
