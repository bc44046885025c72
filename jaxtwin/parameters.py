"""Parameters with units, bounds and sources, and the box in which some of them are free.

A model declares each parameter once:

    class SpringParameters(AbstractParameters):
        k: Scalar = parameter(1.0, (0.1, 10.0), symbol="k", unit="N/m", meaning="stiffness")

From that line come the default values, the Sobol samples, the maps between bounded and
unbounded parameters, the axis labels and the tables.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.stats import qmc

if TYPE_CHECKING:
    Scalar: TypeAlias = Array
else:  # Defaults are Python numbers until a solver turns them into arrays.
    Scalar = Float[Array, ""] | float
Theta: TypeAlias = Float[Array, " free"]


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """What there is to know about one parameter.

    Attributes:
        name: The attribute's name in the code.
        symbol: How it is typeset, as LaTeX without dollar signs.
        unit: Its unit, "" where it has none.
        default: A typical value.
        bounds: The lowest and highest value considered; None for a constant of the model.
        meaning: What it is, in words.
        source: Where the default and the bounds come from.
    """

    name: str
    symbol: str
    unit: str
    default: float
    bounds: tuple[float, float] | None
    meaning: str
    source: str

    @property
    def label(self) -> str:
        """The axis label, such as "$E_{max}$ [mmHg/mL]"."""
        return f"${self.symbol}$ [{self.unit}]" if self.unit else f"${self.symbol}$"


def parameter(
    default: float,
    bounds: tuple[float, float] | None = None,
    *,
    symbol: str,
    unit: str,
    meaning: str,
    source: str = "",
) -> Any:
    """Declare one field of an `AbstractParameters`; see `ParameterSpec` for the arguments.

    Raises:
        ValueError: If the bounds are not an interval that holds the default.
    """
    if bounds is not None and not bounds[0] <= default <= bounds[1]:
        raise ValueError(
            f"parameter ({meaning}): the default {default} lies outside its bounds {bounds}; "
            "give bounds (low, high) with low <= default <= high"
        )
    spec = functools.partial(
        ParameterSpec,
        symbol=symbol,
        unit=unit,
        default=default,
        bounds=bounds,
        meaning=meaning,
        source=source,
    )
    return eqx.field(default=default, metadata={"spec": spec})


class AbstractParameters(eqx.Module):
    """All parameters of one model, by name: one patient's, or a batch of patients' under vmap."""

    @classmethod
    def specs(cls) -> dict[str, ParameterSpec]:
        """The specification of every parameter, in the order of declaration.

        Raises:
            ValueError: If a field was not declared with `parameter`.
        """
        specs = {}
        for field in dataclasses.fields(cls):
            if "spec" not in field.metadata:
                raise ValueError(
                    f"{cls.__name__}.{field.name} has no specification: declare it as "
                    f"`{field.name}: Scalar = parameter(default, bounds, symbol=..., ...)`"
                )
            specs[field.name] = field.metadata["spec"](name=field.name)
        return specs


@dataclasses.dataclass(frozen=True)
class Box:
    """The box in which a patient's free parameters θ are sought; the others stay fixed.

    θ is an array with one entry a free parameter, in the order of `names` and in the
    parameters' own units; `u` is the same point with every side of the box scaled to [0, 1];
    `raw` is the same point on the whole real line. Build one with `Box.of`.

    Attributes:
        parameters: The model's parameter class.
        names: The free parameters.
        low: Lower corner, in the parameters' units.
        high: Upper corner.
    """

    parameters: type[AbstractParameters]
    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(
        cls,
        parameters: type[AbstractParameters],
        names: Sequence[str],
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> "Box":
        """Free the named parameters within their declared bounds.

        Args:
            parameters: The model's parameter class.
            names: Which parameters are free.
            bounds: Bounds (low, high) that replace the declared ones.

        Raises:
            ValueError: If a name is unknown, or a free parameter has no proper bounds.
        """
        specs = parameters.specs()
        bounds = dict(bounds or {})
        unknown = [name for name in names if name not in specs]
        unknown += [name for name in bounds if name not in names]
        if unknown or not names or len(set(names)) != len(names):
            raise ValueError(
                f"free parameters {tuple(names)} with bounds for {tuple(bounds)}: expected at "
                f"least one name, each once, out of {', '.join(specs)}, and bounds for those only"
            )
        sides = []
        for name in names:
            side = bounds.get(name, specs[name].bounds)
            if side is None:
                raise ValueError(
                    f"{name} ({specs[name].meaning}) cannot be free: it has no bounds; declare "
                    f"them in {parameters.__name__} or pass bounds={{'{name}': (low, high)}}"
                )
            if not side[0] < side[1]:
                raise ValueError(f"bounds of {name} are {side}: expected low < high")
            sides.append(side)
        return cls(
            parameters,
            tuple(names),
            tuple(float(side[0]) for side in sides),
            tuple(float(side[1]) for side in sides),
        )

    @property
    def specs(self) -> tuple[ParameterSpec, ...]:
        """The free parameters' specifications, with this box's bounds."""
        specs = self.parameters.specs()
        return tuple(
            dataclasses.replace(specs[name], bounds=(low, high))
            for name, low, high in zip(self.names, self.low, self.high, strict=True)
        )

    def complete(self, theta: Theta) -> AbstractParameters:
        """All parameters of the model: θ for the free ones, the defaults for the rest."""
        free = dict(zip(self.names, theta, strict=True))
        return self.parameters(**free)

    def to_unit(self, theta: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """The place u of θ in the box: 0 at the lower, 1 at the upper bound."""
        low, high = self._corners(theta)
        return (theta - low) / (high - low)

    def from_unit(self, u: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """The θ at the place u of the box."""
        low, high = self._corners(u)
        return low + (high - low) * u

    def bound(self, raw: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """The θ of any point of ℝⁿ, by a sigmoid on every side of the box."""
        return self.from_unit(jax.nn.sigmoid(raw))

    def unbound(self, theta: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """The inverse of `bound`; infinite on the box's faces."""
        return jax.scipy.special.logit(self.to_unit(theta))

    def contains(self, theta: Float[Array, "*batch free"]) -> Bool[Array, "*batch"]:
        """Whether θ lies in the closed box; NaN does not."""
        low, high = self._corners(theta)
        return jnp.all((theta >= low) & (theta <= high), axis=-1)

    def check(self, theta: Float[Array | np.ndarray, "*batch free"]) -> None:
        """Raise a ValueError that names the parameters of a concrete θ outside the box."""
        values = np.asarray(theta)
        if values.shape[-1:] != (len(self.names),):
            raise ValueError(
                f"θ of shape {values.shape}: expected {len(self.names)} entries in the last axis, "
                f"{', '.join(self.names)}"
            )
        for spec, column in zip(self.specs, np.moveaxis(values, -1, 0), strict=True):
            low, high = np.asarray(spec.bounds, values.dtype)
            outside = column[~((column >= low) & (column <= high))]
            if outside.size:
                raise ValueError(
                    f"{spec.name} = {outside.flat[0]:g} {spec.unit} ({outside.size} of "
                    f"{column.size}) is outside the box {spec.bounds}; "
                    "choose values inside it, or make a wider box with Box.of(..., bounds=...)"
                )

    def sample(self, n: int, *, seed: int) -> Float[np.ndarray, "n free"]:
        """The first n points of a scrambled Sobol sequence over the box, in float64.

        The points of a smaller n are the beginning of those of a larger one.
        """
        sobol = qmc.Sobol(len(self.names), scramble=True, rng=seed)
        u = sobol.random_base2(max(n - 1, 0).bit_length())[:n]
        return np.asarray(self.low) + (np.asarray(self.high) - np.asarray(self.low)) * u

    def describe(self) -> dict[str, list[float]]:
        """Name → [low, high], as it is kept beside checkpoints."""
        return {
            name: [low, high]
            for name, low, high in zip(self.names, self.low, self.high, strict=True)
        }

    def _corners(
        self, like: Float[Array, "*batch free"]
    ) -> tuple[Float[Array, "*batch free"], Float[Array, "*batch free"]]:
        low, high = jnp.asarray(self.low, like.dtype), jnp.asarray(self.high, like.dtype)
        return jnp.broadcast_to(low, like.shape), jnp.broadcast_to(high, like.shape)


def table(parameters: type[AbstractParameters]) -> str:
    """A model's parameters as a Markdown table."""
    lines = [
        "| parameter | meaning | unit | default | bounds | source |",
        "|---|---|---|---|---|---|",
    ]
    for spec in parameters.specs().values():
        bounds = "fixed" if spec.bounds is None else f"{spec.bounds[0]:g} – {spec.bounds[1]:g}"
        lines.append(
            f"| {spec.name} | {spec.meaning} | {spec.unit} | {spec.default:g} "
            f"| {bounds} | {spec.source} |"
        )
    return "\n".join(lines)
