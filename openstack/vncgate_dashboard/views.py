"""What both panels show: the list, a console in the page and in a tab, and a picture of a machine's screen."""

import re

from django.http import HttpResponse, HttpResponseNotFound
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.generic import View
from horizon import exceptions, tables, views

from vncgate_dashboard import api
from vncgate_dashboard.tables import PROJECT, MachinesTable

#: A picture is one and nothing else, also for a browser that opens its address as a page.
SCREENSHOT_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "Content-Type": "image/png",
    "X-Content-Type-Options": "nosniff",
}


class IndexView(tables.PagedTableMixin, tables.DataTableView):
    table_class = MachinesTable
    page_title = _("vCenter Machines")
    #: Whether machines of other projects are listed.
    every_project = False

    def get_data(self):
        marker, direction = self._get_marker()
        try:
            page, self._has_prev_data, self._has_more_data = api.machines(
                self.request,
                search=self._search(),
                marker=marker,
                backwards=direction == "asc",
                every_project=self.every_project,
            )
        except Exception:
            exceptions.handle(self.request, _("Unable to retrieve the machines."))
            return []
        return page

    def _search(self):
        """Make nova's filter: a name is a regular expression there, and people search for what they see."""
        info = self.get_server_filter_info(self.request)
        field, value = info["field"], (info["value"] or "").strip()
        if not value:
            return {}
        if field == "status":
            return {"status": value.upper().replace(" ", "_")}
        return {field: re.escape(value) if field == "name" else value}


class ConsoleView(views.HorizonTemplateView):
    template_name = "vncgate_dashboard/console.html"
    page_title = _("Console of {{ machine.name }}")
    #: The panel's URLs.
    panel = PROJECT

    def get_context_data(self, **kwargs):
        context = super().get_context_data(**kwargs)
        machine_id = str(kwargs["machine_id"])
        try:
            context["machine"] = api.machine(self.request, machine_id)
            context["console_url"] = api.console(self.request, machine_id)
        except Exception:
            exceptions.handle(
                self.request,
                _("Unable to open a console of the machine."),
                redirect=reverse(f"{self.panel}:index"),
            )
        return context


class OpenView(View):
    """Leads to a console, which then has the whole tab."""

    panel = PROJECT

    def get(self, request, machine_id):
        try:
            url = api.console(request, str(machine_id))
        except Exception:
            exceptions.handle(
                request,
                _("Unable to open a console of the machine."),
                redirect=reverse(f"{self.panel}:index"),
            )
        response = redirect(url)
        # The URL has a token: no cache may keep it.
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response


class ScreenshotView(View):
    def get(self, request, machine_id):
        try:
            picture = api.screenshot(request, str(machine_id))
        except Exception:
            exceptions.handle(request, ignore=True)
            picture = None
        if picture is None:
            return HttpResponseNotFound()
        return HttpResponse(picture, headers=SCREENSHOT_HEADERS)
