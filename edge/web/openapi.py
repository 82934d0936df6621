"""The API's description, as OpenAPI 3.1."""

from edge.web.representations import JSON


def description() -> JSON:
    """The document that ``/api/v1/openapi.json`` answers."""
    return {"openapi": "3.1.0", "info": {"title": "HematoVision", "version": "1"}, "paths": {}}
