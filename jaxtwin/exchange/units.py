"""Units of model files as people write them."""

from typing import Any

_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", -2: "c", -1: "d", 0: "", 3: "k", 6: "M"}
_SHORT = {
    "second": "s",
    "litre": "L",
    "liter": "L",
    "mole": "mol",
    "metre": "m",
    "meter": "m",
    "gram": "g",
    "kilogram": "kg",
    "ampere": "A",
    "kelvin": "K",
    "joule": "J",
    "newton": "N",
    "pascal": "Pa",
    "volt": "V",
    "watt": "W",
    "hertz": "Hz",
    "coulomb": "C",
    "farad": "F",
    "siemens": "S",
    "ohm": "Ω",
    "dimensionless": "",
    "item": "",
    "avogadro": "",
}
_LONG = {("second", 60.0): "min", ("second", 3600.0): "h", ("second", 86400.0): "d"}
_RAISED = str.maketrans("-0123456789.", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹·")


def unit_name(lib: Any, definition: Any) -> str:
    """Return the name of a unit definition of libSBML, such as "mmol/L"; "" if dimensionless."""
    above, below = [], []
    for i in range(definition.getNumUnits()):
        unit = definition.getUnit(i)
        kind = lib.UnitKind_toString(unit.getKind())
        size, scale = unit.getMultiplier(), unit.getScale()
        exponent = unit.getExponentAsDouble()
        if (kind, size * 10.0**scale) in _LONG:
            name = _LONG[kind, size * 10.0**scale]
        else:
            short = _SHORT.get(kind, kind)
            prefix = _PREFIXES.get(scale) if short else ""
            name = f"{prefix}{short}" if prefix is not None else f"1e{scale} {short}"
            if size != 1:
                name = f"{size:g} {name}".strip()
        if not name or exponent == 0:
            continue
        power = abs(exponent)
        name += "" if power == 1 else f"{power:g}".translate(_RAISED)
        (above if exponent > 0 else below).append(name)
    top = "·".join(above)
    return top if not below else "/".join([top or "1", *below])
