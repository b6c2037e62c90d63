"""URLs of the panel for members of a project."""

from django.urls import path

from vncgate_dashboard import views

urlpatterns = [
    path("", views.IndexView.as_view(), name="index"),
    path("<uuid:machine_id>/console", views.ConsoleView.as_view(), name="console"),
    path("<uuid:machine_id>/open", views.OpenView.as_view(), name="open"),
    path("<uuid:machine_id>/screenshot", views.ScreenshotView.as_view(), name="screenshot"),
]
