"""What the colours of a file mean, and how they become sRGB.

`tags` holds what a file says about its colours, `profiles` and `curves` read ICC profiles, `spaces` knows spaces by
their primaries, `conversion` makes a conversion of it all, and `littlecms` those that only littleCMS can make.
"""
