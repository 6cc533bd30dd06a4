"""The endpoint for Clerk's events, which Svix sends: check the signature, then store the event.

| status | meaning |
|---|---|
| 200 | The event was applied, is known already, is of a type that we do not use, is stored for |
|     | a retry, or can never be applied. Clerk would otherwise send it again for a day. |
|     | Events are also stored while it is not known which Clerk instance is ours. |
| 400 | The event is not signed by Clerk, is too old, or is from another Clerk instance. |
| 405, 413 | The method is not POST; the body is larger than 1 MiB. |
| 503 | The database does not answer. Clerk sends the event again. |
"""

from __future__ import annotations

import logging
from contextlib import suppress

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from users import bodies
from users.clerk import signatures
from users.sync.inbound import deliveries

logger = logging.getLogger(__name__)

MAX_BODY = 2**20


@login_not_required
@csrf_exempt  # the signature proves the sender
@require_POST
def clerk_webhook(request: HttpRequest) -> HttpResponse:
    """Answer one delivery of an event, by the table above.

    Refusals are logged. A claimed but wrong signature is also stored, for the health page.
    """
    try:
        body = bodies.read(request, limit=MAX_BODY)
        svix_id = signatures.check(body, request.headers)
        received = deliveries.receive(svix_id, body)
    except signatures.NotSigned as error:
        logger.warning("A webhook was refused: %s", error)
        if error.claimed:
            with suppress(DatabaseError, InterfaceError):
                deliveries.note_refused(str(error), signed=False)
        return _answer(str(error), 400)
    except deliveries.OtherInstance as error:
        logger.warning("A webhook was refused: %s", error)
        return _answer(str(error), 400)
    except UnreadablePostError:
        return _answer("the body could not be read", 400)
    except RequestDataTooBig:
        return _answer("more than 1 MiB", 413)
    except (DatabaseError, InterfaceError) as error:
        logger.error("A webhook was not taken: %s", type(error).__name__)
        connection.close()
        return _answer("the database does not answer; send it again", 503)
    return _answer(received.answer, 200)


def _answer(text: str, status: int) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain")
