"""How the documentation is built: ``make docs``. Nothing here fetches anything."""

import builtins
from collections.abc import Iterable
from importlib.metadata import version as version_of

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "eric_sse"
author = "the eric_sse contributors"
project_copyright = "the eric_sse contributors"
version = release = version_of("eric-sse")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True
# Names in annotations that are not for users, and so are not in the reference.
nitpick_ignore = [
    ("py:class", "eric_sse.clients.source.ClientT"),
    ("py:obj", "eric_sse.clients.source.ClientT"),
    ("py:class", "eric_sse.service.stream.Start"),
    ("py:class", "eric_sse.service.tail.ChannelTail"),
    ("py:class", "eric_sse.service.tail.ReadLog"),
]

html_theme = "furo"
html_title = f"eric_sse {release}"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Find what a name means: docstrings say `Queue`, and annotations name the file that a class is defined in.

    A name that nothing in the package bears is the standard library's, or some code: it stays as it is. One of the
    package's own that is not there is a warning, and so an error.
    """
    target = str(node.get("reftarget", ""))
    last = target.rpartition(".")[2]
    objects = env.domains.python_domain.objects
    found = [name for name in objects if name == target or name.rpartition(".")[2] == last]
    best = _nearest(found, str(node.get("py:module") or ""), target)
    if best is not None:
        document, anchor = objects[best].docname, objects[best].node_id
        reference = nodes.reference("", "", contnode, internal=True)
        reference["refuri"] = f"{app.builder.get_relative_uri(env.current_document.docname, document)}#{anchor}"
        return reference
    return None if target.startswith("eric_sse.") and not last.startswith("_") else contnode


def _nearest(names: Iterable[str], module: str, target: str) -> str | None:
    """The one that is meant: of the same module, or the only one; where there are several, none."""
    found = sorted(set(names))
    same = [name for name in found if name == target or name.startswith(f"{module}.")]
    for candidates in (same, found):
        if len(candidates) == 1:
            return candidates[0]
    return None


def unlink_builtins(app: Sphinx, document: nodes.document) -> None:
    """Keep the `type` of an annotation from becoming a link to some attribute of that name."""
    del app
    for node in list(document.findall(pending_xref)):
        if hasattr(builtins, str(node.get("reftarget"))):
            is_code = isinstance(node.children[0], nodes.literal)
            node.replace_self(node.children if is_code else nodes.Text(str(node["reftarget"])))


def skip_bare_fields(  # noqa: PLR0917 - Sphinx calls it
    app: Sphinx,
    kind: str,
    name: str,
    member: object,
    skip: bool,  # noqa: FBT001
    options: object,
) -> bool | None:
    """Leave out what Python writes itself for the fields of a named tuple; they are described with the class."""
    del app, kind, name, skip, options
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", skip_bare_fields)
    app.connect("doctree-read", unlink_builtins)
    app.connect("missing-reference", resolve_short_name)
