"""Deployed models."""

from __future__ import annotations

from include.base.errors import InvalidReply, Unavailable
from include.systems.http import segment
from include.systems.listing import Listing
from include.systems.opentext.values import ProcessModel
from labelops.hooks.opentext.client import OpenTextClient
from labelops.hooks.opentext.values import SYSTEM, chosen_filters, decoded, encoded, model_of, told

__all__ = ["Models"]


class Models(OpenTextClient):
    """Deployed process models."""

    def models(
        self, key: str | None = None, *, latest: bool = True, resume: str | None = None
    ) -> Listing[ProcessModel]:
        """List the deployed models, or those with one key, without their XML.

        :param latest: only the newest version of each; False lists every version.
        :param resume: ``state`` of an earlier listing of the same models.
        """
        filters = chosen_filters(latestVersion=True if latest else None, key=key)
        return self._listing(
            told("opentext models", filters),
            self.settings.at("models"),
            "models",
            filters,
            model_of,
            resume,
            lambda model: key is None or model.key == key,
        )

    def model(self, model_id: str) -> ProcessModel:
        """Return a model with its BPMN 2.0 XML.

        :raises InvalidReply: the reply has no XML in it.
        """
        item = self._get_object(f"{self.settings.at('models')}/{segment(model_id)}", {"modelType": "xml"})
        return model_of(item, content=decoded(item.get("modelContent")))

    def deploy(self, key: str, xml: str) -> tuple[ProcessModel, bool]:
        """Deploy a model unless the latest version says the same; the flag says whether it was deployed.

        :raises InvalidInput: the model is no BPMN, or the service refuses it.
        """
        from include.bpmn.read import canonical

        wanted = canonical(xml)
        current = self._latest(key)
        if current and current.content and canonical(current.content) == wanted:
            return current, False
        body = {"modelId": key, "modelType": "xml", "modelContent": encoded(xml, self.settings.model_encoding)}
        try:
            self._request("POST", self.settings.at("models"), json=body)
        except Unavailable:
            current = self._latest(key)
            if not (current and current.content and canonical(current.content) == wanted):
                raise
        current = self._latest(key)
        if current is None:
            raise InvalidReply(f"{SYSTEM}: the model {key!r} was deployed but is not listed", system=SYSTEM)
        return current, True

    def _latest(self, key: str) -> ProcessModel | None:
        newest = max(self.models(key), key=lambda model: model.version, default=None)
        return self.model(newest.id) if newest else None
