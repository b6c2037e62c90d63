"""Compares exchanges with nova's own schemas, those that its API validates itself by.

    nova_schemas.py < EXCHANGES > FINDINGS

EXCHANGES is a JSON list of {"method", "path", "query", "version", "status", "body"}; the path is below /v2.1. FINDINGS is a
JSON list of texts, one for each exchange that nova would not have had: a path that it does not have in that version was
answered, or the other way round, a query that only one of the two accepts, a body that its schema does not allow.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import routes  # noqa: E402
import webob.multidict  # noqa: E402
from nova.api.openstack import api_version_request  # noqa: E402
from nova.api.openstack.compute import routes as compute  # noqa: E402
from nova.api.validation import validators  # noqa: E402

# A machine of a vCenter has no user, and one that no project owns has no project. nova's servers have both.
WITHOUT_OWNER = "-"


def table():
    """nova's paths, and the class and method that serve each."""
    mapper, methods = routes.Mapper(), []
    for path, served in compute.ROUTE_LIST:
        # Some paths redirect to others.
        for verb, (factory, action) in {} if isinstance(served, str) else served.items():
            mapper.connect(path, conditions={"method": [verb]}, at=str(len(methods)))
            # A factory makes its first argument, the controller's class. The methods of actions are elsewhere.
            methods.append(getattr(factory.args[0], action, None))
    return mapper, methods


MAPPER, METHODS = table()


def method_of(exchange, version):
    """The method that nova serves this path with, if it does in this version."""
    match = MAPPER.match(exchange["path"], {"REQUEST_METHOD": exchange["method"]})
    if match is None:
        return None
    method = METHODS[int(match["at"])]
    bounds = [
        api_version_request.APIVersionRequest(getattr(method, name, None))
        for name in ("min_version", "max_version")
    ]
    return method if version.matches(*bounds) else None


def schema_of(schemas, version):
    found = [schema for schema, least, most in schemas._schemas if version.matches(least, most)]
    return found[0] if found else None


def complaint(validator, value):
    try:
        validator.validate(value)
    except Exception as error:  # its own kinds, which say all in their text
        return getattr(error, "format_message", lambda: str(error))()
    return None


def finding(exchange):
    version = api_version_request.APIVersionRequest(exchange["version"])
    status, body = exchange["status"], exchange["body"]
    function = method_of(exchange, version)
    if (function is None) != (status == 404):
        return "nova has no such path in this version" if function is None else "nova has this path"
    if function is None:
        return None
    queries = getattr(function, "request_query_schemas", None)
    schema = schema_of(queries, version) if queries else None
    refused = None
    if schema is not None:
        validator = validators._SchemaValidator(schema, is_body=False)
        pairs = webob.multidict.MultiDict(map(tuple, exchange["query"]))
        refused = complaint(validator, pairs.dict_of_lists())
    if (refused is not None) != (status == 400):
        return f"nova's verdict on the query is {refused or 'that it is good'}"
    if status != 200:
        return None
    schema = schema_of(function.response_body_schemas, version)
    if schema is None:
        return "nova has no such answer in this version"
    for server in body.get("servers", []) + ([body["server"]] if "server" in body else []):
        for owner in ("tenant_id", "user_id"):
            if server.get(owner) == "":
                server[owner] = WITHOUT_OWNER
    wrong = complaint(validators._SchemaValidator(schema), body)
    return wrong and f"nova's schema does not allow the answer: {wrong}"


def main():
    exchanges = json.load(sys.stdin)
    findings = []
    for exchange in exchanges:
        told = finding(exchange)
        if told:
            shown = {name: exchange[name] for name in ("method", "path", "query", "version", "status")}
            findings.append(f"{json.dumps(shown)}: {told}")
    json.dump(findings, sys.stdout)


main()
