"""Show times in the viewer's zone."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from users.sync.display import time_text

register = template.Library()


@register.filter(expects_localtime=True)
def as_time(moment: datetime) -> SafeString:
    """Render a time in UTC to the minute, which the script of all pages shows in the viewer's zone.

    A sentence that is translated takes it as a value: such a sentence holds no other tags.
    """
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(), time_text(moment))


@register.filter(expects_localtime=True)
def as_time_with_seconds(moment: datetime) -> SafeString:
    """Render a time as `as_time`, to the second."""
    text = time_text(moment, seconds=True)
    return format_html('<time datetime="{}" data-seconds>{}</time>', moment.isoformat(), text)
