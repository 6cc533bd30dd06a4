"""What a browser without JavaScript sends back of a form that nobody typed into."""

from __future__ import annotations

from html.parser import HTMLParser

LINE_BREAKS = str.maketrans("", "", "\r\n")


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[str, str] = {}
        self._select: str | None = None

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "input" and named.get("type") in ("text", "email", "hidden"):
            value = (named.get("value") or "").translate(LINE_BREAKS)
            self.sent[named["name"]] = value.strip() if named["type"] == "email" else value
        elif tag == "select":
            self._select = named["name"]
        elif tag == "option" and self._select:
            if "selected" in named:
                self.sent[self._select] = named["value"]
            else:  # the first option is what a browser takes if none is selected
                self.sent.setdefault(self._select, named["value"])

    def handle_endtag(self, tag):
        if tag == "select":
            self._select = None


def fields_of(response) -> dict[str, str]:
    """The fields of the change form on a page, with the values that they show."""
    form = _Form()
    page = response.content.decode()
    start = page.index('id="builderuser_form"')
    form.feed(page[page.index(">", start) + 1 : page.index("</form>", start)])
    return {name: value for name, value in form.sent.items() if name != "csrfmiddlewaretoken"}
