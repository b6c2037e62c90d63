"""Changes machines as automation does that uses pyvmomi.

change.py SDK_URL CA_FILE CHANGE...     each CHANGE is MACHINE=power_off, MACHINE=relocate:HOST or MACHINE=port:NUMBER;
                                        VCENTER_USERNAME and VCENTER_PASSWORD log in
"""

import os
import ssl
import sys
from urllib.parse import urlsplit

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim


def named(content, kind, name):
    view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
    try:
        return next(found for found in view.view if found.name == name)
    finally:
        view.Destroy()


def change(content, machine, what, value):
    vm = named(content, vim.VirtualMachine, machine)
    if what == "power_off":
        WaitForTask(vm.PowerOffVM_Task())
    elif what == "relocate":
        host = named(content, vim.HostSystem, value)
        spec = vim.vm.RelocateSpec(host=host, pool=host.parent.resourcePool)
        WaitForTask(vm.RelocateVM_Task(spec))
    elif what == "port":
        option = vim.option.OptionValue(key="RemoteDisplay.vnc.port", value=value)
        WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[option])))
    else:
        sys.exit(f"no change: {what}")


def main(url, ca, *changes):
    address = urlsplit(url)
    service = SmartConnect(
        host=address.hostname,
        port=address.port,
        user=os.environ["VCENTER_USERNAME"],
        pwd=os.environ["VCENTER_PASSWORD"],
        sslContext=ssl.create_default_context(cafile=ca),
    )
    try:
        for machine, _, what in (text.partition("=") for text in changes):
            change(service.content, machine, *what.partition(":")[::2])
    finally:
        Disconnect(service)


if __name__ == "__main__":
    main(*sys.argv[1:])
