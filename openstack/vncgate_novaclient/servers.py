"""`client.servers` with a call that novaclient itself does not have: `get_vnc_console_for_vmware`.

novaclient sets each extension's manager as the attribute of the extension's name. The name of this one is `servers`, so
that its manager, which has all that novaclient's has, takes that one's place.
"""

from novaclient.v2 import servers

from vncgate_novaclient import console_of


class ServerManager(servers.ServerManager):
    """novaclient's manager of servers, with consoles of machines in a vCenter."""

    def get_vnc_console_for_vmware(self, server, console_type="novnc", host=None, service_host=None):
        """Get a console of a machine, as `{"console": {"type": ..., "url": ...}}`.

        :param server: the server, or its instance UUID.
        :param console_type: "novnc" or "xvpvnc".
        :param host: the ESXi host that the caller expects the machine on. The call fails if it is on another.
        :param service_host: the name of the vCenter. `None` asks all of them.
        """
        return console_of(self.api, server, type=console_type, host=host, service_host=service_host)
