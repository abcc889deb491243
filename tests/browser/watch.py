"""What a page asks of other hosts, and what it complains of."""

from urllib.parse import urlsplit

from playwright.sync_api import Page


class Watch:
    """Listens to a page; `outside` and `errors` fill up as it loads."""

    def __init__(self, page: Page, home: str) -> None:
        self.outside: list[str] = []
        self.errors: list[str] = []
        self._home = urlsplit(home).netloc
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _asked(self, url: str) -> None:
        if urlsplit(url).netloc not in ("", self._home):  # none: data:, blob:, about:
            self.outside.append(url)
