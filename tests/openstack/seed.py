"""Asks for a console as users of the seed's patched novaclient do, with the extension in its place, and prints its URL.

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
nova = client.Client(
    "2.1",
    session=session.Session(auth, verify=os.environ["OS_CACERT"]),
    extensions=client.discover_extensions("2.1"),
)
answer = nova.servers.get_vnc_console_for_vmware(nova.servers.get(server), console_type, host, service_host)
print(answer["console"]["url"])
