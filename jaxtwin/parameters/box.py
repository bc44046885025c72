"""The box of a model's free parameters θ."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.parameters.declaration import AbstractParameters, ParameterSpec, Theta

P = TypeVar("P", bound=AbstractParameters)
Of = TypeVar("Of", bound=AbstractParameters)
"""The class' own variable would be unknown in a class method called on `Box`."""

_LOGARITHMIC = "logarithmic"


@dataclasses.dataclass(frozen=True)
class Box(Generic[P]):
    """Bounds of a patient's free parameters θ; all other parameters are fixed.

    θ is an array with one entry per free parameter, in the order of `names` and in the
    parameters' units. `u` is the same point with every side of the box scaled to [0, 1], linearly
    or by its logarithm, `raw` the same point mapped to the whole real line. Build a box with
    `Box.of`.

    Attributes:
        parameters: The model's parameter class.
        names: Names of the free parameters.
        low: Lower bounds, in the parameters' units.
        high: Upper bounds, in the parameters' units.
        fixed: Names and values of the parameters fixed at a value other than their default.
        logarithmic: Names of the free parameters whose sides are scaled by the logarithm.
    """

    parameters: type[P]
    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    fixed: tuple[tuple[str, float], ...] = ()
    logarithmic: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        parameters: type[Of],
        names: Sequence[str] | str | Mapping[str, tuple[float, float]],
        bounds: Mapping[str, tuple[float, float]] | None = None,
        *,
        fixed: Mapping[str, float] | None = None,
        logarithmic: Sequence[str] = (),
    ) -> "Box[Of]":
        """Make a box in which the named parameters are free within their declared bounds.

            Box.of(LeftHeartParameters, ("T_c", "E_max"), fixed={"R_s": 1.3})
            Box.of(system.parameters, {"k1": (0.1, 2.0)})

        Args:
            parameters: The model's parameter class.
            names: Names of the free parameters; a single name may be given as a string. Or their
                bounds (low, high) by name.
            bounds: Bounds (low, high) by name that replace the declared ones.
            fixed: Known values of parameters that are not free, the same for all patients.
                Parameters that are neither free nor named here keep their defaults.
            logarithmic: Names of free parameters that vary over orders of magnitude: a step in u,
                and a draw of `sample`, multiplies such a parameter instead of adding to it.

        Raises:
            ValueError: If a name is unknown, a free parameter has no valid bounds, a fixed value
                is not a single finite number, or a logarithmic parameter is not free or may be 0
                or negative.

        Warns:
            UserWarning: If bounds have nothing in common with the declared ones, or a fixed value
                is outside them.
        """
        specs = _specs_of(parameters)
        if isinstance(names, Mapping):
            bounds = {**names, **(bounds or {})}
        names = (names,) if isinstance(names, str) else tuple(names)
        bounds, fixed = dict(bounds or {}), dict(fixed or {})
        unknown = [name for name in names if name not in specs]
        unknown += [name for name in bounds if name not in names]
        if unknown or not names or len(set(names)) != len(names):
            raise ValueError(
                f"free parameters {names} with bounds for {tuple(bounds)}: expected at least one "
                f"name, each once, from {', '.join(specs)}, and bounds for these only"
            )
        sides = [_side(specs[name], bounds.get(name), parameters) for name in names]
        low, high = tuple(low for low, _ in sides), tuple(high for _, high in sides)
        lowest = dict(zip(names, low, strict=True))
        if isinstance(logarithmic, str):
            logarithmic = (logarithmic,)
        if wrong := [name for name in logarithmic if not lowest.get(name, 0) > 0]:
            raise ValueError(
                f"logarithmic parameters {', '.join(wrong)}: expected free parameters whose lower "
                f"bound is above 0, out of {', '.join(n for n in names if lowest[n] > 0) or 'none'}"
            )
        return Box(
            parameters,
            names,
            low,
            high,
            _held(specs, names, fixed),
            tuple(name for name in names if name in logarithmic),
        )

    @classmethod
    def described(
        cls,
        parameters: type[Of],
        description: Mapping[str, Sequence[float | str] | float],
    ) -> "Box[Of]":
        """Return the box with this description, as given by `describe`."""
        free = {
            name: tuple(side) for name, side in description.items() if isinstance(side, Sequence)
        }
        return Box.of(
            parameters,
            tuple(free),
            {name: (float(side[0]), float(side[1])) for name, side in free.items()},
            fixed={
                name: value for name, value in description.items() if isinstance(value, int | float)
            },
            logarithmic=[name for name, side in free.items() if side[2:] == (_LOGARITHMIC,)],
        )

    @property
    def specs(self) -> tuple[ParameterSpec, ...]:
        """Specifications of the free parameters, with the bounds of this box."""
        specs = self.parameters.specs()
        return tuple(
            dataclasses.replace(specs[name], bounds=(low, high))
            for name, low, high in zip(self.names, self.low, self.high, strict=True)
        )

    def complete(self, theta: Theta | Float[np.ndarray, " free"]) -> P:
        """Return all parameters of one patient: θ, the box's fixed values and defaults.

        Raises:
            ValueError: If θ does not have one entry per free parameter.
        """
        if isinstance(theta, Mapping):
            raise ValueError(
                f"θ by name, {', '.join(theta)}: expected an array in the order of the box, "
                f"jnp.array([values[name] for name in box.names]): {', '.join(self.names)}"
            )
        if np.shape(theta) != (len(self.names),):
            raise ValueError(
                f"θ of shape {np.shape(theta)}: expected shape ({len(self.names)},), one entry "
                f"for each of {', '.join(self.names)}; for many patients, use "
                "jax.vmap(box.complete)"
            )
        # Taking the numbers out of an array of JAX would compile a program.
        values = jax.device_put(list(theta)) if isinstance(theta, np.ndarray) else theta
        return self.parameters(**dict(zip(self.names, values, strict=True)), **dict(self.fixed))

    def to_unit(self, theta: Float[Array | np.ndarray, "*batch free"]) -> Any:
        """Return the position u of θ in the box: 0 at the lower bound, 1 at the upper bound.

        Arrays of NumPy give one of NumPy.
        """
        xp = np if isinstance(theta, np.ndarray) else jnp
        low, high = self._corners(theta)
        u = (theta - low) / (high - low)
        if not self.logarithmic:
            return u
        scaled = self._scaled.reshape(low.shape)
        # The logarithm of a linear parameter is not used, and must not be NaN, nor its gradient.
        theta, low, high = (xp.where(scaled, x, 1.0 + k) for k, x in enumerate((theta, low, high)))
        return xp.where(scaled, xp.log(theta / low) / xp.log(high / low), u)

    def from_unit(self, u: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """Return θ at position u in the box."""
        low, high = self._corners(u)
        # Measured from the nearer bound: low + (high − low) may exceed high by rounding.
        theta = jnp.where(u < 0.5, low + (high - low) * u, high - (high - low) * (1 - u))
        if not self.logarithmic:
            return theta
        is_scaled = self._scaled.reshape(low.shape)
        ratio = np.where(is_scaled, high, 1.0) / np.where(is_scaled, low, 1.0)
        ratio = ratio.astype(low.dtype)
        scaled = jnp.where(u < 0.5, low * ratio**u, high / ratio ** (1 - u))
        return jnp.where(is_scaled, scaled, theta)

    def bound(self, raw: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """Map a point of ℝⁿ to θ in the box, by a sigmoid for each parameter."""
        return self.from_unit(jax.nn.sigmoid(raw))

    def unbound(self, theta: Float[Array, "*batch free"]) -> Float[Array, "*batch free"]:
        """Return the inverse of `bound`; infinite on the faces of the box."""
        return jax.scipy.special.logit(self.to_unit(theta))

    def contains(
        self, theta: Float[Array | np.ndarray, "*batch free"]
    ) -> Bool[Array | np.ndarray | np.bool, "*batch"]:
        """Return whether θ lies in the closed box; False for NaN.

        Arrays of NumPy give one of NumPy.
        """
        low, high = self._corners(theta)
        return ((theta >= low) & (theta <= high)).all(axis=-1)

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
                    "choose values inside it, or widen the box with Box.of(..., bounds=...)"
                )

    def sample(self, n: int, *, seed: int) -> Float[np.ndarray, "n free"]:
        """Return the first n points of a scrambled Sobol sequence over the box.

        They have JAX's default float type: float32 unless its x64 mode is on. The points for a
        smaller n are the first ones for a larger n.
        """
        if not isinstance(n, Integral) or n < 0:
            raise ValueError(f"n={n!r}: expected a whole number, not below 0")
        from scipy.stats import qmc  # Imported here because it takes half a second.

        sobol = qmc.Sobol(len(self.names), scramble=True, rng=seed)
        u = sobol.random_base2(max(n - 1, 0).bit_length())[:n]
        low, high = np.asarray(self.low), np.asarray(self.high)
        theta = low + (high - low) * u
        if self.logarithmic:
            ratio = np.where(self._scaled, high, 1.0) / np.where(self._scaled, low, 1.0)
            # Clipped because the product may exceed the upper bound by rounding.
            theta = np.where(self._scaled, np.minimum(low * ratio**u, high), theta)
        return theta.astype(jnp.result_type(float))

    def describe(self) -> dict[str, list[float | str] | float]:
        """Return [low, high] of each free parameter and the value of each fixed one, by name.

        Those of a logarithmic parameter are followed by "logarithmic". Checkpoints store this
        description; `Box.described` makes the box from it.
        """
        free: dict[str, list[float | str] | float] = {
            name: [low, high, *[_LOGARITHMIC] * (name in self.logarithmic)]
            for name, low, high in zip(self.names, self.low, self.high, strict=True)
        }
        return free | dict(self.fixed)

    @property
    def _scaled(self) -> Bool[np.ndarray, " free"]:
        """Which sides are logarithmic."""
        return np.array([name in self.logarithmic for name in self.names])

    def _corners(
        self, like: Float[Array | np.ndarray, "*batch free"]
    ) -> tuple[Float[np.ndarray, "*one free"], Float[np.ndarray, "*one free"]]:
        """Return the lower and upper bounds with as many axes as θ."""
        self._check_length(like)
        # An integer type would round the bounds.
        dtype = like.dtype if jnp.issubdtype(like.dtype, jnp.floating) else float
        shape = (1,) * (like.ndim - 1) + (-1,)
        low, high = (np.asarray(x, dtype).reshape(shape) for x in (self.low, self.high))
        return low, high

    def _check_length(self, theta: Any) -> None:
        if np.shape(theta)[-1:] != (len(self.names),):
            raise ValueError(
                f"θ of shape {np.shape(theta)}: expected {len(self.names)} entries in the last "
                f"axis, {', '.join(self.names)}"
            )


def _specs_of(parameters: Any) -> dict[str, ParameterSpec]:
    """Return the specifications of a parameter class.

    Raises:
        ValueError: If the argument is not a parameter class.
    """
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
    """Return the bounds (low, high) of one free parameter."""
    bounds = spec.bounds if bounds is None else bounds
    if bounds is None:
        raise ValueError(
            f"{spec.name} ({spec.meaning}) cannot be free: it has no bounds; declare "
            f"them in {parameters.__name__}, or pass bounds={{'{spec.name}': (low, high)}}"
        )
    if np.shape(bounds) != (2,) or any(isinstance(side, str) for side in bounds):
        raise ValueError(f"bounds of {spec.name} are {bounds}: expected two numbers (low, high)")
    if not -np.inf < bounds[0] < bounds[1] < np.inf:
        raise ValueError(f"bounds of {spec.name} are {bounds}: expected low < high, both finite")
    if spec.bounds is not None and (bounds[1] < spec.bounds[0] or bounds[0] > spec.bounds[1]):
        warnings.warn(
            f"bounds of {spec.name} are {bounds} {spec.unit}, which have nothing in common with "
            f"its declared bounds {spec.bounds}: check their unit; if they are intended, ignore "
            "this warning",
            stacklevel=4,
        )
    return float(bounds[0]), float(bounds[1])


def _held(
    specs: Mapping[str, ParameterSpec], names: Sequence[str], fixed: Mapping[str, Any]
) -> tuple[tuple[str, float], ...]:
    """Return names and values of the fixed parameters, in the order of declaration."""
    wrong = [name for name in fixed if name not in specs or name in names]
    if wrong:
        raise ValueError(
            f"fixed={{...}} names {', '.join(wrong)}: expected parameters that are not free, out "
            f"of {', '.join(name for name in specs if name not in names)}"
        )
    for name, value in fixed.items():
        if isinstance(value, str):
            raise ValueError(f"fixed value of {name} is the text {value!r}: expected a number")
        if np.shape(value) != ():
            raise ValueError(
                f"fixed value of {name} has shape {np.shape(value)}: expected one number for all "
                f"patients; if it differs between patients, make {name} a free parameter and give "
                "its values in θ (in a CurveTask, as `known`)"
            )
        if not np.isfinite(value):
            raise ValueError(f"fixed value of {name} is {value}: expected a finite number")
    held = {name: float(fixed[name]) for name in specs if name in fixed}
    for name, value in held.items():
        bounds = specs[name].bounds
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            warnings.warn(
                f"{name} is fixed at {value:g} {specs[name].unit}, outside its declared bounds "
                f"{bounds}: check its unit; if the value is intended, ignore this warning",
                stacklevel=3,
            )
    return tuple(held.items())
