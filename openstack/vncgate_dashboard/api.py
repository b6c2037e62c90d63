"""The authority, as Keystone's catalog has it: nova's calls by novaclient, and those that nova does not have."""

import re

import requests
from django.conf import settings
from horizon.utils import functions
from horizon.utils.memoized import memoized
from keystoneauth1 import session, token_endpoint
from novaclient import client
from openstack_dashboard.api import base

#: The service type in Keystone's catalog. Its URL is the same as that of a compute service: `https://HOST/v2.1`.
SERVICE_TYPE = "vncgate"

#: Names that a list can be sorted by, so that pages follow each other.
SORT_KEYS = ["display_name", "uuid"]

#: Seconds for a picture: the authority gives vCenter ten.
SCREENSHOT_TIMEOUT = 15

#: The largest picture that is passed on, in bytes: the authority's own limit.
SCREENSHOT_LIMIT = 4 * 1024 * 1024

_VERSION = re.compile(r"/v2\.1(/[^/]*)?/?$")
_PNG = b"\x89PNG\r\n\x1a\n"


def _verify():
    return not settings.OPENSTACK_SSL_NO_VERIFY and (settings.OPENSTACK_SSL_CACERT or True)


@memoized
def _client(request):
    auth = token_endpoint.Token(base.url_for(request, SERVICE_TYPE), request.user.token.id)
    return client.Client(
        "2.1",
        session=session.Session(auth, verify=_verify()),
        extensions=client.discover_extensions("2.1"),
    )


class Machine(base.APIResourceWrapper):
    """A server of the authority's."""

    _attrs = [
        "id",
        "name",
        "status",
        "tenant_id",
        "OS-EXT-STS:task_state",
        "OS-EXT-STS:power_state",
        "OS-EXT-STS:vm_state",
        "OS-EXT-SRV-ATTR:host",
        "OS-EXT-SRV-ATTR:hypervisor_hostname",
    ]

    @property
    def runs(self):
        """Whether it has a screen."""
        return self.status in ("ACTIVE", "REBOOT", "HARD_REBOOT")


def machines(request, search=None, marker=None, backwards=False, every_project=False):
    """One page of machines, and whether there is a page before and after it.

    `marker` is the machine that the page follows, or the one that it ends before if it is read `backwards`.
    """
    size = functions.get_page_size(request)
    options = dict(search or {})
    if every_project:
        options["all_tenants"] = True
    found = _client(request).servers.list(
        search_opts=options,
        marker=marker,
        limit=size + 1,
        sort_keys=SORT_KEYS,
        sort_dirs=["desc" if backwards else "asc"] * len(SORT_KEYS),
    )
    more = len(found) > size
    page = [Machine(server) for server in found[:size]]
    if backwards:
        return page[::-1], more, True
    return page, marker is not None, more


def machine(request, machine_id):
    """One machine."""
    return Machine(_client(request).servers.get(machine_id))


def start(request, machine_id):
    """Switch a machine on."""
    _client(request).servers.start(machine_id)


def stop(request, machine_id):
    """Let a machine's guest shut down, and switch the machine off."""
    _client(request).servers.stop(machine_id)


def reboot(request, machine_id, soft):
    """Let a machine's guest reboot, or reset the machine."""
    _client(request).servers.reboot(machine_id, "SOFT" if soft else "HARD")


def console(request, machine_id):
    """The URL of a console. It contains a token that is as good as a password."""
    answer = _client(request).vms_hypervisors.get_vnc_console_for_vmware(None, machine_id)
    return answer["console"]["url"]


def screenshot(request, machine_id):
    """What a machine shows, as PNG. `None` if there is no picture, or none for this user."""
    root = _VERSION.sub("", base.url_for(request, SERVICE_TYPE))
    try:
        answer = requests.get(
            f"{root}/v1/instances/{machine_id}/screenshot",
            headers={"X-Auth-Token": request.user.token.id},
            verify=_verify(),
            timeout=SCREENSHOT_TIMEOUT,
            allow_redirects=False,
            stream=True,
        )
        with answer:
            picture = answer.raw.read(SCREENSHOT_LIMIT + 1) if answer.status_code == 200 else b""
    except (requests.RequestException, OSError):
        return None
    return picture if picture.startswith(_PNG) and len(picture) <= SCREENSHOT_LIMIT else None
