"""Names and keywords of version 0.1 that still work, with a `DeprecationWarning`.

Everything in this folder goes in the next version.
"""
