"""A small stand-in for the licensed ``prodigy`` package, written from public documentation and from its databases only.

It holds what the kit's recipes and the demo's simulated people need: the recipe decorator, the database, a server.
None of it is Prodigy's code. What is assumed of the real one is listed in ``docs/prodigy-kit.md``.
"""

from prodigy.core import Controller, get_recipe, recipe

__all__ = ["Controller", "__version__", "get_recipe", "recipe"]

__version__ = "0+labelops.fake"
