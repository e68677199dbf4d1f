"""What the browser tests of the library's outputs share."""

INSERT = """
document.body.innerHTML = arguments[0];
for (const old of document.body.querySelectorAll("script:not([type])")) {
  const copy = document.createElement("script");
  copy.textContent = old.textContent;
  old.replaceWith(copy);
}"""


def insert_later(page, html: str) -> None:
    """Insert an output as a notebook does: set innerHTML, then run the scripts anew."""
    page.execute_script(INSERT, html)
