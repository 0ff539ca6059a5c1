"""The foreign formats, one file each: adding a file here adds a format. Listing them imports none of them.

A format has ``kind(state)``, which tells by the keys what a state dict is, ``generator``, ``discriminator`` or the
like, or None for a foreign one, and ``convert(checkpoint, options)``, which gives ``Networks`` or raises an
InputError. Where its files hold classes of Python that are plain data, ``EXTRA_TYPES`` names these.
"""

from pkgutil import iter_modules

FORMATS = tuple(sorted(module.name.replace("_", "-") for module in iter_modules(__path__)))
