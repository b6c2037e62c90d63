"""URLs of the panel for administrators."""

from django.urls import path

from vncgate_dashboard.admin import views
from vncgate_dashboard.views import ScreenshotView

urlpatterns = [
    path("", views.IndexView.as_view(), name="index"),
    path("<uuid:machine_id>/console", views.ConsoleView.as_view(), name="console"),
    path("<uuid:machine_id>/open", views.OpenView.as_view(), name="open"),
    path("<uuid:machine_id>/screenshot", ScreenshotView.as_view(), name="screenshot"),
]
