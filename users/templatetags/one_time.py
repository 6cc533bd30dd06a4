"""The one-time token in the forms of pages that act (`users.sync.outbound.repeats`)."""

from __future__ import annotations

import uuid

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def one_time_token() -> SafeString:
    """Render a new token at every rendering: a form that is shown again is another change."""
    return format_html('<input type="hidden" name="token" value="{}">', uuid.uuid4())
