"""The application as in production, but for its static files: they are served from their sources.

`collectstatic` would write them to a folder that all tests share.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")

from django.conf import settings

settings.STORAGES["staticfiles"]["BACKEND"] = (
    "django.contrib.staticfiles.storage.StaticFilesStorage"
)
settings.WHITENOISE_USE_FINDERS = settings.WHITENOISE_AUTOREFRESH = True

from cascade.wsgi import application  # noqa: E402

__all__ = ["application"]
