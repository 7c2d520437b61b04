"""Cosine and sine tables of the rotary position embedding, correctly rounded on every machine.

NumPy's sine comes from different libraries on different processors and may differ in the last place. Model files are
content-addressed, so the tables are computed with integers.
"""

from decimal import Decimal, localcontext

import numpy as np

BITS = 160  # of the fixed-point fraction; far beyond what a double rounded to a float needs


def _pi():
    """Pi with BITS fractional bits, by Machin's formula."""
    guard = BITS + 32

    def arctan_inverse(n):
        power = (1 << guard) // n
        total, k, sign = 0, 1, 1
        while power:
            total += sign * (power // k)
            power //= n * n
            k, sign = k + 2, -sign
        return total

    return 4 * (4 * arctan_inverse(5) - arctan_inverse(239)) >> 32


PI = _pi()


def _series(x, term, k):
    """The Taylor series of sine (k = 1) or cosine (k = 0) from its first term."""
    square, total = x * x >> BITS, term
    while term:
        term = -(term * square >> BITS) // ((k + 1) * (k + 2))
        k += 2
        total += term
        if term in (0, -1):
            break
    return total


def _cos_sin(angle):
    numerator, denominator = angle.as_integer_ratio()
    x = (numerator << BITS) // denominator
    quarter, x = divmod(x, PI // 2)
    one = 1 << BITS
    cos, sin = _series(x, one, 0), _series(x, x, 1)
    for _ in range(quarter % 4):
        cos, sin = -sin, cos
    return cos / one, sin / one  # Python's division of integers is correctly rounded


def tables(context, head_dim, theta):
    """Two float32 arrays [context, head_dim]: cosines and sines, the half-tables repeated."""
    with localcontext() as decimals:
        decimals.prec = 60
        base = [float(Decimal(theta) ** (Decimal(i) / head_dim)) for i in range(0, head_dim, 2)]
    pairs = [[_cos_sin(position / b) for b in base] for position in range(context)]
    both = np.array(pairs, np.float64).transpose(2, 0, 1)
    return [np.concatenate([half, half], 1).astype(np.float32) for half in both]
