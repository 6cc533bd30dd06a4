"""What an exception's report may show: Django's own filter, also under DEBUG."""

from __future__ import annotations

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class AlwaysSafe(SafeExceptionReporterFilter):
    """Django shows everything under DEBUG. A password typed into the demo is still a password."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True
