"""Read texts as numbers, as people and spreadsheets write them.

A number may have a decimal point or a decimal comma, and a comma, a point, spaces or apostrophes
between thousands. A minus in front or behind, or parentheses, make it negative. It may have a
currency, and a percent sign or a unit.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow

SPACES = " \u00a0\u2007\u2009\u202f"
APOSTROPHES = "'’ʼ"
MINUS = "[\u2212\ufe63\uff0d]|^\u2013"
CURRENCIES = (
    "US\\$|R\\$|A\\$|C\\$|NZ\\$|HK\\$|S\\$|[$€£¥₹₽₩₺₪₫฿₴]|Fr\\.|Rs\\.?|kr\\.?|"
    "EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|RUB|BRL|AUD|CAD|NZD|MXN|ZAR|TRY|KRW"
)
# Units may follow a number without a space. Words need one: 2a and 2b may be names of classes.
UNITS = (
    "%|‰|°[CF]?|℃|℉|[µμ]?[gml]|[kmcdM]?mol|kg|mg|lbs?|oz|[cdkmnµμ]m[²³23]?|m[²³23]|ft[²2]?|yd|mi|"
    "[mcd]l|[mcd]?L|gal|ms|[nµμ]s|s|sec|min|hrs?|k|km/h|mph|m/s|px|[KMGT]i?B|[kMGmT]?Wh?|[kmM]?V|"
    "m?A|mAh|[kMG]?Hz|[kMhm]?Pa|m?bar|psi|atm|k?J|k?cal|ppm|ppb|[kKM]|Mio\\.?|Mrd\\.?|bn|mn|"
    + CURRENCIES
)
# Everything beyond ASCII counts as a letter: the classes of Unicode make patterns slow to build.
LETTERS = r"A-Za-z\x{80}-\x{10ffff}$%"
WORD = rf"[{LETTERS}][{LETTERS}0-9/^.*]{{0,11}}"
PARTS = (
    rf"^(?P<open>\(?)(?P<before>[+-]?)[{SPACES}]?"
    rf"(?P<prefix>(?:(?:{CURRENCIES})[{SPACES}]?)?)(?P<inner>[+-]?)"
    rf"(?P<digits>[0-9.,](?:[0-9.,{SPACES}{APOSTROPHES}]*[0-9.,])?(?:[eE][+-]?[0-9]+)?)"
    rf"(?P<unit>(?:[{SPACES}]*(?:{UNITS})|[{SPACES}]+(?:{WORD}))?)"
    r"(?P<close>\)?)(?P<after>-?)$"
)


def _numbers(decimal: str, thousands: str) -> str:
    """Return a pattern of numbers with these signs for decimals and between thousands."""
    groups = [rf"[1-9]\d{{0,2}}(?:[{sign}]\d{{3}})+" for sign in (thousands, APOSTROPHES)]
    groups += [rf"[1-9]\d{{0,2}}(?:{sign}\d{{3}})+" for sign in SPACES]
    if thousands == ",":
        groups.append(r"[1-9]\d?(?:,\d\d)+,\d{3}")  # as in India
    plain = rf"(?:\d+(?:[{decimal}]\d*)?|[{decimal}]\d+)(?:[eE][+-]?\d+)?"
    return rf"^(?:{plain}|(?:{'|'.join(groups)})(?:[{decimal}]\d*)?)$"


PATTERNS = {".": _numbers(".", ","), ",": _numbers(",", ".")}


class Parts(NamedTuple):
    """Texts split into signs, digits and units, with an element for each text.

    Attributes:
        digits: The part between sign and unit, "" where the text cannot be a number.
        is_negative: Whether a sign or parentheses make the number negative.
        units: Prefix and unit, "" where there are none.
        fits: For "." and ",", whether the digits are a number with this decimal sign.
        has_sign: Whether parentheses or a minus behind make the number negative.
    """

    digits: "pyarrow.StringArray"
    is_negative: np.ndarray
    units: np.ndarray
    fits: dict[str, np.ndarray]
    has_sign: np.ndarray

    def shows(self, decimal: str) -> np.ndarray:
        """Return which texts are numbers with this decimal sign but not with the other."""
        return self.fits[decimal] & ~self.fits["," if decimal == "." else "."]

    def is_ambiguous(self) -> np.ndarray:
        """Return which texts are different numbers for the two decimal signs, such as 1.234."""
        from pyarrow import compute

        has_sign = compute.match_substring_regex(self.digits, "[.,]")
        return self.fits["."] & self.fits[","] & has_sign.to_numpy(zero_copy_only=False)


def is_currency(unit: str) -> bool:
    """Return whether a unit is a currency."""
    return re.fullmatch(CURRENCIES, unit) is not None


def take_apart(texts: "pyarrow.StringArray") -> Parts:
    """Return texts split into signs, digits and units."""
    import pyarrow
    from pyarrow import compute

    texts = compute.replace_substring_regex(texts, MINUS, "-")
    groups = compute.extract_regex(texts, PARTS)
    matched = compute.is_valid(groups)

    def part(name: str) -> "pyarrow.StringArray":
        return compute.fill_null(compute.struct_field(groups, name), "")

    def has(name: str) -> np.ndarray:
        return compute.not_equal(part(name), "").to_numpy(zero_copy_only=False)

    minus = {
        name: compute.equal(part(name), "-").to_numpy(zero_copy_only=False)
        for name in ("before", "inner", "after")
    }
    minus["open"] = has("open")
    signs = has("before").astype(int) + has("inner") + has("after") + has("open")
    is_whole = matched.to_numpy(zero_copy_only=False) & (has("open") == has("close")) & (signs <= 1)
    digits = compute.if_else(pyarrow.array(is_whole), part("digits"), "")
    units = compute.binary_join_element_wise(
        compute.utf8_trim_whitespace(part("prefix")), compute.utf8_trim_whitespace(part("unit")), ""
    )
    return Parts(
        digits,
        np.logical_or.reduce(list(minus.values())),
        np.array(units.to_pylist(), dtype=object),
        {
            decimal: compute.match_substring_regex(digits, pattern).to_numpy(zero_copy_only=False)
            for decimal, pattern in PATTERNS.items()
        },
        minus["open"] | minus["after"],
    )


def values(digits: "pyarrow.StringArray", is_negative: np.ndarray, decimal: str) -> np.ndarray:
    """Return the numbers of digits that fit a decimal sign, int64 if all are whole numbers."""
    import pyarrow
    from pyarrow import compute

    thousands = "," if decimal == "." else "."
    digits = compute.replace_substring_regex(digits, f"[{thousands}{SPACES}{APOSTROPHES}]", "")
    if decimal == ",":
        digits = compute.replace_substring(digits, ",", ".")
    signs = pyarrow.array(np.where(is_negative, "-", ""), pyarrow.string())
    texts = compute.binary_join_element_wise(signs, digits, "")
    try:
        return compute.cast(texts, pyarrow.int64()).to_numpy(zero_copy_only=False)
    except pyarrow.ArrowInvalid:
        return compute.cast(texts, pyarrow.float64()).to_numpy(zero_copy_only=False)
