"""Asks for a console as the seed's patched novaclient does, and prints its URL.

    seed.py SERVER TYPE HOST SERVICE_HOST

OS_AUTH_URL and the other variables of OpenStack's clients say where and as whom.
"""

import os
import sys

from keystoneauth1 import session
from keystoneauth1.identity import v3
from novaclient import client

server, console_type, host, service_host = sys.argv[1:]
auth = v3.Password(
    auth_url=os.environ["OS_AUTH_URL"],
    username=os.environ["OS_USERNAME"],
    password=os.environ["OS_PASSWORD"],
    user_domain_name=os.environ["OS_USER_DOMAIN_NAME"],
    project_name=os.environ["OS_PROJECT_NAME"],
    project_domain_name=os.environ["OS_PROJECT_DOMAIN_NAME"],
)
nova = client.Client("2.1", session=session.Session(auth, verify=os.environ["OS_CACERT"]))
_, body = nova.servers._action_return_resp_and_body(
    "os-getVNCConsoleVmware",
    nova.servers.get(server),
    {"type": console_type, "host": host, "service_host": service_host},
)
print(body["console"]["url"])
