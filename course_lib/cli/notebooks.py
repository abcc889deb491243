"""Read, tidy and write notebooks, and open their exercises: what `course build` and `course lint` share."""

import ast
import copy
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib import paths
from course_lib.cli.errors import NotebookError

if TYPE_CHECKING:
    from markdown_it.token import Token
    from nbformat import NotebookNode

BEGIN, END, GIVEN = "### BEGIN SOLUTION", "### END SOLUTION", "### PLACEHOLDER"
OPEN = "# YOUR CODE HERE"
CHECKED = "nbval-check-output"  # the tag of cells whose text output is stored and compared
FACTS: dict[str, tuple[type, ...]] = {  # the lesson's facts, in the notebook's metadata under "course"
    "minutes_cpu": (int, float),
    "minutes_gpu": (int, float, type(None)),
    "memory_gb": (int, float),
    "summary": (str,),
    "prerequisites": (list,),
}
KEPT_METADATA = ("tags", "alt", "slideshow", "reason", "nbgrader")  # what a cell's metadata may hold

_CONSTANT = re.compile(r"<!-- (\w+) -->([^\n]*?)<!-- /\1 -->")  # a region, such as that of the badges, has lines
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_MARKER_HINT = f"each region is one line {BEGIN!r} and, further down the same code cell, one line {END!r}"


def checkout() -> Path:
    """The root of the checkout. Raises NotebookError when `course_lib` is installed without one."""
    if root := paths.checkout():
        return root
    raise NotebookError("there are no notebooks beside course_lib", "run this in a checkout, with `pip install -e .`")


def sources(root: Path) -> list[Path]:
    """The lessons that authors edit, in order. Raises NotebookError if there are none, or one is misnamed."""
    found = sorted((root / "notebooks" / "solutions").glob("*.ipynb"))
    for path in found:
        number, _, name = path.stem.partition("_")
        if not (len(number) == 2 and number.isdecimal() and name.replace("_", "").isalnum() and name.isascii()):
            raise NotebookError(f"{path.name} is not named NN_name.ipynb", "for example 01_thresholds.ipynb")
    if not found:
        hint = "a copy for students has none: use a complete checkout. Authors add NN_name.ipynb"
        raise NotebookError("notebooks/solutions holds no lesson", hint)
    return found


def read(path: Path) -> "NotebookNode":
    """The notebook in `path`. Raises NotebookError if the file holds none of format 4."""
    import nbformat

    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["nbformat"] != 4:
            raise NotebookError(f"{path.name} is in notebook format {raw['nbformat']}", "save it from JupyterLab")
        return nbformat.v4.to_notebook(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookError(
            f"{path.name} is no notebook: {error}", "is a merge conflict left in it? restore it with git"
        ) from error


def text(nb: "NotebookNode") -> str:
    """The notebook as it stands in a file: one form for one content."""
    import nbformat

    return str(nbformat.v4.writes(nb, indent=1)).rstrip("\n") + "\n"


def tags(cell: "NotebookNode") -> list[str]:
    """The cell's tags."""
    return list(cell.metadata.get("tags", []))


def title(nb: "NotebookNode") -> str:
    """The text of the lesson's first H1, or an empty string."""
    from markdown_it import MarkdownIt

    for cell in nb.cells:
        tokens = MarkdownIt().parse(cell.source) if cell.cell_type == "markdown" else []
        for token, inner in itertools.pairwise(tokens):
            if token.type == "heading_open" and token.tag == "h1":
                return inner.content
    return ""


class Section(NamedTuple):
    """A heading and the words below it, up to the next; level 0 is what stands above a cell's first heading."""

    level: int
    heading: str
    words: int


def tokens(source: str) -> "list[Token]":
    """A Markdown cell, parsed: CommonMark with tables and `$mathematics$`."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    return MarkdownIt("commonmark").enable("table").use(dollarmath_plugin).parse(source)


def sections(source: str) -> list[Section]:
    """The sections of a Markdown cell. Code, mathematics, addresses, alt texts and HTML are no words."""
    found, level = [Section(0, "", 0)], 0
    for token in tokens(source):
        # marks such as ** have a nesting and part no words; code and line breaks do
        inner = token.children or []
        words = "".join(part.content if part.type == "text" else " " * (not part.nesting) for part in inner).split()
        if level:
            found.append(Section(level, " ".join(words), 0))
        elif token.type == "inline":
            count = sum(any(letter.isalnum() for letter in word) for word in words)
            found[-1] = found[-1]._replace(words=found[-1].words + count)
        level = int(token.tag[1]) if token.type == "heading_open" else 0
    return found


def calls(tree: ast.AST, scopes: bool = True) -> Iterator[tuple[str, str]]:
    """Every call: `("check", "iou")` of `check.iou(...)`, `("", "iou")` of `iou(...)`.

    Without `scopes`, only those outside the bodies of functions, which run later.
    """
    for node in ast.iter_child_nodes(tree):
        if not scopes and isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr
        yield from calls(node, scopes)


class Asked(NamedTuple):
    """An exercise of a lesson: the indices of the cells with its solution and its check, and what is checked."""

    name: str
    solution: int
    check: int
    answer: str  # the argument of the check, a name


def asked(nb: "NotebookNode", name: str) -> list[Asked]:
    """The exercises of a solved lesson, in order.

    Args:
        nb: the notebook.
        name: what error messages call it.

    Raises:
        NotebookError: a check without a solution of its own above it, or of anything but a name.
    """
    found, solutions = [], []
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        if regions(cell.source, f"{name} cell {index + 1}"):
            solutions.append(index)
        for exercise, argument in checks(parse(cell.source, f"{name} cell {index + 1}")):
            if len(solutions) != 1 or not argument.isidentifier():
                raise NotebookError(
                    f"{name} cell {index + 1}: check.{exercise}({argument}) has {len(solutions)} solutions above it",
                    f"let one cell with {BEGIN!r} stand between two checks, and check the name that it defines",
                )
            found.append(Asked(exercise, solutions.pop(), index, argument))
    return found


def checks(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The calls of a check, outside of functions: `("dice", "mine")` of `check.dice(mine)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            owner, *arguments = map(ast.unparse, (node.func.value, *node.args))
            if owner == "check":
                yield node.func.attr, ", ".join(arguments)


def facts(nb: "NotebookNode", name: str) -> dict[str, Any]:
    """The lesson's facts (`FACTS`) from the notebook's metadata. Raises NotebookError if one is missing."""
    found = dict(nb.metadata.get("course", {}))
    wrong = [key for key, kinds in FACTS.items() if key not in found or not isinstance(found[key], kinds)]
    wrong += [key for key in found if key not in FACTS]
    if wrong:
        example = '{"minutes_cpu": 10, "minutes_gpu": 8, "memory_gb": 1, "summary": "...", "prerequisites": ["00"]}'
        raise NotebookError(
            f"{name}: the notebook's metadata `course` lacks, misspells or mistypes {', '.join(wrong)}",
            f"it looks like {example}",
        )
    return found


def parse(source: str, where: str) -> ast.Module:
    """The cell's syntax tree; lines that are IPython magics or shell commands count as comments."""
    try:
        return ast.parse(source)
    except SyntaxError:
        plain = ["#" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
    try:
        return ast.parse("\n".join(plain))
    except SyntaxError as error:
        raise NotebookError(f"{where}, line {error.lineno}: {error.msg}", "run the cell, and mend it") from error


def tidy(nb: "NotebookNode", name: str) -> "NotebookNode":
    """A copy without what a run leaves behind: outputs (but text of checked cells), counts, stray metadata.

    A stored output carries the count 1: nbval compares only cells that have run.

    Raises:
        NotebookError: the result is not a valid notebook.
    """
    import nbformat

    nb = copy.deepcopy(nb)
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    meta: dict[str, Any] = {"kernelspec": kernel, "language_info": {"name": "python"}}
    if facts := nb.metadata.get("course"):
        meta["course"] = facts
        cpu, gpu = facts.get("minutes_cpu"), facts.get("minutes_gpu")
        if isinstance(cpu, int | float) and isinstance(gpu, int | float) and gpu < cpu:
            meta |= {"accelerator": "GPU", "colab": {"gpuType": "T4"}}  # what Colab gives the notebook, if it has one
    nb.metadata, nb.nbformat_minor = nbformat.from_dict(meta), 5
    seen: set[str] = set()
    for index, cell in enumerate(nb.cells):
        cell.metadata = nbformat.from_dict({k: cell.metadata[k] for k in KEPT_METADATA if cell.metadata.get(k)})
        if cell.get("id") is None or cell.id in seen:
            cell.id = f"{cell.cell_type}-{index}-of-{len(nb.cells)}"
        seen.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs = _texts(cell.get("outputs", [])) if CHECKED in tags(cell) else []
            cell.execution_count = 1 if cell.outputs else None
    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        raise NotebookError(f"{name} is not a valid notebook: {error.message}", "save it from JupyterLab") from error
    return nb


def _texts(outputs: list["NotebookNode"]) -> list["NotebookNode"]:
    """The outputs' plain text: what was printed, joined, and values."""
    from nbformat import v4

    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stdout":
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
            else:
                kept.append(v4.new_output("stream", name="stdout", text=output.text))
        elif "text/plain" in output.get("data", {}):
            count = {"execution_count": 1} if output.output_type == "execute_result" else {}
            data = {"text/plain": output.data["text/plain"]}
            kept.append(v4.new_output(output.output_type, data=data, **count))
    return kept


def constants(nb: "NotebookNode", values: Mapping[str, Any], name: str, marks: bool = True) -> "NotebookNode":
    """A copy whose texts say `values`, each between comments such as `<!-- dice -->` and `<!-- /dice -->`.

    Args:
        nb: a lesson.
        values: what to say, by the name of the place; a name may stand in several.
        name: what error messages call the lesson.
        marks: whether the comments stay; students see none.

    Raises:
        NotebookError: a value without a place, a comment without a value, or one that begins a line.
    """
    nb = copy.deepcopy(nb)
    texts = {f"{name} cell {number}": cell for number, cell in enumerate(nb.cells, 1) if cell.cell_type == "markdown"}
    places = {mark for cell in texts.values() for mark, _ in _CONSTANT.findall(cell.source)}
    for mark in sorted(values.keys() - places):
        hint = f"write <!-- {mark} -->{values[mark]}<!-- /{mark} --> into the text of its exercise"
        raise NotebookError(f"{name}: no text says the constant {mark!r}", hint)
    said = {mark: f"<!-- {mark} -->{value}<!-- /{mark} -->" if marks else str(value) for mark, value in values.items()}
    for where, cell in texts.items():
        loose = set(re.findall(r"<!-- /?(\w+) -->", _CONSTANT.sub("", cell.source))) - {"badges"}
        found = {mark for mark, _ in _CONSTANT.findall(cell.source)}
        for mark in sorted(loose | found - values.keys()):
            hint = "let an Exercise's `constants` name it, and put both comments on one line"
            raise NotebookError(f"{where}: the comment {mark!r} marks no constant of an exercise", hint)
        if any(re.match(r"[^\w\n]*<!-- \w+ -->.", line) for line in cell.source.split("\n")):
            raise NotebookError(f"{where}: a constant begins a line", "put a word before it: such lines are raw HTML")
        cell.source = _CONSTANT.sub(lambda place: said[place[1]], cell.source)
    return nb


def derive(nb: "NotebookNode", name: str = "notebook") -> "NotebookNode":
    """The student's notebook: `nb`, tidied, with every solution region replaced by a placeholder that runs.

    Args:
        nb: a notebook with solutions; it stays as it is.
        name: what error messages call it.

    Raises:
        NotebookError: markers that do not pair up, or a region for which no placeholder can be derived.
    """
    student = tidy(nb, name)
    later: set[str] = set()  # names that the cells further down use
    for number, cell in reversed(list(enumerate(student.cells, 1))):
        where = f"{name} cell {number}"
        if cell.cell_type != "code":
            if any(marker in cell.source for marker in (BEGIN, END)):
                raise NotebookError(f"{where}: a solution marker in a Markdown cell", _MARKER_HINT)
            continue
        found = regions(cell.source, where)
        used = _used(parse(cell.source, where))
        if found:
            cell.source = _opened(cell.source, found, later, where)
            cell.outputs, cell.execution_count = [], None
        later |= used
    return student


def regions(source: str, where: str) -> list[tuple[int, int]]:
    """The line numbers, from 1, of each pair of markers. Raises NotebookError if they do not pair up."""
    found, begin = [], 0
    for number, line in enumerate(source.split("\n"), 1):
        if line.strip() == BEGIN and not begin:
            begin = number
        elif line.strip() == END and begin:
            found.append((begin, number))
            begin = 0
        elif any(word in line for word in ("BEGIN SOLUTION", "END SOLUTION")):
            raise NotebookError(f"{where}, line {number}: {line.strip()!r} is out of place", _MARKER_HINT)
        elif line.strip().startswith(GIVEN) and not begin:
            raise NotebookError(f"{where}, line {number}: {GIVEN} outside a solution", _MARKER_HINT)
    if begin:
        raise NotebookError(f"{where}, line {begin}: {BEGIN!r} without {END!r}", _MARKER_HINT)
    return found


def _used(tree: ast.Module, begin: int = 0, end: int = 0) -> set[str]:
    """The names that are read in a cell, those between two of its lines left out."""
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {n.id for n in names if not isinstance(n.ctx, ast.Store) and not begin < n.lineno < end}


def _opened(source: str, found: list[tuple[int, int]], later: set[str], where: str) -> str:
    """The cell's source with its regions replaced."""
    tree, lines = parse(source, where), source.split("\n")
    for begin, end in reversed(found):  # from the last, so that the line numbers above stay right
        needed = later | _used(tree, begin, end)
        lines[begin - 1 : end] = _placeholder(tree, lines, begin, end, needed, where)
    try:
        compile("\n".join(lines), where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise NotebookError(
            f"{where}: with its solution taken out it is no Python ({error.msg}, line {error.lineno})",
            f"let the region hold whole statements of one block, or give the text after {GIVEN!r}",
        ) from error
    return "\n".join(lines)


def _placeholder(tree: ast.Module, lines: list[str], begin: int, end: int, needed: set[str], where: str) -> list[str]:
    """What stands in the place of the lines from `begin` to `end`."""
    margin = lines[begin - 1][: -len(lines[begin - 1].lstrip())]
    given = [line for line in lines[begin : end - 1] if line.lstrip().startswith(GIVEN)]
    if given:
        parts = (line.partition(GIVEN) for line in given)
        return [margin + OPEN, *((indent + rest.removeprefix(" ")).rstrip() for indent, _, rest in parts)]
    inside = list(_inside(tree, begin, end))
    if not inside:
        raise NotebookError(f"{where}, line {begin}: the solution holds no whole statement", _MARKER_HINT)
    scope = inside[0][1]
    if isinstance(scope, _FUNCTIONS) and scope.name != "__init__":
        return [margin + OPEN, f"{margin}return ..."]
    return _stubs([node for node, _ in inside], lines, margin, None if scope else needed)


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])


def _inside(
    node: ast.AST, begin: int, end: int, scope: ast.AST | None = None
) -> Iterator[tuple[ast.stmt, ast.AST | None]]:
    """The outermost statements between two lines, each with the function or class that it belongs to."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt) and begin < _first_line(child) and (child.end_lineno or 0) < end:
            yield child, scope
        else:
            yield from _inside(child, begin, end, child if isinstance(child, _DEFINITIONS) else scope)


def _stubs(statements: list[ast.stmt], lines: list[str], margin: str, needed: set[str] | None) -> list[str]:
    """Statements without their substance: signatures, needed imports, and `name = ...` for what is needed.

    `needed` None stands for every name, and for attributes too: the body of a class or of `__init__`, where
    annotated fields and `super().__init__(...)` stay.
    """
    names = list(dict.fromkeys(name for node in statements for name in _assigned(node, needed is None)))
    wanted = [name for name in names if needed is None or name in needed] or names
    result: list[str] = []
    after_definition = False
    for node in statements:
        if isinstance(node, _DEFINITIONS):
            piece = _signature(node, lines)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            piece = lines[node.lineno - 1 : node.end_lineno] if needed is None or bound & needed else []
        elif needed is None and "super().__init__(" in ast.unparse(node):
            piece = lines[node.lineno - 1 : node.end_lineno]
        elif needed is None and isinstance(node, ast.AnnAssign):
            field = f"{margin}{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
            piece = [f"{field} = ..." if node.value else field]
        else:
            fresh = [name for name in dict.fromkeys(_assigned(node, needed is None)) if name in wanted]
            wanted = [name for name in wanted if name not in fresh]
            piece = [f"{margin}{name} = ..." for name in fresh]
            if piece and margin + OPEN not in result:
                piece.insert(0, margin + OPEN)
        if piece and result and (after_definition or isinstance(node, _DEFINITIONS)):
            result += [""] if margin else ["", ""]
        if piece:
            after_definition = isinstance(node, _DEFINITIONS)
        result += piece
    return result if any(OPEN in line for line in result) else [*result, margin + OPEN, f"{margin}pass"]


def _assigned(node: ast.AST, attributes: bool) -> Iterator[str]:
    """The names that a statement assigns, in inner blocks too but not in inner scopes; loop variables are not."""
    if isinstance(node, _SCOPES):
        return
    if isinstance(node, _DEFINITIONS):
        yield node.name
        return
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
        for part in (part for target in targets for part in ast.walk(target)):
            if isinstance(part, ast.Name | ast.Attribute) and isinstance(part.ctx, ast.Store):
                if isinstance(part, ast.Name):
                    yield part.id
                elif attributes:
                    yield ast.unparse(part)
    for child in ast.iter_child_nodes(node):
        yield from _assigned(child, attributes)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]) -> list[str]:
    """A definition with its decorators, signature and docstring, and an open body."""
    first = node.body[0]
    documented = ast.get_docstring(node) is not None
    if documented:
        header = lines[_first_line(node) - 1 : first.end_lineno]
    else:
        header = lines[_first_line(node) - 1 : _first_line(first) - 1]
        before = lines[first.lineno - 1].encode()[: first.col_offset].decode()
        if before.strip() and not before.strip().startswith("@"):  # `def f(x): return x`, on one line
            header.append(before.rstrip())
        while header and (not header[-1].strip() or header[-1].lstrip().startswith("#")):
            header.pop()
    margin = lines[node.lineno - 1][: node.col_offset] + "    "
    if isinstance(node, _FUNCTIONS) and node.name != "__init__":
        return [*header, margin + OPEN, f"{margin}return ..."]
    rest = node.body[1:] if documented else node.body
    return [*header, *(_stubs(rest, lines, margin, None) if rest else [])]
