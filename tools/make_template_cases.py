"""Writes tests/cases/chat/*.jsonl: small templates with what Jinja2 makes of them (see template_reference.py)."""
import json
import pathlib

from template_reference import case_line

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/cases/chat"
V = {
    "s": "Hello, World", "u": "你好，世界 ß é", "n": 7, "neg": -3, "f": 2.5, "big": 9007199254740993, "yes": True, "no": False,
    "nil": None, "empty": "", "l": [3, 1, 2], "words": ["b", "A", "c"], "e": [],
    "d": {"a": 1, "b": [1, {"x": None}], "items": "key"}, "nested": {"k": {"v": [10, 20]}},
    "users": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25, "tags": []},
              {"name": "Cy", "age": 30}],
    "html": "<a href=\"x\">'&'</a>", "ws": "  \t pad \n ", "lines": "one\ntwo\n\nthree",
    "messages": [{"role": "system", "content": "sys"}, {"role": "user", "content": "hi"},
                 {"role": "assistant", "content": "yo"}],
}

CASES = {
    "whitespace": [
        "a\n", "a\n\n", "  {% if yes %}\nx\n  {% endif %}\ny", "a {%- if yes -%} b {%- endif -%} c",
        "  {{ n }}  \n  {{- n -}}  \n  {{ n }}", "x\n   {#- c -#}   \ny", "x\n   {# c #}\ny", "x {# c #} y", "{# a\nb #}\nz",
        "   {%+ if yes %}q{% endif %}", "   {% if yes +%}\nq{% endif %}", "{% if yes %}\n\n  a\n{% endif %}\n",
        "a\n  \n  {% if yes %}b{% endif %}", "\t{% set x = 1 %}\t{{ x }}", "a\r\nb\r{{ n }}\r\n", "{{ 1 }}\n\n{{ 2 }}\n",
        "{% raw %}{{ x }}{% y %}{% endraw %}!", "  {%- raw -%}  {{ x }}  {%- endraw -%}  !", "{% raw %}\n a {% endraw %}\nb",
        "a\n   {% raw %}b{% endraw %}\nc", "{% for i in l %}\n  {{ i }}\n{% endfor %}\n", "{%- for i in l -%}\n  {{ i }}\n{%- endfor -%}\n",
        "{{ '{{' }}{{ '%}' }}", "{{ {'a': {'b': 1}} }}", "{{ [1, [2]][1][0] }}", "a {# one #}{# two #} b", "{#", "x {% raw %}",
        "{{- s }} ", "   {{ s -}}   .", "\n\n{%- if yes %} a{% endif %}", "\u3000{%- if yes %}b{% endif %}", "{{ n\n}}",
        "a{{ n }}\n", "a{% if yes %}\n\n\nb{% endif %}", "{%- set a = 1 +%}\nb", "x\n    {%- set q = 1 %}\n  y", "{{+ n }}",
        " {% if yes -%}\n  \n b {%- endif %} c",
    ],
    "scoping": [
        "{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
        "{% for i in l %}{{ n }}{% set n = i %}{{ n }};{% endfor %}{{ n }}", "{% if yes %}{% set x = 5 %}{% endif %}{{ x }}",
        "{% if no %}{% set n = 5 %}{% endif %}{{ n }}", "{% for i in l %}{% if i == 1 %}{% set n = 0 %}{% endif %}{{ n }}{% endfor %}",
        "{% set ns = namespace(v=0) %}{% for i in l %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}",
        "{% macro m(a, b=2) %}[{{ a }},{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=9, a=8) }}{{ m() }}",
        "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}",
        "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 99 %}{{ m() }}", "{% macro m() %}{% set n = 1 %}{{ n }}{% endmacro %}{{ m() }}{{ n }}",
        "{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}",
        "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}",
        "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
        "{% macro m() %}({{ caller() }}){% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
        "{% macro m() %}{{ caller('p') }}{% endmacro %}{% call(x) m() %}<{{ x }}>{% endcall %}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
        "{% macro m(a) %}{% endmacro %}{{ m(z=2) }}", "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{{ s }}{% endset %}{{ x }}",
        "{% set x = 1 %}{% set y %}{% set x = 2 %}{{ x }}{% endset %}{{ x }}{{ y }}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}",
        "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% filter upper %}x{{ s }}{% endfilter %}",
        "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set (a, b) = l[:2] %}{{ a }}{{ b }}", "{% set a, b = l %}",
        "{% set x.y = 1 %}", "{% set ns = namespace(a=1, b='q') %}{% set ns.c = [1] %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns.zz }}|{{ ns }}",
        "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{{ namespace(_x=1) }}",
        "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}",
        "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}",
        "{% macro m(x) %}{% for x in l %}{{ x }}{% endfor %}{{ x }}{% endmacro %}{{ m('p') }}", "{{ loop }}", "{% for i in l %}{% endfor %}{{ i }}",
        "{% for i in l %}{% for j in l %}{% set i = j %}{% endfor %}{{ i }}{% endfor %}", "{% set true = 1 %}", "{% for loop in l %}{{ loop }}{% endfor %}",
        "{% for i in l %}{% set loop = 1 %}{% endfor %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro a() %}1{% endmacro %}{% macro b() %}{{ a() }}2{% endmacro %}{{ b() }}",
        "{% set f = namespace(m=1) %}{% macro g() %}{% set f.m = f.m + 1 %}{% endmacro %}{{ g() }}{{ g() }}{{ f.m }}",
        "{% macro m(caller=3) %}{{ caller }}{% endmacro %}{{ m() }}", "{% macro m(caller) %}{{ caller() }}{% endmacro %}", "{% macro m(caller=none) %}{{ caller() }}{% endmacro %}{% call m() %}z{% endcall %}",
        "{% if yes %}{% if no %}{% set q = 1 %}{% elif yes %}{% set q = 2 %}{% else %}{% set q = 3 %}{% endif %}{% endif %}{{ q }}",
        "{% for i in l %}{% with i = 9 %}{{ i }}{% endwith %}{{ i }}{% endfor %}", "{% macro m() %}{% for i in l %}{{ n }}{% set n = i %}{% endfor %}{% endmacro %}{{ m() }}",
        "{% set s %}{{ s }}!{% endset %}{{ s }}", "{% macro range() %}mine{% endmacro %}{{ range() }}", "{% set ns = namespace(x=1) %}{% set ns.x, y = 2, 3 %}{{ ns.x }}{{ y }}",
        "{% set ns = namespace(x=1) %}{% set ns.x %}blk{% endset %}{{ ns.x }}",
    ],
    "loops": [
        "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
        "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}", "{% for i in l if i > 1 %}{{ i }}{{ loop.last }}{{ loop.length }}{% endfor %}",
        "{% for i in e %}x{% else %}none{% endfor %}", "{% for i in l if i > 9 %}x{% else %}none{% endfor %}", "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% continue %}{% else %}E{% endfor %}",
        "{% for i in l %}{% break %}{% else %}E{% endfor %}", "{% for i in l %}{{ i }}{% break %}{% endfor %}{% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
        "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
        "{% for c in 'aßc' %}{{ c }}.{% endfor %}", "{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}",
        "{% for i in nope %}x{% else %}u{% endfor %}", "{% for i in n %}{% endfor %}", "{% for i in nil %}{% endfor %}", "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}", "{% for i in [[1, [2, [3]]], [4]] recursive %}{% if i is sequence %}({{ loop(i) }}){% else %}{{ i }}{{ loop.depth }}{{ loop.depth0 }}{% endif %}{% endfor %}",
        "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}", "{% for m in messages[::-1] %}{{ m.role }}{{ loop.index0 }}{% endfor %}",
        "{% break %}", "{% for i in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% set ns = namespace(t=0) %}{% for i in l if i > ns.t %}{% set ns.t = 2 %}{{ i }}{% endfor %}",
        "{% for i in l|sort %}{{ i }}{% endfor %}", "{% for u in users if u.age == 30 %}{{ u.name }}{{ loop.index }}{% endfor %}", "{% for i in range(200000) %}{% endfor %}",
        "{% for i in l %}{{ loop.length }}{{ loop.revindex }}{% endfor %}{{ range(3)|list }}", "{% for x in l|map('string') %}{{ x }}{{ loop.length }}{{ loop.last }}{% endfor %}",
        "{% for i in l %}{{ loop.nope }}{{ loop['index'] }}{% endfor %}", "{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.current }}",
        "{% set j = joiner('|') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% for i in l -%} {{ i }} {%- endfor %}", "{% for a in l for b in l %}{% endfor %}", "{% for i in (1, 2, 3) %}{{ i }}{% endfor %}",
        "{% for i in 1, 2 %}{{ i }}{% endfor %}", "{% for i in l if i is odd %}{{ i }}{% endfor %}",
        "{% for i in l %}{% for j in e %}{% else %}{% if i == 1 %}{% continue %}{% endif %}{% endfor %}{{ i }}{% endfor %}",
        "{% for i in l %}{% for j in e %}{% else %}{% if i == 1 %}{% break %}{% endif %}{% endfor %}{{ i }}{% endfor %}",
        "{% for i in l %}{% with x = i %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endwith %}{% endfor %}",
        "{% for i in l %}{% filter upper %}a{% if i == 1 %}{% continue %}{% endif %}b{% endfilter %}{% endfor %}",
        "{% for i in l recursive %}{% else %}{% break %}{% endfor %}",
    ],
    "expressions": [
        "{{ 1 + 2 * 3 - 4 / 2 }}", "{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ 7 % -3 }}", "{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 2 ** 0.5 }}", "{{ 2 ** 3 ** 2 }}", "{{ -2 ** 2 }}",
        "{{ 7.0 // 2 }} {{ -7.5 % 2 }} {{ 1e20 }} {{ 1e16 }} {{ 123456789012345678.0 }} {{ 0.1 + 0.2 }} {{ 1.0 }} {{ 1e-5 }} {{ 1.5e300 * 1e10 }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ 5.0 % 0 }}",
        "{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 1 == 1.0 }}{{ true == 1 }}{{ 'a' < 'b' }}{{ [1, 2] < [1, 3] }}", "{{ 1 < 'a' }}", "{{ nil < 1 }}", "{{ nope < 1 }}", "{{ 'a' in s }}{{ 'Hello' in s }}{{ 'x' not in s }}",
        "{{ 1 in l }}{{ 9 in l }}{{ 'a' in d }}{{ 'z' in d }}{{ 1 in (1, 2) }}{{ 2 in range(3) }}", "{{ 1 in s }}", "{{ 1 in n }}", "{{ 1 in nope }}", "{{ [1] in d }}", "{{ yes and n }}{{ no and n }}{{ empty or 'alt' }}{{ n or 'alt' }}{{ not n }}",
        "{{ nil or no or 0 or '' or [] }}", "{{ 'a' if yes else 'b' }}{{ 'a' if no else 'b' }}{{ 'a' if no }}|", "{{ ('a' if no) is undefined }}", "{{ 1 if no else 2 if no else 3 }}", "{{ s ~ n ~ nil ~ f ~ yes ~ l ~ nope }}", "{{ s + 'x' }}", "{{ s + 1 }}",
        "{{ 'ab' * 3 }}{{ 3 * [1] }}{{ 'x' * -1 }}", "{{ l + [4] }}{{ (1,) + (2,) }}", "{{ l + (1,) }}", "{{ s.x }}|{{ d.zz }}|{{ nope }}", "{{ nope.x }}", "{{ nope['x'] }}", "{{ d.zz.y }}", "{{ nope() }}", "{{ n() }}", "{{ nope + 1 }}", "{{ -nope }}",
        "{{ d.items }}" , "{{ d['items'] }}", "{{ d.items() }}{{ d.keys() }}{{ d.values() }}", "{{ d.get('a') }}{{ d.get('z') }}{{ d.get('z', 5) }}", "{{ l[0] }}{{ l[-1] }}{{ l[9] }}|{{ l['x'] }}|", "{{ s[0] }}{{ s[-1] }}{{ u[0] }}{{ u[-1] }}{{ s[99] }}|",
        "{{ l[1:] }}{{ l[:-1] }}{{ l[::-1] }}{{ l[::2] }}{{ l[5:] }}{{ l[-2:] }}", "{{ s[1:5] }}{{ s[::-1] }}{{ u[1:3] }}{{ u[::-1] }}{{ s[-5:-1:2] }}", "{{ (1, 2, 3)[::-1] }}{{ range(10)[2:8:3] }}", "{{ l[::0] }}", "{{ l['a':] }}|", "{{ n[1:] }}|",
        "{{ [1, 'a', none, true, 1.5, [2], (3,), {'k': 'v'}] }}", "{{ ('a',) }}{{ () }}{{ [] }}{{ {} }}", "{{ {'a': 1, 2: 'b', none: 3, true: 4}[2] }}", "{{ {1: 'a', true: 'b', 1.0: 'c'} }}", "{{ {[1]: 2} }}", "{{ 'it\\'s' }}{{ \"q\\\"q\" }}{{ 'a\\nb\\tc\\\\' }}",
        "{{ '\\x41\\u4e2d\\U0001f600\\101' }}", "{{ '\\d\\q' }}", "{{ 'a' 'b' \"c\" }}", "{{ [\"it's\", 'a\"b', \"'\\\"\", '\\n\\t\\\\\\x01\\x7f\\xa0é中😀'] }}", "{{ 0x1F }}{{ 0b101 }}{{ 0o17 }}{{ 1_000 }}{{ 1_0.5_0 }}{{ 1e3 }}{{ 1.5E-3 }}",
        "{{ none }}{{ None }}{{ true }}{{ True }}{{ false }}{{ False }}", "{{ nested.k.v[1] }}{{ nested['k']['v'][0] }}{{ nested.k['v'].0 }}", "{{ not yes == no }}", "{{ not 1 in l }}", "{{ 1 not in l }}", "{{ (1) }}{{ (1,) }}{{ 1, 2 }}",
        "{{ big }}{{ big + 1 }}{{ -big }}", "{{ yes + 1 }}{{ yes * 3 }}{{ -yes }}{{ +yes }}", "{{ l == [3, 1, 2] }}{{ (1, 2) == [1, 2] }}{{ d == {'b': [1, {'x': none}], 'a': 1, 'items': 'key'} }}{{ nope == nope2 }}{{ nil == nope }}", "{{ s.upper().lower().title() }}",
        "{{ range(5) }}{{ range(1, 5, 2) }}{{ range(3)[1] }}{{ range(3)|length }}", "{{ dict(a=1, b=2) }}{{ dict([('x', 1)]) }}{{ dict(d, c=3) }}", "{{ l.append(4) }}", "{{ d.pop('a') }}", "{{ l.index(1) }}{{ l.count(3) }}", "{{ l.index(9) }}",
        "{{ d.update }}|{{ d.update is defined }}", "{{ '%s-%d-%.2f-%5d|%-5s|%05d|%x|%r|%%' % ('a', 3, 2.345, 42, 'l', 7, 255, 'q') }}", "{{ '%s' % s }}{{ '%s' % l }}", "{{ '%d' % 'a' }}", "{{ '%s' % (1, 2) }}", "{{ '%(a)s' % d }}",
        "{{ '{} {1}' .format(1, 2) }}", "{{ '{} {}|{a}|{0!r}'.format(1, 2, a=3) }}", "{{ '{0} {1} {0}'.format('a', 'b') }}{{ '{x:>5}|{y:<4}|{z:^7}|{w:05d}|{v:.3f}|{t:,}'.format(x='a', y='b', z='c', w=42, v=3.14159, t=1234567) }}", "{{ '{a[0]}{b.k}'.format(a=l, b=nested) }}",
        "{{ 'x' is string }}{{ 1 is string }}", "{{ s|length > 3 and n is number }}", "{{ *l }}", "{{ dict(*[[('a', 1)]], **{'b': 2}) }}", "{{ 10 - 2 - 3 }}{{ 100 / 10 / 2 }}{{ 2 * 3 % 4 }}", "{{ 'a' ~ 1 + 2 }}", "{{ 1 ~ 2 * 3 }}", "{{ +1 }}{{ - 1 }}{{ --1 }}",
        "{{ l is defined and l[0] == 3 }}", "{{ messages[0].role ~ messages[-1]['content'] }}", "{{ 1.0 == 1 and 1 is sameas 1 }}", "{{ 'a'.join(['b', 'c']) }}", "{{ ','.join([1]) }}", "{{ 3 | string + '4' }}", "{{ 9223372036854775807 }}", "{{ 1 | abs }}{{ -3|abs }}{{ (-3)|abs }}",
        "{{ 1if yes else 2 }}", "{{ .5 }}", "{{ 5. }}", "{{ 1.e3 }}", "{{ 'a' == 'a' != 'b' }}", "{{ l[0, 1] }}|", "{{ {'a': 1}.a }}{{ [1, 2].1 }}", "{{ 'abc'['upper']() }}", "{{ f % 2 }}{{ 5 // 0.3 }}{{ -0.0 }}{{ 0 * -1.0 }}",
    ],
    "methods": [
        "{{ 'a,b,c'.split(',') }}{{ 'a b  c'.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a b '.split(' ') }}", "{{ ''.split() }}{{ ''.split(',') }}{{ 'x'.split('') }}", "{{ '  a b  c '.split(none, 1) }}{{ '  a b  c '.rsplit(none, 1) }}{{ 'a b c'.split(maxsplit=1) }}",
        "[{{ ws.strip() }}][{{ ws.lstrip() }}][{{ ws.rstrip() }}]", "{{ 'xxaxx'.strip('x') }}{{ 'abcba'.lstrip('ab') }}{{ '\\n\\na\\n'.lstrip('\\n') }}", "{{ s.startswith('Hello') }}{{ s.endswith('d') }}{{ s.startswith(('x', 'H')) }}{{ s.startswith('ello', 1) }}", "{{ s.startswith(1) }}",
        "{{ s.find('o') }}{{ s.rfind('o') }}{{ s.find('zz') }}{{ s.index('W') }}{{ u.find('世') }}", "{{ s.index('zz') }}", "{{ s.replace('l', 'L') }}{{ s.replace('l', '', 1) }}{{ 'aaa'.replace('', '-') }}", "{{ s.upper() }}{{ s.lower() }}{{ u.upper() }}{{ 'ǅ ﬁ İ ΑΣ'.lower() }}",
        "{{ 'hELLO wORLD x1y'.title() }}{{ 'hELLO'.capitalize() }}{{ 'aBc'.swapcase() }}", "{{ 'a'.center(5) }}|{{ 'ab'.center(5, '*') }}|{{ 'abc'.center(6, '-') }}|{{ 'a'.ljust(3, '.') }}{{ 'a'.rjust(3) }}{{ '-7'.zfill(4) }}", "{{ 'a.b.c'.partition('.') }}{{ 'a.b.c'.rpartition('.') }}{{ 'abc'.partition('.') }}",
        "{{ lines.splitlines() }}{{ lines.splitlines(true) }}{{ 'a\\r\\nb\\x0bc\\u2028d'.splitlines() }}", "{{ 'abab'.count('ab') }}{{ 'aaa'.count('aa') }}{{ ''.count('') }}{{ 'ab'.count('') }}", "{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ 'abc'.removesuffix('') }}", "{{ 'a\\tbc\\td'.expandtabs(4) }}",
        "{{ 'abc'.isalpha() }}{{ 'a1'.isalnum() }}{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ '一'.isnumeric() }}{{ '½'.isnumeric() }}{{ '1'.isdecimal() }}{{ ' '.isspace() }}{{ ''.isspace() }}{{ 'A'.isupper() }}{{ 'a1'.islower() }}{{ 'Ab Cd'.istitle() }}{{ 'é'.isascii() }}{{ 'a_1'.isidentifier() }}",
        "{{ s.nope }}|{{ s.nope() }}", "{{ s.strip(1) }}", "{{ s.split(',', 1, 2) }}", "{{ s.split(sep=',') }}", "{{ 'ab'.join('xyz') }}", "{{ content.split('</think>')[-1].lstrip('\\n') if '</think>' in content else content }}", "{{ 'x</think>\\n\\ny'.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}",
        "{{ s.__class__ }}|{{ s._x }}|", "{{ d.__class__ }}|{{ l.__len__ }}|",
    ],
    "filters": [
        "{{ s|upper|lower|capitalize }}{{ 'hello wORLD-foo (bar) it\\'s'|title }}", "[{{ ws|trim }}]{{ 'xax'|trim('x') }}{{ 5|trim }}", "{{ s|length }}{{ u|length }}{{ l|count }}{{ d|length }}{{ nope|length }}", "{{ n|length }}", "{{ nil|length }}", "{{ nope|default('D') }}{{ empty|default('D') }}{{ empty|default('D', true) }}{{ nil|default('D') }}{{ nope|d }}|",
        "{{ l|first }}{{ l|last }}{{ e|first }}|{{ s|first }}{{ s|last }}", "{{ l|join(', ') }}{{ l|join }}{{ users|join('+', attribute='name') }}{{ [none, true, 1.5]|join('/') }}", "{{ l|sort }}{{ words|sort }}{{ words|sort(case_sensitive=true) }}{{ l|sort(reverse=true) }}{{ users|sort(attribute='age,name')|map(attribute='name')|list }}",
        "{{ [1, 'a']|sort }}", "{{ l|reverse|list }}{{ s|reverse }}", "{{ users|map(attribute='name')|list }}{{ words|map('upper')|join }}{{ users|map(attribute='tags.0', default='-')|list }}{{ l|map('string')|list }}", "{{ users|selectattr('age', 'equalto', 30)|map(attribute='name')|list }}{{ users|rejectattr('tags')|list|length }}{{ l|select('odd')|list }}{{ l|reject('gt', 1)|list }}{{ [0, 1, '']|select|list }}",
        "{{ d|tojson }}{{ d|tojson(indent=2) }}{{ u|tojson }}{{ html|tojson }}{{ [1.0, 1e20, none, true, '\\u2028\\x01\"\\\\']|tojson }}", "{{ u|tojson(ensure_ascii=true) }}{{ '\\x7f😀'|tojson(ensure_ascii=true) }}{{ d|tojson(separators=(',', ':')) }}{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}", "{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}{{ (1, 2)|tojson }}{{ []|tojson(indent=2) }}{{ {'a': []}|tojson(indent='\\t') }}", "{{ nope|tojson }}", "{{ range(3)|tojson }}",
        "{{ 3|string + '4' }}{{ nil|string }}{{ 1.0|string }}{{ nope|string }}|", "{{ html|safe }}{{ html|e }}{{ html|escape|e }}{{ html|safe|e }}", "{{ '<' + ('>'|safe) }}{{ ('<'|safe) + '>' }}{{ '<' ~ ('>'|safe) }}{{ (html|safe).upper() }}{{ ('<b>'|safe)|tojson }}{{ ['<b>'|safe] }}", "{{ ('<{}>'|safe).format('<') }}{{ ('<%s>'|safe) % '<' }}{{ ('a'|safe).join(['<', '>'|safe]) }}{{ ('<a>'|safe).replace('a', '<') }}{{ ('<x>'|safe)[0] + '<' }}",
        "{{ '42'|int }}{{ '4.9'|int }}{{ 'x'|int }}{{ 'x'|int(7) }}{{ '0x1F'|int(base=16) }}{{ 3.99|int }}{{ -3.99|int }}{{ ' 12 '|int }}{{ '1_000'|int }}{{ nil|int }}{{ yes|int }}", "{{ '3.5'|float }}{{ 'x'|float }}{{ 2|float }}{{ 'inf'|float }}{{ 'nan'|float }}{{ '1e3'|float }}{{ ' 2 '|float(9) }}", "{{ nope|int }}", "{{ 2.567|round(2) }}{{ 2.5|round }}{{ 3.5|round }}{{ 2.1|round(method='ceil') }}{{ 2.9|round(0, 'floor') }}{{ 7|round }}{{ 1234|round(-2) }}{{ 2.675|round(2) }}{{ 1250|round(-2) }}",
        "{{ [1, [2]]|sum }}", "{{ l|sum }}{{ users|sum(attribute='age') }}{{ [[1], [2]]|sum(start=[]) }}", "{{ l|min }}{{ l|max }}{{ words|min }}{{ users|max(attribute='age') }}{{ e|min }}|", "{{ [1, 2, 1, 'a', 'A']|unique|list }}{{ users|unique(attribute='age')|map(attribute='name')|list }}", "{{ d|dictsort }}", "{{ {'b': 2, 'A': 1, 'c': 0}|dictsort }}{{ {'b': 2, 'A': 1}|dictsort(by='value') }}{{ {'b': 2, 'A': 1}|dictsort(true, reverse=true) }}",
        "{{ l|batch(2)|list }}{{ l|batch(2, 'x')|list }}{{ range(7)|slice(3)|list }}{{ range(7)|slice(3, 'f')|list }}", "{{ users|groupby('age')|map(attribute='grouper')|list }}{% for g, us in users|groupby('age') %}{{ g }}:{{ us|map(attribute='name')|join(',') }};{% endfor %}", "{{ lines|indent }}|{{ lines|indent(2, true) }}|{{ lines|indent('>>', blank=true) }}", "{{ s|replace('l', 'L') }}{{ s|replace('l', 'L', 1) }}{{ 112|replace(1, 2) }}",
        "{{ 'foo bar baz qux'|truncate(9, true) }}{{ 'foo bar baz qux'|truncate(9) }}{{ 'foo bar baz qux'|truncate(11) }}{{ 'foo bar baz qux'|truncate(9, false, '~', 0) }}", "{{ 'one two, three_4 五'|wordcount }}", "[{{ 'a'|center(5) }}]", "{{ '%s, %s!'|format('a', 'b') }}{{ '%(x)s'|format(x=1) }}", "{{ d|items|list }}{{ nope|items|list }}", "{{ l|items|list }}", "{{ s|list }}{{ d|list }}{{ range(3)|list }}", "{{ d|attr('a') }}|{{ s|attr('upper') is callable }}", "{{ 'a b&c/d é'|urlencode }}{{ {'a': 'x y', 'b/': 1}|urlencode }}",
        "{{ s|nope }}", "{% if no %}{{ s|nope }}{% endif %}ok", "{{ s|nope if no else 'ok' }}", "{% for i in e %}{{ i|nope }}{% endfor %}", "{{ l|map('nope')|list }}", "{{ l|select('nope')|list }}", "{{ s|upper(1) }}", "{{ l|join(sep=',') }}", "{{ l|map }}", "{{ d|tojson|length }}", "{{ [3, 1]|sort|first }}{{ -5|abs }}", "{{ (l|map('string'))|length }}", "{% set g = l|map('string') %}{{ g|join }}{{ g|join }}|", "{% if e|map('string') %}T{% endif %}",
        "{{ l|first|string|length }}", "{{ 'a\nb'|indent(width=3) }}", "{{ nope|upper }}|{{ nope|trim }}|{{ nope|join }}|{{ nope|list }}|{{ nope|first }}|{{ nope|e }}|", "{{ 'ß'|upper }}{{ 'ΑΣ Σ'|lower }}{{ 'ŉ'|title }}",
    ],
    "tests": [
        "{{ nope is defined }}{{ s is defined }}{{ nope is undefined }}{{ nil is defined }}{{ d.zz is defined }}", "{{ nil is none }}{{ nope is none }}{{ 0 is none }}", "{{ s is string }}{{ n is number }}{{ f is number }}{{ yes is number }}{{ yes is boolean }}{{ n is boolean }}{{ n is integer }}{{ yes is integer }}{{ f is float }}{{ n is float }}",
        "{{ d is mapping }}{{ l is mapping }}{{ s is iterable }}{{ n is iterable }}{{ nope is iterable }}{{ d is sequence }}{{ s is sequence }}{{ n is sequence }}{{ nil is iterable }}{{ nope is sequence }}{{ nope is mapping }}", "{{ yes is true }}{{ 1 is true }}{{ no is false }}{{ 0 is false }}{{ nil is false }}{{ nope is false }}", "{{ 3 is odd }}{{ 3 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(2) }}", "{{ 'a' is odd }}", "{{ 1 is eq 1 }}{{ 1 is equalto 2 }}{{ 1 is ne 2 }}{{ 1 is lt 2 }}{{ 1 is ge 2 }}{{ 2 is greaterthan 1 }}",
        "{{ 1 is in l }}{{ 1 is not in l }}{{ 'x' is in 'xyz' }}", "{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ 'Abc' is lower }}", "{{ nil is sameas none }}{{ 1 is sameas 1 }}{{ 1 is sameas true }}", "{{ s is not string }}{{ not s is string }}{{ s is string and n is number }}{{ s is string == true }}", "{{ s is nope }}", "{{ s is callable }}{{ range is callable }}{{ s.upper is callable }}", "{{ ('x'|safe) is escaped }}{{ 'x' is escaped }}{{ 'upper' is filter }}{{ 'zz' is filter }}{{ 'odd' is test }}",
        "{{ 1 is number is string }}", "{{ s is defined and d.a is defined and d.a == 1 }}", "{{ [] is iterable }}{{ {} is iterable }}{{ () is sequence }}{{ range(2) is sequence }}{{ d.items() is sequence }}{{ d.items() is iterable }}{{ (l|map('string')) is iterable }}{{ (l|map('string')) is sequence }}",
        "{{ namespace() is mapping }}{{ namespace() is iterable }}", "{% if messages is iterable and messages is not mapping %}y{% endif %}",
    ],
    "errors": [
        "{{ raise_exception('bad thing') }}", "a\nb\n{{ raise_exception('msg ' ~ n) }}", "{% if no %}{{ raise_exception('x') }}{% endif %}ok", "{{ raise_exception() }}", "{% if %}{% endif %}", "{% if yes %}", "{% endif %}", "{% for i in %}{% endfor %}", "{{ }}", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ 'abc }}", "{{ a b }}", "{% nope %}", "{% set %}", "{% set x %}", "{% else %}", "{{ {% }}", "{% macro %}{% endmacro %}", "{{ x", "{% if yes", "{# open", "{{ @ }}", "{{ 1 $ }}", "{% for i in l %}{% endif %}", "{{ f(a=1, 2) }}", "{{ ) }}", "{{ (] }}",
        "{% set 1 = 2 %}", "{% set 'a' = 2 %}", "{{ '\\x4' }}", "{{ '\\u12' }}", "{% include 'x' %}", "{% extends 'x' %}", "{% raw %}x", "{{ a.}}", "{{ a[ }}", "{{ a| }}", "{{ a is }}", "{% call 1 %}{% endcall %}", "{% with %}{% endwith %}w", "{% print 1, 2 %}", "{% if yes: %}colon{% endif %}", "{{ 1; 2 }}", "{% do 1 %}", "{% endfor %}", "{% for i in l %}{% else %}{% else %}{% endfor %}", "{% if no %}{% else %}{% elif yes %}{% endif %}", "{{ x.1.2 }}", "{{ not }}", "{{ if }}", "{% trans %}{% endtrans %}", "{% set x = %}", "{{ 3 is divisibleby }}", "{{ 3 is divisibleby 0 }}",
    ],
    "generation": [
        "a{% generation %}b{{ n }}{% endgeneration %}c", "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}!{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}", "{%- generation -%}  x  {%- endgeneration -%}", "你好{% generation %}世界{% endgeneration %}{% generation %}{% endgeneration %}", "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "{% for i in l %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{% generation %}", "{% for i in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    ],
}
EXTRA_VARIABLES = {"content": "<think>\nr\n</think>\n\nanswer"}

OUT.mkdir(parents=True, exist_ok=True)
total = 0
for group, templates in CASES.items():
    rows = [case_line(f"{group}-{i}", t, {**V, **EXTRA_VARIABLES}) for i, t in enumerate(templates)]
    # Variables are the same in every case: written once, at the top.
    body = [json.dumps({k: v for k, v in json.loads(r).items() if k != "variables"}, ensure_ascii=False) for r in rows]
    head = json.dumps({"variables": {**V, **EXTRA_VARIABLES}}, ensure_ascii=False)
    (OUT / f"{group}.jsonl").write_text("\n".join([head, *body]) + "\n", encoding="utf-8")
    total += len(rows)
print(total, "cases")
