"""What a browser would find on a page."""

from __future__ import annotations

from html.parser import HTMLParser

NASTY = "<script>alert(1)</script> $(touch x) \"'&{{ 7 * 7 }}"


class Page(HTMLParser):
    """Text, and every tag with its attributes; the content of scripts and styles is left out."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html, self.text, self.tags = html, "", []
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._silent = tag in {"script", "style"}

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text += data

    def every(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self):
        """The text with single spaces."""
        return " ".join(self.text.split())

    def assert_it_is_safe(self):
        """One script, no handlers, nothing loaded, links only to other pages of OUTPUT_DIR."""
        assert self.html.count("<script") == 1 and "<script>alert" not in self.html
        for tag, attributes in self.tags:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "srcset"):
                assert attributes.get(name, "data:").startswith("data:image/png;base64,") or name not in attributes
            assert tag not in {"link", "iframe", "object", "embed", "form"}
        for link in self.every("a"):
            assert "://" not in link["href"] and not link["href"].startswith(("javascript", "/"))
