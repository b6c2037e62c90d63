"""Adds the panel for members of a project to Horizon's group "Compute"."""

PANEL = "vcenter_machines"
PANEL_DASHBOARD = "project"
PANEL_GROUP = "compute"
ADD_PANEL = "vncgate_dashboard.project.panel.VcenterMachines"
ADD_INSTALLED_APPS = ["vncgate_dashboard"]
