"""novaclient's extension for machines in a vCenter: `client.vms_hypervisors`, and `nova get-vnc-console-for-vmware`.

novaclient finds it by the entry point `novaclient.extension`, and makes the one manager class here an attribute of
each client that is given `client.discover_extensions(VERSION)`. `servers` is another extension of the same kind.
"""

from novaclient import base, utils

#: The action that upstream nova does not have.
ACTION = "os-getVNCConsoleVmware"


def console_of(api, server, **asked):
    """Ask for a console of a server by what the caller knows: arguments that are `None` are left out."""
    body = {ACTION: {name: value for name, value in asked.items() if value is not None}}
    _, answer = api.client.post(f"/servers/{base.getid(server)}/action", body=body)
    return answer


class VmsHypervisorsManager(base.Manager):
    """Machines by the hypervisor (vCenter, cluster) and the host that they run on."""

    def get_vnc_console_for_vmware(self, hypervisor, instance_id, host=None, console_type="novnc"):
        """Get a console of a machine, as `{"console": {"type": ..., "url": ...}}`.

        :param hypervisor: the name of the vCenter or of the cluster, or an object with that as
            `hypervisor_hostname`. `None` asks all of them.
        :param instance_id: the machine's instance UUID, or a server.
        :param host: the ESXi host that the caller expects the machine on. The call fails if it is on another.
        :param console_type: "novnc" or "xvpvnc".
        """
        name = getattr(hypervisor, "hypervisor_hostname", hypervisor)
        return console_of(self.api, instance_id, type=console_type, host=host, hypervisor_name=name)


@utils.arg("server", metavar="<server>", help="Name or ID of server.")
@utils.arg(
    "console_type",
    metavar="<console-type>",
    nargs="?",
    default="novnc",
    help='Type of vnc console ("novnc" or "xvpvnc"). Default: novnc.',
)
@utils.arg("--host", metavar="<host>", help="The ESXi host that the server is expected on.")
@utils.arg(
    "--hypervisor",
    metavar="<hypervisor>",
    help="Name of the vCenter or of the cluster that has the server.",
)
def do_get_vnc_console_for_vmware(cs, args):
    """Get a vnc console to a server in a vCenter."""
    server = utils.find_resource(cs.servers, args.server)
    manager = VmsHypervisorsManager(cs)
    answer = manager.get_vnc_console_for_vmware(args.hypervisor, server, args.host, args.console_type)
    utils.print_list([_Console(answer["console"])], ["Type", "Url"])


class _Console:
    """A row of the command's table."""

    def __init__(self, console):
        self.type, self.url = console["type"], console["url"]
