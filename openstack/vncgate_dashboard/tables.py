"""The table of machines. Its words for states and power are Horizon's own."""

from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from horizon import tables
from horizon.utils import filters
from openstack_dashboard.dashboards.project.instances import tables as instances

from vncgate_dashboard import api

#: The URLs of the panel for members of a project, and of the one for administrators.
PROJECT = "horizon:project:vcenter_machines"
ADMIN = "horizon:admin:vcenter_machines"

#: The width of a thumbnail, in pixels.
THUMBNAIL_WIDTH = 120


def console_in(panel):
    """Make the link of a machine's name: its console, if it has a screen."""

    def console(machine):
        return reverse(f"{panel}:console", args=(machine.id,)) if machine.runs else None

    return console


def thumbnail_in(panel):
    """Make the cell that has what a machine shows.

    A user who may not see it gets no picture. With an empty `alt` the browser shows nothing then.
    """

    def thumbnail(machine):
        if not machine.runs:
            return ""
        return format_html(
            '<img class="img-thumbnail vncgate-screen" loading="lazy" width="{}" alt="" src="{}">',
            THUMBNAIL_WIDTH,
            reverse(f"{panel}:screenshot", args=(machine.id,)),
        )

    return thumbnail


class MachinesFilterAction(tables.FilterAction):
    filter_type = "server"
    filter_choices = (
        ("name", _("Name ="), True),
        ("status", _("Status ="), True),
        ("uuid", _("ID ="), True),
    )


class StartMachine(instances.StartInstance):
    def action(self, request, obj_id):
        api.start(request, obj_id)


class StopMachine(instances.StopInstance):
    def allowed(self, request, machine):
        return machine is None or machine.status == "ACTIVE"

    def action(self, request, obj_id):
        api.stop(request, obj_id)


class SoftRebootMachine(instances.SoftRebootInstance):
    def allowed(self, request, machine=None):
        return machine is None or machine.status == "ACTIVE"

    def action(self, request, obj_id):
        api.reboot(request, obj_id, soft=True)


class HardRebootMachine(instances.RebootInstance):
    def allowed(self, request, machine=None):
        return machine is None or machine.status == "ACTIVE"

    def action(self, request, obj_id):
        api.reboot(request, obj_id, soft=False)


class ConsoleLink(tables.LinkAction):
    name = "console"
    verbose_name = _("Console")
    classes = ("btn-console",)
    policy_rules = (("compute", "os_compute_api:os-remote-consoles"),)

    def allowed(self, request, machine):
        return machine.runs

    panel = PROJECT
    view = "console"

    def get_link_url(self, machine):
        return reverse(f"{self.panel}:{self.view}", args=(machine.id,))


class ConsoleTabLink(ConsoleLink):
    name = "console_tab"
    verbose_name = _("Console in a New Tab")
    # The console page must not reach into the dashboard's.
    attrs = {"target": "_blank", "rel": "noopener noreferrer"}
    view = "open"


class UpdateRow(tables.Row):
    ajax = True

    def get_data(self, request, machine_id):
        return api.machine(request, machine_id)


class MachinesTable(tables.DataTable):
    screen = tables.Column(thumbnail_in(PROJECT), verbose_name=_("Screen"), sortable=False)
    name = tables.WrappingColumn("name", verbose_name=_("Name"), link=console_in(PROJECT))
    status = tables.Column(
        "status",
        verbose_name=_("Status"),
        filters=(filters.replace_underscores,),
        display_choices=instances.STATUS_DISPLAY_CHOICES,
    )
    task = tables.Column(
        "OS-EXT-STS:task_state",
        verbose_name=_("Task"),
        empty_value=instances.TASK_DISPLAY_NONE,
        status=True,
        status_choices=instances.InstancesTable.TASK_STATUS_CHOICES,
        display_choices=instances.TASK_DISPLAY_CHOICES,
    )
    power = tables.Column(
        instances.get_power_state,
        verbose_name=_("Power State"),
        filters=(filters.replace_underscores,),
        display_choices=instances.POWER_DISPLAY_CHOICES,
    )
    vcenter = tables.Column("OS-EXT-SRV-ATTR:host", verbose_name=_("vCenter"))

    class Meta:
        name = "vcenter_machines"
        verbose_name = _("vCenter Machines")
        status_columns = ["task"]
        row_class = UpdateRow
        table_actions = (MachinesFilterAction,)
        table_actions_menu = (StartMachine, StopMachine, SoftRebootMachine)
        row_actions = (
            ConsoleLink,
            ConsoleTabLink,
            StartMachine,
            SoftRebootMachine,
            HardRebootMachine,
            StopMachine,
        )


class AdminConsoleLink(ConsoleLink):
    panel = ADMIN


class AdminConsoleTabLink(ConsoleTabLink):
    panel = ADMIN


class AdminMachinesTable(MachinesTable):
    screen = tables.Column(thumbnail_in(ADMIN), verbose_name=_("Screen"), sortable=False)
    name = tables.WrappingColumn("name", verbose_name=_("Name"), link=console_in(ADMIN))
    project = tables.Column("tenant_id", verbose_name=_("Project ID"))
    cluster = tables.Column("OS-EXT-SRV-ATTR:hypervisor_hostname", verbose_name=_("Cluster"))

    class Meta(MachinesTable.Meta):
        columns = ("screen", "name", "project", "vcenter", "cluster", "status", "task", "power")
        row_actions = (
            AdminConsoleLink,
            AdminConsoleTabLink,
            StartMachine,
            SoftRebootMachine,
            HardRebootMachine,
            StopMachine,
        )
