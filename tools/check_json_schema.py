#!/usr/bin/env python3
"""Outputs under JSON schemas against the jsonschema package: whatever the shipped model writes must satisfy its schema.

    python3 tools/check_json_schema.py build/release/qianwen [RUNS]

Needs jsonschema with its format checkers (pip install 'jsonschema[format]'). Each schema is tried with several seeds at a high
temperature, so that outputs wander. An output that the length cuts off is not judged."""
import json
import subprocess
import sys
import tempfile

import jsonschema

PERSON = {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 12},
                                           "age": {"type": "integer", "minimum": 0, "maximum": 150},
                                           "mail": {"type": "string", "format": "email"},
                                           "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3}},
          "required": ["name", "age"], "additionalProperties": False}
SCHEMAS = [
    PERSON,
    {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 2},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 3},
    {"type": "object", "properties": {"kind": {"const": "x"}, "n": {"type": "number", "exclusiveMinimum": -3, "maximum": 7}},
     "required": ["n"], "additionalProperties": {"type": "null"}},
    {"anyOf": [{"type": "string", "pattern": "^[a-c]{2,4}-\\d+$"}, {"type": "string", "format": "date-time"}, {"type": "boolean"}]},
    {"type": "string", "format": "date"}, {"type": "string", "format": "time"}, {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "ipv6"}, {"type": "string", "format": "uuid"}, {"type": "string", "format": "duration"},
    {"type": "string", "format": "hostname"}, {"type": "string", "format": "uri"}, {"type": "string", "format": "email"},
    {"type": "integer", "exclusiveMinimum": 17, "maximum": 20480}, {"type": "integer", "maximum": -99},
    {"type": "number", "minimum": -1, "maximum": 1},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": ["string", "null"], "maxLength": 5}], "items": {"type": "boolean"},
     "minItems": 1, "maxItems": 4},
    {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
        "v": {"enum": [1, 2]}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["v", "next"], "additionalProperties": False}}},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
               {"properties": {"b": {"type": "null"}}, "required": ["b"]}]},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
     "additionalProperties": False},
    {"type": "object"}, {}, {"enum": ["春", {"k": [1, None]}, -2.5]},
]


def main():
    program, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    judged = cut = failed = 0
    for schema in SCHEMAS:
        validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(schema, file)
            file.flush()
            for seed in range(runs):
                done = subprocess.run([program, "chat", "mini", "-p", "春江", "--schema", file.name, "--seed", str(seed), "--temperature",
                                       "1.5", "--top-k", "0", "--top-p", "1", "--max-tokens", "400", "--json"], capture_output=True, text=True)
                if done.returncode != 0:
                    failed += 1
                    print("FAILED", json.dumps(schema), done.stderr.strip())
                    continue
                answer = json.loads(done.stdout)
                if answer["finish_reason"] != "stop":
                    cut += 1
                    continue
                judged += 1
                try:
                    errors = [e.message for e in validator.iter_errors(json.loads(answer["text"]))]
                except json.JSONDecodeError as e:
                    errors = [str(e)]
                if errors:
                    failed += 1
                    print("FAILED", json.dumps(schema), repr(answer["text"]), errors[0])
    print(f"{judged} outputs judged, {cut} cut off, {failed} failed")
    return 1 if failed or not judged else 0


sys.exit(main())
