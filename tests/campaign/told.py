"""What staff were told of each change, and whether it stayed true."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.contrib.messages import INFO, SUCCESS, get_messages
from django.db.models import Q

from users.models import SyncAttempt

NOT_CONFIRMED = (
    "Clerk has not confirmed this yet",
    "the database did not confirm it",
    "still being saved",
    "already being saved",
)
ABOUT_ANOTHER = "An earlier change of this user"
"""Begins what is said of a change that waits; it quotes the words about the earlier one."""


class Untrue(AssertionError):
    """Somebody was told the opposite of what is true, or the stores differ."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Untrue(what)


class Said(Enum):
    SAVED = "it is saved"
    WAITS = "it is saved here, and its invitation is sent later"
    UNCHANGED = "it was like this already"
    NOT_SAVED = "it is not saved"
    NOT_CONFIRMED = "it is not confirmed yet"
    NOTHING = "an error page that claims nothing"


@dataclass(frozen=True)
class Heard:
    """An answer of the application, as a person understands it."""

    said: Said
    text: str

    @classmethod
    def of(cls, answer: Any) -> Heard:
        if answer.status_code in (500, 503):
            return cls(Said.NOTHING, "")
        require(answer.status_code in (200, 302), f"the server answered {answer.status_code}")
        messages = list(get_messages(answer.wsgi_request))
        return cls.as_words(answer, messages)

    @classmethod
    def as_words(cls, answer: Any, messages: list[Any]) -> Heard:
        text = " ".join([*map(str, messages), *_errors_on(answer)])
        levels = {message.level for message in messages}
        if any(words in text for words in NOT_CONFIRMED) and ABOUT_ANOTHER not in text:
            require(SUCCESS not in levels, f"told both that it is saved and that it is not: {text}")
            require("Nothing was saved" not in text, f"told what nobody knows yet: {text}")
            return cls(Said.NOT_CONFIRMED, text)
        if answer.status_code == 302 and "waits and is sent by itself" in text:
            return cls(Said.WAITS, text)
        if answer.status_code == 302 and SUCCESS in levels:
            return cls(Said.SAVED, text)
        if answer.status_code == 302 and levels == {INFO}:
            return cls(Said.UNCHANGED, text)
        require(text, "nothing was said at all")
        return cls(Said.NOT_SAVED, text)


def _errors_on(answer: Any) -> list[str]:
    """The texts of the errors on a page, without those of other changes beside the form."""
    page = answer.content.decode() if answer.status_code == 200 else ""
    pattern = r'<ul class="errorlist.*?</ul>|<div class="message errornote.*?</div>'
    lists = re.findall(pattern, page, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", " ", found)) for found in lists]


@dataclass(frozen=True)
class Wish:
    """One change that somebody asks for.

    `thing` is equal for the same again alone. `here` and `in_clerk` tell whether each store has
    it now, None where it has no part in it. `arrivals` counts how often it has ever turned up in
    either. `attempts` selects what the journal holds of it.
    """

    thing: Hashable
    attempts: Q
    arrivals: Callable[[], int]
    here: Callable[[], bool | None] = lambda: None
    in_clerk: Callable[[], bool | None] = lambda: None

    def has(self) -> list[bool]:
        return [value for value in (self.here(), self.in_clerk()) if value is not None]

    def pending(self) -> bool:
        return SyncAttempt.objects.filter(self.attempts, status="started").exists()


class Ledger:
    """Every wish with what was said of it."""

    def __init__(self) -> None:
        self._told: dict[Hashable, list[tuple[Wish, Heard]]] = defaultdict(list)

    def judge(self, wish: Wish, heard: Heard, before: list[bool], *, disturbed: bool) -> None:
        """Hold what was said against what is. `before` is what the stores had of it before;
        `disturbed` says that the database or somebody else came in between."""
        self._told[wish.thing].append((wish, heard))
        has = wish.has()
        if heard.said is Said.SAVED:
            require(
                # The next change may have come already.
                all(has) or (disturbed and (wish.arrivals() or all(before))),
                f"{wish.thing}: told that it is saved, and it is not: {has}",
            )
        elif heard.said in (Said.UNCHANGED, Said.WAITS):
            require(wish.here() is not False, f"{wish.thing}: told that {heard.said.value}")
        elif heard.said is Said.NOT_SAVED:
            new = [now and not then for now, then in zip(has, before, strict=True)]
            require(
                not any(new) or self._somebody_else_did(wish),
                f"{wish.thing}: told that it is not saved, and it is: {has} {heard.text[:300]}",
            )
        elif heard.said is Said.NOT_CONFIRMED:
            require(
                wish.pending() or (disturbed and SyncAttempt.objects.filter(wish.attempts)),
                f"{wish.thing}: not confirmed, and nothing is pending: {heard.text[:300]}",
            )
        else:
            require(disturbed, f"{wish.thing}: an error page")

    def _somebody_else_did(self, wish: Wish) -> bool:
        """Whether the same was asked for by others who were not told that it is not saved."""
        return any(heard.said is not Said.NOT_SAVED for _, heard in self._told[wish.thing])

    def check(self) -> None:
        """At the end: what was told as not saved has not turned up since, unless it was asked
        for again and that was not told as not saved."""
        for thing, told in self._told.items():
            possible = sum(heard.said is not Said.NOT_SAVED for _, heard in told)
            arrivals = told[0][0].arrivals()
            words = " | ".join(heard.text[:200] for _, heard in told)
            require(
                arrivals <= possible,
                f"{thing}: {possible} of {len(told)} may have arrived, {arrivals} have: {words}",
            )
