"""Prints nova's own table of what its API changes, as JSON.

    nova_changes.py > TABLE

TABLE is {"changes": [{"method", "path", "since", "rules"}], "actions": [{"name", "since", "until"}]}. `since` is the minor
version from which on nova has it, `until` the one from which on it has it no longer, if there is one; a path has `{}` for each
of its parameters. `rules` are nova's policies about the change. Paths that the newest version does not have are left out.
"""

import json
import re
import sys
import warnings

warnings.simplefilter("ignore")

from nova import policies  # noqa: E402
from nova.api.openstack.compute import routes  # noqa: E402

# What a gateway of consoles does answer.
CONSOLES = "/servers/{}/remote-consoles"
ACTIONS = "/servers/{}/action"


def minor(version):
    return int(version.partition(".")[2]) if version else None


def general(path):
    """A path as both of nova's tables have it; that of an action has the action's name behind it."""
    return re.sub(r"\{[^}]*\}", "{}", path.partition(" ")[0]).rstrip("/")


def rules():
    """nova's policies by method and path."""
    found = {}
    for rule in policies.list_rules():
        for operation in getattr(rule, "operations", None) or []:
            methods = operation["method"]
            for method in [methods] if isinstance(methods, str) else methods:
                found.setdefault((method, general(operation["path"])), []).append(rule.name)
    return found


def actions_of(factory):
    """The actions of a path that nova still carries out."""
    main, others = factory.args[0], factory.args[1] if len(factory.args) > 1 else []
    for controller in [main, *others]:
        for name in dir(controller):
            method = getattr(controller, name)
            action = getattr(method, "wsgi_action", None)
            if action and not getattr(method, "removed", False):
                yield action, minor(getattr(method, "min_version", None)), minor(getattr(method, "max_version", None))


def main():
    known, changes, actions = rules(), [], []
    for path, served in routes.ROUTE_LIST:
        # Some paths redirect to others.
        for verb, (factory, name) in {} if isinstance(served, str) else served.items():
            if verb == "GET":
                continue
            since = until = None
            if name == "action":
                named = list(actions_of(factory))
                if general(path) == ACTIONS:
                    actions = [
                        {"name": action, "since": least or 1, "until": most and most + 1} for action, least, most in named
                    ]
                    continue
                if not any(most is None for _, _, most in named):
                    continue
                since = min(least or 1 for _, least, most in named if most is None)
            method = getattr(factory.args[0], name, None)
            since = since or minor(getattr(method, "min_version", None)) or 1
            until = minor(getattr(method, "max_version", None))
            if until is None and not getattr(method, "removed", False) and general(path) != CONSOLES:
                change = {"method": verb, "path": general(path), "since": since}
                changes.append({**change, "rules": known.get((verb, general(path)), [])})
    json.dump({"changes": changes, "actions": actions}, sys.stdout)


main()
