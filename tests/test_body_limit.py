"""No body over the limit is read, before anything asks who sent it."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.test import Client

pytestmark = pytest.mark.django_db(transaction=True)

received: list[int] = []


class Spy(FileUploadHandler):
    """Notes how much of a file is read."""

    def receive_data_chunk(self, raw_data, start):
        received.append(len(raw_data))

    def file_complete(self, file_size):
        return None


@pytest.fixture
def spy(settings):
    received.clear()
    settings.FILE_UPLOAD_HANDLERS = ["tests.test_body_limit.Spy"]
    return received


@pytest.mark.parametrize(
    "address", ["/admin/login/", "/admin/users/builderuser/add/", "/webhooks/clerk/", "/nowhere/"]
)
def test_a_large_file_of_a_stranger_is_not_read(spy, address):
    file = SimpleUploadedFile("large.bin", b"x" * 2**21)
    response = Client(enforce_csrf_checks=True).post(address, {"file": file})
    assert response.status_code == 413
    assert spy == []


def test_a_small_body_is_answered_as_before(spy, staff):
    file = SimpleUploadedFile("small.txt", b"x" * 2**10)
    response = Client().post("/admin/login/", {"username": "staff", "file": file})
    assert response.status_code == 200
    assert sum(spy) == 2**10


@pytest.mark.parametrize("length", ["+2000000", " 5", "5 ", "1_000", "-1", "x", "²", "0x10", "1.0"])
@pytest.mark.parametrize("address", ["/admin/login/", "/webhooks/clerk/", "/api/sync-user"])
def test_a_length_that_is_not_digits_alone_is_a_bad_request(spy, address, length):
    file = SimpleUploadedFile("large.bin", b"x" * 2**21)
    response = Client().post(address, {"file": file}, CONTENT_LENGTH=length)
    assert response.status_code == 400
    assert b"The Content-Length of the request is not a number." in response.content
    assert spy == []


def test_a_length_of_thousands_of_digits_is_too_large(spy):
    assert Client().post("/admin/login/", CONTENT_LENGTH="9" * 5000).status_code == 413


@pytest.mark.parametrize("length", ["", "0", "0000000000000000000000"])
def test_a_request_without_a_body_is_answered_as_before(length):
    assert Client().get("/healthz/", CONTENT_LENGTH=length).status_code == 200
