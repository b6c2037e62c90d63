"""The machines of every project."""

from vncgate_dashboard import views
from vncgate_dashboard.tables import ADMIN, AdminMachinesTable


class IndexView(views.IndexView):
    table_class = AdminMachinesTable
    every_project = True


class ConsoleView(views.ConsoleView):
    panel = ADMIN


class OpenView(views.OpenView):
    panel = ADMIN
