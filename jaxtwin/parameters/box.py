"""The box in which a model's free parameters θ are sought."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.parameters.declaration import AbstractParameters, ParameterSpec, Theta


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
        fixed: Parameters held at a value other than their default, with that value.
    """

    parameters: type[AbstractParameters]
    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    fixed: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(
        cls,
        parameters: type[AbstractParameters],
        names: Sequence[str] | str,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        *,
        fixed: Mapping[str, float] | None = None,
    ) -> "Box":
        """Free the named parameters within their declared bounds.

            Box.of(LeftHeartParameters, ("T_c", "E_max"), fixed={"R_s": 1.3})

        Args:
            parameters: The model's parameter class.
            names: Which parameters are free; a single name may come alone.
            bounds: Bounds (low, high) that replace the declared ones.
            fixed: Known values of parameters that are not free, the same for all patients. Those
                neither free nor named here are at their defaults.

        Raises:
            ValueError: If a name is unknown, a free parameter has no proper bounds, or a fixed
                value is not one finite number.
        """
        specs = _specs_of(parameters)
        names = (names,) if isinstance(names, str) else tuple(names)
        bounds, fixed = dict(bounds or {}), dict(fixed or {})
        unknown = [name for name in names if name not in specs]
        unknown += [name for name in bounds if name not in names]
        if unknown or not names or len(set(names)) != len(names):
            raise ValueError(
                f"free parameters {names} with bounds for {tuple(bounds)}: expected at "
                f"least one name, each once, out of {', '.join(specs)}, and bounds for those only"
            )
        sides = [_side(specs[name], bounds.get(name), parameters) for name in names]
        return cls(
            parameters,
            names,
            tuple(low for low, _ in sides),
            tuple(high for _, high in sides),
            _held(specs, names, fixed),
        )

    @classmethod
    def described(
        cls,
        parameters: type[AbstractParameters],
        description: Mapping[str, Sequence[float] | float],
    ) -> "Box":
        """The box that `describe` gave this description of."""
        free = {name: side for name, side in description.items() if isinstance(side, Sequence)}
        return cls.of(
            parameters,
            tuple(free),
            {name: (low, high) for name, (low, high) in free.items()},
            fixed={
                name: value for name, value in description.items() if isinstance(value, int | float)
            },
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
        """All parameters of one patient: θ, the box's fixed values, and defaults for the rest.

        Raises:
            ValueError: If θ has not one entry for each free parameter.
        """
        if isinstance(theta, Mapping):
            raise ValueError(
                f"θ by name, {', '.join(theta)}: expected an array in the order of the box, "
                f"jnp.array([values[name] for name in box.names]): {', '.join(self.names)}"
            )
        if np.shape(theta) != (len(self.names),):
            raise ValueError(
                f"θ of shape {np.shape(theta)}: expected shape ({len(self.names)},), one entry "
                f"for each of {', '.join(self.names)}; for many patients, jax.vmap(box.complete)"
            )
        free = dict(zip(self.names, theta, strict=True))
        return self.parameters(**free, **dict(self.fixed))

    def to_unit(self, theta: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """The place u of θ in the box: 0 at the lower, 1 at the upper bound."""
        low, high = self._corners(theta)
        return (theta - low) / (high - low)

    def from_unit(self, u: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """The θ at the place u of the box."""
        low, high = self._corners(u)
        # From the nearer corner: rounding would carry low + (high − low) past the upper one.
        return jnp.where(u < 0.5, low + (high - low) * u, high - (high - low) * (1 - u))

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
        self._check_length(values)
        for spec, column in zip(self.specs, np.moveaxis(values, -1, 0), strict=True):
            is_float = np.issubdtype(values.dtype, np.floating)
            low, high = np.asarray(spec.bounds, values.dtype if is_float else float)
            outside = column[~((column >= low) & (column <= high))]
            if outside.size:
                raise ValueError(
                    f"{spec.name} = {outside.flat[0]:g} {spec.unit} ({outside.size} of "
                    f"{column.size}) is outside the box {spec.bounds}; "
                    "choose values inside it, or make a wider box with Box.of(..., bounds=...)"
                )

    def sample(self, n: int, *, seed: int) -> Float[np.ndarray, "n free"]:
        """Return the first n points of a scrambled Sobol sequence over the box.

        They have JAX's default float type: float32 unless its x64 mode is on. The points of a
        smaller n are the beginning of those of a larger one.
        """
        from scipy.stats import qmc  # Takes half a second, and few need it.

        sobol = qmc.Sobol(len(self.names), scramble=True, rng=seed)
        u = sobol.random_base2(max(n - 1, 0).bit_length())[:n]
        theta = np.asarray(self.low) + (np.asarray(self.high) - np.asarray(self.low)) * u
        return theta.astype(jnp.result_type(float))

    def describe(self) -> dict[str, list[float] | float]:
        """Name → [low, high] of a free parameter, name → value of a fixed one.

        It is kept beside checkpoints; `Box.described` reads it back.
        """
        free = {
            name: [low, high]
            for name, low, high in zip(self.names, self.low, self.high, strict=True)
        }
        return free | dict(self.fixed)

    def _corners(
        self, like: Float[Array, "*batch free"]
    ) -> tuple[Float[Array, "*batch free"], Float[Array, "*batch free"]]:
        self._check_length(like)
        # Not a whole number's type: it would round the bounds.
        dtype = like.dtype if jnp.issubdtype(like.dtype, jnp.floating) else float
        low, high = jnp.asarray(self.low, dtype), jnp.asarray(self.high, dtype)
        return jnp.broadcast_to(low, like.shape), jnp.broadcast_to(high, like.shape)

    def _check_length(self, theta: Any) -> None:
        if np.shape(theta)[-1:] != (len(self.names),):
            raise ValueError(
                f"θ of shape {np.shape(theta)}: expected {len(self.names)} entries in the last "
                f"axis, {', '.join(self.names)}"
            )


def _specs_of(parameters: Any) -> dict[str, ParameterSpec]:
    """The specifications, or an error that says what to pass in the class's place."""
    if isinstance(parameters, type) and issubclass(parameters, AbstractParameters):
        return parameters.specs()
    if isinstance(parameters, AbstractParameters):
        raise ValueError(
            f"Box.of got an instance of {type(parameters).__name__}: pass the class, "
            f"Box.of({type(parameters).__name__}, ...), and known values as fixed={{name: value}}"
        )
    name = parameters.__name__ if isinstance(parameters, type) else type(parameters).__name__
    advice = "a subclass of AbstractParameters"
    if hasattr(parameters, "parameters"):
        advice += f", here {name}.parameters"
    raise ValueError(f"Box.of got {name}: expected {advice}")


def _side(
    spec: ParameterSpec, bounds: Any, parameters: type[AbstractParameters]
) -> tuple[float, float]:
    """Low and high of one free parameter."""
    bounds = spec.bounds if bounds is None else bounds
    if bounds is None:
        raise ValueError(
            f"{spec.name} ({spec.meaning}) cannot be free: it has no bounds; declare "
            f"them in {parameters.__name__} or pass bounds={{'{spec.name}': (low, high)}}"
        )
    if np.shape(bounds) != (2,) or not -np.inf < bounds[0] < bounds[1] < np.inf:
        raise ValueError(
            f"bounds of {spec.name} are {bounds}: expected low < high, two finite numbers"
        )
    return float(bounds[0]), float(bounds[1])


def _held(
    specs: Mapping[str, ParameterSpec], names: Sequence[str], fixed: Mapping[str, Any]
) -> tuple[tuple[str, float], ...]:
    """The fixed values, in the order of declaration."""
    wrong = [name for name in fixed if name not in specs or name in names]
    if wrong:
        raise ValueError(
            f"fixed={{...}} names {', '.join(wrong)}: expected parameters that are not free, out "
            f"of {', '.join(name for name in specs if name not in names)}"
        )
    for name, value in fixed.items():
        if np.shape(value) != ():
            raise ValueError(
                f"fixed value of {name} has shape {np.shape(value)}: expected one number for all "
                f"patients; what differs between them is free: name {name} among the free "
                "parameters and give its values in θ (CurveTask takes them as `known`)"
            )
        if not np.isfinite(value):
            raise ValueError(f"fixed value of {name} is {value}: expected a finite number")
    held = {name: float(fixed[name]) for name in specs if name in fixed}
    for name, value in held.items():
        bounds = specs[name].bounds
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            warnings.warn(
                f"{name} is fixed at {value:g} {specs[name].unit}, outside its declared bounds "
                f"{bounds}: check its unit, or disregard this if the value is meant",
                stacklevel=3,
            )
    return tuple(held.items())
