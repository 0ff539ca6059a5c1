"""Normalized weights: spectral norm with a chosen constant, stable rank, and WGAN's clipping.

Each is a parametrization (``torch.nn.utils.parametrize``) of the flattened weight matrix (out, rest), with the
vectors of the power iteration in buffers: they are saved, broadcast by DDP, and take one iteration per forward pass
in train mode.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .critic import classic_spectral_norms, power_iterations_paused

_Layer = nn.modules.conv._ConvNd | nn.Linear | nn.Embedding
_WARM_UP_ITERATIONS = 15
_SMALLEST = 1e-6  # what is smaller, in every direction, is not scaled up: its gradient would be as large
WEIGHT_NORMALIZERS = ("spectral", "stable_rank")  # as recorded in a model's config


def _direction(vector: Tensor, before: Tensor) -> Tensor:
    """The unit vector; of zeros, which a weight of zeros gives, the one before."""
    norm = torch.linalg.vector_norm(vector)
    return torch.where(norm > 1e-12, vector / norm.clamp(min=1e-12), before)


class _PowerIteration(nn.Module):
    """Keeps the leading singular vectors of a weight up to date; k is what the largest singular value becomes.

    In a ``transposed`` convolution the output channels are the second dimension.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, k: float, transposed: bool):
        super().__init__()
        if not (math.isfinite(k) and k > 0):
            raise ValueError(f"k is a finite number > 0, not {k}")
        self.k, self.transposed = float(k), transposed
        with torch.no_grad():
            matrix = self._matrix(weight)
            u = F.normalize(torch.randn(matrix.shape[0], dtype=weight.dtype, device=weight.device), dim=0)
            v = F.normalize(torch.ones_like(matrix[0]), dim=0)
        self.register_buffer("u", u)
        self.register_buffer("v", v)
        if not matrix.is_meta:  # of a model that is built to be loaded into
            for _ in range(_WARM_UP_ITERATIONS):
                self._iterate(matrix)

    def _matrix(self, weight: Tensor) -> Tensor:
        return (weight.transpose(0, 1) if self.transposed else weight).flatten(1)

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> None:
        # v = W^T u / ||.||, u = W v / ||.||  (Miyato et al., 2018, algorithm 1)
        self.v.copy_(_direction(torch.mv(matrix.T, self.u), self.v))
        self.u.copy_(_direction(torch.mv(matrix, self.v), self.u))

    def _leading(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(u, v, sigma, whether the weight is practically zero); such a one has the sigma 1: it stays so, and learns.

        u and v are constants for the gradient, and copies, so that a later iteration spoils none.
        """
        device = "cpu" if matrix.is_meta else matrix.device.type  # meta: a model built to be loaded into
        with torch.autocast(device, enabled=False):  # half types would spoil the iteration
            if self.training:
                self._iterate(matrix)
            u, v = self.u.clone(), self.v.clone()
            sigma = torch.dot(u, torch.mv(matrix, v))
        is_zero = sigma <= _SMALLEST
        return u, v, torch.where(is_zero, 1, sigma), is_zero

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Assigning to the weight stores it as the unnormalized one."""
        return weight


class _SpectralNorm(_PowerIteration):
    def forward(self, weight: Tensor) -> Tensor:
        _, _, sigma, _ = self._leading(self._matrix(weight))
        return weight * (self.k / sigma)


class _StableRankNorm(_PowerIteration):
    def __init__(self, weight: Tensor, k: float, transposed: bool, rank_ratio: float):
        super().__init__(weight, k, transposed)
        if not 0 < rank_ratio <= 1:
            raise ValueError(f"rank_ratio is in (0, 1], not {rank_ratio}")
        self.target = max(1.0, rank_ratio * min(self._matrix(weight).shape))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = self._matrix(weight)
        u, v, sigma, is_zero = self._leading(matrix)
        leading = torch.outer(u, v)
        rest = matrix / sigma - leading
        # ||W / sigma||_F^2 = 1 + ||rest||_F^2 is the stable rank: shrink the rest until it is at most the target.
        norm = torch.linalg.vector_norm(rest)
        shrink = (math.sqrt(self.target - 1) / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1)
        if self.target < min(matrix.shape):  # else nothing is to be shrunk, as in a vector
            flat = self.k * torch.where(is_zero, matrix, leading + shrink * rest)
        else:
            flat = self.k * matrix / sigma
        shape = weight.transpose(0, 1).shape if self.transposed else weight.shape
        return flat.view(shape).transpose(0, 1) if self.transposed else flat.view(shape)


def _normalizers(layer: nn.Module) -> parametrize.ParametrizationList:
    """Of a layer whose weight is parametrized."""
    return cast(parametrize.ParametrizationList, layer.get_submodule("parametrizations.weight"))


def _is_trained(layer: nn.Module) -> bool:
    return any(parameter.requires_grad for name, parameter in layer.named_parameters() if "bias" not in name)


def _layers(module: nn.Module) -> list[_Layer]:
    """The layers to normalize; all refusals come here, so that they leave the network as it was."""
    layers = [layer for layer in module.modules() if isinstance(layer, _Layer) and _is_trained(layer)]
    if not layers:
        raise ValueError(f"{type(module).__name__} has no convolution, linear or embedding layer that is not frozen")
    for layer in layers:
        # by a parametrization, or by a hook such as those of torch's own ``spectral_norm`` and ``weight_norm``
        if "weight" not in layer._parameters:
            raise ValueError(
                f"the weight of {layer} is normalized already: remove that first, by remove_weight_normalization or "
                "torch.nn.utils.remove_spectral_norm or remove_weight_norm"
            )
        if isinstance(layer.weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"the weight of {layer} has no shape yet: call the network once before it is normalized")
    normalized = {layer.weight for layer in layers}
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    others = [name for name, parameter in trained.items() if parameter.ndim > 1 and parameter not in normalized]
    if others:
        warnings.warn(
            f"these weights belong to no convolution, linear or embedding layer and are not normalized: "
            f"{', '.join(others)}",
            stacklevel=4,
        )
    return layers


def _normalize(module: nn.Module, make: Callable[..., _PowerIteration], record: dict[str, Any]) -> nn.Module:
    layers = _layers(module)
    normalizers = [make(layer.weight, isinstance(layer, nn.modules.conv._ConvTransposeNd)) for layer in layers]
    for layer, normalizer in zip(layers, normalizers, strict=True):
        zeros = not (layer.weight.is_meta or layer.weight.any())
        if zeros:  # no direction to normalize, and after one update it would have the norm k in any case
            warnings.warn(f"{layer} starts at zero, which cannot be normalized: it gets random weights", stacklevel=3)
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
        parametrize.register_parametrization(layer, "weight", normalizer)
        if zeros:
            refresh_power_iterations(layer, _WARM_UP_ITERATIONS)
    for model in module.modules():  # the module itself, or a model of this library that it wraps
        if (note := getattr(model, "record_normalizer", None)) is not None:
            note(record)
    return module


def spectral_normalize(module: nn.Module, k: float = 1.0) -> nn.Module:
    """Gives every trainable convolution, linear and embedding layer the weight k * W / sigma(W), in place.

    sigma is the largest singular value of the weight reshaped to (out, rest). A linear layer is then k-Lipschitz. A
    convolution need not be: over images its norm can be sqrt(ceil(h / s) ceil(w / s)) k for kernels of h x w and
    stride s, 3 k for 3 x 3. So n layers do not bound a critic's Lipschitz constant by k^n, though Qin et al. count it
    so; ``licfg_hf.diagnostics.operator_norms`` measures what does. Frozen layers (``requires_grad`` False) stay as
    they are: around a frozen part, k concerns only what is trained.
    Miyato et al., 2018 (k = 1); k_SN: Qin, Mitra, Wonka, ECCV 2020.

    Returns the module itself: a discriminator, or any part of one.

    Raises:
        ValueError: there is nothing to normalize, a weight is normalized already, or k is not positive.
    """
    record = {"kind": "spectral", "k": float(k)}
    return _normalize(module, lambda weight, transposed: _SpectralNorm(weight, k, transposed), record)


def stable_rank_normalize(module: nn.Module, rank_ratio: float = 0.7, k: float = 1.0) -> nn.Module:
    """Gives every layer, in place, a weight with largest singular value k and stable rank ||W||_F^2 / sigma^2 bounded.

    Both are those of the weight reshaped to (out, rest), not of a convolution's operator: see ``spectral_normalize``.
    Frozen layers (``requires_grad`` False) stay as they are. Sanyal, Torr, Dokania, ICLR 2020; the algorithm was
    written down from memory of the paper (no public code was found).

    Returns the module itself.

    Args:
        rank_ratio: the bound in units of the smaller matrix dimension, in (0, 1]; "SRN-70" is 0.7, 1 bounds nothing.

    Raises:
        ValueError: there is nothing to normalize, a weight is normalized already, or an argument is out of its range.
    """
    record = {"kind": "stable_rank", "rank_ratio": float(rank_ratio), "k": float(k)}
    return _normalize(module, lambda weight, transposed: _StableRankNorm(weight, k, transposed, rank_ratio), record)


def remove_weight_normalization(module: nn.Module) -> nn.Module:
    """Bakes the normalized weights in and removes the parametrizations, in place; outputs stay as in eval mode."""
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            _normalizers(layer).eval()
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    for model in module.modules():
        if (forget := getattr(model, "forget_normalizers", None)) is not None:
            forget(WEIGHT_NORMALIZERS)
    return module


@torch.no_grad()
def refresh_power_iterations(module: nn.Module, iterations: int = 50) -> nn.Module:
    """Brings the singular vectors of normalized weights up to date with the weights, in place.

    Needed where weights changed without a forward pass in train mode, such as in a moving average of a generator.
    """
    owners = [owner for owner in module.modules() if parametrize.is_parametrized(owner, "weight")]
    for normalizers in map(_normalizers, owners):
        for normalizer in normalizers:
            if isinstance(normalizer, _PowerIteration):
                for _ in range(iterations):
                    normalizer._iterate(normalizer._matrix(normalizers.original))
    return module


@contextmanager
def power_iterated_once(discriminator: nn.Module) -> Iterator[None]:
    """One power iteration of each weight that is normalized by it now, and none in the passes of an update.

    All passes of an update then see one and the same critic, as Miyato et al. (2018, algorithm 1) have it, and a
    compiled step, whose transformed functions may not change buffers, is the same as one that is not compiled.
    """
    with torch.no_grad():
        for owner in discriminator.modules():
            if parametrize.is_parametrized(owner):
                for name in cast(nn.ModuleDict, owner.parametrizations):
                    getattr(owner, name)  # in train mode, computing the weight iterates
            for hook in classic_spectral_norms(owner):
                hook(owner, None)
    with power_iterations_paused(discriminator.modules()):
        yield


@contextmanager
def weights_computed_once(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Passes inside share each parametrized weight, so that it is normalized once: with a graph, and once without."""
    # The compiler finds what occurs twice by itself.
    with weights_from({} if torch.compiler.is_compiling() else remembered_weights(modules)):
        yield


@contextmanager
def weights_from(sources: Mapping[nn.Module, Callable[[], Tensor]]) -> Iterator[None]:
    """Passes inside take parametrized weights from these functions."""
    before = [(weight, vars(weight).get("forward")) for weight in sources]
    for weight, source in sources.items():
        weight.forward = source
    try:
        yield
    finally:
        for weight, source in before:
            del weight.forward
            if source is not None:
                weight.forward = source


def remembered_weights(modules: Iterable[nn.Module]) -> dict[nn.Module, Callable[[], Tensor]]:
    """A function for each parametrized weight among the modules, which computes it once."""
    weights = [module for module in modules if isinstance(module, parametrize.ParametrizationList)]
    return {weight: _remembered(weight.forward) for weight in weights}


def _remembered(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
    known: dict[bool, Tensor] = {}

    def value() -> Tensor:
        with_graph = torch.is_grad_enabled()
        if with_graph not in known:
            known[with_graph] = compute()
        return known[with_graph]

    return value


@torch.no_grad()
def clip_weights_(module: nn.Module, bound: float = 0.01) -> nn.Module:
    """Clips every parameter that is not frozen to [-bound, bound], in place, after each update.

    WGAN's constraint (Arjovsky et al., 2017); a ValueError if the bound is not positive.
    """
    if not bound > 0:
        raise ValueError(f"bound is > 0, not {bound}")
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.clamp_(-bound, bound)
    return module
