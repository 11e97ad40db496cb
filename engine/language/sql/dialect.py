"""The grammar of the rule language, as a dialect of sqlglot.

sqlglot's parser contributes the cursor over the tokens, comma-separated lists, and the precedence levels from OR down
to the factors of a product; conditions, operands, paths, CASE and the clauses of a rule are our own. Any expression
may stand anywhere: AND, IN and CASE in a column, a path behind a call, which EMQX's grammar refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, ClassVar, NoReturn, TypeVar

from sqlglot import exp, parser
from sqlglot.dialects.dialect import Dialect
from sqlglot.tokenizer_core import Token, TokenType

from engine.errors import RuleError
from engine.language.sql.syntax import (
    FilterMatch,
    Path,
    PathIndex,
    PathIndexBy,
    PathKey,
    PathSlice,
    Plus,
    RuleField,
    RuleStatement,
    SinkName,
    TopicMatch,
    TopicName,
)
from engine.language.sql.tokens import (
    DO,
    ELSE,
    FOREACH,
    INCASE,
    RANGE,
    RESERVED,
    RULE_KEYWORDS,
    RuleTokenizer,
    TextPositions,
)

__all__ = ["Rule", "parse_tree"]

NESTING_MAX = 40
"""The nesting depth of parentheses, calls, lists, CASE and NOT. Python's compiler takes 100 levels of indentation."""

STEPS_MAX = 80
"""The number of keys and indexes that may follow a name."""

RANGES_MAX = 4
"""The number of ranges in a path: each is a level of nesting on top of those that `NESTING_MAX` bounds."""

LENGTH_MAX = 100_000
"""The length of a statement in characters."""

Parsed = TypeVar("Parsed")
Node = TypeVar("Node", bound=exp.Expr)


_COMPARISONS: dict[TokenType, type[exp.Expr]] = {
    TokenType.EQ: exp.EQ,
    TokenType.NEQ: exp.NEQ,
    TokenType.LT: exp.LT,
    TokenType.GT: exp.GT,
    TokenType.LTE: exp.LTE,
    TokenType.GTE: exp.GTE,
    TokenType.RLIKE: TopicMatch,
    TokenType.IRLIKE: FilterMatch,
}

_KEY_TOKENS = {
    TokenType.VAR, TokenType.TRUE, TokenType.FALSE, TokenType.DIV, TokenType.MOD, *RULE_KEYWORDS.values(),
}  # fmt: skip

_FOREIGN_CLAUSES = {
    "GROUP": "there is no GROUP BY: a rule sees one message at a time",
    "ORDER": "there is no ORDER BY: a rule sees one message at a time",
    "HAVING": "there is no HAVING: put the condition into WHERE",
    "LIMIT": "there is no LIMIT: a rule sees one message at a time",
    "JOIN": "there are no joins: name several topics after FROM, with commas",
    "INNER": "there are no joins: name several topics after FROM, with commas",
    "LEFT": "there are no joins: name several topics after FROM, with commas",
    "UNION": "there is no UNION: write two rules",
    "LIKE": "there is no LIKE: use regex_match(text, pattern), or =~ for topics",
    "ILIKE": "there is no ILIKE: use regex_match(lower(text), pattern)",
    "REGEXP": "use regex_match(text, pattern)",
    "CONTAINS": "use regex_match(text, pattern), or contains(item, list)",
    "AS": "only columns have aliases: remove AS and the name",
    "INSERT": "INSERT INTO stands before SELECT",
    "INTO": "INSERT INTO stands before SELECT",
}

_AFTER_NOT = {
    "NULL": "write IS NOT NULL",
    "LIKE": "there is no LIKE: use NOT regex_match(text, pattern), or NOT topic =~ filter",
    "BETWEEN": "write NOT x BETWEEN low AND high",
}

_FOREIGN_STATEMENTS = {"UPDATE", "DELETE", "CREATE", "WITH", "ALTER", "DROP", "MERGE", "VALUES", "SET", "EXPLAIN"}


class RuleParser(parser.Parser):
    """Parser of statements. Every error is a `RuleError` with position and remedy."""

    TERM: ClassVar = {TokenType.PLUS: exp.Add, TokenType.DASH: exp.Sub, TokenType.DPIPE: exp.DPipe}
    FACTOR: ClassVar = {
        TokenType.STAR: exp.Mul, TokenType.SLASH: exp.Div, TokenType.DIV: exp.IntDiv, TokenType.MOD: exp.Mod,
    }  # fmt: skip
    CONJUNCTION: ClassVar = {TokenType.AND: exp.And}
    DISJUNCTION: ClassVar = {TokenType.OR: exp.Or}

    _depth = 0

    # -- statements

    def _parse_statement(self) -> exp.Expr:
        self._positions = TextPositions(self.sql)
        self._depth = 0
        if not self._curr:
            raise RuleError("there is no statement", self._positions.at(0, 1), 'write SELECT … FROM "topic"')
        start = self._curr
        sinks = self._sinks() if self._match_text_seq("INSERT") else []
        if self._match(TokenType.SELECT):
            many, fields, do, incase = False, self._fields("SELECT"), None, None
        elif self._match(FOREACH):
            many, fields = True, self._fields("FOREACH")
            do = self._fields("DO") if self._match(DO) else None
            incase = self._parse_disjunction() if self._match(INCASE) else None
        else:
            self._no_statement()
        sources = self._sources("a comma or FROM" if incase is None else "FROM")
        where = self._condition("WHERE") if self._match(TokenType.WHERE) else None
        if self._curr:
            if where is None:
                self._leftover(None, "topics are separated by commas; conditions stand behind WHERE", "WHERE")
            self._leftover(None, "conditions are joined by AND or OR", "AND")
        statement = RuleStatement(
            sinks=sinks, many=many, fields=fields, do=do, incase=incase, sources=sources, where=where
        )
        return self._node(statement, start)

    def _no_statement(self) -> NoReturn:
        word = self._curr.text.upper()
        if word in _FOREIGN_STATEMENTS:
            self._fail(f"{word} is not a statement of the rule language", remedy="a rule begins with SELECT or FOREACH")
        remedy = "a rule begins with SELECT, FOREACH or INSERT INTO"
        if self._curr.token_type in (TokenType.VAR, TokenType.IDENTIFIER) and self._prev:
            remedy = "put a comma between two sinks"
        self._expected("SELECT or FOREACH", remedy, "SELECT", "FOREACH", "INSERT")

    def _sinks(self) -> list[exp.Expr]:
        if not self._match_text_seq("INTO"):
            self._expected("INTO", "write INSERT INTO sink SELECT …")
        return self._parse_csv(self._sink)

    def _sink(self) -> exp.Expr:
        start = self._curr
        name = self._name("the name of a sink")
        columns, opening = None, self._curr
        if self._match(TokenType.L_PAREN):
            columns = self._parse_csv(lambda: exp.Identifier(this=self._name("the name of a column"), quoted=True))
            self._close(TokenType.R_PAREN, ")", opening)
        self._refuse_minus(name)
        if self._curr.token_type is TokenType.DOT:
            self._fail("a sink has one name", remedy="remove the dot; tables are named in connectors.yaml")
        return self._node(SinkName(this=name, columns=columns), start)

    def _refuse_minus(self, name: str) -> None:
        if self._curr.token_type is TokenType.DASH and self._is_connected():
            self._fail("a name with a minus sign needs double quotes", remedy=f'write "{name}-…"')

    def _name(self, what: str) -> str:
        if not self._match_set((TokenType.VAR, TokenType.IDENTIFIER)):
            remedy = "put it in double quotes" if self._curr.text[:1].isalnum() else None
            if self._prev.token_type is TokenType.COMMA and self._curr.token_type in (TokenType.SELECT, FOREACH):
                remedy = _REMOVE_COMMA
            if self._prev.token_type is TokenType.ALIAS and self._curr.token_type is TokenType.FROM:
                remedy = "write a name after AS, or remove AS"
            self._expected(what, remedy)
        return self._prev.text

    def _fields(self, clause: str) -> list[exp.Expr]:
        if self._curr.token_type in (TokenType.FROM, DO, INCASE, TokenType.WHERE) or not self._curr:
            self._expected(
                f"a column after {clause}", f"write {clause} *, or name columns" if clause != "FOREACH" else None
            )
        return self._parse_csv(self._field)

    def _field(self) -> exp.Expr:
        start = self._curr
        if self._match(TokenType.STAR):
            return self._node(RuleField(this=exp.Star(), text="*"), start)
        value = self._parse_disjunction()
        text = self.sql[start.start : self._prev.end + 1]
        alias, written = None, self._match(TokenType.ALIAS)
        if written:
            alias = self._target()
        elif self._match_set((TokenType.VAR, TokenType.IDENTIFIER), advance=False):
            if isinstance(value, (exp.Predicate, exp.Connector, exp.Not, TopicMatch, FilterMatch)):
                self._fail("a comparison takes its name with AS", remedy=f"write AS {self._curr.text}")
            alias = self._target()
        if alias is not None and self._curr.token_type is TokenType.ALIAS:
            self._named_twice(value, text, alias, written)
        return self._node(RuleField(this=value, alias=alias, written=written, text=text), start)

    def _named_twice(self, value: exp.Expr | None, text: str, alias: exp.Expr, written: bool | None) -> NoReturn:
        """Report a second alias: probably a comma or parenthesis is missing before the first."""
        if written:
            self._fail("a column has one alias", remedy="remove one of the two")
        at, end = alias.meta["start"], alias.meta["end"] + 1
        name, key = self.sql[at:end], text.rpartition(".")[2]
        remedy = f"put a comma before {name}; arguments stand in parentheses"
        if self.sql[at - 1].isdigit():
            is_path = isinstance(value, Path)
            remedy = f"write .'{key}{name}' for one key" if is_path else "a number has decimal digits only"
        raise RuleError(f"{name} is read as the alias of {text}", self._positions.at(at, end), remedy)

    def _target(self) -> exp.Expr:
        start = self._curr
        if start.token_type is TokenType.STRING:
            self._fail("an alias is a name, not text", remedy=f'write AS "{start.text}"')
        if start.token_type in (TokenType.TRUE, TokenType.FALSE, TokenType.DIV, TokenType.MOD):
            self._advance()
            target: exp.Expr = self._node(Path(this=exp.Identifier(this=start.text, quoted=True), steps=[]), start)
        else:
            name = self._name("an alias after AS")
            identifier = exp.Identifier(this=name, quoted=start.token_type is TokenType.IDENTIFIER)
            target = self._steps(self._node(identifier, start), start)
        if isinstance(target, PathSlice):
            self._fail("a range can't be assigned to", start, "write one index: AS x[1]")
        self._refuse_minus(self.sql[start.start : self._prev.end + 1])
        return target

    def _sources(self, wanted: str) -> list[exp.Expr]:
        if not self._match(TokenType.FROM):
            if self._curr.token_type is TokenType.WHERE:
                self._expected("FROM", 'name the topics before WHERE: FROM "topic/#" WHERE …')
            if not self._curr:
                self._expected("FROM", 'name the topics: FROM "topic/#"')
            self._leftover(wanted, None, "FROM", "INCASE")
        return self._parse_csv(self._source)

    def _source(self) -> exp.Expr:
        start = self._curr
        if not self._match_set((TokenType.VAR, TokenType.IDENTIFIER, TokenType.STRING)):
            trailing = self._prev.token_type is TokenType.COMMA and self._curr.token_type in (
                *_CLAUSES,
                TokenType.SENTINEL,
            )
            quotes = 'put topics in double quotes: FROM "sensors/+/temp"'
            self._expected("a topic after FROM", _REMOVE_COMMA if trailing else quotes)
        is_bare = start.token_type is TokenType.VAR and self._is_connected()
        if is_bare and self._curr.token_type in (TokenType.SLASH, TokenType.DOT, TokenType.DASH):
            self._fail("a topic needs double quotes", start, 'write FROM "sensors/+/temp"')
        return self._node(TopicName(this=start.text), start)

    def _leftover(self, wanted: str | None, remedy: str | None, *near: str) -> NoReturn:
        word = self._curr.text.upper()
        if self._curr.token_type in (TokenType.VAR, TokenType.ALIAS) and word in _FOREIGN_CLAUSES:
            self._fail(f"{word} has no meaning here", remedy=_FOREIGN_CLAUSES[word])
        if self._curr.token_type in (DO, INCASE, TokenType.FROM, TokenType.WHERE, TokenType.SELECT, FOREACH):
            self._fail(
                f"{word} can't stand here",
                remedy="the order is SELECT … FROM … WHERE, or FOREACH … DO … INCASE … FROM … WHERE",
            )
        if self._curr.token_type is TokenType.NOT:
            self._expected("the end of the statement", _AFTER_NOT.get(self._next.text.upper(), remedy))
        if self._curr.token_type is TokenType.R_PAREN:
            self._fail("unmatched )", remedy="remove it, or add ( where it belongs")
        if self._curr.token_type in (TokenType.STRING, TokenType.IDENTIFIER) and _meant(self._prev, near) == "FROM":
            self._advance(-1)  # FROM misspelt is the alias of a column, and its topic one too many
        if self._curr.token_type in (TokenType.VAR, TokenType.IDENTIFIER) and wanted:
            is_into = self._prev.text.upper() == "INTO"
            remedy = "INSERT INTO stands before SELECT" if is_into else "put a comma between two columns"
            self._expected(wanted, remedy, *near)
        if self._curr.token_type is TokenType.STRING and wanted:
            remedy = f'write AS "{self._curr.text}" for an alias, or put a comma before it'
        self._expected(wanted or "the end of the statement", remedy, *near)

    # -- conditions

    def _condition(self, clause: str) -> exp.Expr | None:
        if not self._curr:
            self._expected(f"a condition after {clause}", f"write a condition, or remove {clause}")
        return self._parse_disjunction()

    def _parse_equality(self, parse_is: bool = True) -> exp.Expr | None:
        start = self._curr
        if self._match(TokenType.NOT):
            operand = self._deeper(self._parse_equality)
            return self._node(exp.Not(this=operand), start)
        return self._parse_comparison()

    def _parse_comparison(self, this: exp.Expr | None = None) -> exp.Expr | None:
        start = self._curr
        left = self._parse_term()
        if self._match_set(_COMPARISONS):
            kind = _COMPARISONS[self._prev.token_type]
            result: exp.Expr = self._node(kind(this=left, expression=self._parse_term()), start)
            if self._curr.token_type in _COMPARISONS:
                self._fail("comparisons can't be chained", remedy="join two comparisons with AND or OR")
            return result
        negated = self._curr.token_type is TokenType.NOT and self._next.token_type is TokenType.IN
        if negated or self._curr.token_type is TokenType.IN:
            self._advance(2 if negated else 1)
            return self._negated(negated, self._node(exp.In(this=left, expressions=self._choices()), start), start)
        return self._plain_sql_condition(left, start)

    def _plain_sql_condition(self, left: exp.Expr | None, start: Token) -> exp.Expr | None:
        """Parse IS NULL and BETWEEN. They are not reserved and may be aliases: the next token decides."""
        word = self._curr.text.upper()
        if self._curr.token_type is not TokenType.VAR or not self._next or self._next.token_type in _ENDS_ALIAS:
            return left
        if word == "IS" and self._next.token_type is not TokenType.L_BRACKET:
            self._advance()
            negated = self._match(TokenType.NOT)
            if not self._match_text_seq("NULL"):
                self._expected("NULL after IS", "write IS NULL or IS NOT NULL; compare other values with = or !=")
            return self._negated(negated, self._node(exp.Is(this=left, expression=exp.Null()), start), start)
        if word == "BETWEEN":
            self._advance()
            low = self._parse_term()
            if not self._match(TokenType.AND):
                self._expected("AND", "write BETWEEN low AND high")
            return self._node(exp.Between(this=left, low=low, high=self._parse_term()), start)
        return left

    def _negated(self, negated: bool, node: exp.Expr, start: Token) -> exp.Expr:
        return self._node(exp.Not(this=node), start) if negated else node

    def _choices(self) -> list[exp.Expr]:
        opening = self._curr
        if not self._match(TokenType.L_PAREN):
            self._expected("( after IN", "write IN (a, b, c)")
        if self._curr.token_type is TokenType.R_PAREN:
            self._expected("a value", "IN needs at least one value")
        choices = self._deeper(lambda: self._parse_csv(self._parse_disjunction))
        self._close(TokenType.R_PAREN, ")", opening)
        return choices

    # -- operands

    def _parse_at_time_zone(self, this: exp.Expr | None) -> exp.Expr | None:
        return this

    def _parse_unary(self) -> exp.Expr:
        start = self._curr
        if self._match_set((TokenType.DASH, TokenType.PLUS)):
            kind = exp.Neg if self._prev.token_type is TokenType.DASH else Plus
            return self._node(kind(this=self._deeper(self._parse_unary)), start)
        return self._operand()

    def _operand(self) -> exp.Expr:
        start, token_type = self._curr, self._curr.token_type
        if token_type in (TokenType.VAR, TokenType.IDENTIFIER):
            self._advance()
            return self._after_name(start)
        if token_type in (TokenType.DIV, TokenType.MOD) and self._next.token_type is TokenType.L_PAREN:
            self._advance()
            return self._call(start, start.text)
        if token_type in _LITERALS:
            self._advance()
            return self._node(_LITERALS[token_type](start.text), start)
        if token_type is TokenType.DOT and self._next.token_type is TokenType.NUMBER:
            self._advance(2)
            return self._node(exp.Literal(this="0." + self._prev.text, is_string=False), start)
        if token_type is RANGE:
            self._advance()
            return self._node(PathSlice(text=start.text), start)
        if token_type is TokenType.L_PAREN:
            self._advance()
            inner = self._deeper(self._parse_disjunction)
            self._close(TokenType.R_PAREN, ")", start)
            return self._steps(self._node(exp.Paren(this=inner), start), start)
        if token_type is TokenType.L_BRACKET:
            self._advance()
            return self._steps(self._list(start), start)
        if token_type is TokenType.CASE:
            self._advance()
            return self._deeper(lambda: self._case(start))
        self._no_operand()

    def _no_operand(self) -> NoReturn:
        token_type, word = self._curr.token_type, self._curr.text
        if token_type is TokenType.STAR:
            self._fail(
                "* must be an item of its own in a column list", remedy="write *, then other columns after a comma"
            )
        if token_type is RESERVED or (token_type in RULE_KEYWORDS.values() and self._is_like_a_name()):
            remedy = "use CASE WHEN … THEN … ELSE … END" if word.upper() == "IF" else f'write "{word}" if it is a name'
            self._fail(f"{word.upper()} is a reserved word", remedy=remedy)
        after_comma = None
        if self._prev.token_type is TokenType.COMMA and token_type in (TokenType.FROM, DO, INCASE, TokenType.R_PAREN):
            after_comma = _REMOVE_COMMA
        self._expected("a value", after_comma)

    def _is_like_a_name(self) -> bool:
        """Return whether the current reserved word stands where a name is expected."""
        return self._prev.token_type not in (TokenType.COMMA, TokenType.FROM) and self._next.token_type in _ENDS_ALIAS

    def _after_name(self, start: Token) -> exp.Expr:
        if self._curr.token_type is TokenType.L_PAREN:
            return self._steps(self._call(start, start.text), start)
        index = self._index
        name = start.text
        while self._match_pair(TokenType.DOT, TokenType.VAR):
            name = f"{name}.{self._prev.text}"
        if self._index > index and self._match(TokenType.L_PAREN, advance=False):
            return self._steps(self._call(start, name), start)
        self._retreat(index)
        identifier = exp.Identifier(this=start.text, quoted=start.token_type is TokenType.IDENTIFIER)
        return self._steps(Path(this=self._node(identifier, start), steps=[]), start)

    def _steps(self, base: exp.Expr, start: Token) -> exp.Expr:
        """Parse the keys, indexes and ranges that follow `base`."""
        steps: list[exp.Expr] = []
        ranges = 0
        while True:
            at = self._curr
            if len(steps) > STEPS_MAX:
                self._fail(f"a path has more than {STEPS_MAX} steps", remedy="give a part of it an alias of its own")
            if self._match(TokenType.DOT):
                if not steps and isinstance(base, (exp.Array, PathSlice)):
                    self._fail("a list has no keys", at, "write [1] for its first element")
                steps.append(self._key(at))
            elif self._match(TokenType.L_BRACKET):
                steps.append(self._bracket(at))
            elif self._match(RANGE):
                ranges += 1
                if ranges > RANGES_MAX:
                    self._fail(f"a path has more than {RANGES_MAX} ranges", at, "give a part of it an alias of its own")
                base, steps = self._with_steps(base, steps, start), []
                base = self._node(PathSlice(this=base, text=at.text), start)
            else:
                return self._with_steps(base, steps, start)

    def _with_steps(self, base: exp.Expr, steps: list[exp.Expr], start: Token) -> exp.Expr:
        if isinstance(base, Path) and not base.args["steps"]:
            base.set("steps", steps)
            return self._node(base, start)
        if isinstance(base, exp.Identifier) or steps:
            return self._node(Path(this=base, steps=steps), start)
        return base

    def _key(self, start: Token) -> exp.Expr:
        connected = self._is_connected()
        if self._match_set((TokenType.VAR, TokenType.IDENTIFIER, TokenType.STRING, TokenType.NUMBER)) or (
            connected and self._match_set(_KEY_TOKENS)
        ):
            return self._node(PathKey(this=self._prev.text), start)
        if self._curr.token_type is TokenType.STAR:
            self._fail("* must be an item of its own in a column list", remedy="name the keys you want")
        self._expected("a key after the dot", 'write .name, ."any key" or [1]')

    def _bracket(self, start: Token) -> exp.Expr:
        signed = self._match_set((TokenType.DASH, TokenType.PLUS))
        negative = signed and self._prev.token_type is TokenType.DASH
        if self._curr.token_type is TokenType.NUMBER and self._next.token_type is TokenType.R_BRACKET:
            self._advance()
            index = self._prev
            if not index.text.isdigit():
                self._fail("an index is a whole number", index, "write [1] for the first element")
            node: exp.Expr = PathIndex(this=index.text, negative=negative)
        else:
            if signed:
                self._advance(-1)
            if self._curr.token_type is TokenType.STRING:
                self._fail("an index is a number", remedy=f"for a key of a map write .'{self._curr.text}'")
            if self._curr.token_type is TokenType.R_BRACKET:
                self._expected("an index", "write [1] for the first element, [-1] for the last")
            node = PathIndexBy(this=self._deeper(self._parse_disjunction))
        self._close(TokenType.R_BRACKET, "]", start)
        return self._node(node, start)

    def _call(self, start: Token, name: str) -> exp.Expr:
        name_end = self._prev.end
        opening = self._curr
        self._advance()
        args: list[exp.Expr] = []
        if self._curr.token_type is not TokenType.R_PAREN:
            args = self._deeper(lambda: self._parse_csv(self._argument))
        self._close(TokenType.R_PAREN, ")", opening)
        node = self._node(exp.Anonymous(this=name, expressions=args), start)
        node.meta["name_end"] = name_end
        return node

    def _argument(self) -> exp.Expr | None:
        if self._curr.token_type is TokenType.STAR:
            remedy = "name a column; there are no aggregates: a rule sees one message at a time"
            self._fail("* is not an argument", remedy=remedy)
        value = self._parse_disjunction()
        if self._curr.token_type is TokenType.ALIAS:
            self._fail("an argument has no alias", remedy="write ) before AS, or remove AS and the name")
        return value

    def _list(self, start: Token) -> exp.Expr:
        items: list[exp.Expr] = []
        while self._curr.token_type is not TokenType.R_BRACKET:
            item = self._deeper(self._parse_disjunction)
            if item is not None:
                items.append(item)
            if not self._match(TokenType.COMMA):
                break
        self._close(TokenType.R_BRACKET, "]", start)
        return self._node(exp.Array(expressions=items), start)

    def _case(self, start: Token) -> exp.Expr:
        operand = None if self._curr.token_type is TokenType.WHEN else self._parse_disjunction()
        branches: list[exp.Expr] = []
        while self._match(TokenType.WHEN):
            at = self._prev
            condition = self._parse_disjunction()
            if not self._match(TokenType.THEN):
                self._expected("THEN", "write WHEN condition THEN value", "THEN")
            branches.append(self._node(exp.If(this=condition, true=self._parse_disjunction()), at))
        if not branches:
            if _meant(self._prev, ("WHEN",)):
                self._advance(-1)
            self._expected("WHEN", "write CASE WHEN condition THEN value END", "WHEN")
        otherwise = self._parse_disjunction() if self._match(ELSE) else None
        if not self._match(TokenType.END):
            if self._curr.text.upper() in ("ELSIF", "ELSEIF"):
                self._expected("END", "write another WHEN … THEN …")
            self._expected("END", "end CASE with END", "ELSE", "WHEN", "END")
        return self._steps(self._node(exp.Case(this=operand, ifs=branches, default=otherwise), start), start)

    # -- the cursor

    def _deeper(self, parse: Callable[[], Parsed]) -> Parsed:
        self._depth += 1
        if self._depth > NESTING_MAX:
            self._fail("the statement nests too deeply", remedy="give inner parts an alias of their own")
        result = parse()
        self._depth -= 1
        return result

    def _close(self, token_type: TokenType, text: str, opening: Token | None = None) -> None:
        if self._match(token_type):
            return
        if opening is not None and (not self._curr or self._curr.token_type in _CLAUSES):
            self._fail(f"{opening.text} is never closed", opening, f"add {text}")
        is_range = text == "]" and self._curr.token_type is TokenType.DOT
        self._expected(text, "write a range as [1..3]: two integers, no spaces" if is_range else None)

    def _node(self, node: Node, start: Token) -> Node:
        """Set the span of `node`: from `start` to the last token read."""
        meta = node.meta
        meta["start"] = start.start
        meta["end"] = self._prev.end
        return node

    def _expected(self, what: str, remedy: str | None, *near: str) -> NoReturn:
        """Raise the error that the current token is not `what`; it may be a misspelling of the keywords `near`."""
        found = "the end of the statement"
        meant = _meant(self._curr, near)
        remedy = f"did you mean {meant}?" if meant else remedy
        if self._curr:
            found = self.sql[self._curr.start : self._curr.end + 1]
            found = found if len(found) <= 40 else found[:40] + "…"
        self._fail(f"expected {what}, found {found}", remedy=remedy)

    def _fail(self, message: str, token: Token | None = None, remedy: str | None = None) -> NoReturn:
        place = token or self._curr
        if place:
            at = self._positions.at(place.start, place.end + 1)
        else:
            at = self._positions.at(self._prev.end + 1, self._prev.end + 2)
        raise RuleError(message, at, remedy)

    def raise_error(self, message: str, token: Token = parser.SENTINEL_NONE) -> None:
        """Raise the errors of sqlglot's own methods as `RuleError`."""
        self._fail(message, token or None)


def _meant(token: Token, keywords: tuple[str, ...]) -> str | None:
    """Return the keyword that an unquoted word is probably a misspelling of."""
    found = get_close_matches(token.text.upper(), keywords, n=1) if token.token_type is TokenType.VAR else None
    return found[0] if found else None


def _text(value: str) -> exp.Expr:
    return exp.Literal(this=value, is_string=True)


_LITERALS: dict[TokenType, Callable[[str], exp.Expr]] = {
    TokenType.STRING: _text,
    TokenType.NATIONAL_STRING: lambda value: exp.National(this=value),
    TokenType.NUMBER: lambda value: exp.Literal(this=value, is_string=False),
    TokenType.TRUE: lambda value: exp.Boolean(this=True),
    TokenType.FALSE: lambda value: exp.Boolean(this=False),
}

_REMOVE_COMMA = "remove the comma before it"

_CLAUSES = {TokenType.ALIAS, TokenType.FROM, TokenType.WHERE, TokenType.SELECT, FOREACH, DO, INCASE}

_ENDS_ALIAS = {
    TokenType.SENTINEL, TokenType.COMMA, TokenType.FROM, TokenType.WHERE, TokenType.R_PAREN, TokenType.R_BRACKET,
    TokenType.DOT, DO, INCASE, TokenType.AND, TokenType.OR, TokenType.WHEN, TokenType.THEN, TokenType.END,
}  # fmt: skip
"""Tokens that may follow an alias: a word before one of these is an alias, not an operator."""


class Rule(Dialect):
    """The dialect. Identifiers keep their letter case; nothing is normalised."""

    Tokenizer = RuleTokenizer
    Parser = RuleParser


# One instance for all statements: sqlglot makes a dialect anew for each use of the class, a tenth of the time to parse.
_DIALECT = Rule()
_TOKENIZER = RuleTokenizer(_DIALECT)


def parse_tree(sql: str) -> exp.Expr:
    """Parse a statement to sqlglot's tree. Raises `RuleError` for any other text, and no other exception."""
    _refuse_unreadable(sql)
    try:
        return _parse(sql, minus_signs=False)
    except RuleError as error:
        if "--" not in sql:
            raise
        try:
            return _parse(sql, minus_signs=True)
        except RuleError:
            raise error from None


def _parse(sql: str, *, minus_signs: bool) -> exp.Expr:
    tokens = _TOKENIZER.tokenize(sql, minus_signs=minus_signs)
    try:
        trees: list[Any] = RuleParser(dialect=_DIALECT).parse(tokens, sql)
    except RecursionError as error:
        raise RuleError("the statement nests too deeply", TextPositions(sql).at(0, 1)) from error
    return trees[0]  # type: ignore[no-any-return]


def _refuse_unreadable(sql: str) -> None:
    if len(sql) > LENGTH_MAX:
        message = f"the statement has {len(sql)} characters, more than {LENGTH_MAX}"
        raise RuleError(message, TextPositions("").at(0, 1), "split the rule in two")
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        at = TextPositions(sql).at(error.start, error.start + 1)
        raise RuleError("the statement is not valid Unicode text", at, "save it as UTF-8") from error
