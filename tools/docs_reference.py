"""The API reference of the library, out of its source: what `__all__` of each module names.

The source is parsed and not imported, so that the site is built without what the library needs.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1]
LIBRARY = "slipway_kit"
SOURCE = TEMPLATE / "kit/src"
WIDTH = 84

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Module:
    """One parsed module of the library."""

    name: str
    path: Path
    tree: ast.Module
    lines: list[str]

    @property
    def about(self) -> str:
        """Its docstring."""
        return ast.get_docstring(self.tree) or ""

    @property
    def link(self) -> str:
        """The path of its source, from the pages of the reference."""
        return f"../../{self.path.relative_to(TEMPLATE)}"


@dataclass(frozen=True)
class Found:
    """A name with the module that defines it; `node` is none for a module or a foreign name."""

    module: Module
    node: Definition | None
    foreign: str = ""


def load(name: str) -> Module | None:
    """Return a module of the library by its dotted name, if there is one."""
    path = SOURCE.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    return Module(name, path, ast.parse(text), text.splitlines())


def public() -> list[Module]:
    """Return every module that has `__all__`, except those whose names another one offers."""
    names = [LIBRARY, *(f"{LIBRARY}.{each}" for each in sorted(_parts()))]
    found = [module for name in names if (module := load(name)) and exported(module)]
    return [each for each in found if each.name != f"{LIBRARY}.metrics.instruments"]


def _parts() -> Iterator[str]:
    root = SOURCE / LIBRARY
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts:
            yield ".".join(parts)


def exported(module: Module) -> list[str]:
    """Return the names of `__all__`."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def find(module: Module, name: str) -> Found:
    """Return where a name of a module is defined, through every import; raise `LookupError`."""
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _imported(module, node.module, alias.name)
        elif name in _defined(node):
            assert isinstance(node, Definition)  # noqa: S101 (those alone define names)
            return Found(module, node)
    raise LookupError(f"{module.name} does not define {name}")


def _imported(module: Module, origin: str, name: str) -> Found:
    if not origin.startswith(LIBRARY):
        return Found(module, None, f"{origin}.{name}")
    if inner := load(f"{origin}.{name}"):
        return Found(inner, None)
    outer = load(origin)
    if outer is None:
        raise LookupError(f"there is no module {origin}")
    return find(outer, name)


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {ast.unparse(target) for target in node.targets}
    return {ast.unparse(node.target)} if isinstance(node, ast.AnnAssign) else set()


def page(module: Module) -> str:
    """Return the page of one module."""
    parts = [f"# {module.name}", prose(module.about)]
    for name in exported(module):
        parts += _entry(module, name)
    return "\n\n".join(filter(None, parts)) + "\n"


def _entry(module: Module, name: str) -> Iterator[str]:
    found = find(module, name)
    yield f"## {name}"
    if found.foreign:
        yield f"It is `{found.foreign}`."
    elif found.node is None:
        yield prose(found.module.about)
        for node in found.module.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _public(node.name):
                yield from _function(node, f"{name}.")
        yield f"[Source]({found.module.link})"
    else:
        yield from _definition(found.module, found.node)
        yield f"[Source]({found.module.link}#{name})"


def _definition(module: Module, node: Definition) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield from _class(node)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield code(signature(node))
        yield prose(ast.get_docstring(node) or "")
    else:
        text = ast.unparse(node)
        yield code(text)
        yield _comment(module, node.lineno) or _provider(module, text)


def _class(node: ast.ClassDef) -> Iterator[str]:
    functions = [
        each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    [*made] = [each for each in functions if each.name == "__init__"]
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    head = f"class {node.name}({bases})" if bases else f"class {node.name}"
    fields = [
        f"    {_field(each)}"
        for each in node.body
        if isinstance(each, ast.Assign | ast.AnnAssign) and all(map(_public, _defined(each)))
    ]
    yield code("\n".join([f"{head}:" if fields else head, *fields]))
    yield prose(ast.get_docstring(node) or "")
    if made and made[0].args.args[1:] + made[0].args.kwonlyargs:
        yield code(signature(made[0], name=node.name))
    for each in functions:
        if _public(each.name):
            yield from _function(each, "")


def _field(node: ast.Assign | ast.AnnAssign) -> str:
    """Return a field of a class; a value that is a call says less than its type."""
    if isinstance(node, ast.AnnAssign):
        target = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
        value = node.value
    else:
        target, value = ast.unparse(node.targets[0]), node.value
    short = value is not None and not isinstance(value, ast.Call)
    return f"{target} = {ast.unparse(value)}" if short and value is not None else target


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> Iterator[str]:
    marks = {ast.unparse(each) for each in node.decorator_list}
    yield f"### {prefix}{node.name}"
    if "property" in marks:
        yield code(f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name)
    else:
        managed = "@asynccontextmanager\n" if "asynccontextmanager" in marks else ""
        yield code(managed + signature(node))
    yield prose(ast.get_docstring(node) or "")


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str = "") -> str:
    """Return the head of a function, one argument a line when it is long; without `self`."""
    arguments = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
    assert isinstance(arguments, ast.FunctionDef)  # noqa: S101 (just parsed)
    given = arguments.args
    if given.args and given.args[0].arg in {"self", "cls"}:
        del given.args[0]
    each = _arguments(given)
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    head = name or f"{kind} {node.name}"
    tail = f" -> {ast.unparse(node.returns)}" if node.returns and not name else ""
    line = f"{head}({', '.join(each)}){tail}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{head}(", *(f"    {one}," for one in each), f"){tail}"])


def _arguments(given: ast.arguments) -> list[str]:
    """Return each argument with its annotation and default, and the bare `*`."""
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    each = [_argument(*pair) for pair in zip(plain, defaults, strict=True)]
    if given.vararg:
        each.append(f"*{ast.unparse(given.vararg)}")
    elif given.kwonlyargs:
        each.append("*")
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    each += [_argument(argument, default) for argument, default in pairs]
    return [*each, *([f"**{ast.unparse(given.kwarg)}"] if given.kwarg else [])]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return ast.unparse(argument)
    between = " = " if argument.annotation else "="
    return f"{ast.unparse(argument)}{between}{ast.unparse(default)}"


def _comment(module: Module, line: int) -> str:
    """Return the comment above a line, which may be about several lines below it."""
    block = module.lines[: line - 1]
    while block and block[-1].strip() and not block[-1].startswith("#"):
        block.pop()
    above: list[str] = []
    while block and block[-1].startswith("#"):
        above.insert(0, block.pop().lstrip("# "))
    return " ".join(above)


def _provider(module: Module, text: str) -> str:
    """Return what the function says that provides an injectable: `Depends(get_resources)`."""
    providers = re.findall(r"\bDepends\((\w+)", text)
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in providers:
            return ast.get_docstring(node) or ""
    return ""


def code(text: str) -> str:
    """Return a block of Python."""
    return f"```python\n{text}\n```"


def prose(text: str) -> str:
    """Return a docstring as Markdown: a paragraph that begins like code is code."""
    parts = text.split("\n\n")
    return "\n\n".join(code(each) if each.startswith("def ") else each for each in parts)


def _public(name: str) -> bool:
    return not name.startswith("_") and name != "model_config"
