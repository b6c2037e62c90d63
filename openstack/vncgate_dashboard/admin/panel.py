"""The panel for administrators."""

import horizon
from django.utils.translation import gettext_lazy as _


class VcenterMachines(horizon.Panel):
    name = _("vCenter Machines")
    slug = "vcenter_machines"
    permissions = ("openstack.services.vncgate",)
    policy_rules = (("compute", "context_is_admin"),)
