"""Read the built site as a browser would and list what is wrong with it."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

PAGE_LIMIT, SITE_LIMIT = 1_500_000, 22_000_000  # bytes; nine chapters and the theme
LOADS = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "frame": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
}
FETCHING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}
CSS_URL = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")
REPR = re.compile(r"<[\w.]+ object(?: at \w+)?>|<[^<>]+ at 0x\w+>|<Figure size [^<>]+>")
VOID = set("area base br col embed hr img input link meta source track wbr".split())


def is_external(url):
    """Tell whether a browser would leave the site for this address."""
    return url.strip().startswith(("http:", "https:", "//"))


class Page(HTMLParser):
    """What one page loads, links to, names and shows."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.names, self.problems = [], [], set(), []
        self._open, self._figures, self._script = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        a = {name: value or "" for name, value in attributes}
        self.names |= {a[name] for name in ("id", "name") if a.get(name)}
        for name in LOADS.get(tag, ()):
            self.loads += [u.split()[0] for u in a.get(name, "").split(", ") if u]
        if tag == "link" and FETCHING_LINKS & set(a.get("rel", "").split()):
            self.loads.append(a.get("href", ""))
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if tag == "img":
            self._image(a)
        if tag == "figcaption" and self._figures:
            self._figures[-1]["caption"] = True
        if tag in ("figure", "xai-frames"):
            self._figures.append({"images": [], "caption": False})
        if tag not in VOID:
            self._open.append((tag, a.get("class", "").split()))

    def handle_endtag(self, tag):
        tags = [open_tag for open_tag, _ in self._open]
        if tag not in tags:
            return
        while self._open.pop()[0] != tag:
            pass
        if tag in ("figure", "xai-frames") and self._figures:
            figure = self._figures.pop()
            if figure["images"] and not figure["caption"]:
                if self._figures:  # a frame's caption may stand on the figure around it
                    self._figures[-1]["images"] += figure["images"]
                else:
                    self._no_caption(figure["images"])

    def handle_data(self, data):
        if self._open and self._open[-1][0] == "style":
            self.problems += [f"style loads {u}" for u in CSS_URL.findall(data)]
        if any("output" in classes for _, classes in self._open):
            self.problems += [
                f"an object's name as output: {o}" for o in REPR.findall(data)
            ]

    def _image(self, a):
        classes = {name for _, names in self._open for name in names}
        inside = {tag for tag, _ in self._open}
        if not inside & {"article", "main"}:
            return
        shown = a.get("src", "")[:60]
        if not a.get("alt", "").strip() or a["alt"] == a.get("src"):
            self.problems.append(f"image without alt text: {shown}")
        if self._figures:
            self._figures[-1]["images"].append(shown)
        elif "cell_output" in classes or "output" in classes:
            self._no_caption([shown])

    def _no_caption(self, images):
        self.problems.append(f"figure without caption: {images[0]}")


def check_site(html):
    """Return every problem of the built site, one line each.

    Parameters
    ----------
    html : Path
        The folder that holds index.html.

    Returns
    -------
    list of str
        Empty when the site is sound: nothing is loaded from outside, every internal
        link and anchor exists, every figure has a caption and an alternative text, no
        output is an object's name, and pages and site keep to their sizes.
    """
    texts = {path: path.read_text() for path in sorted(html.rglob("*.html"))}
    pages = {
        path: Page(text) for path, text in texts.items() if "_static" not in path.parts
    }
    problems = [] if pages else [f"no page in {html}"]
    for path, page in pages.items():
        shown = path.relative_to(html)
        problems += [
            f"{shown}: {line}" for line in _page_problems(path, page, pages, html)
        ]
        size = path.stat().st_size
        if size > PAGE_LIMIT:
            problems.append(f"{shown}: {size:,} bytes, more than {PAGE_LIMIT:,}")
    for path in sorted(html.rglob("*.css")):
        for url in CSS_URL.findall(path.read_text(errors="replace")):
            problems.append(f"{path.relative_to(html)}: loads {url}")
    size = site_size(html)
    if size > SITE_LIMIT:
        problems.append(f"the site: {size:,} bytes, more than {SITE_LIMIT:,}")
    problems += [f"source map left: {p.relative_to(html)}" for p in html.rglob("*.map")]
    return problems


def _page_problems(path, page, pages, html):
    found = list(page.problems)
    found += [f"loads {u} from outside" for u in page.loads if is_external(u)]
    for url in dict.fromkeys([*page.links, *page.loads]):
        broken = _broken(url, path, pages, html)
        if broken:
            found.append(broken)
    return found


def _broken(url, path, pages, html):
    """Say why an internal address leads nowhere; None when it leads somewhere."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or url in ("#", "#!"):
        return None
    target = path
    if parts.path:
        target = (path.parent / unquote(parts.path)).resolve()
        if not target.is_relative_to(html.resolve()) or not target.exists():
            return f"dead link {url}"
        target = html / target.relative_to(html.resolve())
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].names:
        return f"no anchor for {url}"
    return None


def site_size(html):
    """Return the bytes of all files of the site."""
    return sum(path.stat().st_size for path in html.rglob("*") if path.is_file())


def summary(html):
    """Say in one line how large the site is."""
    sizes = {p.stat().st_size: p for p in html.rglob("*.html")}
    largest = sizes[max(sizes)].relative_to(html)
    return (
        f"{len(list(html.rglob('*.html')))} pages, {site_size(html) / 1e6:.1f} MB; "
        f"largest page {largest}, {max(sizes) / 1e6:.2f} MB"
    )
