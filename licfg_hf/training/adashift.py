"""AdaShift (Zhou et al., ICLR 2019), whose step sizes do not depend on the gradients that they scale."""

from collections.abc import Callable
from typing import Any

import torch


class AdaShift(torch.optim.Optimizer):
    """AdaShift without momentum, with the operation ``max_mean``: as in the run behind Lipschitz GANs' FID of 15.88.

    With g_t the gradient of a tensor at step t::

        v_t = max(beta2 v_{t-1}, mean(g_{t-1}^2))                 one number a tensor
        parameter -= lr g_t / (sqrt(v_t) + eps)                   once v_t is above 0

    so the first step changes nothing. The paper's max-AdaShift takes a bias-corrected mean of the largest g^2 for v
    instead; the package pytorch_optimizer has that one.

    Args:
        params: as in ``torch.optim``.
        lr: the learning rate.
        betas: beta1, which is 0, and beta2 in [0, 1].
        eps: above 0.

    Raises:
        ValueError: an argument is outside its range.
    """

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.0, 0.999), eps: float = 1e-8):
        beta1, beta2 = betas
        if beta1 != 0 or not 0 <= beta2 <= 1:
            raise ValueError(f"betas are 0, since this form has no momentum, and a number in [0, 1], not {betas}")
        if not (lr >= 0 and eps > 0):
            raise ValueError(f"lr is at least 0 and eps above 0, not {lr} and {eps}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Works as in ``torch.optim``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, beta2 = self.state[parameter], group["betas"][1]
        if not state:
            state["moment"], state["square"] = gradient.new_zeros(()), gradient.new_zeros(())
        # The square is that of the gradient before.
        state["moment"] = moment = torch.maximum(beta2 * state["moment"], state["square"])
        state["square"] = gradient.square().mean()
        # The device is not waited for: where there is no moment yet, the step is 0.
        parameter.sub_(torch.where(moment > 0, group["lr"] / (moment.sqrt() + group["eps"]), 0.0) * gradient)
