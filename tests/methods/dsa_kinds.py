"""The kinds of adapters."""

KINDS = ("plr", "rtb", "lst", "lst_plus", "lld")
