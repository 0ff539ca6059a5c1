"""What model cards say of techniques, and how their papers are cited."""

# Name of a penalty or normalizer in the options -> a paragraph.
METHODS = {
    "eps_centered": "The ε-centred penalty of Li-CFG (arXiv 2501.11236) is `weight * mean ||grad D - eps * 1||^2` "
    "with `eps = sqrt(scale / d)`, at interpolates between real and generated images. Its place in this discriminator "
    "step is this library's port, and so is its weight: the paper's weight is not known to us.",
    "zero_centered": "The zero-centred penalty is `weight * mean ||grad D||^2` at interpolates.",
    "one_centered": "The penalty is `weight * mean (||grad D|| - center)^2` at interpolates (WGAN-GP; Gulrajani et "
    "al., 2017).",
    "r1": "The R1 penalty is `weight * mean ||grad D||^2` on real images, where the weight is gamma / 2 (Mescheder et "
    "al., 2018).",
    "max": "MaxGP of Lipschitz GANs (Zhou et al., 2019) is `weight * max ||grad D||^2` over the interpolates of a "
    "process's batch.",
    "spectral": "Every weight of the discriminator is divided by its largest singular value and multiplied by "
    "`normalizer_k` (Miyato et al., 2018).",
    "stable_rank": "Every weight of the discriminator has the largest singular value `normalizer_k` and a bounded "
    "stable rank (Sanyal et al., 2020).",
    "gradient": "Gradient normalization (Wu et al., ICCV 2021) trains on `f / (||grad f|| + |f|)`.",
    "penalty_gradient": "Penalty gradient normalization (arXiv 2306.13576) trains on "
    "`(1 - f) / (||1 - grad f|| + |1 - f|)`, with 1 the all-ones vector as published, or with `||grad f||` as in its "
    "proof (`normalizer_formula`).",
}

_PAPERS = {
    "ddgan": """@inproceedings{xiao2022tackling,
  title={Tackling the Generative Learning Trilemma with Denoising Diffusion {GANs}},
  author={Xiao, Zhisheng and Kreis, Karsten and Vahdat, Arash},
  booktitle={International Conference on Learning Representations}, year={2022}}""",
    "licfg": """@misc{wan2025licfg,
  author={Wan and Fan and Sun and Fu and Li and Jiang and Zheng},
  note={Li-CFG}, eprint={2501.11236}, archivePrefix={arXiv}, year={2025}}""",
    "cfg": """@inproceedings{johnson2018composite,
  title={Composite Functional Gradient Learning of Generative Adversarial Models},
  author={Johnson, Rie and Zhang, Tong},
  booktitle={International Conference on Machine Learning}, year={2018}}""",
    "biggan": """@inproceedings{brock2019large,
  title={Large Scale {GAN} Training for High Fidelity Natural Image Synthesis},
  author={Brock, Andrew and Donahue, Jeff and Simonyan, Karen},
  booktitle={International Conference on Learning Representations}, year={2019}}""",
    "sngan": """@inproceedings{miyato2018spectral,
  title={Spectral Normalization for Generative Adversarial Networks},
  author={Miyato, Takeru and Kataoka, Toshiki and Koyama, Masanori and Yoshida, Yuichi},
  booktitle={International Conference on Learning Representations}, year={2018}}""",
    "gn": """@inproceedings{wu2021gradient,
  title={Gradient Normalization for Generative Adversarial Networks},
  author={Wu, Yi-Lun and Shuai, Hong-Han and Tam, Zhi-Rui and Chiu, Hong-Yu},
  booktitle={International Conference on Computer Vision}, year={2021}}""",
    "pgn": """@misc{pgn2023,
  title={Penalty Gradient Normalization for Generative Adversarial Networks},
  eprint={2306.13576}, archivePrefix={arXiv}, year={2023}}""",
    "lgan": """@inproceedings{zhou2019lipschitz,
  title={Lipschitz Generative Adversarial Nets},
  author={Zhou, Zhiming and Liang, Jiadong and Song, Yuxuan and Yu, Lantao and Wang, Hongwei and Zhang, Weinan and Yu,
    Yong and Zhang, Zhihua},
  booktitle={International Conference on Machine Learning}, year={2019}}""",
}


def citation(*papers: str) -> str:
    """BibTeX entries of papers by their short names."""
    return "\n".join(_PAPERS[paper] for paper in papers)
