"""The table of public names, made when the documentation is built."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent / "jaxtwin"
MARKER = "<!-- public names -->"
PACKAGES = {
    "jt": (ROOT, "What most programs need."),
    "jt.models": (ROOT / "models", "The models, and parts for models of your own."),
    "jt.methods": (ROOT / "methods", "Methods, and what a method of your own needs."),
    "jt.inference": (ROOT / "inference", "Posteriors, their calibration, and what they say."),
    "jt.data": (ROOT / "data", "Reading clips."),
    "jt.treatments": (ROOT / "treatments", "Interventions, trials and optimal doses."),
}


class PublicName(NamedTuple):
    """A name of the front door.

    Attributes:
        name: The name itself.
        module: Where it is defined, "" for a module.
        meaning: The first sentence of its docstring.
    """

    name: str
    module: str
    meaning: str


def public_names(folder: Path) -> Iterator[PublicName]:
    """Yield what a package imports for its users, in its stub or else in itself."""
    package = ".".join(folder.relative_to(ROOT.parent).parts)
    stub = folder / "__init__.pyi"
    source = stub if stub.exists() else folder / "__init__.py"
    for statement in ast.parse(source.read_text()).body:
        if not isinstance(statement, ast.ImportFrom):
            continue
        place = f"{package}." * statement.level + (statement.module or "")
        for name in (alias.name for alias in statement.names):
            if statement.module is None:
                yield PublicName(name, "", _meaning(_source(place + name), None))
            else:
                yield PublicName(name, place, _meaning(_source(place), name))


def table() -> str:
    """All public names as Markdown, each with a link to the reference."""
    parts = []
    for shown, (folder, meaning) in PACKAGES.items():
        lines = [f"## `{shown}`", "", meaning, "", "| name | what it is |", "|---|---|"]
        for found in sorted(public_names(folder), key=lambda found: found.name.lower()):
            full = f"{shown}.{found.name}"
            link = f"[`{full}`][{found.module}.{found.name}]" if found.module else f"`{full}`"
            lines.append(f"| {link} | {found.meaning} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, **_) -> str:
    """Put the table in the place of its marker; MkDocs calls this for every page."""
    return markdown.replace(MARKER, table()) if MARKER in markdown else markdown


def _source(module: str) -> ast.Module:
    path = ROOT.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text())


def _meaning(source: ast.Module, name: str | None) -> str:
    """The first line of the docstring of a module, or of a class, function or constant in it."""
    if name is None:
        return _first_line(ast.get_docstring(source))
    # What type checkers are told of a name comes first.
    body = [
        part for node in source.body for part in (node.body if isinstance(node, ast.If) else [node])
    ]
    for place, node in enumerate(body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _first_line(ast.get_docstring(node))
        if isinstance(node, ast.Assign | ast.AnnAssign) and _assigns(node, name):
            match body[place + 1]:
                case ast.Expr(value=ast.Constant(value=text)):
                    return _first_line(str(text))
            return ""
    raise ValueError(f"{name} is not defined in the module that it is imported from")


def _assigns(node: ast.AST, name: str) -> bool:
    names = [target for target in ast.walk(node) if isinstance(target, ast.Name)]
    return any(isinstance(n.ctx, ast.Store) and n.id == name for n in names)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0].replace("|", "\\|")
