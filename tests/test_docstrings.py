"""What is public is in the reference, and says what it is, takes, returns and raises."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(importlib.util.find_spec("fastrnn").origin).parent
REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

# What users import from. All other modules are the inside of these, or the command line.
PUBLIC = (
    "fastrnn",
    *("fastrnn.attention", "fastrnn.base", "fastrnn.data", "fastrnn.decoding", "fastrnn.init"),
    *("fastrnn.estimators", "fastrnn.inspect", "fastrnn.interop.onnx", "fastrnn.losses"),
    "fastrnn.metrics",
    *("fastrnn.optim", "fastrnn.recurrent", "fastrnn.serialization", "fastrnn.text"),
    *("fastrnn.streams", "fastrnn.training"),
)
INSIDE = {
    *("activations", "attention_base", "attention_heads", "bench", "cells", "cli", "composite"),
    *("decoders", "directions", "figures", "gradcheck", "gru", "interop", "layers", "loop"),
    *("lstm", "nesting", "normalization", "optimizers", "pooling", "precision"),
    "quantization",
    *("recurrent_arguments", "recurrent_base", "recurrent_options", "recurrent_passes"),
    *("regroup", "rnn", "schedules", "seq2seq", "serve", "threads", "wrappers"),
}


def test_each_module_is_public_or_inside():
    modules = {path.stem for path in PACKAGE.glob("[a-z]*.py")}
    modules |= {path.parent.name for path in PACKAGE.glob("[a-z]*/__init__.py")}
    public = {name.split(".")[1] for name in PUBLIC[1:]}
    assert modules == public | INSIDE


def offered():
    """Yield module and name of all that public modules offer, but modules."""
    for module_name in PUBLIC:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            if not inspect.ismodule(getattr(module, name)):
                yield module, name


def test_all_that_is_offered_is_in_the_reference():
    if not REFERENCE.exists():
        pytest.skip("the documentation is not here")
    listed = {}
    for page in REFERENCE.glob("*.rst"):
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith(".. currentmodule:: "):
                module = importlib.import_module(line.split()[-1])
            elif re.fullmatch(r"   \w+", line) and page.stem != "index":
                listed[id(getattr(module, line.strip()))] = line.strip()
    missing = [f"{m.__name__}.{n}" for m, n in offered() if id(getattr(m, n)) not in listed]
    assert missing == []


def public_objects():
    """Yield name, object, class, module of functions, classes, and the classes' own methods."""
    seen = set()
    for module, name in offered():
        value = getattr(module, name)
        ours = getattr(value, "__module__", "").startswith("fastrnn")
        if not (inspect.isclass(value) or inspect.isfunction(value)) or not ours or value in seen:
            continue
        seen.add(value)
        yield f"{module.__name__}.{name}", value, None, module.__name__
        for method_name, method in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(method, "fget", getattr(method, "__func__", method))
            if inspect.isfunction(function) and re.match(r"__call__$|[a-z]", method_name):
                yield f"{module.__name__}.{name}.{method_name}", function, value, module.__name__


OBJECTS = list(public_objects())


def documentation(value, cls):
    """Return the docstring and, for a method, those of its class and of what it overrides."""
    own = inspect.getdoc(value) or ""
    if cls is None:
        return own
    overridden = [getattr(base, value.__name__, None) for base in cls.__mro__[1:]]
    around = [inspect.getdoc(f) or "" for f in (cls, *cls.__mro__[1:-1], *overridden)]
    return "\n".join([own, *around])


def parameters(value):
    function = value.__init__ if inspect.isclass(value) else value
    found = inspect.signature(function).parameters if inspect.isfunction(function) else {}
    return {n: p for n, p in found.items() if n not in ("self", "cls", "args", "kwargs")}


def raised(value):
    """Return the names of the errors that a function raises itself, not by what it calls."""
    if inspect.isclass(value):
        value = vars(value).get("__init__")
    if not inspect.isfunction(value) or not value.__code__.co_filename.endswith(".py"):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    names, todo = set(), list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            names.add(ast.unparse(node.exc.func))
        todo.extend(ast.iter_child_nodes(node))
    return {name for name in names if name.endswith("Error")} - {"NotImplementedError"}


def about(name, text):
    """Return what a docstring says of an argument: its entry of a list, or the words after it."""
    names = rf"^(?:[\w*]+, )*{re.escape(name)}(?:, [\w*]+)* ?(?::.*|$)\n"
    entry = re.search(rf"{names}(?:    .*\n?|\n)*", text, re.M)
    word = re.search(rf"(?<![\w.]){re.escape(name)}\b.*", text, re.S)
    return (entry or word or [""])[0]


def about_arguments(value, cls, own, text):
    elsewhere = re.search(r"[Aa]s of (a call|`)|[Ss]ee (`|the class)", own)
    for name, parameter in parameters(value).items():
        said = about(name, text)
        array = re.search("ArrayLike|NDArray|RealArray", str(parameter.annotation))
        if not said and not elsewhere:
            yield f"says nothing about {name}"
        elif said and array and not re.search(r"shape|\([^)]*,[^)]*\)|[Aa]s ", said):
            yield f"gives no shape of {name}"
    many = cls is None and len(parameters(value)) > 1
    if many and not re.search(r"^(Parameters|Attributes)\n---", text, re.M):
        yield "has no section Parameters"


def complaints(value, cls=None):
    own, text = inspect.getdoc(value) or "", documentation(value, cls)
    if value.__doc__ is None:
        yield "has no docstring"
    yield from about_arguments(value, cls, own, text)
    is_property = isinstance(vars(cls or object).get(value.__name__), property)
    if inspect.isfunction(value) and not is_property:
        returns = str(inspect.signature(value).return_annotation)
        if returns != "None" and not re.search(r"[Rr]eturn|[Yy]ield", text):
            yield "does not say what it returns"
    for error in raised(value) - set(re.findall(r"\w+Error", text)):
        yield f"says nothing about {error}"


@pytest.mark.parametrize("module", PUBLIC)
def test_docstrings_are_complete(module):
    found = [
        f"{full} {complaint}"
        for full, value, cls, of in OBJECTS
        if of == module
        for complaint in complaints(value, cls)
    ]
    assert found == []


def test_poor_docstrings_are_found():
    def poor(x: "ArrayLike", size):  # noqa: F821
        """Do something with x."""
        if size:
            raise ValueError("size")
        return x

    assert set(complaints(poor)) == {
        "says nothing about size",
        "gives no shape of x",
        "has no section Parameters",
        "does not say what it returns",
        "says nothing about ValueError",
    }
    poor.__doc__ = None
    assert "has no docstring" in complaints(poor)


if __name__ == "__main__":  # a list of all
    for full, value, cls, _ in OBJECTS:
        for complaint in complaints(value, cls):
            print(full, complaint)
