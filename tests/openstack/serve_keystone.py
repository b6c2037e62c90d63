"""Serves Keystone over TLS on 127.0.0.1, as its documentation does with a WSGI server of one's choice.

    serve_keystone.py PORT CERTIFICATE KEY

OS_KEYSTONE_CONFIG_FILES names the configuration.
"""

import sys

program, port, certificate, key = sys.argv
# Keystone reads its own arguments when it is imported.
sys.argv = [program]

from keystone.wsgi import api  # noqa: E402
from werkzeug.serving import run_simple  # noqa: E402

run_simple("127.0.0.1", int(port), api.application, threaded=True, ssl_context=(certificate, key))
