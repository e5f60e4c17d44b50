"""A local OpenText Workflow Service for demo and tests: its REST interface over a real BPMN engine."""

from include.sandbox.opentext.standin import OpenTextStandIn

__all__ = ["OpenTextStandIn"]
