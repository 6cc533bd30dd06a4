"""The boxes of the home page."""

from __future__ import annotations

from django import template
from django.template import Context

from users.admin.home import boxes

register = template.Library()


@register.simple_tag(takes_context=True)
def home_boxes(context: Context) -> dict[str, object]:
    """Return what the home page shows to this person."""
    return boxes(context["request"], context["app_list"])
