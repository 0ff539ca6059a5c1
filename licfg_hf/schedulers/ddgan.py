"""The few-step diffusion of denoising diffusion GANs, with batched timesteps and pair sampling."""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


@dataclass
class DDGANSchedulerOutput(BaseOutput):
    """x_t, drawn from q(x_t | x_0, x_{t+1}), and the x_0 it was drawn with."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


class DDGANScheduler(SchedulerMixin, ConfigMixin):
    """Forward pairs and posterior of a diffusion with few, large steps (Xiao, Kreis, Vahdat, ICLR 2022, section 3).

    Timesteps count the denoising steps: t = 0 .. T-1, and step t leads from x_{t+1} to x_t, where x_0 is clean. It
    samples like ``DDPMScheduler(num_train_timesteps=T, trained_betas=scheduler.betas, prediction_type="sample",
    clip_sample=False)``; what that one lacks are timesteps per sample and pairs, which training needs.

    Args:
        num_train_timesteps: T, the number of denoising steps.
        beta_min: lower end of the continuous noise rate (dimensionless).
        beta_max: upper end of it.
        schedule: ``vp`` (variance-preserving, linear rate) or ``geometric`` (variance from beta_min
            to beta_max, both below 1).

    Raises:
        ValueError: a parameter is outside its range.
    """

    order = 1

    @register_to_config
    def __init__(
        self, num_train_timesteps: int = 4, beta_min: float = 0.1, beta_max: float = 20.0, schedule: str = "vp"
    ):
        if not 1 <= num_train_timesteps <= 10_000:
            raise ValueError(f"num_train_timesteps is in 1 to 10,000, not {num_train_timesteps}")
        if not 0 < beta_min < beta_max < 1e6:
            raise ValueError(f"the schedule needs 0 < beta_min < beta_max < 1e6, not {beta_min} and {beta_max}")
        time = torch.linspace(1e-3, 1.0, num_train_timesteps + 1, dtype=torch.float64)
        if schedule == "vp":
            variance = -torch.expm1(-0.5 * time**2 * (beta_max - beta_min) - time * beta_min)
        elif schedule == "geometric":
            if beta_max >= 1:
                raise ValueError(f"a geometric schedule of variances needs beta_max < 1, not {beta_max}")
            variance = beta_min * (beta_max / beta_min) ** time
        else:
            raise ValueError(f"schedule is vp or geometric, not {schedule!r}")
        # Each beta is a ratio of cumulative products, so the product starts at 1 whatever the variance at t = 1e-3.
        betas = 1 - (1 - variance[1:]) / (1 - variance[:-1])
        self.betas = betas.float()
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        self.init_noise_sigma = 1.0
        abar, previous = self.alphas_cumprod, torch.cat([torch.ones(1), self.alphas_cumprod[:-1]])  # of x_{t+1}, x_t
        self._tables = {
            "alpha": self.alphas,
            "abar": abar,
            "previous_abar": previous,
            "original_weight": previous.sqrt() * self.betas / (1 - abar),
            "sample_weight": self.alphas.sqrt() * (1 - previous) / (1 - abar),
            "deviation": (self.betas * (1 - previous) / (1 - abar)).sqrt(),
        }
        self._on_device: dict[torch.device, dict[str, Tensor]] = {}
        self.set_timesteps()

    def __len__(self) -> int:
        return len(self.betas)

    def set_timesteps(self, num_inference_steps: int | None = None, device: torch.device | str | None = None) -> None:
        """Sets ``timesteps`` to T-1 .. 0; ValueError for other numbers of steps than the networks have learned."""
        steps = len(self)
        if num_inference_steps not in (None, steps):
            raise ValueError(f"a DDGAN samples in the {steps} steps it was trained with, not {num_inference_steps}")
        self.num_inference_steps = steps
        self.timesteps = torch.arange(steps - 1, -1, -1, device=device)

    def scale_model_input(self, sample: Tensor, timestep: Tensor | int | None = None) -> Tensor:
        """Returns ``sample`` unchanged; for interchange with other schedulers."""
        return sample

    def _at(self, name: str, timestep: Tensor | int, sample: Tensor) -> Tensor:
        """Values of a table at a scalar or (batch,) timestep, shaped to broadcast over ``sample``."""
        if sample.device not in self._on_device:  # once, for at a copy in each step the host would wait
            self._on_device[sample.device] = {key: table.to(sample.device) for key, table in self._tables.items()}
        table, timestep = self._on_device[sample.device][name], torch.as_tensor(timestep)
        if timestep.ndim == 0 and timestep.device.type == "cpu":
            values = table[int(timestep)]
        else:
            values = table.index_select(0, timestep.to(sample.device).reshape(-1))
        return values.to(sample.dtype).reshape(-1, *[1] * (sample.ndim - 1))

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, as in ``DDPMScheduler``; in DDGAN's count this is x_{t+1}."""
        kept = self._at("abar", timesteps, original_samples)
        return kept.sqrt() * original_samples + (1 - kept).sqrt() * noise

    def sample_pair(
        self,
        original_samples: Tensor,
        timesteps: Tensor | int,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        next_noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws neighbours (x_t, x_{t+1}) of the forward process; x_0 itself is returned as x_t at t = 0.

        Args:
            original_samples: x_0, (batch, channels, height, width).
            timesteps: t, an int, a 0-d or a (batch,) tensor.
            generator: random generator for the noises that are not given (that of x_{t+1} is drawn first).
            noise, next_noise: standard normal noise that makes x_t from x_0, and x_{t+1} from x_t; shaped as x_0.
        """
        x0 = original_samples
        next_noise = _noise_like(x0, generator) if next_noise is None else next_noise
        noise = _noise_like(x0, generator) if noise is None else noise
        kept = self._at("previous_abar", timesteps, x0)  # 1 at t = 0
        sample = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
        alpha = self._at("alpha", timesteps, x0)
        return sample, alpha.sqrt() * sample + (1 - alpha).sqrt() * next_noise

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | int,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> DDGANSchedulerOutput | tuple[Tensor, Tensor]:
        """Draws x_t from the posterior q(x_t | x_0, x_{t+1}).

        Differentiable in ``model_output``. The noise counts only where t > 0; a scalar t = 0 draws none.

        Args:
            model_output: the prediction of x_0, (batch, channels, height, width).
            timestep: t, an int, a 0-d or a (batch,) tensor.
            sample: x_{t+1}, shaped as ``model_output``.
            generator: random generator for the noise.
            variance_noise: the standard normal noise itself, likewise.
            return_dict: False returns ``(prev_sample, pred_original_sample)``.
        """
        of_original, of_sample = (self._at(name, timestep, sample) for name in ("original_weight", "sample_weight"))
        prev_sample = of_original * model_output + of_sample * sample
        timestep = torch.as_tensor(timestep)
        if timestep.ndim or timestep > 0:
            if variance_noise is None:
                variance_noise = _noise_like(sample, generator)
            prev_sample = prev_sample + self._at("deviation", timestep, sample) * variance_noise  # 0 at t = 0
        if not return_dict:
            return prev_sample, model_output
        return DDGANSchedulerOutput(prev_sample=prev_sample, pred_original_sample=model_output)


def _noise_like(sample: Tensor, generator: torch.Generator | list[torch.Generator] | None) -> Tensor:
    """Normal noise, drawn in float32 and cast: for each type torch would draw other numbers from one seed."""
    return randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=torch.float32).to(sample.dtype)
