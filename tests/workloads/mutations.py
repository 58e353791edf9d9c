"""Files made wrong in the ways files go wrong, from a valid one and a seeded source of choices. It does not know any format."""

import re
from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]

_DEEP = 10_000
_LOOKED_AT = 1 << 14  # where a word to change is looked for: a regular expression over megabytes takes memory
_NO_NUMBERS = (
    b"",
    b"null",
    b"true",
    b"false",
    b"NaN",
    b"nan",
    b"Infinity",
    b"-inf",
    b"None",
    b"[]",
    b"{}",
    b"[1]",
    b'{"a": 1}',
    b'""',
)
_NUMBERS = (
    *(
        b"0",
        b"-0",
        b"-1",
        b"1",
        b"7",
        b"0.5",
        b"1e3",
        b"1E400",
        b"-1e-400",
        b"1_000",
        b"0x10",
        b"0o7",
        b"1.",
        b".5",
        b"+3",
        b" 4 ",
    ),
    *(b"2147483647", b"2147483648", b"-2147483649", b"4294967296", b"9223372036854775807", b"9223372036854775808"),
    *(b"4611686018427387904", b"18446744073709551616", b"1e15", b"1e18", b"1.7976931348623157e308"),
    *(b"1" * 30, b"9" * 5000, b"0." + b"3" * 400),
    *(text.encode() for text in ("٣٤", "４２", "²", "\u00a05", "5\u2009", "\u22125")),
)
_CHARACTERS = (
    *("é".encode(), b"\xe9", b"\x00", b"\x1b[31m", b"\x85", b"\x0b", b"\x1c", b"\xff\xfe", b"\xed\xa0\x80"),
    *(text.encode() for text in ("\u0085", "\u2028", "\u202e")),
    *(b'"', b"'", b'"a', b'"a"b', b'""""', b"\\", b"\\u0000", b'"\\ud800"', b'"\\udc00x"'),
    *(b"a,b", b"a\tb", b";", b"|", b"=1+1"),
)
_DATES = (
    *(b"0001-01-01 00:00:00", b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59.999999Z", b"9999-12-31T23:59:59-14:00"),
    *(b"294277-01-10 04:00:54.775807", b"-0044-03-15", b"1677-09-21 00:12:43", b"2023-02-29 00:00:00", b"2023-W46-4"),
    *(b"2023-11-16T18:17:03+14:00", b"2023-11-16 18:17:03-23:59", b"2023-11-16 24:00:00", b"2023-11-16 18:17:60"),
    *(b"2023-11-16 18:17:03.1234567890123", b"now"),
)
_DEEP_AND_LONG = (
    *(b"[" * _DEEP, b"[" * _DEEP + b"]" * _DEEP, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP),
    *(b"[" * 930 + b"]" * 930, b"(" * 300 + b")" * 300),
    *(b"x" * 70_000, b'"' + b"y" * 70_000 + b'"', "é".encode() * 40_000),
)
ODD_VALUES = (*_NO_NUMBERS, *_NUMBERS, *_CHARACTERS, *_DATES, *_DEEP_AND_LONG)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s,:;|\[\]{}"]+')
_PAIR = re.compile(rb'("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,\[\]{}"]+)\s*,?')


def mutated(content: bytes, draw: Random) -> bytes:
    """The content after one to four mutations, small ones more often than large ones."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        content = draw.choice(draw.choice((_OF_BYTES, _OF_LINES, _OF_TOKENS, _OF_TOKENS, _OF_ALL)))(content, draw)
    return content


def damaged(content: bytes, draw: Random) -> bytes:
    """The content after one to four mutations of bytes alone, those at the end (footers, directories) more often than others."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        content = draw.choice(_OF_BYTES)(content, draw)
    return content


def _at(content: bytes, draw: Random) -> int:
    """A place, in every third case within the last 256 bytes."""
    least = max(0, len(content) - 256) if draw.random() < 1 / 3 else 0
    return draw.randint(least, len(content))


def _span(content: bytes, draw: Random) -> tuple[int, int]:
    begin = _at(content, draw)
    return begin, min(len(content), begin + draw.choice((1, 1, 2, 4, 8, 40, 300)))


def _flip(content: bytes, draw: Random) -> bytes:
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if made:
            made[min(_at(content, draw), len(made) - 1)] ^= 1 << draw.randrange(8)
    return bytes(made)


def _overwrite(content: bytes, draw: Random) -> bytes:
    begin, end = _span(content, draw)
    fill = draw.choice((b"\x00", b"\xff", b"\x7f", b"\x80", b"0", b"9", b"[", b'"', b"\n"))
    return content[:begin] + fill * (end - begin) + content[end:]


def _delete(content: bytes, draw: Random) -> bytes:
    begin, end = _span(content, draw)
    return content[:begin] + content[end:]


def _insert(content: bytes, draw: Random) -> bytes:
    at = _at(content, draw)
    return content[:at] + draw.choice((draw.choice(ODD_VALUES), draw.randbytes(draw.choice((1, 2, 4, 8, 64))))) + content[at:]


def _repeat(content: bytes, draw: Random) -> bytes:
    begin, end = _span(content, draw)
    return content[:end] + content[begin:end] * draw.choice((1, 2, 50)) + content[end:]


def _move(content: bytes, draw: Random) -> bytes:
    begin, end = _span(content, draw)
    rest = content[:begin] + content[end:]
    at = _at(rest, draw)
    return rest[:at] + content[begin:end] + rest[at:]


def _cut(content: bytes, draw: Random) -> bytes:
    return content[: _at(content, draw)]


def _behead(content: bytes, draw: Random) -> bytes:
    return content[draw.randint(0, len(content)) :]


_OF_BYTES: tuple[Mutation, ...] = (_flip, _flip, _overwrite, _delete, _insert, _repeat, _move, _cut, _behead)


def _lines(change: Callable[[list[bytes], int, Random], None]) -> Mutation:
    """A mutation of the list of lines (ends kept) around a line."""

    def mutation(content: bytes, draw: Random) -> bytes:
        lines = content.splitlines(keepends=True) or [b""]
        change(lines, draw.randrange(len(lines)), draw)
        return b"".join(lines)

    return mutation


def _swap(lines: list[bytes], at: int, draw: Random) -> None:
    other = draw.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _foreign(lines: list[bytes], at: int, draw: Random) -> None:
    odd = draw.choice((b"", b" ", b"# comment", b"//", b"---", b"Total,3", b"...", draw.choice(ODD_VALUES)))
    lines.insert(at, odd + draw.choice((b"\n", b"\r\n", b"\r", b"\n\n")))


def _line_end(lines: list[bytes], at: int, draw: Random) -> None:
    lines[at] = lines[at].rstrip(b"\r\n") + draw.choice((b"\n", b"\r\n", b"\r", b"\n\r", b"", b" \n", b",\n", b"\t\n", b"\x00\n"))


_OF_LINES: tuple[Mutation, ...] = (
    _lines(lambda lines, at, draw: lines.insert(draw.randrange(len(lines)), lines[at])),
    _lines(lambda lines, at, draw: lines.__delitem__(at)),
    _lines(_swap),
    _lines(_foreign),
    _lines(_line_end),
)


def _tokens(change: Callable[[bytes, Random], bytes]) -> Mutation:
    """A mutation of one word, number or quoted text."""

    def mutation(content: bytes, draw: Random) -> bytes:
        found = list(_TOKEN.finditer(content, 0, _LOOKED_AT))
        if not found:
            return content + draw.choice(ODD_VALUES)
        token = draw.choice(found)
        return content[: token.start()] + change(token[0], draw) + content[token.end() :]

    return mutation


def _other_name(token: bytes, draw: Random) -> bytes:
    inner = token.strip(b'"')
    return token.replace(inner, draw.choice((inner.upper(), inner.lower(), b" " + inner + b" ", inner[:-1], inner * 2, b"")))


def _same_key_again(content: bytes, draw: Random) -> bytes:
    found = list(_PAIR.finditer(content, 0, _LOOKED_AT))
    if not found:
        return content
    pair = draw.choice(found)
    value = draw.choice((pair[2], draw.choice(ODD_VALUES)))
    return content[: pair.start()] + pair[1] + b": " + value + b", " + content[pair.start() :]


def _as_another(content: bytes, draw: Random) -> bytes:
    """A token in the place of another one."""
    found = list(_TOKEN.finditer(content, 0, _LOOKED_AT))
    one, other = (draw.choice(found), draw.choice(found)) if found else (None, None)
    return content if one is None or other is None else content[: one.start()] + other[0] + content[one.end() :]


_OF_TOKENS: tuple[Mutation, ...] = (
    _tokens(lambda token, draw: draw.choice(ODD_VALUES)),
    _tokens(lambda token, draw: draw.choice(ODD_VALUES)),
    _tokens(lambda token, draw: b"[" + token + b"]"),
    _tokens(lambda token, draw: token.strip(b'"') if token.startswith(b'"') else b'"' + token + b'"'),
    _tokens(lambda token, draw: b"-" + token),
    _tokens(_other_name),
    _same_key_again,
    _as_another,
)


def _encoded(name: str) -> Mutation:
    return lambda content, draw: (content.decode(errors="replace") + draw.choice(("", "é", "\U0001f600"))).encode(name, "replace")


_OF_ALL: tuple[Mutation, ...] = (
    lambda content, draw: b"\xef\xbb\xbf" + content,
    lambda content, draw: content.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n", b" ", b"\n\x00"))),
    lambda content, draw: content.replace(b",", draw.choice((b";", b"\t", b", ", b",,", b"|"))),
    lambda content, draw: content.replace(b'"', draw.choice((b"'", b'""', b"", b'\\"'))),
    lambda content, draw: content.replace(b":", draw.choice((b": ", b"=", b"::", b":\n"))),
    lambda content, draw: draw.choice((b"", b"\n", b" ", b"\x00", b"[", b"{", b"PAR1", b"null", b"\xff", b"[]", b"{}", b"\r")),
    lambda content, draw: draw.choice((b" \n\t", b"\n" * 70_000, b"\x00" * 100)) + content,
    lambda content, draw: content + draw.choice((b"\x00", b"\x1a", b"\n\n\n", b" ", b"]", b"}", b",", b'"', b"\xc3", b"\n[")),
    lambda content, draw: content + draw.choice((b"\n", b"", b",")) + content,
    lambda content, draw: content + b"z" * draw.choice((70_000, 1_200_000)),
    lambda content, draw: draw.randbytes(draw.randint(0, 80)),
    _encoded("utf-16"),
    _encoded("utf-16-le"),
    _encoded("latin-1"),
    _encoded("cp1252"),
)  # fmt: skip
