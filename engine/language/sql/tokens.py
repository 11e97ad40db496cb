"""Tokenizer of the rule language, which makes tokens for sqlglot's parser.

sqlglot's own tokenizer decides by the class of a character and can't be configured for the lexical rules of the
language: text without escapes whose doubled quotes stay, a minus that may or may not begin a comment, digits that are
a key after a dot. So `RuleTokenizer` scans with one regular expression.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NoReturn

from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

from engine.errors import Position, RuleError

__all__ = ["DO", "ELSE", "FOREACH", "INCASE", "RANGE", "RESERVED", "RULE_KEYWORDS", "RuleTokenizer", "TextPositions"]

FOREACH = TokenType.FOR
DO = TokenType.EXECUTE
INCASE = TokenType.FILTER
ELSE = TokenType.DEFAULT
"""Not sqlglot's ELSE: of a statement that begins with that token its parser returns no tree at all."""
RANGE = TokenType.RANGE
RESERVED = TokenType.COMMAND
"""IF and ELSIF, which are reserved and have no meaning yet."""

RULE_KEYWORDS = {
    "AND": TokenType.AND,
    "AS": TokenType.ALIAS,
    "CASE": TokenType.CASE,
    "DO": DO,
    "ELSE": ELSE,
    "ELSIF": RESERVED,
    "END": TokenType.END,
    "FOREACH": FOREACH,
    "FROM": TokenType.FROM,
    "IF": RESERVED,
    "IN": TokenType.IN,
    "INCASE": INCASE,
    "NOT": TokenType.NOT,
    "OR": TokenType.OR,
    "SELECT": TokenType.SELECT,
    "THEN": TokenType.THEN,
    "WHEN": TokenType.WHEN,
    "WHERE": TokenType.WHERE,
}
"""Reserved words in any letter case: as names they need quotes."""

_LOWER_CASE_WORDS = {
    "true": TokenType.TRUE,
    "false": TokenType.FALSE,
    "div": TokenType.DIV,
    "mod": TokenType.MOD,
}

_OPERATORS = {
    "=~": TokenType.RLIKE,
    "~=": TokenType.IRLIKE,
    "!=": TokenType.NEQ,
    "<>": TokenType.NEQ,
    "<=": TokenType.LTE,
    ">=": TokenType.GTE,
    "||": TokenType.DPIPE,
    "=": TokenType.EQ,
    "<": TokenType.LT,
    ">": TokenType.GT,
    "+": TokenType.PLUS,
    "-": TokenType.DASH,
    "*": TokenType.STAR,
    "/": TokenType.SLASH,
    "(": TokenType.L_PAREN,
    ")": TokenType.R_PAREN,
    "[": TokenType.L_BRACKET,
    "]": TokenType.R_BRACKET,
    ",": TokenType.COMMA,
    ".": TokenType.DOT,
}

_TOKEN = re.compile(
    r"""
      (?P<space>   \s+ )
    | (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<range>   \[ [+-]?[0-9]+ \.\. [+-]?[0-9]+ \] )
    | (?P<escaped> [eE] '(?: [^'\\] | \\. | '' )*' )
    | (?P<string>  '(?: [^'] | '' )*' )
    | (?P<quoted>  "(?: [^"] | "" )*" )
    | (?P<number>  [0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+ | [0-9]+ )
    | (?P<word>    [^\W\d][\w$@~]* )
    | (?P<foreign> <=> | == | => | =< | << | >> | -> | // | \*\* | :: | && | := )
    | (?P<operator> =~ | ~= | != | <> | <= | >= | \|\| | [-+*/()\[\],.=<>] )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_DIGITS = re.compile(r"[0-9]+")
_FRACTION = re.compile(r"\.([0-9]+)")
_SUFFIX = re.compile(r"[fFdD](?![\w$@~])")
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u(?![dD][89A-Fa-f])[0-9A-Fa-f]{4}|.)|''", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}

_REMEDIES = {
    "==": "compare with =",
    "=>": "compare with >=",
    "=<": "compare with <=",
    "<<": "compare with <, or use bitsl(a, b)",
    ">>": "compare with >, or use bitsr(a, b)",
    "**": "use power(a, b)",
    "~": "write topic =~ filter, or bitnot(a)",
    "->": "write paths with dots: payload.temp",
    "//": "a comment begins with --; topics stand in double quotes",
    "<=>": "compare with =",
    "&&": "write AND",
    "::": "convert with a function: int(x), float(x), str(x)",
    ":=": "name a column with AS",
    "!": "write NOT",
    "%": "write mod: a mod b",
    ";": "remove it: a rule is one statement without ;",
    "`": "put names in double quotes",
    "{": "there is no literal for a map: use map_new() and map_put()",
    "$": "write the column's name alone; ${…} belongs into templates",
    "#": "put topics in double quotes; a comment begins with --",
    "?": "use CASE WHEN … THEN … ELSE … END",
    ":": "write paths with dots: payload.temp; ranges with two: [1..3]",
    "^": "use power(a, b) or bitxor(a, b)",
    "&": "write AND, or bitand(a, b) for the bits of numbers",
    "|": "write OR, or bitor(a, b) for the bits of numbers, or || to join text",
    "“": "use straight quotes",
    "”": "use straight quotes",
    "‘": "use straight quotes",
    "’": "use straight quotes",
}


class TextPositions:
    """Conversion of offsets in a text to lines and columns."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer(r"\n", text))]

    def at(self, start: int, end: int) -> Position:
        """Return the position of the text from `start` up to `end`, cut at the end of its first line."""
        line = bisect_right(self._starts, start)
        first = self._starts[line - 1]
        last = self._starts[line] - 1 if line < len(self._starts) else len(self._text)
        return Position(line, start - first + 1, max(1, min(end, last) - start))


class RuleTokenizer(Tokenizer):
    """Tokenizer of statements. ``minus_signs`` reads ``--`` in the last line as two minus signs."""

    def tokenize(self, sql: str, *, minus_signs: bool = False) -> list[Token]:
        """Return the tokens of `sql`. Raises `RuleError` at the first character that can't begin one."""
        return _Scan(sql, minus_signs).run()


class _Scan:
    """One pass over a text. The tokens carry offsets; lines and columns are computed where an error needs them."""

    def __init__(self, text: str, minus_signs: bool) -> None:
        self._text = text
        self._tokens: list[Token] = []
        self._last_line = text.rstrip().rfind("\n") + 1
        self._minus_signs = minus_signs

    def run(self) -> list[Token]:
        text, tokens, match_at = self._text, self._tokens, _TOKEN.match
        offset, size, after_dot = 0, len(text), -1
        while offset < size:
            if offset == after_dot and (digits := _DIGITS.match(text, offset)):
                offset = self._numeric_key(digits[0], offset, digits.end())
                continue
            match = match_at(text, offset)
            assert match is not None  # the last alternative takes any character
            kind, end = match.lastgroup, match.end()
            if kind == "word":
                word = match[0]
                tokens.append(Token(_word(word), word, 1, 1, offset, end - 1))
            elif kind != "space":
                end = self._other(kind, match[0], offset, end)
                if tokens and tokens[-1].token_type is TokenType.DOT:
                    after_dot = tokens[-1].end + 1
            offset = end
        return tokens

    def _other(self, kind: str | None, text: str, offset: int, end: int) -> int:
        """Add the token at `offset` that is neither a word nor space; return the offset behind it."""
        if kind == "operator" and not self._text.startswith("/*", offset):
            return self._add(_OPERATORS[text], text, offset, end)
        if kind == "comment" and self._is_minus(offset, text):
            return self._add(TokenType.DASH, "-", offset, offset + 1)
        if kind in ("string", "quoted"):
            token_type = TokenType.STRING if kind == "string" else TokenType.IDENTIFIER
            return self._add(token_type, text.strip(text[0]), offset, end)
        if kind == "escaped":
            return self._add(TokenType.NATIONAL_STRING, _ESCAPE.sub(_unescape, text[2:-1]), offset, end)
        if kind == "range":
            return self._add(RANGE, text[1:-1], offset, end)
        if kind == "number":
            return self._number(text, offset, end)
        if kind == "comment":
            return end
        self._refuse(text, offset)

    def _add(self, token_type: TokenType, text: str, start: int, end: int) -> int:
        self._tokens.append(Token(token_type, text, 1, 1, start, end - 1))
        return end

    def _at(self, start: int, end: int) -> Position:
        return TextPositions(self._text).at(start, end)

    def _number(self, text: str, offset: int, end: int) -> int:
        if _SUFFIX.match(self._text, end) and len(text) > 1:
            at = self._at(offset, end + 1)
            raise RuleError(f"{self._text[offset : end + 1]} is not a number", at, f"write {text}")
        return self._add(TokenType.NUMBER, text, offset, end)

    def _numeric_key(self, text: str, offset: int, end: int) -> int:
        """Add ``.1`` as a key. ``.1.5`` could be one key or two and is refused, as in EMQX."""
        more = _FRACTION.match(self._text, end)
        if more:
            at = self._at(offset, more.end())
            remedy = f"write .'{text}'.'{more[1]}' for two keys, .'{text}{more[0]}' for one"
            raise RuleError(f".{text}{more[0]} may be one key or two", at, remedy)
        return self._add(TokenType.NUMBER, text, offset, end)

    def _is_minus(self, offset: int, comment: str) -> bool:
        """Return whether ``--`` is two minus signs: only in the last line, where EMQX's language has no comments.

        With a space beside it, it is a comment there as well, unless ``minus_signs`` is set: that is the second attempt
        at a statement that can't be parsed with the comment.
        """
        if offset < self._last_line or comment.startswith("/*"):
            return False
        if self._minus_signs:
            return True
        before, after = self._text[offset - 1 : offset], comment[2:3]
        return not (before.isspace() or not before or after.isspace() or not after or after == "-")

    def _refuse(self, text: str, offset: int) -> NoReturn:
        at = self._at(offset, offset + len(text))
        if text in ("'", '"'):
            what = "text" if text == "'" else "name"
            raise RuleError(f"the {what} that begins here has no closing {text}", at, f"add {text} where it ends")
        if self._text.startswith("/*", offset):
            raise RuleError("the comment that begins here has no end", at, "add */ where it ends")
        shown = text if text.isprintable() else f"U+{ord(text):04X}"
        remedy = _REMEDIES.get(text, "remove it, or quote the name it is in")
        if text == "$" and not self._text.startswith("${", offset):
            remedy = "put topics in double quotes; names of columns have no $"
        raise RuleError(f"{shown} has no meaning here", at, remedy)


def _word(text: str) -> TokenType:
    return _LOWER_CASE_WORDS.get(text) or RULE_KEYWORDS.get(text.upper()) or TokenType.VAR


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code is None:
        return "'"
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code)
