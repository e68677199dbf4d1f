"""Take out of every page what the theme adds and this book never uses.

sphinx-thebe puts its script on every page, twice, even when thebe is off: an error in
the browser's console and an address outside the site. A page that a program wrote,
which says so at its head, has no source that a reader could want.
"""


def _is_thebe(entry):
    filename = str(getattr(entry, "filename", entry) or "")
    body = getattr(entry, "attributes", {}).get("body") or ""
    return "thebe" in filename or "THEBE_JS_URL" in body


def _drop_thebe(app, pagename, templatename, context, doctree):
    for kind in ("script_files", "css_files"):
        context[kind] = [entry for entry in context[kind] if not _is_thebe(entry)]


def _drop_source(app, pagename, templatename, context, doctree):
    if "generated" in (context.get("meta") or {}):
        context["sourcename"] = context["page_source_suffix"] = ""


def setup(app):
    app.connect("html-page-context", _drop_thebe, priority=900)
    app.connect("html-page-context", _drop_source, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
