"""How a file's bytes become magika's input, as in magika's own `_extract_features_from_seekable` (feature extraction v2)."""

BLOCK, PADDING = 4096, 256


def features(content, begin=1024, end=1024):
    """The first and last bytes without surrounding white space, padded to `begin` + `end` integers."""
    first = list(content[:BLOCK].lstrip()[:begin])
    last = list(content[-BLOCK:].rstrip()[-end:])
    return first + [PADDING] * (begin - len(first)) + [PADDING] * (end - len(last)) + last
