"""The floor of a webhook: a view that verifies the signature and runs one UPDATE.

`gunicorn bench.bare` serves it with the settings and the middleware of the application. The view
writes to a copy of the table `users`, so that it changes no real row.
"""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from standardwebhooks.webhooks import Webhook

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
settings.ROOT_URLCONF = __name__
application = get_wsgi_application()


@csrf_exempt
def bare(request: HttpRequest) -> HttpResponse:
    """Verify the signature, and update the user of the event in the copied table."""
    headers = {
        f"webhook-{name}": request.headers[f"svix-{name}"]
        for name in ("id", "timestamp", "signature")
    }
    event = Webhook(settings.CLERK_WEBHOOK_SIGNING_SECRET).verify(request.body, headers)
    user = event["data"].get("user") or event["data"]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE bare_users SET name = %s, updated_at = now() WHERE clerk_id = %s",
            [f"{user.get('first_name')} {user.get('last_name')}", user["id"]],
        )
    return HttpResponse("ok\n", content_type="text/plain")


urlpatterns = [
    path("webhooks/clerk/", bare),
    path("healthz/", lambda request: HttpResponse("ok\n")),
]
