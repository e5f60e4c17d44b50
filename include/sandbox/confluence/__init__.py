"""A local Confluence Cloud: the calls the hook makes and what people need, over HTTP on loopback."""

from include.sandbox.confluence.service import ConfluenceStandIn, SandboxUser

__all__ = ["ConfluenceStandIn", "SandboxUser"]
