"""What the outside systems say, as values, and what each hook can do, as a protocol.

The hooks under ``plugins/labelops/hooks`` make these values; everything under ``include/`` only reads them, so
the thinking is tested without a network.
"""
