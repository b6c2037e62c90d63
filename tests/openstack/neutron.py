"""A network service that has nothing, on 127.0.0.1: Horizon asks one about each page of its instances.

    neutron.py PORT
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COLLECTIONS = (
    "extensions",
    "floatingips",
    "networks",
    "ports",
    "routers",
    "security-groups",
    "security-group-rules",
    "subnets",
    "trunks",
)


class Neutron(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0].rstrip("/")
        name = path.rpartition("/")[2]
        link = f"http://{self.headers['Host']}/v2.0/"
        if path == "":
            version = {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": link}]}
            self.answer(200, {"versions": [version]})
        elif name in COLLECTIONS:
            self.answer(200, {name.replace("-", "_"): []})
        else:
            error = {"type": "HTTPNotFound", "message": "The resource could not be found.", "detail": ""}
            self.answer(404, {"NeutronError": error})

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Neutron).serve_forever()
