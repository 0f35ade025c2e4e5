"""Renders chat templates with Python's Jinja2 in the environment transformers makes: the truth of the chat room's tests.

    expected(template, variables) -> {"text": ..., "spans": [[begin, end], ...]} or {"error": message}
"""
import json
import re

import jinja2
from transformers.utils import chat_template_utils as hf

ADDRESS = re.compile(r" at 0x[0-9a-f]+>")  # of functions and generators: not a text anyone can rely on


def expected(template, variables):
    try:
        compiled = hf._compile_jinja_template(template)
        if "generation" in template and "endgeneration" in template:
            text, spans = hf._render_with_assistant_indices(
                compiled, variables.get("messages"), variables.get("tools"), variables.get("documents"),
                variables.get("add_generation_prompt"),
                **{k: v for k, v in variables.items()
                   if k not in ("messages", "tools", "documents", "add_generation_prompt")})
            return {"text": text, "spans": [list(s) for s in spans]}
        text = compiled.render(**variables)
        return {"error": ""} if ADDRESS.search(text) else {"text": text}
    except jinja2.exceptions.TemplateError as error:
        own = type(error) is jinja2.exceptions.TemplateError  # raise_exception's
        return {"error": str(error) if own else ""}
    except Exception:  # whatever Python raised: the template does not render
        return {"error": ""}


def case_line(name, template, variables):
    row = {"name": name, "template": template, "variables": variables, **expected(template, variables)}
    json.dumps(row, ensure_ascii=False).encode("utf-8")  # lone surrogates cannot be written
    return json.dumps(row, ensure_ascii=False)
