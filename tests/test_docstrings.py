"""Every public object says what it is, what it takes, returns and raises, and its arrays' shapes."""

import ast
import importlib
import inspect
import re
import textwrap

# What users import from. All other modules are the inside of these.
PUBLIC = [
    "fastrnn",
    *(
        f"fastrnn.{name}"
        for name in (
            *("attention", "base", "data", "decoding", "init", "inspect", "losses", "optim"),
            *("recurrent", "serialization", "text", "training"),
        )
    ),
]
INSIDE = {
    *("activations", "attention_base", "attention_heads", "bench", "cells", "cli", "composite"),
    *("decoders", "directions", "gradcheck", "gru", "layers", "loop", "lstm", "nesting"),
    *("normalization", "optimizers", "pooling", "progress", "recurrent_arguments"),
    *("recurrent_base", "recurrent_options", "recurrent_passes", "regroup", "rnn", "schedules"),
    *("seq2seq", "threads", "wrappers"),
}
METHODS_OF_OBJECTS = set(dir(object))


def public_objects():
    """Yield name and object of all that the public modules offer, and of the classes' methods."""
    seen = set()
    for module_name in PUBLIC:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if not (inspect.isclass(value) or callable(value)) or id(value) in seen:
                continue
            if not value.__module__.startswith("fastrnn"):
                continue  # an alias of a type
            seen.add(id(value))
            yield f"{module_name}.{name}", value
            if inspect.isclass(value):
                yield from methods(f"{module_name}.{name}", value)


def methods(of, cls):
    for name, value in vars(cls).items():
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if inspect.isfunction(value) and (name == "__call__" or not name.startswith("_")):
            yield f"{of}.{name}", value
        elif isinstance(value, property) and not name.startswith("_"):
            yield f"{of}.{name}", value.fget


def section(doc, title):
    """Return the text of a section of a numpydoc docstring, or ""."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-{{3,}}\n|\Z)", doc, re.M | re.S)
    return found.group(1) if found else ""


def arguments(value):
    function = value.__init__ if inspect.isclass(value) else value
    if not inspect.isfunction(function):
        return {}
    found = dict(inspect.signature(function).parameters)
    return {n: p for n, p in found.items() if n not in ("self", "cls") and not n.startswith("_")}


def raised(value):
    """Return the errors that the function itself raises, by its source; not those of its inner ones."""
    if inspect.isclass(value):
        if "__init__" not in vars(value):
            return set()
        value = value.__init__
    tree = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    names, todo = set(), list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            names.add(ast.unparse(node.exc.func))
        todo.extend(ast.iter_child_nodes(node))
    return {n for n in names if n.endswith("Error")} - {"NotImplementedError"}


def complaints(name, value):
    doc = inspect.getdoc(value) or ""
    if not doc.strip():
        yield "no docstring"
        return
    taken = arguments(value)
    listed = section(doc, "Parameters") + section(doc, "Attributes")
    for argument, parameter in taken.items():
        if not re.search(rf"(?<![\w.]){re.escape(argument)}\b", doc):
            yield f"nothing about {argument}"
        elif (
            "ArrayLike" in str(parameter.annotation)
            or "NDArray" in str(parameter.annotation)
            or "RealArray" in str(parameter.annotation)
        ):
            about = re.search(
                rf"(?<![\w.]){re.escape(argument)}\b(.*?)(?=\n\S|\Z)", listed or doc, re.S
            )
            if not about or not re.search(
                r"shape|\(\)|\([A-Z0-9.*][^)]*\)|Gradient|number", about.group(1)
            ):
                yield f"no shape of {argument}"
    if len(taken) > 2 and not listed and inspect.isfunction(value):
        yield "no section Parameters"
    if inspect.isfunction(value):
        returns = inspect.signature(value).return_annotation
        if returns not in (None, "None", inspect.Signature.empty) and not (
            section(doc, "Returns")
            or section(doc, "Yields")
            or re.search(r"\b([Rr]eturn|[Yy]ield)", doc)
            or name.endswith(("fget",))
        ):
            yield "not what it returns"
    for error in raised(value):
        if error not in doc:
            yield f"nothing about {error}"


if __name__ == "__main__":
    n = 0
    for name, value in public_objects():
        n += 1
        for c in complaints(name, value):
            print(name, ":", c)
    print(n)
