"""The critic, as the objectives see it: anything that is called with points and gives logits for each sample.

Here, and nowhere else, its input gradient is taken, and it is held as it is while several passes of one term measure
it; ``logits`` reads its output. A critic may be a module, or a function, partial or method around modules.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils._pytree import tree_map_only

from .double_backward import NoSecondDerivative, prepare_double_backward

Critic = Callable[..., Any]


class ReentrantCheckpoint(ValueError):
    """The critic recomputes its activations in a way through which no input gradient can be taken."""


def usable(values: Any) -> Any:
    """Tensors of inference mode, also in lists and maps, cannot be differentiated; their copies can."""
    return tree_map_only(Tensor, lambda tensor: tensor.clone() if tensor.is_inference() else tensor, values)


def require_points(points: Any, name: str) -> Tensor:
    """The points, or a ValueError if a critic has no gradient there: they are no floats, or no batch (batch, ...)."""
    if not isinstance(points, Tensor):
        raise ValueError(f"{name} points are a tensor (batch, ...), not a {type(points).__name__}")
    if not points.is_floating_point():
        raise ValueError(f"{name} points are floating-point numbers, such as images in [-1, 1], not {points.dtype}")
    if points.ndim < 2 or points.numel() == 0:
        raise ValueError(f"{name} points are a non-empty batch (batch, ...), not {tuple(points.shape)}")
    return points


def input_gradient(logits: Tensor, points: Tensor, *, graph: bool = False, retain: bool = False) -> Tensor:
    """The gradient of the summed logits by the points, of their shape.

    Args:
        graph: whether it is to be differentiated once more.
        retain: whether the graph of the logits is used again.

    Raises:
        ValueError: the logits do not depend on the points; ``ReentrantCheckpoint``; ``NoSecondDerivative``.
    """
    gradient = None
    try:
        if logits.requires_grad:
            (gradient,) = torch.autograd.grad(
                logits.sum(), points, create_graph=graph, retain_graph=graph or retain, allow_unused=True
            )
    except RuntimeError as error:
        if "use_reentrant" in str(error):
            raise ReentrantCheckpoint(
                "no input gradient can be taken through torch.utils.checkpoint with use_reentrant=True: checkpoint "
                "with use_reentrant=False, or use method='finite_difference'"
            ) from error
        if not graph or isinstance(error, torch.OutOfMemoryError):
            raise
        raise NoSecondDerivative(str(error).splitlines()[0]) from error
    if gradient is None:
        raise ValueError("the logits have no graph to the points: the critic is not differentiable in its input")
    if graph:
        prepare_double_backward(gradient)
    return gradient


def twice_differentiable() -> Any:
    """The passes inside take the attention that can be differentiated twice, and forward; fused kernels cannot."""
    return sdpa_kernel(SDPBackend.MATH)


def plain(critic: Critic) -> Critic:
    """The module inside DDP: its gradients still flow through the loss's own synchronized backward."""
    if isinstance(critic, DistributedDataParallel):
        return critic.module
    return cast(Any, critic).plain() if isinstance(critic, nn.Module) and hasattr(critic, "plain") else critic


def modules_of(critic: Critic) -> list[nn.Module]:
    """The modules of a critic that is a module; of a function only its passes tell, see ``called_modules``."""
    return list(critic.modules()) if isinstance(critic, nn.Module) else []


@contextmanager
def called_modules() -> Iterator[list[nn.Module]]:
    """Collects the modules that are called inside, whatever function or container they are hidden in."""
    found: dict[nn.Module, None] = {}

    def note(module: nn.Module, inputs: Any) -> None:
        if not torch.compiler.is_compiling():  # a critic that is compiled by itself would be compiled with the hook
            found.setdefault(module)

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    called: list[nn.Module] = []
    try:
        yield called
    finally:
        handle.remove()
        called += found


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Keeps gradients out of a network's parameters, but lets them through to its input."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def classic_spectral_norms(module: nn.Module) -> list[SpectralNorm]:
    """The hooks of ``torch.nn.utils.spectral_norm`` on a module, which iterate before each of its passes."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)]


@contextmanager
def power_iterations_paused(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Holds the power iterations of normalized weights for a while: several passes see one and the same critic."""
    modules = list(modules)
    owners = [module for module in modules if isinstance(module, nn.utils.parametrize.ParametrizationList)]
    moving = [module for owner in owners for module in owner if module.training]
    classic = [(module, hook) for module in modules for hook in classic_spectral_norms(module)]
    held = [(hook, hook.n_power_iterations) for _, hook in classic]
    names = [(module, f"{hook.name}_{end}") for module, hook in classic for end in ("u", "v")]
    stored = [(module, name, module.get_buffer(name)) for module, name in names]
    for module in moving:
        module.eval()
    for hook, _ in held:
        hook.n_power_iterations = 0
    for module, name, vector in stored:
        module._buffers[name] = vector.clone()  # for the graph: a later iteration changes the original in place
    try:
        yield
    finally:
        for module in moving:
            module.train()
        for hook, iterations in held:
            hook.n_power_iterations = iterations
        for module, name, vector in stored:
            module._buffers[name] = vector


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Autocast and TF32 off, also where ``Accelerator.prepare`` or the critic's own forward pass switches them on."""
    autocast: Any = torch.autocast
    with autocast(device_type, enabled=False):
        if torch.compiler.is_compiling():
            yield
            return
        products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        enter, leave = autocast.__enter__, autocast.__exit__
        autocast.__enter__ = lambda self: self
        autocast.__exit__ = lambda self, *error: None
        try:
            yield
        finally:
            autocast.__enter__, autocast.__exit__ = enter, leave
            torch.set_float32_matmul_precision(products)
            torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def one_critic(critic: Critic, device: torch.device) -> Iterator[Callable[..., Any]]:
    """Several passes see one and the same critic: equal noise (dropout), weights and power iterations at rest.

    Yields what makes a pass, ``passed(function, *arguments)``. All passes together draw as many random numbers as the
    first. Of a function only that one tells which modules it calls, and moves their power iterations.
    """
    if torch.compiler.is_compiling():  # the noise and the weights of a compiled function are another matter
        yield lambda function, *arguments: function(*arguments)
        return
    state: NoiseState | None = None

    def passed(function: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal state
        if state is not None:
            with same_noise(device, state):
                return function(*arguments)
        state = noise_state(device)
        with called_modules() as called:
            result = function(*arguments)
        held.enter_context(power_iterations_paused(called))
        return result

    with power_iterations_paused(modules_of(critic)), ExitStack() as held:
        yield passed


NoiseState = tuple[Tensor, ...]  # of the generators that a critic draws from: the host's, and its device's


def noise_state(device: torch.device) -> NoiseState:
    """The state of the generators that a critic on this device draws from."""
    host = torch.get_rng_state()
    return (host,) if device.type == "cpu" else (host, torch.get_device_module(device).get_rng_state(device))


def has_drawn(device: torch.device, state: NoiseState) -> bool:
    """True if random numbers were drawn since this state."""
    return not all(map(torch.equal, state, noise_state(device)))


@contextmanager
def same_noise(device: torch.device, state: NoiseState) -> Iterator[None]:
    """Random numbers inside (dropout, noise) are drawn from this state, and those outside as if none had been."""
    on_device: dict[str, Any] = {"devices": [device], "device_type": device.type}
    where = {"devices": []} if device.type == "cpu" else on_device
    with torch.random.fork_rng(**where):
        torch.set_rng_state(state[0])
        if device.type != "cpu":
            torch.get_device_module(device).set_rng_state(state[1], device)
        yield
