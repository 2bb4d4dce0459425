"""Networks from lists of layers, in the parametrisations of Tovey et al. 2023 (Tables 2 and 3)."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from collective_variables import _checks

# The functions that `build_network` puts between layers, by name; more may be added.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "elu": nn.elu,
    "softplus": nn.softplus,
    "erf": jax.lax.erf,
    "linear": jax.nn.identity,
}
PARAMETRISATIONS = ("lecun", "ntk")
PADDINGS = ("SAME", "VALID")
MAX_NUMBER = 10**7  # in a layer; more than any memory holds, and within the range of JAX's indices

_LAYER = re.compile(
    r"(?:dense (?P<width>\d+)"
    r"|conv (?P<channels>\d+) (?P<kernel>\d+x\d+)(?: stride (?P<conv_stride>\d+))?"
    r"|avgpool (?P<window>\d+x\d+)(?: stride (?P<pool_stride>\d+))?)",
    re.ASCII,
)


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        kind: "dense", "conv" or "avgpool".
        width: Number of outputs or channels.
        window: Height and width of the kernel of a convolution, or of a pooling window.
        strides: Strides along height and width.
    """

    kind: str
    width: int = 0
    window: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)


def parse(layer: str) -> Layer:
    """Read a layer such as "dense 32", "conv 32 3x3 stride 2" or "avgpool 4x4 stride 2".

    The default stride is 1 for a convolution, and the size of the window for a pooling.

    Args:
        layer: The layer as a string.

    Returns:
        The layer.

    Raises:
        TypeError: The layer is not a string.
        ValueError: The string has another form, or contains a zero.
    """
    if not isinstance(layer, str):
        raise TypeError(f"A layer must be a string such as 'dense 32': received {layer!r}.")
    text = " ".join(layer.lower().split())
    match = _LAYER.fullmatch(text)
    if match is None or not all(0 < int(n) <= MAX_NUMBER for n in re.findall(r"\d+", text)):
        raise ValueError(
            "A layer must read 'dense 32', 'conv 32 3x3', 'conv 32 3x3 stride 2', 'avgpool 2x2' or "
            f"'avgpool 4x4 stride 2', with numbers from 1 to {MAX_NUMBER}: received {layer!r}."
        )
    if match["width"]:
        return Layer("dense", width=int(match["width"]))
    if match["channels"]:
        stride = int(match["conv_stride"] or 1)
        return Layer("conv", int(match["channels"]), _pair(match["kernel"]), (stride, stride))
    window = _pair(match["window"])
    stride = match["pool_stride"]
    return Layer("avgpool", window=window, strides=(int(stride), int(stride)) if stride else window)


def _pair(text: str) -> tuple[int, int]:
    """Return the numbers of a string such as "3x3"."""
    height, width = text.split("x")
    return int(height), int(width)


class Dense(nn.Module):
    """y = x W + b over the last axis, in the parametrisation that `Network` names.

    Attributes:
        width: Number of outputs.
        parametrisation: As in `build_network`.
        b_std: As in `build_network`.
    """

    width: int
    parametrisation: str
    b_std: float | None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch n_in"]) -> Float[Array, "*batch n_out"]:
        """Return y."""
        return _affine(self, x, (x.shape[-1], self.width))


class Conv(nn.Module):
    """Two-dimensional convolution of (n_points, height, width, channels), as a matrix product.

    XLA's convolution is slow on a CPU inside a loop or under `vmap`; patches times a matrix are
    fast.

    Attributes:
        width: Number of output channels.
        window: Height and width of the kernel.
        strides: Strides along height and width.
        padding: "SAME" or "VALID".
        parametrisation: As in `build_network`.
        b_std: As in `build_network`.
    """

    width: int
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: str
    parametrisation: str
    b_std: float | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n_points h w c_in"]
    ) -> Float[Array, "n_points h_out w_out c_out"]:
        """Return the convolution of images."""
        patches = _patches(x, self.window, self.strides, self.padding)
        return _affine(self, patches, (*self.window, x.shape[-1], self.width))


def _affine(module: Dense | Conv, x: Array, shape: tuple[int, ...]) -> Array:
    """Return x times the kernel of `shape`, flattened to a matrix, plus the bias.

    "lecun" is Flax's default: LeCun normal kernel, zero bias. "ntk": kernel and bias are N(0, 1),
    and the forward pass multiplies by 1/sqrt(fan_in) and b_std (Jacot et al. 2018), as in stax.
    """
    fan_in = math.prod(shape[:-1])
    ntk = module.parametrisation == "ntk"
    kernel_init = nn.initializers.normal(1.0) if ntk else nn.initializers.lecun_normal()
    kernel = module.param("kernel", kernel_init, shape, x.dtype)
    if isinstance(module, Conv) and fan_in > shape[-1]:
        # With outputs first, the derivative is a product whose result has its longer side last,
        # which takes half the time. XLA would undo a transposition of the matrix.
        kernel = jnp.moveaxis(kernel, -1, 0).reshape(shape[-1], fan_in).T
    else:
        kernel = kernel.reshape(fan_in, shape[-1])
    # Two axes, because XLA transposes a copy of y for the derivative of a product with more.
    y = (x.reshape(-1, fan_in) @ kernel).reshape(*x.shape[:-1], shape[-1])
    if ntk:
        y = y * (1.0 / math.sqrt(fan_in))
    if ntk and module.b_std is None:
        return y
    bias = module.param(
        "bias", nn.initializers.normal(1.0) if ntk else nn.initializers.zeros, shape[-1:], x.dtype
    )
    bias = bias.reshape((1,) * (y.ndim - 1) + bias.shape)
    # Without a factor of 1, so that the derivatives of the kernel find the bias.
    return y + (module.b_std * bias if ntk else bias)


def _patches(x: Array, window: tuple[int, int], strides: tuple[int, int], padding: str) -> Array:
    """Return the windows of an image, each flattened in the order of a kernel."""
    if padding == "SAME":
        pads = jax.lax.padtype_to_pads(x.shape[1:3], window, strides, "SAME")
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], window, strides))
    shifted = [
        x[
            :,
            i : i + (height - 1) * strides[0] + 1 : strides[0],
            j : j + (width - 1) * strides[1] + 1 : strides[1],
        ]
        for i in range(window[0])
        for j in range(window[1])
    ]
    return jnp.concatenate(shifted, axis=-1)


def _pool(x: Array, window: tuple[int, int], strides: tuple[int, int]) -> Array:
    """Return means over the whole windows of an image, without padding."""
    for axis, size, stride in zip((1, 2), window, strides):
        x = _window_sums(x, axis, size, stride)
    return x * (1.0 / math.prod(window))


def _window_sums(x: Array, axis: int, size: int, stride: int) -> Array:
    """Return sums over windows of `size` entries along `axis`, at intervals of `stride`.

    They are shifted slices, because the derivative of XLA's window sum is slow on a CPU.
    """
    span = x.shape[axis] - size + 1
    return sum(jax.lax.slice_in_dim(x, start, start + span, stride, axis) for start in range(size))


class Network(nn.Module):
    """A chain of layers, with an activation after every dense and convolutional layer but the last.

    apply(params, x) takes points first and returns (n_points, n_outputs). Poolings are never
    padded. Points with more than one axis are flattened before a dense layer.

    Attributes:
        layers: The layers.
        activation: A name in `ACTIVATIONS`.
        parametrisation: As in `build_network`.
        padding: As in `build_network`.
        b_std: As in `build_network`.
    """

    layers: tuple[Layer, ...]
    activation: str
    parametrisation: str
    padding: str
    b_std: float | None

    @nn.compact
    def __call__(self, x: Float[Array, "n_points ..."]) -> Float[Array, "n_points n_outputs"]:
        """Return the outputs of points."""
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            if layer.kind == "avgpool":
                x = _pool(_image(x, layer, "VALID"), layer.window, layer.strides)
                continue
            if layer.kind == "conv":
                x = _image(x, layer, self.padding)
                y = Conv(
                    layer.width,
                    layer.window,
                    layer.strides,
                    self.padding,
                    self.parametrisation,
                    self.b_std,
                )(x)
            else:
                y = Dense(layer.width, self.parametrisation, self.b_std)(x.reshape(x.shape[0], -1))
            x = y if last else ACTIVATIONS[self.activation](y)
        return x


def _image(x: Array, layer: Layer, padding: str) -> Array:
    """Return images, or raise ValueError if they do not fit the layer."""
    if x.ndim != 4:
        raise ValueError(
            f"A {layer.kind} layer needs images (height, width, channels): "
            f"received points {x.shape[1:]}."
        )
    if padding == "VALID" and (x.shape[1] < layer.window[0] or x.shape[2] < layer.window[1]):
        raise ValueError(
            f"{layer.kind} must not exceed its image: {layer.window} > {x.shape[1:3]}."
        )
    return x


def build_network(
    layers: Sequence[str],
    *,
    activation: str = "relu",
    parametrisation: str = "lecun",
    padding: str = "SAME",
    b_std: float | None = None,
) -> Network:
    """Build a network from a list of layers.

    Also raises TypeError or ValueError for a wrong layer or argument; the message quotes it.

    Args:
        layers: Each layer as a string: "dense 32", "conv 32 3x3", "conv 32 3x3 stride 2", "avgpool
            2x2" or "avgpool 4x4 stride 2". The last layer must be dense; its width is the number of
            outputs.
        activation: A name in `ACTIVATIONS`, applied after every dense and convolutional layer but
            the last.
        parametrisation: "lecun" is Flax's default: W ~ N(0, 1/fan_in) and biases that start at
            zero. "ntk" (Jacot et al. 2018): y = W x / √fan_in + b_std b, where W and b are N(0, 1),
            as in the `stax` of neural-tangents.
        padding: Padding of the convolutions, "SAME" or "VALID". Poolings are never padded.
        b_std: Scale of the biases in "ntk"; None for no biases. Unused in "lecun".

    Returns:
        A Flax module: `network.init(key, x)` draws parameters, and `network.apply(params, x)`
        returns outputs of shape (n_points, n_outputs).

    Raises:
        TypeError: `layers` is not a list with entries.
        ValueError: The last layer is not dense.

    Example:
        >>> import jax
        >>> import collective_variables as cv
        >>> network = cv.build_network(["conv 4 3x3", "avgpool 2x2", "dense 10"])
        >>> images = jax.numpy.ones((5, 8, 8, 1))
        >>> params = network.init(jax.random.key(0), images)
        >>> network.apply(params, images).shape
        (5, 10)
        >>> sum(leaf.size for leaf in jax.tree.leaves(params))
        690
    """
    if isinstance(layers, str) or not isinstance(layers, Sequence) or len(layers) == 0:
        raise TypeError(
            f"layers must be a list such as ['dense 32', 'dense 1']: received {layers!r}."
        )
    parsed = tuple(parse(layer) for layer in layers)
    if parsed[-1].kind != "dense":
        raise ValueError(f"The last layer must be dense: received {layers[-1]!r}.")
    _checks.choice("activation", activation, ACTIVATIONS)
    _checks.choice("parametrisation", parametrisation, PARAMETRISATIONS)
    _checks.choice("padding", padding, PADDINGS)
    if b_std is not None:
        b_std = _checks.number("b_std", b_std, minimum=0.0)
    return Network(parsed, activation, parametrisation, padding, b_std)
