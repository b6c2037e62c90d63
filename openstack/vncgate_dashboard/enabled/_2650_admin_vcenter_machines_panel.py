"""Adds the panel for administrators to Horizon's group "Compute".

The panel for members adds the Django application of both, so this file needs the other one beside it.
"""

PANEL = "vcenter_machines"
PANEL_DASHBOARD = "admin"
PANEL_GROUP = "compute"
ADD_PANEL = "vncgate_dashboard.admin.panel.VcenterMachines"
