"""Losses under Lipschitz regularization: a resumable sweep over losses, k_SN, alpha and k_GP."""

from licfg_hf.recipes import main

if __name__ == "__main__":
    main("lipschitz_losses")
