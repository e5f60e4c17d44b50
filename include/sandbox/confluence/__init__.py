"""A local Confluence, Cloud or Data Center: the calls the hook makes and what people need, over HTTP on loopback."""

from include.sandbox.confluence.datacenter import DataCenterStandIn
from include.sandbox.confluence.service import ConfluenceStandIn, SandboxUser

__all__ = ["ConfluenceStandIn", "DataCenterStandIn", "SandboxUser"]
