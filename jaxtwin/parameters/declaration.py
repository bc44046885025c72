"""Declaration of a model's parameters."""

import dataclasses
import difflib
import functools
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import equinox as eqx
from jaxtyping import Array, Float

if TYPE_CHECKING:
    Scalar: TypeAlias = Array
    """A single number of one patient: a parameter, a state or an output."""
else:  # Default values are Python numbers until a solver converts them to arrays.
    Scalar = Float[Array, ""] | float
Theta: TypeAlias = Float[Array, " free"]

_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|"
    "upsilon|phi|chi|psi|omega",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """Specification of one parameter.

    Attributes:
        name: Name of the attribute in the code.
        symbol: LaTeX symbol, without dollar signs.
        unit: Unit, "" if dimensionless.
        default: Typical value.
        bounds: Lowest and highest value considered; None for a constant of the model.
        meaning: Meaning in words.
        source: Source of the default and the bounds.
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
        """Axis label, such as "$E_{max}$ [mmHg/mL]"."""
        return f"${self.symbol}$ [{self.unit}]" if self.unit else f"${self.symbol}$"


def parameter(
    default: float,
    bounds: tuple[float, float] | None = None,
    unit: str = "",
    meaning: str = "",
    *,
    symbol: str | None = None,
    source: str | None = None,
) -> Any:
    r"""Declare one field of an `AbstractParameters`.

        R_m: Scalar = parameter(0.005, (0.005, 0.1), "mmHg·s/mL", "mitral-valve resistance")
        C_s: Scalar = parameter(1.33, None, "mL/mmHg", "systemic compliance")

    Args:
        default: Typical value.
        bounds: Lowest and highest value considered; None for a constant of the model.
        unit: Unit, "" if dimensionless.
        meaning: Meaning in words.
        symbol: LaTeX symbol, without dollar signs; by default derived from the name: `E_max_lv`
            becomes E_{max,lv}, `tau_s` becomes \tau_s.
        source: Source of the default and the bounds; by default the `source` of the class.

    Raises:
        ValueError: If the bounds are not a finite interval that contains the default.
    """
    what = f"parameter ({meaning})" if meaning else f"parameter({default}, {bounds})"
    if isinstance(bounds, str):
        raise ValueError(
            f"parameter({default!r}, {bounds!r}): the second argument is the bounds (low, high), "
            f"or None for a constant; write parameter({default!r}, None, {bounds!r}, ...)"
        )
    if bounds is not None:
        if len(bounds) != 2 or not all(math.isfinite(bound) or bound != bound for bound in bounds):
            raise ValueError(f"{what}: bounds {bounds}: expected two finite numbers (low, high)")
        if not bounds[0] <= default <= bounds[1]:
            raise ValueError(
                f"{what}: the default {default} lies outside its bounds {bounds}; "
                "give bounds (low, high) with low <= default <= high"
            )
    spec = functools.partial(
        ParameterSpec, unit=unit, default=default, bounds=bounds, meaning=meaning
    )
    return eqx.field(default=default, metadata={"spec": spec, "symbol": symbol, "source": source})


class AbstractParameters(eqx.Module):
    """Base class for the parameters of a model: those of one patient, or of a batch under vmap.

    Attributes:
        source: Source of the parameters that this class declares without one.
    """

    source: ClassVar[str] = ""

    if not TYPE_CHECKING:  # Type checkers know the names, and would no longer check them.

        def __new__(cls, *args: Any, **values: Any):
            """Make an instance, unless a name is unknown."""
            known = [field.name for field in dataclasses.fields(cls)]
            unknown = [name for name in values if name not in known]
            # A class with an `__init__` of its own may have other arguments.
            if unknown and list(inspect.signature(cls).parameters) == known:
                close = difflib.get_close_matches(unknown[0], known, 1)
                meant = f" (did you mean {close[0]}?)" if close else ""
                raise TypeError(
                    f"{cls.__name__} has no parameter {unknown[0]!r}{meant}: it has "
                    f"{', '.join(known)}"
                )
            return super().__new__(cls)

    def __check_init__(self) -> None:
        """Refuse values that are no numbers; arrays, tracers and None are left alone."""
        for name, value in vars(self).items():
            if isinstance(value, str | bytes | Sequence | Mapping):
                raise ValueError(
                    f"{name} of {type(self).__name__} is {value!r}: expected a number; for many "
                    "patients, an array under jax.vmap"
                )

    @classmethod
    def specs(cls) -> dict[str, ParameterSpec]:
        """Return the specification of every parameter, in the order of declaration.

        Raises:
            ValueError: If a field was not declared with `parameter`.
        """
        specs = {}
        for field in dataclasses.fields(cls):
            if "spec" not in field.metadata:
                raise ValueError(
                    f"{cls.__name__}.{field.name} has no specification: declare it as "
                    f"`{field.name}: Scalar = parameter(default, bounds, unit, meaning)`"
                )
            symbol, source = field.metadata["symbol"], field.metadata["source"]
            declaring = next(k for k in cls.__mro__ if field.name in inspect.get_annotations(k))
            specs[field.name] = field.metadata["spec"](
                name=field.name,
                symbol=_symbol(field.name) if symbol is None else symbol,
                source=getattr(declaring, "source", "") if source is None else source,
            )
        return specs


def _symbol(name: str) -> str:
    r"""Convert a name to LaTeX: `E_max_lv` to E_{max,lv}, `tau_s` to \tau_s."""
    head, *rest = (
        f"\\{part}" if _GREEK.fullmatch(part) else part for part in name.split("_") if part
    )
    below = ",".join(rest)
    if not below:
        return head
    return f"{head}_{below}" if len(below) == 1 else f"{head}_{{{below}}}"


def table(parameters: type[AbstractParameters]) -> str:
    """Return a Markdown table of a model's parameters."""
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
