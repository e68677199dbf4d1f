"""Show the library's docstrings as pages: house style to numpydoc's, links, citations.

A docstring here says of a parameter what it means where numpydoc expects its type, and
goes on below; the types stand in the signature. So name and text are parted before
numpydoc reads them. `[key]_` cites book/references.bib.
"""

import html
import importlib
import inspect
import pkgutil
import re
import sys
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

WIDTH = 84  # of a docstring's line, less its indentation
LIST_SECTIONS = ("Parameters", "Attributes", "Returns", "Yields")
CITATION = re.compile(r"\[([a-z]+\d{4}[a-z]?)\]_")
LITERAL = re.compile(r"(``.*?``)")
VALUE = re.compile(r'(?<!\w)"([\w.-]+)"(?!\w)')
NAMED = re.compile(r"\w+ : ")


# ---- the library, as the pages show it -----------------------------------------------


@cache
def public():
    """Return the room of every public name."""
    found = pkgutil.iter_modules(importlib.import_module("xai_lib").__path__)
    names = [module.name for module in found if module.ispkg]
    rooms = {room: importlib.import_module(f"xai_lib.{room}") for room in names}
    return {name: room for room, module in rooms.items() for name in module.__all__}


@cache
def constant_docs():
    """Return the text below each module-level assignment of the library, by name."""
    public()  # imports every room
    found = {}
    for module in [m for m in sys.modules if m.startswith("xai_lib.")]:
        docs = ModuleAnalyzer.for_module(module).find_attr_docs()
        found |= {name: lines for (owner, name), lines in docs.items() if not owner}
    return found


def is_constant(name):
    """Tell whether a public name is data: no function, no class."""
    return not inspect.isroutine(of := public_object(name)) and not inspect.isclass(of)


def public_object(name):
    """Return the object behind a public name."""
    return getattr(sys.modules[f"xai_lib.{public()[name]}"], name)


def constant_lines(name):
    """Return what the page says of a constant: its text, and its keys or values."""
    value = public_object(name)
    lines = [*constant_docs()[name], ""]
    if isinstance(value, dict):
        lines.append("Keys: " + ", ".join(f"``{key}``" for key in value) + ".")
    elif isinstance(value, tuple):
        lines.append(f"Value: ``{value}``.")
    return [*lines, ""]


# ---- docstrings ----------------------------------------------------------------------


def sections(lines):
    """Return (title, lines) of each section; the text before the first has no title."""
    found, rest = [("", [])], list(lines)
    while rest:
        line = rest.pop(0)
        if rest and line.strip() and set(rest[0].strip()) == {"-"}:
            rest.pop(0)
            found.append((line.strip(), []))
        else:
            found[-1][1].append(line)
    return found


def items(lines):
    """Return (first line, indented lines) of each entry of a list of parameters."""
    found = []
    for line in lines:
        if line.strip() and not line.startswith(" "):
            found.append((line.rstrip(), []))
        elif found and line.strip():
            found[-1][1].append(line.strip())
    return found


def is_typed(head, below):
    """Tell whether an entry has a type at its head and its text in a block of its own.

    Otherwise the head is text that went on below because its line was full.
    """
    return is_short(head, below) and below[0][0].isupper()


def is_short(head, below):
    """Tell whether an entry's first line ends before it is full."""
    if not below or head.endswith((",", ";", " or", " and")):
        return False
    return len(head) + 1 + len(below[0].split()[0]) <= WIDTH


def parameters(lines):
    """Return a list of parameters as numpydoc reads it: names, and texts below them."""
    found = items(lines)
    if any(is_typed(*item) for item in found):
        return lines
    shown = []
    for head, below in found:
        name, _, text = head.partition(" : ")
        shown += [name, "    " + " ".join([text, *below]).strip()]
    return [*shown, ""]


def returns(lines):
    """Return what a function returns: named values, a type and its text, or a text."""
    found = items(lines)
    if len(found) > 1 and all(NAMED.match(head) for head, _ in found):
        named = parameters(lines)
        return [f"**{n}**" if n and n[0] != " " else n for n in named]
    if len(found) == 1 and is_short(*found[0]):
        return lines
    whole = " ".join(" ".join([head, *below]) for head, below in found)
    return [whole.replace(" : ", ": "), ""]


def resolved(line):
    """Return a line of text: citations linked, bars kept as bars, values as code."""
    parts = LITERAL.split(line)
    for i in range(0, len(parts), 2):
        text = CITATION.sub(r":cite:t:`\1`", parts[i]).replace("|", r"\|")
        parts[i] = VALUE.sub(r'``"\1"``', text)
    return "".join(parts)


def is_text(lines):
    """Tell whether a list of parameters is a sentence, such as "As `csc`."."""
    found = items(lines)
    return len(found) == 1 and " : " not in found[0][0] and found[0][0].endswith(".")


def numpydoc_lines(lines):
    """Return a docstring of the library in numpydoc's style."""
    shown = []
    for title, body in sections(lines):
        if title == "Parameters" and is_text(body):
            words = " ".join(" ".join(body).split())
            title, body = "", [f"Parameters {words[0].lower()}{words[1:]}", ""]
        if title in ("Parameters", "Attributes"):
            body = parameters(body)
        if title in ("Returns", "Yields"):
            body = returns(body)
        if title != "Examples":
            body = [resolved(line) for line in body]
        shown += [*([title, "-" * len(title)] if title else []), *body]
    return shown


def _process(app, what, name, thing, options, lines):
    last = name.rpartition(".")[2]
    if what == "data":
        lines[:] = [resolved(line) for line in constant_lines(last)]
    else:
        lines[:] = numpydoc_lines(lines)


def _skip(app, what, name, thing, skip, options):
    """Leave out the fields of named tuples, which the class's text describes."""
    return True if type(thing).__name__ == "_tuplegetter" else None


# ---- links ---------------------------------------------------------------------------


def _documented(node):
    """Return the object in whose description a reference stands, or None."""
    while node is not None:
        for signature in getattr(node, "children", []):
            if getattr(signature, "tagname", "") == "desc_signature":
                name = signature.get("fullname", "").partition(".")[0]
                return public_object(name) if name in public() else None
        node = node.parent
    return None


@cache
def _inner_names():
    """Return every name of the library's modules, public or not, and theirs below."""
    public()
    modules = [m for n, m in sys.modules.items() if n.startswith("xai_lib")]
    return {name for module in modules for name in vars(module)}


def is_code(target, owner):
    """Tell whether a word in backticks is sound although no page describes it.

    A parameter or an attribute of what is described, a name inside the library, a name
    of another package, or no name at all: a file, a variable of the environment.
    """
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts) or target.startswith("XAI_LIB_"):
        return True
    if len(parts) > 1 and parts[0] != "xai_lib":
        return True
    own = set(dir(owner)) | set(getattr(owner, "__dataclass_fields__", ()))
    if callable(owner):
        own |= set(inspect.signature(owner).parameters)
    return parts[-1] in own | _inner_names()


def resolve(app, env, node, contnode):
    """Link a public name wherever it is defined; leave sound code as code."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    name = target.rpartition(".")[2]
    if name in public() and (target == name or target.startswith("xai_lib.")):
        full = f"xai_lib.{public()[name]}.{name}"
        entry = env.get_domain("py").objects.get(full)
        if entry:
            place = entry.docname, entry.node_id
            return make_refnode(app.builder, node["refdoc"], *place, contnode, full)
    if not is_code(target, _documented(node)):
        return None
    text = contnode.astext()
    return nodes.literal(text, text) if node["reftype"] == "obj" else contnode


def source_link(address, branch):
    """Return Sphinx's linkcode function: from a name to its lines on GitHub."""
    root = Path(importlib.import_module("xai_lib").__file__).parent.parent

    def link(domain, info):
        thing = sys.modules.get(info["module"])
        for part in info["fullname"].split("."):
            thing = getattr(thing, part, None)
        try:
            lines, first = inspect.getsourcelines(thing)
            path = Path(inspect.getsourcefile(thing)).relative_to(root)
        except (TypeError, OSError, ValueError):
            return None
        end = first + len(lines) - 1
        return f"{address}/blob/{branch}/{path.as_posix()}#L{first}-L{end}"

    return link


def set_source_links(app, config):
    """Link to the source where the pages link to the repository, else nowhere."""
    options = config.html_theme_options
    config.linkcode_resolve = lambda domain, info: None
    if options.get("use_repository_button"):
        place = options["repository_url"], options.get("repository_branch") or "main"
        config.linkcode_resolve = source_link(*place)


# ---- signatures ----------------------------------------------------------------------


def _show_factories(app, what, name, thing, options, signature, returned):
    """Write what a data class fills in for a default; Sphinx cannot read <factory>."""
    for field in getattr(thing, "__dataclass_fields__", {}).values():
        if signature and callable(field.default_factory):
            value = repr(field.default_factory())
            signature = signature.replace("<factory>", value, 1)
    return signature, returned


class LightSignatures(SphinxPostTransform):
    """Write a parameter without a link in three elements; Sphinx takes thirty."""

    default_priority = 20  # after the links are resolved
    formats = ("html",)

    def run(self, **options):
        for node in self.document.findall(addnodes.desc_parameter):
            names = list(node.findall(addnodes.desc_sig_name))
            if not names or list(node.findall(nodes.reference)):
                continue
            head, name, rest = node.astext().partition(names[0].astext())
            text = f"{head}<b>{html.escape(name)}</b>{html.escape(rest)}"
            node[:] = [nodes.raw("", text, format="html")]


def setup(app):
    for extension in ("sphinx.ext.autodoc", "sphinx.ext.linkcode", "numpydoc"):
        app.setup_extension(extension)
    app.add_post_transform(LightSignatures)
    app.connect("config-inited", set_source_links)
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-signature", _show_factories)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
