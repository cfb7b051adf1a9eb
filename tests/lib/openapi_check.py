"""Checks answers of an HTTP API against its OpenAPI document (3.1, whose schemas are JSON Schema 2020-12).

    spec = Spec(json.loads(body of GET /v1/openapi.json))
    spec.check("GET", "/v1/agents/coder", status, headers, body)     one answer; raises AssertionError
    spec.check_request("POST", "/v1/agents", {"name": "coder"})      one request body
    spec.untouched()                                                 operations no answer was checked for

It knows nothing of who answers: the same checks run against the api process with a scripted vault and against the
whole control plane.
"""
import json
import re

import jsonschema

METHODS = ("get", "put", "post", "delete", "patch")


class Spec:
    def __init__(self, document):
        assert document["openapi"].startswith("3.1"), document["openapi"]
        self.document, self.seen = document, set()
        self.operations = {}
        for path, item in document["paths"].items():
            pattern = re.compile("^" + re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(path)) + "$")
            for method in METHODS:
                if method in item:
                    self.operations[(method.upper(), path)] = (pattern, item[method])
        for schema in document["components"]["schemas"].values():
            jsonschema.Draft202012Validator.check_schema(schema)
        ids = [operation["operationId"] for _, operation in self.operations.values()]
        assert len(ids) == len(set(ids)), "an operationId is there twice"

    def _resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].lstrip("#/").split("/"):
                target = target[part]
            node = target
        return node

    def _validate(self, schema, value, where):
        resolver = jsonschema.RefResolver("", self.document)
        errors = list(jsonschema.Draft202012Validator(schema, resolver=resolver).iter_errors(value))
        assert not errors, "%s: %s at %s\n%s" % (where, errors[0].message, list(errors[0].absolute_path), json.dumps(value)[:2000])

    def find(self, method, target):
        """((method, path pattern), operation) of a request; paths without a parameter win."""
        path = target.split("?")[0]
        fits = [(key, op) for key, (pattern, op) in self.operations.items() if key[0] == method and pattern.match(path)]
        assert fits, "%s %s is not in the document" % (method, path)
        return min(fits, key=lambda fit: fit[0][1].count("{"))

    def check(self, method, target, status, headers, body):
        """One answer: its status is documented, its media type is too, its body fits the schema."""
        key, operation = self.find(method, target)
        where = "%s %s -> %d" % (method, target, status)
        assert str(status) in operation["responses"], where + " is not documented"
        answer = self._resolve(operation["responses"][str(status)])
        content = answer.get("content")
        if status < 300:
            self.seen.add(key)
        if not content:
            assert body == b"", where + " must not have a body"
            return None
        kind = headers.get("content-type", "").split(";")[0]
        assert kind in content, "%s has the media type %r" % (where, kind)
        if kind != "application/json":
            return body
        value = json.loads(body)
        self._validate(content[kind]["schema"], value, where)
        return value

    def check_event(self, method, target, event, data):
        """One server-sent event of a streaming operation."""
        _, operation = self.find(method, target)
        schema = operation["responses"]["200"]["content"]["text/event-stream"]["schema"]
        self._validate(schema, {"event": event, "data": data}, "%s %s event" % (method, target))

    def check_request(self, method, target, body):
        """One request body, as the document demands it."""
        _, operation = self.find(method, target)
        assert "requestBody" in operation, "%s %s takes no body" % (method, target)
        self._validate(operation["requestBody"]["content"]["application/json"]["schema"], body, "%s %s" % (method, target))

    def parameters(self, key):
        """Names of an operation's query parameters."""
        found = (self._resolve(p) for p in self.operations[key][1].get("parameters", ()))
        return {p["name"] for p in found if p["in"] == "query"}

    def public(self, key):
        """Whether the operation needs no token."""
        return self.operations[key][1].get("security", self.document["security"]) == []

    def untouched(self):
        return sorted(set(self.operations) - self.seen)
