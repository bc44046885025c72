"""No code outside of `models` names a model, a ventricle or a pump; models keep their contract."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import jaxtwin
from jaxtwin.models.lvad import LVAD, PUMP_READINGS
from jaxtwin.models.ventricle import READINGS, AbstractVentricle, VentricleOutputs
from jaxtwin.physics.base import AbstractSystem, outputs_of

PACKAGE = Path(jaxtwin.__file__).parent
# What anyone may import: definitions that no circuit is needed for.
SHARED = {"ejection", "intervention"}


def named_models(source):
    """What a file imports from `jaxtwin.models`: modules, or names that it passes on."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            paths = [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
        else:
            continue
        for path in paths:
            _, models, rest = path.partition("models.")
            if models:
                found.add(rest.split(".")[0])
    return found


def test_no_code_outside_of_models_names_a_model_a_ventricle_or_a_pump():
    for file in PACKAGE.rglob("*.py"):
        # A package's front door passes names on; the command line has to choose a heart.
        if file.name == "__init__.py" or {"models", "commands"} & set(
            file.relative_to(PACKAGE).parts
        ):
            continue
        assert named_models(file.read_text()) <= SHARED, file


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("from jaxtwin.models.lvad import LVAD", "lvad"),
        ("from jaxtwin.models import ventricle", "ventricle"),
        ("from jaxtwin.models import LeftHeart", "LeftHeart"),
        ("import jaxtwin.models.four_chambers as hearts", "four_chambers"),
        ("def f():\n    from ..models.pump import Pump", "pump"),
    ],
)
def test_a_model_that_is_named_is_seen(line, model):
    assert named_models(line) == {model}


def test_packages_that_pass_names_on_do_nothing_else():
    for file in PACKAGE.rglob("__init__.py"):
        if named_models(file.read_text()):
            assert not [
                node
                for node in ast.parse(file.read_text()).body
                if not isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign)
            ], file


def systems(kind):
    """Every final class of that kind in `jaxtwin.models`."""
    found = []
    for file in sorted((PACKAGE / "models").glob("[a-z]*.py")):
        module = importlib.import_module(f"jaxtwin.models.{file.stem}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, kind)
            and value.__module__ == module.__name__
            and not value.__name__.startswith("Abstract")
        ]
    return found


def test_circuits_of_a_left_ventricle_have_its_outputs():
    found = systems(AbstractVentricle)
    assert len(found) >= 6
    for circuit in found:
        system = circuit()
        fields = outputs_of(system)._fields
        assert fields[: len(VentricleOutputs._fields)] == VentricleOutputs._fields
        assert set(READINGS) <= set(system.readings())
        pumped = LVAD(system, 9_000.0)
        assert set(pumped.readings()) == set(system.readings()) | set(PUMP_READINGS)


def test_no_concrete_method_is_overridden():
    """But for what `AbstractSystem` and its kind give as an answer that any system may replace."""
    for system in systems(AbstractSystem):
        family = [c for c in system.__mro__[1:] if c.__module__.startswith("jaxtwin.models")]
        for name, method in vars(system).items():
            if inspect.isfunction(method) and not name.startswith("__"):
                above = [vars(c)[name] for c in family if name in vars(c)]
                assert all(getattr(m, "__isabstractmethod__", False) for m in above), (system, name)
