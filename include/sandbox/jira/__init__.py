"""A local Jira, Cloud or Data Center: the calls the hook makes, over HTTP on loopback."""

from include.sandbox.jira.service import JiraStandIn, JiraUser

__all__ = ["JiraStandIn", "JiraUser"]
