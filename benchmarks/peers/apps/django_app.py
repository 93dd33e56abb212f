# mypy: disable-error-code="import-not-found,import-untyped"
# pyright: reportMissingImports=false
"""django-eventstream, as it delivers by default: within the process, without storage, Redis or a GRIP proxy."""

import json

import django
from django.conf import settings

settings.configure(
    DEBUG=False,
    SECRET_KEY="only for the benchmark",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"],
    MIDDLEWARE=[],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

import django_eventstream  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402


async def publish(request: HttpRequest) -> HttpResponse:
    """To every subscriber."""
    django_eventstream.send_event("bench", "message", json.loads(request.body))
    return HttpResponse(status=204)


urlpatterns = [path("events/", include(django_eventstream.urls), {"channels": ["bench"]}), path("pub", publish)]
app = get_asgi_application()
