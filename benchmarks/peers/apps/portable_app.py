"""eric_sse's application, as any ASGI server runs it: no transport is handed over, streams take the portable path."""

from eric_sse.config import Settings, build
from eric_sse.engines import open_engine

settings = Settings()
app, _ = build(open_engine(settings.store), settings)
