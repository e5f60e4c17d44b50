"""The door to Confluence, Cloud and Data Center behind one class."""

from labelops.hooks.confluence.hook import ConfluenceHook

__all__ = ["ConfluenceHook"]
