"""A nova of another region, with one server, on 127.0.0.1.

    other_nova.py PORT
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIMITS = (
    "maxImageMeta",
    "maxPersonality",
    "maxPersonalitySize",
    "maxSecurityGroupRules",
    "maxSecurityGroups",
    "maxServerGroupMembers",
    "maxServerGroups",
    "maxServerMeta",
    "maxTotalCores",
    "maxTotalFloatingIps",
    "maxTotalInstances",
    "maxTotalKeypairs",
    "maxTotalRAMSize",
    "totalCoresUsed",
    "totalFloatingIpsUsed",
    "totalInstancesUsed",
    "totalRAMUsed",
    "totalSecurityGroupsUsed",
    "totalServerGroupsUsed",
)
FLAVOR = {
    "id": "m1",
    "name": "m1.tiny",
    "vcpus": 1,
    "ram": 512,
    "disk": 1,
    "swap": "",
    "OS-FLV-EXT-DATA:ephemeral": 0,
    "OS-FLV-DISABLED:disabled": False,
    "os-flavor-access:is_public": True,
    "rxtx_factor": 1.0,
    "links": [],
    "description": None,
    "extra_specs": {},
}
SERVER = {
    "id": "11111111-2222-4333-8444-555555555555",
    "name": "kvm-1",
    "status": "ACTIVE",
    "tenant_id": "0123456789abcdef0123456789abcdef",
    "user_id": "fedcba9876543210fedcba9876543210",
    "flavor": {"id": "m1", "links": []},
    "image": "",
    "addresses": {},
    "metadata": {},
    "links": [],
    "key_name": None,
    "created": "2026-11-27T00:00:00Z",
    "updated": "2026-11-27T00:00:00Z",
    "OS-EXT-STS:power_state": 1,
    "OS-EXT-STS:task_state": None,
    "OS-EXT-STS:vm_state": "active",
    "OS-EXT-AZ:availability_zone": "nova",
}


class Nova(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        path = path.rstrip("/").removeprefix("/v2.1")
        link = f"http://{self.headers['Host']}/v2.1/"
        if path == "":
            version = {"id": "v2.1", "status": "CURRENT", "version": "2.104", "min_version": "2.1"}
            version["links"] = [{"rel": "self", "href": link}]
            self.answer({"version": version} if self.path.startswith("/v2.1") else {"versions": [version]})
        elif path in ("/servers", "/servers/detail"):
            self.answer({"servers": [] if "marker=" in query else [SERVER]})
        elif path == f"/servers/{SERVER['id']}":
            self.answer({"server": SERVER})
        elif path in ("/flavors", "/flavors/detail"):
            self.answer({"flavors": [] if "marker=" in query else [FLAVOR]})
        elif path == "/limits":
            self.answer({"limits": {"rate": [], "absolute": dict.fromkeys(LIMITS, 10)}})
        elif path.startswith("/os-simple-tenant-usage/"):
            self.answer({"tenant_usage": {}})
        else:
            self.answer({"itemNotFound": {"code": 404, "message": "The resource could not be found."}}, 404)

    def answer(self, document, status=200):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Nova).serve_forever()
