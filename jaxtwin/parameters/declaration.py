"""How a model declares its parameters."""

import dataclasses
import functools
import math
import re
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import equinox as eqx
from jaxtyping import Array, Float

if TYPE_CHECKING:
    Scalar: TypeAlias = Array
else:  # Defaults are Python numbers until a solver turns them into arrays.
    Scalar = Float[Array, ""] | float
"""One number of one patient: a parameter, a state or an output."""
Theta: TypeAlias = Float[Array, " free"]

_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|"
    "upsilon|phi|chi|psi|omega",
    re.IGNORECASE,
)


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
        default: A typical value.
        bounds: The lowest and highest value considered; None for a constant of the model.
        unit: Its unit, "" where it has none.
        meaning: What it is, in words.
        symbol: How it is typeset, as LaTeX without dollar signs; by default derived from the
            name: `E_max_lv` becomes E_{max,lv}, `tau_s` becomes \tau_s.
        source: Where the default and the bounds come from; by default the class's `source`.

    Raises:
        ValueError: If the bounds are not a finite interval that holds the default.
    """
    what = f"parameter ({meaning})" if meaning else f"parameter({default}, {bounds})"
    if isinstance(bounds, str):
        raise ValueError(
            f"parameter({default!r}, {bounds!r}): the second argument is the bounds (low, high), "
            f"None for a constant; write parameter({default!r}, None, {bounds!r}, ...)"
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
    """All parameters of one model, by name: one patient's, or a batch of patients' under vmap.

    Attributes:
        source: Where those parameters come from that do not say it themselves.
    """

    source: ClassVar[str] = ""

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
                    f"`{field.name}: Scalar = parameter(default, bounds, unit, meaning)`"
                )
            symbol, source = field.metadata["symbol"], field.metadata["source"]
            specs[field.name] = field.metadata["spec"](
                name=field.name,
                symbol=_symbol(field.name) if symbol is None else symbol,
                source=cls.source if source is None else source,
            )
        return specs


def _symbol(name: str) -> str:
    r"""LaTeX of a name: `E_max_lv` as E_{max,lv}, `tau_s` as \tau_s."""
    head, *rest = (
        f"\\{part}" if _GREEK.fullmatch(part) else part for part in name.split("_") if part
    )
    below = ",".join(rest)
    if not below:
        return head
    return f"{head}_{below}" if len(below) == 1 else f"{head}_{{{below}}}"


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
