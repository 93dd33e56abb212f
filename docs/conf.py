"""How the documentation is built: ``make docs``. Nothing here fetches anything."""

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
    return None if target.startswith("eric_sse.") and ":" not in target else contnode


def _nearest(names: Iterable[str], module: str, target: str) -> str | None:
    """The one that is meant: of the same module, or the only one; where there are several, none."""
    found = sorted(set(names))
    same = [name for name in found if name == target or name.startswith(f"{module}.")]
    for candidates in (same, found):
        if len(candidates) == 1:
            return candidates[0]
    return None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", resolve_short_name)
