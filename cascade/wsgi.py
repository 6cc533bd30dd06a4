"""Serve the application with gunicorn.

The Clerk client is loaded at the start of the process, so that the first request is not slow.
"""

import os

from django.core.wsgi import get_wsgi_application

from users.clerk import warm_up

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")

application = get_wsgi_application()
warm_up()
