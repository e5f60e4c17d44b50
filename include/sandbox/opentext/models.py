"""Deployed models."""

from __future__ import annotations

import base64
import uuid

from include.base.errors import InvalidInput
from include.sandbox.http import Reply, Request, json_reply
from include.sandbox.opentext.engine import check_deployable
from include.sandbox.opentext.service import Service, Subject
from include.sandbox.opentext.shapes import bad_request, hal, missing, model_json
from include.sandbox.opentext.wire import model_text, read_body

__all__ = ["Models"]


class Models(Service):
    """Deployed models."""

    def _models(self, request: Request, subject: Subject) -> Reply:
        rows = self.state.rows("SELECT * FROM model ORDER BY key, version")
        if "key" in request.query:
            rows = [row for row in rows if row["key"] == request.one("key")]
        if request.one("latestVersion") == "true":
            rows = list({row["key"]: row for row in rows}.values())
        return hal(request, "models", [model_json(row) for row in rows], page=False)

    def _one_model(self, request: Request, subject: Subject) -> Reply:
        found = self.state.row("SELECT * FROM model WHERE id = ?", request.values["model"])
        if found is None:
            raise missing(f"Could not find a model with id '{request.values['model']}'.")
        if request.one("modelType", "xml") != "xml":
            raise bad_request("This stand-in keeps models as xml only.")
        content = base64.b64encode(found["xml"].encode("utf-8")).decode("ascii")
        return json_reply({**model_json(found), "modelContent": content})

    def _deploy(self, request: Request, subject: Subject) -> Reply:
        body = read_body(request)
        if body.get("modelType") != "xml":
            raise bad_request("This stand-in takes models as xml only.")
        try:
            xml = model_text(body.get("modelContent"))
            process = check_deployable(xml, self.passed_over)
        except InvalidInput as error:
            raise bad_request(str(error)) from error
        version = 1 + self.state.number("SELECT max(version) FROM model WHERE key = ?", process.key)
        model_id = f"{process.key}:{version}:{uuid.uuid4()}"
        self.state.insert(
            "model", id=model_id, key=process.key, version=version, name=process.name or process.key, xml=xml
        )
        return json_reply(model_json(self.state.row("SELECT * FROM model WHERE id = ?", model_id)), 201)
