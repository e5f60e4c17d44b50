from __future__ import annotations

from include.sandbox import world
from include.sandbox.http import Server
from include.sandbox.opentext import OpenTextStandIn
from include.systems.opentext.client import OpenTextClient
from include.systems.opentext.settings import Settings

CLIENT = {"id": "labelops-service", "secret": "an-invented-secret"}


def test_our_process_models_are_deployed_once() -> None:
    standin = OpenTextStandIn(None, clients=[CLIENT])
    with Server(standin.app) as server:
        token_url = f"{server.url}/tenants/sandbox/oauth2/token"
        client = OpenTextClient(Settings(server.url, CLIENT["id"], CLIENT["secret"], token_url))
        for _ in range(2):
            world.seed_opentext(client)
            found = {model.key: model.version for model in client.models()}
            assert found == {"dataset_release": 1, "labeling_approval": 1}
    standin.close()
