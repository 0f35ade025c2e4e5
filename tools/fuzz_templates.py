"""Differential fuzzing: random templates and values, rendered by Jinja2 and by the chat room.

    fuzz_templates.py CHAT_TEST [--cases N] [--rounds N] [--seed S]

Writes the cases with Jinja2's results and runs CHAT_TEST (the room's test program) on them; stops at the first round
with a difference and keeps its file.
"""
import argparse
import os
import random
import subprocess
import tempfile

from template_reference import case_line

NAMES = ["s", "u", "n", "f", "yes", "nil", "l", "d", "words", "users", "messages", "nope", "x", "y", "ns", "loop.index0", "loop.last", "loop.nextitem", "item"]
STRINGS = ["''", "'a'", "'ab c'", '"x\\ny"', "'<b>'", "'你好'", "'a,b,,c'", "' \\n pad '", "'%s|%d'", "'{}-{0}'", "'ß'", "'12'", "'1.5'", "'A B'"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean", "true", "false", "integer",
         "float", "odd", "even", "lower", "upper", "callable", "escaped"]
TESTS1 = ["eq", "ne", "lt", "ge", "in", "divisibleby", "sameas", "equalto"]
FILTERS = ["tojson", "length", "trim", "string", "safe", "items", "list", "default", "default('z')", "default('z', true)", "join", "join(',')",
           "join('-', attribute='name')", "first", "last", "map('string')", "map('upper')", "map(attribute='name')", "selectattr('role')",
           "selectattr('age', 'gt', 26)", "rejectattr('tags')", "select", "reject('none')", "upper", "lower", "title", "capitalize", "replace('a', 'b')",
           "int", "int(5)", "float", "abs", "round", "round(1)", "sort", "sort(reverse=true)", "reverse", "unique", "sum", "min", "max", "batch(2)",
           "slice(2)", "dictsort", "indent", "indent(2, true)", "e", "escape", "center(9)", "wordcount", "groupby('age')", "tojson(indent=2)", "list|tojson",
           "truncate(6)", "format(1)", "urlencode", "attr('a')", "forceescape", "count", "d('q')"]
METHODS = ["upper()", "lower()", "title()", "strip()", "lstrip('a')", "rstrip('\\n')", "split()", "split(',')", "split('a', 1)", "rsplit(',', 1)",
           "startswith('a')", "endswith(('c', 'd'))", "replace('a', '<')", "find('b')", "count('a')", "items()", "keys()", "values()", "get('a')", "get('q', 1)",
           "splitlines()", "partition(',')", "join(words)", "isdigit()", "isalpha()", "isupper()", "zfill(5)", "center(7, '*')", "capitalize()", "swapcase()",
           "index('a')", "copy()", "append(1)", "pop()", "format(1, 2)", "nothing()", "removeprefix('a')", "rfind('a')", "rpartition('b')", "istitle()"]
ATTRIBUTES = ["a", "b", "name", "role", "content", "items", "age", "zz", "index", "last", "first", "v", "length", "previtem", "0"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
VARIABLES = {"s": "Hello, World", "u": "你好é", "n": 3, "f": 2.5, "yes": True, "nil": None, "l": [3, 1, 2], "d": {"a": 1, "b": "two", "c": [1, None]},
             "words": ["b", "A", "c"], "users": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25, "tags": []}],
             "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": []}]}


class Maker:
    def __init__(self, rng):
        self.r = rng

    def atom(self):
        return self.r.choice([lambda: self.r.choice(NAMES), lambda: self.r.choice(STRINGS), lambda: str(self.r.randint(0, 12)),
                              lambda: self.r.choice(["1.5", "2.0", "true", "false", "none", "[]", "{}", "()", "0"])])()

    def expr(self, depth):
        if self.r.random() < self.sanity:
            return self.sane(self.r.choice(["str", "str", "int", "num", "list", "dict", "bool"]), depth)
        if depth <= 0 or self.r.random() < 0.15:
            return self.atom()
        e = lambda: self.expr(depth - 1)
        kind = self.r.randrange(17)
        if kind < 3:
            return f"{e()} {self.r.choice(BINARY)} {e()}"
        if kind < 5:
            return f"{e()}|{self.r.choice(FILTERS)}"
        if kind == 5:
            return f"({e()})|{self.r.choice(FILTERS)}|{self.r.choice(FILTERS)}"
        if kind < 8:
            return f"({e()}).{self.r.choice(METHODS)}"
        if kind == 8:
            return f"{self.r.choice(NAMES)}.{self.r.choice(ATTRIBUTES)}"
        if kind == 9:
            return f"({e()})[{e()}]"
        if kind == 10:
            bound = lambda: self.r.choice(["", "", "1", "-1", "2", "-3", "0", "n"])
            # Jinja folds constants, and slicing a constant that has no slices then gives undefined instead of an error.
            sliced = self.r.choice(["s", "u", "l", "words", "'abc'", "[1, 2, 3]", "(1, 2)", "range(5)", "n", "d", "nope", "(s ~ u)"])
            return f"{sliced}[{bound()}:{bound()}{self.r.choice(['', ':' + self.r.choice(['1', '-1', '2', '-2', ''])])}]"
        if kind == 11:
            return f"({e()} if {e()}" + (f" else {e()})" if self.r.random() < 0.8 else ")")
        if kind == 12:
            word = self.r.choice(["is", "is not"])
            return f"{e()} {word} {self.r.choice(TESTS)}" if self.r.random() < 0.7 else f"{e()} {word} {self.r.choice(TESTS1)}({e()})"
        if kind == 13:
            return self.r.choice([f"[{e()}, {e()}]", f"({e()}, {e()})", f"{{{self.r.choice(STRINGS)}: {e()}, 'k': {e()}}}", f"({e()},)"])
        if kind == 14:
            return self.r.choice([f"not {e()}", f"-{e()}", f"+{e()}", f"({e()})"])
        if kind == 15:
            return self.r.choice([f"m({e()})", f"m({e()}, {e()})", f"m(b={e()})", f"range({e()})", f"dict(a={e()})", f"namespace(v={e()})", "m()"])
        return f"{e()} {self.r.choice(['<', '==', '>='])} {e()} {self.r.choice(['<', '!=', 'in'])} {e()}"

    # Expressions that mostly make sense, so that results and not only errors are compared.
    def sane(self, kind, depth):
        r = self.r
        t = lambda k: self.sane(k, depth - 1)
        if depth <= 0:
            return r.choice({"str": ["s", "u", "words[0]", "messages[0].content", "users[0].name", "ns.v|string"] + STRINGS, "int": ["n", "1", "0", "2", "7", "l[0]", "users[1].age", "s|length"],
                             "list": ["l", "words", "users", "[1, 'a', none]", "messages", "s.split('o')", "[[1, 2], [3]]"], "num": ["f", "n", "1.5", "2", "-0.0", "1e3"],
                             "dict": ["d", "users[0]", "messages[1]", "{'k': 1, 'z': [true]}"], "bool": ["yes", "nil", "not yes", "n > 2", "'a' in s", "nope is defined", "d is mapping"]}[kind])
        if kind == "str":
            return r.choice([
                lambda: f"({t('str')} + {t('str')})", lambda: f"({t('str')} ~ {t('num')} ~ {t('list')})", lambda: f"({t('str')}).{r.choice([m for m in METHODS if m.split('(')[0] in ('upper', 'lower', 'title', 'strip', 'lstrip', 'rstrip', 'replace', 'zfill', 'center', 'capitalize', 'swapcase', 'removeprefix')])}",
                lambda: f"({t('str')})|{r.choice(['trim', 'upper', 'lower', 'title', 'capitalize', 'indent', 'e', 'safe', 'string', 'center(9)', 'tojson', 'urlencode', 'truncate(6)', 'reverse', 'escape', 'forceescape'])}",
                lambda: f"({t('list')})|join({r.choice(STRINGS)})", lambda: f"({t(r.choice(['list', 'dict', 'num', 'bool']))})|tojson{r.choice(['', '', '(indent=2)', '(ensure_ascii=true)'])}", lambda: f"({t('str')} if {t('bool')} else {t('str')})",
                lambda: f"({t('str')})[{r.choice(['1:', ':-1', '::-1', '1:3', '0', '-1', '::2'])}]", lambda: f"({t('list')})|string", lambda: f"m({t('str')}, {t('int')})", lambda: f"('%s-%5d' % ({t('str')}, {t('int')}))",
                lambda: f"({t('str')} * {r.choice(['2', '0', '-1'])})", lambda: f"'{{}}:{{}}'.format({t('str')}, {t('list')})"])()
        if kind in ("int", "num"):
            return r.choice([lambda: f"({t(kind)} {r.choice('+-*')} {t('int')})", lambda: f"({t(kind)} {r.choice(['//', '%'])} {r.choice(['2', '3', '-4', '0.3'])})" if kind == "num" else f"({t(kind)} // 3)", lambda: f"({t(r.choice(['str', 'list', 'dict']))})|length",
                             lambda: f"({t('str')}).{r.choice(['find', 'count', 'rfind'])}('a')", lambda: f"({t('str')})|int", lambda: f"(-{t(kind)})", lambda: f"({t('num')})|{r.choice(['round', 'round(1)', 'abs', 'int', 'float'])}" if kind == "num" else f"({t('num')})|int"])()
        if kind == "list":
            return r.choice([lambda: f"({t('list')} + {t('list')})", lambda: f"({t('list')})[{r.choice(['1:', ':-1', '::-1', '-2:', ':2'])}]", lambda: f"({t('str')}).split({r.choice(['', repr(','), repr('a') + ', 1'])})", lambda: f"({t('dict')})|{r.choice(['list', 'dictsort(by=' + repr('key') + ')', 'items|list'])}",
                             lambda: f"({t('list')})|{r.choice(['map(' + repr('string') + ')|list', 'select|list', 'reverse|list', 'map(' + repr('tojson') + ')|list', 'list', 'batch(2)|list', 'slice(2)|list', 'select(' + repr('string') + ')|list', 'reject(' + repr('mapping') + ')|list'])}",
                             lambda: f"({t('list')})|map('string')|{r.choice(['sort', 'unique', 'map(' + repr('upper') + ')', 'sort(reverse=true)', 'sort(case_sensitive=true)'])}|list", lambda: f"[{t('str')}, {t('int')}, {t('dict')}]", lambda: f"range({t('int')} % 5)|list", lambda: f"users|{r.choice(['selectattr', 'rejectattr'])}({r.choice([repr('tags'), repr('age') + ', ' + repr('gt') + ', 26'])})|list",
                             lambda: "users|groupby('age')|map('last')|list", lambda: f"({t('str')})|list", lambda: f"({t('str')}).splitlines()"])()
        if kind == "dict":
            return r.choice([lambda: f"{{{t('str')}: {t('list')}, 'b': {t('num')}}}", lambda: f"dict({t('dict')}, q={t('str')})", lambda: f"({t('dict')} if {t('bool')} else {t('dict')})", lambda: f"dict(a={t('bool')})"])()
        return r.choice([lambda: f"({t('int')} {r.choice(['<', '>=', '==', '!='])} {t('num')})", lambda: f"({t('str')} {r.choice(['in', 'not in', '==', '<'])} {t('str')})", lambda: f"({t('bool')} {r.choice(['and', 'or'])} {t('bool')})", lambda: f"({t(r.choice(['str', 'list', 'dict', 'int', 'bool']))}) is {r.choice(['', 'not '])}{r.choice(TESTS[:11])}",
                         lambda: f"({t('str')} in {t('list')})", lambda: f"({t('str')}).{r.choice(['startswith', 'endswith'])}({t('str')})", lambda: f"(not {t('list')})", lambda: f"({t('list')} == {t('list')})", lambda: f"({t('str')} in {t('dict')})", lambda: f"({t('str')}).{r.choice(['isdigit', 'isalpha', 'isupper', 'islower', 'isspace', 'istitle', 'isalnum'])}()"])()

    def tag(self, inside):
        return f"{{%{self.r.choice(['', '-', '', '+'])} {inside} {self.r.choice(['', '-', '', '+'])}%}}"

    def text(self):
        return self.r.choice(["", " ", "\n", "a", "  \n", "x\n  ", "\n\n", "b ", "\t", "你"])

    def print(self, depth):
        return f"{{{{{self.r.choice(['', '-', ''])} {self.expr(depth)} {self.r.choice(['', '-', ''])}}}}}"

    def body(self, depth, loop=False):
        return "".join(self.text() + self.statement(depth, loop) for _ in range(self.r.randint(1, 3))) + self.text()

    def statement(self, depth, loop):
        if depth <= 0:
            return self.print(2)
        kind = self.r.randrange(13)
        if kind < 3:
            return self.print(3)
        if kind == 3:
            return self.tag(f"set {self.r.choice(['x', 'y', 'item', 'n', 's', 'ns.v', 'x, y'])} = {self.expr(3)}")
        if kind in (4, 5):
            parts = self.tag(f"if {self.expr(2)}") + self.body(depth - 1, loop)
            if self.r.random() < 0.4:
                parts += self.tag(f"elif {self.expr(2)}") + self.body(depth - 1, loop)
            if self.r.random() < 0.5:
                parts += self.tag("else") + self.body(depth - 1, loop)
            return parts + self.tag("endif")
        if kind in (6, 7):
            target = self.r.choice(["item", "x", "n", "x, y"])
            source = self.r.choice(["l", "words", "d", "users", "messages[::-1]", "d.items()", "d|items", "'abc'", "range(3)", self.expr(2)])
            test = f" if {self.expr(1)}" if self.r.random() < 0.2 else ""
            other = self.tag("else") + self.body(depth - 1, loop) if self.r.random() < 0.2 else ""
            return self.tag(f"for {target} in {source}{test}") + self.body(depth - 1, True) + other + self.tag("endfor")
        if kind == 8:
            return self.tag("macro m(a, b=%s)" % self.atom()) + self.body(depth - 1) + "{{ a }}{{ b }}" + self.tag("endmacro")
        if kind == 9:
            return self.tag("set x" + self.r.choice(["", " | upper", " | trim"])) + self.body(depth - 1) + self.tag("endset")
        if kind == 10:
            return self.r.choice([self.tag(f"with x = {self.expr(2)}, y = x") + self.body(depth - 1, loop) + self.tag("endwith"),
                                  self.tag("filter upper") + self.body(depth - 1) + self.tag("endfilter"), "{# c #}", "{#- c -#}\n",
                                  self.tag("raw") .replace("+", "") + " {{ x }} " + self.tag("endraw")])
        if kind == 11 and loop:
            return self.tag(f"if {self.expr(1)}") + self.tag(self.r.choice(["break", "continue"])) + self.tag("endif")
        return self.tag("set ns = namespace(v=%s)" % self.expr(1))

    def template(self):
        self.sanity = self.r.choice([0.0, 0.5, 1.0, 1.0])
        head = "{% set ns = namespace(v=0) %}" if self.r.random() < 0.8 + self.sanity else ""
        head += "{% macro m(a, b=2) %}<{{ a }}|{{ b }}>{% endmacro %}" if self.r.random() < 0.6 + self.sanity else ""
        return head + self.body(self.r.randint(0, 3))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("chat_test")
    args.add_argument("--cases", type=int, default=2000)
    args.add_argument("--rounds", type=int, default=1)
    args.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = args.parse_args()
    for seed in range(args.seed, args.seed + args.rounds):
        maker = Maker(random.Random(seed))
        lines = []
        while len(lines) < args.cases:
            try:
                lines.append(case_line(f"fuzz-{seed}-{len(lines)}", maker.template(), VARIABLES))
            except (UnicodeEncodeError, RecursionError, MemoryError, OverflowError):
                continue
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False, encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
        run = subprocess.run([args.chat_test, "--gtest_filter=TemplateCases.OfGivenFile"], env={**os.environ, "QW_TEMPLATE_CASES": out.name},
                             capture_output=True, text=True)
        errors = sum('"error"' in line for line in lines)
        if run.returncode != 0:
            print(run.stdout[-6000:])
            print(f"seed {seed}: DIFFERENT, {run.stdout.count('Failure')} failures in {len(lines)}; cases kept in {out.name}")
            return 1
        os.unlink(out.name)
        print(f"seed {seed}: {len(lines)} equal, {errors} of them errors", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
