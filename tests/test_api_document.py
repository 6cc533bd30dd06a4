"""The API is as its document says, whatever is sent (docs/api.yml)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import Phase
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.support.factories import BuilderUserFactory, linked
from tests.support.front_end import administrator, ask, token_of
from users.api import endpoint, urls
from users.models import SyncAttempt

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("front_end")]

DOCUMENT = Path(__file__).parents[1] / "docs" / "api.yml"
EXAMPLES = 25
CHECKS: list[Any] = [
    not_a_server_error,
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
"""All but the acceptance of valid data: no schema says what a name may hold."""

schema = schemathesis.openapi.from_path(DOCUMENT)
schema.app = WSGIHandler()
OPERATIONS = [operation.ok() for operation in schema.get_all_operations()]


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_whatever_is_sent_is_answered_as_documented(sandbox, monkeypatch, operation, mode):
    monkeypatch.setattr(endpoint, "PER_PERSON", 10**6)
    monkeypatch.setattr(endpoint, "PER_ADDRESS", 10**6)
    token = token_of(sandbox, administrator(sandbox), lifetime=3600)
    user, unlinked, chance = linked(sandbox), BuilderUserFactory(), random.Random(7)

    @hypothesis.settings(max_examples=EXAMPLES, database=None, phases=[Phase.generate])
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def fuzz(case: Any, known: bool) -> None:
        if known and mode is GenerationMode.POSITIVE:  # somebody who exists
            if "user_id" in case.path_parameters:
                case.path_parameters["user_id"] = str(chance.choice([user.pk, unlinked.pk]))
            elif isinstance(case.body, dict) and "clerkId" in case.body:
                case.body["clerkId"] = user.clerk_id
        case.call_and_validate(
            base_url="http://testserver",
            headers={"Authorization": f"Bearer {token}"},
            checks=CHECKS,
        )

    fuzz()
    assert not SyncAttempt.objects.pending().exists()


def test_every_endpoint_is_in_the_document():
    documented = {operation.path.replace("{user_id}", "<str:user_id>") for operation in OPERATIONS}
    patterns = {f"/api/{pattern.pattern}" for pattern in urls.urlpatterns if pattern.name}
    assert documented == patterns


def test_the_examples_of_the_document_are_valid(sandbox):
    user = linked(sandbox)
    token = token_of(sandbox, administrator(sandbox))
    for operation in OPERATIONS:
        content = (operation.definition.raw.get("requestBody") or {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            body = example["value"]
            body |= {"clerkId": user.clerk_id} if "clerkId" in body else {}
            path = operation.path.removeprefix("/api/").replace("{user_id}", str(user.pk))
            response = ask(operation.method, path, body, token=token)
            assert response.status_code == 200, (operation.label, response.content)
