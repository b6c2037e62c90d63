"""The panel for members of a project."""

import horizon
from django.utils.translation import gettext_lazy as _


class VcenterMachines(horizon.Panel):
    name = _("vCenter Machines")
    slug = "vcenter_machines"
    permissions = ("openstack.services.vncgate",)
