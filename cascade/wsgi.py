"""Serve the application with gunicorn.

The start is refused if tables are looked up in the wrong schemas. The Clerk client is loaded at the
start of the process, so that the first request is not slow.
"""

import os

from django.core.wsgi import get_wsgi_application

from cascade.checks import refuse_wrong_schemas
from users.clerk import warm_up

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")

application = get_wsgi_application()
refuse_wrong_schemas()
warm_up()
