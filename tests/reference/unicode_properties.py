#!/usr/bin/env python3
"""Writes io/unicode_16.inc: where the properties of Debian's Oniguruma (6.9.8, Unicode 14) and of the one inside
Hugging Face's tokenizers (0.23, Unicode 16) differ, asked of both for every character.

    apt-get install libonig5 && pip install tokenizers==0.23.3 && python3 tests/reference/unicode_properties.py

The general categories, Word and Alphabetic are asked about all of Unicode; the other properties about the characters
for which one of these has changed (every new character has a general category).
"""

import ctypes
import pathlib

from tokenizers import Regex, pre_tokenizers

OUT = pathlib.Path(__file__).resolve().parent.parent.parent / "io" / "unicode_16.inc"

CATEGORIES = {
    "Lu": "Uppercase_Letter", "Ll": "Lowercase_Letter", "Lt": "Titlecase_Letter", "Lm": "Modifier_Letter", "Lo": "Other_Letter",
    "Mn": "Nonspacing_Mark", "Mc": "Spacing_Mark", "Me": "Enclosing_Mark", "Nd": "Decimal_Number", "Nl": "Letter_Number",
    "No": "Other_Number", "Pc": "Connector_Punctuation", "Pd": "Dash_Punctuation", "Ps": "Open_Punctuation",
    "Pe": "Close_Punctuation", "Pi": "Initial_Punctuation", "Pf": "Final_Punctuation", "Po": "Other_Punctuation",
    "Sm": "Math_Symbol", "Sc": "Currency_Symbol", "Sk": "Modifier_Symbol", "So": "Other_Symbol", "Zs": "Space_Separator",
    "Zl": "Line_Separator", "Zp": "Paragraph_Separator", "Cc": "Control", "Cf": "Format", "Cn": "Unassigned",
}  # fmt: skip
GROUPS = {"L": "Letter", "LC": "Cased_Letter", "M": "Mark Combining_Mark", "N": "Number", "P": "Punctuation", "S": "Symbol", "C": "Other", "Z": "Separator"}
# Name and its other names. Scripts that Unicode 14 does not know are not there: Oniguruma refuses them.
OTHERS = {
    "Alnum": "", "Alpha": "", "Digit": "", "Graph": "", "Lower": "", "Print": "", "Punct": "", "Upper": "", "XDigit": "", "Space": "",
    "Arabic": "Arab", "Armenian": "Armn", "Assigned": "", "Balinese": "Bali", "Bengali": "Beng", "Bopomofo": "Bopo", "Case_Ignorable": "CI",
    "Cased": "", "Changes_When_Casefolded": "CWCF", "Changes_When_Casemapped": "CWCM", "Changes_When_Lowercased": "CWL",
    "Changes_When_Titlecased": "CWT", "Changes_When_Uppercased": "CWU", "Cherokee": "Cher", "Common": "Zyyy", "Cyrillic": "Cyrl",
    "Dash": "", "Default_Ignorable_Code_Point": "DI", "Devanagari": "Deva", "Diacritic": "Dia", "Egyptian_Hieroglyphs": "Egyp",
    "Emoji": "", "Emoji_Component": "EComp", "Emoji_Modifier": "EMod", "Emoji_Modifier_Base": "EBase", "Emoji_Presentation": "EPres",
    "Extended_Pictographic": "ExtPict", "Ethiopic": "Ethi", "Extender": "Ext", "Georgian": "Geor", "Grapheme_Base": "Gr_Base",
    "Grapheme_Extend": "Gr_Ext", "Grapheme_Link": "Gr_Link", "Greek": "Grek", "Gujarati": "Gujr", "Gurmukhi": "Guru", "Han": "Hani",
    "Hangul": "Hang", "Hebrew": "Hebr", "Hiragana": "Hira", "IDS_Binary_Operator": "IDSB", "IDS_Trinary_Operator": "IDST",
    "ID_Continue": "IDC", "ID_Start": "IDS", "Ideographic": "Ideo", "Inherited": "Zinh Qaai", "Join_Control": "Join_C", "Kannada": "Knda",
    "Katakana": "Kana", "Khitan_Small_Script": "Kits", "Khmer": "Khmr", "Khojki": "Khoj", "Lao": "Laoo", "Latin": "Latn",
    "Lowercase": "", "Malayalam": "Mlym", "Math": "", "Mongolian": "Mong", "Myanmar": "Mymr", "Oriya": "Orya", "Other_Alphabetic": "OAlpha",
    "Other_Grapheme_Extend": "OGr_Ext", "Other_Lowercase": "OLower", "Other_Math": "OMath", "Other_Uppercase": "OUpper",
    "Sentence_Terminal": "STerm", "Sinhala": "Sinh", "Soft_Dotted": "SD", "Syriac": "Syrc", "Tamil": "Taml", "Telugu": "Telu",
    "Terminal_Punctuation": "Term", "Thaana": "Thaa", "Thai": "", "Tibetan": "Tibt", "Unified_Ideograph": "UIdeo", "Unknown": "Zzzz",
    "Uppercase": "", "XID_Continue": "XIDC", "XID_Start": "XIDS",
}  # fmt: skip


class Characters:
    """The characters to ask about, as one text."""

    def __init__(self, points):
        self.points = sorted(points)
        self.text = "".join(map(chr, self.points))
        data = self.text.encode()
        self.buffer, self.size = ctypes.create_string_buffer(data, len(data)), len(data)
        self.index, at = {}, 0
        for place, point in enumerate(self.points):
            self.index[at] = place
            at += len(chr(point).encode())
        self.index[at] = len(self.points)

    def theirs(self, name):
        cut = pre_tokenizers.Split(Regex(f"\\p{{{name}}}+"), "removed", invert=True)
        return {ord(c) for piece, _ in cut.pre_tokenize_str(self.text) for c in piece}

    def ours(self, name):
        address = lambda symbol: ctypes.addressof(ctypes.c_char.in_dll(ONIG, symbol))
        pattern = f"\\p{{{name}}}+".encode()
        held = ctypes.create_string_buffer(pattern, len(pattern))
        begin, regex = ctypes.addressof(held), ctypes.c_void_p()
        error = ONIG.onig_new(ctypes.byref(regex), begin, begin + len(pattern), 0, address("OnigEncodingUTF8"),
                              address("OnigSyntaxRuby"), ctypes.create_string_buffer(64))  # fmt: skip
        assert error == 0, name
        region, base, at, found = ONIG.onig_region_new(), ctypes.addressof(self.buffer), 0, set()
        end = base + self.size
        while at < self.size and ONIG.onig_search(regex, base, end, base + at, end, region, 0) >= 0:
            start, at = region.contents.beg[0], region.contents.end[0]
            found.update(self.points[self.index[start] : self.index[at]])
        return found


class Region(ctypes.Structure):
    _fields_ = [("allocated", ctypes.c_int), ("num", ctypes.c_int), ("beg", ctypes.POINTER(ctypes.c_int)), ("end", ctypes.POINTER(ctypes.c_int))]


ONIG = ctypes.CDLL("libonig.so.5")
ONIG.onig_region_new.restype = ctypes.POINTER(Region)
ONIG.onig_search.argtypes = [ctypes.c_void_p] * 5 + [ctypes.POINTER(Region), ctypes.c_uint]
ONIG.onig_new.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_uint] + [ctypes.c_void_p] * 3


def ranges(points):
    """As the inside of a class of a regular expression."""
    runs = []
    for point in sorted(points):
        if runs and runs[-1][1] == point - 1:
            runs[-1][1] = point
        else:
            runs.append([point, point])
    return "".join(f"\\x{{{a:x}}}" if a == b else f"\\x{{{a:x}}}-\\x{{{b:x}}}" for a, b in runs)


def write(changed):
    """`changed`: by name, the characters that came and those that went."""
    aliases = CATEGORIES | GROUPS | OTHERS
    lines = ["// Made by tests/reference/unicode_properties.py: {name, what came to it, what left it}."]
    for name, (came, went) in changed.items():
        for spelling in [name, *aliases.get(name, "").split()]:
            plain = spelling.lower().replace("_", "")
            lines.append(f'{{"{plain}", R"({ranges(came)})", R"({ranges(went)})"}},')
    OUT.write_text("\n".join(lines) + "\n")


def main():
    everything = Characters(c for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    changed = {}
    for names, characters in [([*CATEGORIES, "Word", "Alphabetic"], everything), ([*GROUPS, *OTHERS], None)]:
        characters = characters or Characters(set().union(*(a | b for a, b in changed.values())))
        for name in names:
            ours, theirs = characters.ours(name), characters.theirs(name)
            if ours != theirs:
                changed[name] = (theirs - ours, ours - theirs)
    write(changed)


if __name__ == "__main__":
    main()
