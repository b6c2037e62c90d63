"""The panels in Horizon's own test base: what they ask the authority, and what they show of its answers."""

import re
from unittest import mock

from django.conf import settings
from django.urls import reverse
from novaclient import exceptions as nova_exceptions
from openstack_dashboard.test import helpers

from vncgate_dashboard import api
from vncgate_dashboard.tables import ADMIN, PROJECT

ID = "5d93eed6-a1b7-5668-903c-b43c7c81d44c"
PICTURE = b"\x89PNG\r\n\x1a\n..."


class Server:
    """A server as novaclient has it."""

    def __init__(self, number=0, status="ACTIVE", name=None, task=None):
        self.id = f"{number:08x}{ID[8:]}"
        self.name = name or f"machine-{number}"
        self.status = status
        self.tenant_id = "tenant-of-the-machine"
        setattr(self, "OS-EXT-STS:task_state", task)
        setattr(self, "OS-EXT-STS:power_state", 1 if status == "ACTIVE" else 4)
        setattr(self, "OS-EXT-STS:vm_state", "active")
        setattr(self, "OS-EXT-SRV-ATTR:host", "vcenter-a")
        setattr(self, "OS-EXT-SRV-ATTR:hypervisor_hostname", "domain-c7(cluster-a)")


def url(panel, view="index", *arguments):
    return reverse(f"{panel}:{view}", args=arguments)


class PanelTests(helpers.TestCase):
    panel = PROJECT

    def setUp(self):
        super().setUp()
        service = {
            "type": api.SERVICE_TYPE,
            "name": "vncgate",
            "endpoints": [{"region": "RegionOne", "interface": "public", "url": "https://consoles.example.com/v2.1"}],
        }
        self.request.user.service_catalog.append(service)
        self.addCleanup(self.request.user.service_catalog.remove, service)
        patched = mock.patch.object(api, "_client")
        self.nova = patched.start().return_value
        self.addCleanup(patched.stop)
        self.nova.servers.list.return_value = []

    # Unlike assertIn, these do not print the whole page.
    def assert_has(self, text, page):
        self.assertTrue(text in page, f"{text} is missing")

    def assert_lacks(self, text, page):
        self.assertFalse(text in page, f"{text} is there")

    def index(self, query=""):
        response = self.client.get(url(self.panel) + query)
        self.assertEqual(response.status_code, 200)
        return response.content.decode()

    def act(self, action, machine):
        form = {"action": f"vcenter_machines__{action}__{machine.id}"}
        return self.client.post(url(self.panel), form)

    def test_the_list_has_names_states_and_vcenters(self):
        self.nova.servers.list.return_value = [
            Server(1),
            Server(2, "SHUTOFF"),
            Server(3, task="powering-off"),
        ]
        page = self.index()
        for word in ["machine-1", "machine-2", "Shutoff", "Powering Off", "Running", "vcenter-a"]:
            self.assert_has(word, page)
        self.assertEqual(
            self.nova.servers.list.call_args.kwargs,
            {
                "search_opts": {"all_tenants": True} if self.panel == ADMIN else {},
                "marker": None,
                "limit": settings.API_RESULT_PAGE_SIZE + 1,
                "sort_keys": ["display_name", "uuid"],
                "sort_dirs": ["asc", "asc"],
            },
        )

    def test_machines_that_run_alone_have_a_screen_and_consoles(self):
        on, off = Server(1), Server(2, "SHUTOFF")
        self.nova.servers.list.return_value = [on, off]
        page = self.index()
        for view in ["screenshot", "console", "open"]:
            self.assert_has(url(self.panel, view, on.id), page)
            self.assert_lacks(url(self.panel, view, off.id), page)

    def test_a_name_with_markup_is_text(self):
        name = "<script>alert(1)</script>"
        self.nova.servers.list.return_value = [Server(1, name=name)]
        self.nova.servers.get.return_value = Server(1, name=name)
        self.nova.vms_hypervisors.get_vnc_console_for_vmware.return_value = {
            "console": {"type": "novnc", "url": "https://consoles.example.com/console.html#token=t"}
        }
        for page in [self.index(), self.client.get(url(self.panel, "console", ID)).content.decode()]:
            self.assert_lacks(name, page)
            self.assert_has("&lt;script&gt;alert(1)", page)

    def test_pages_follow_each_other_both_ways(self):
        size = settings.API_RESULT_PAGE_SIZE
        servers = [Server(number) for number in range(1, size + 2)]
        self.nova.servers.list.return_value = servers
        page = self.index()
        self.assert_has(f"?marker={servers[size - 1].id}", page)
        self.assert_lacks("?prev_marker=", page)
        self.nova.servers.list.return_value = servers[:2]
        page = self.index("?marker=" + servers[3].id)
        self.assertEqual(self.nova.servers.list.call_args.kwargs["marker"], servers[3].id)
        self.assert_has("?prev_marker=", page)
        # Read backwards, the page comes last machine first.
        self.nova.servers.list.return_value = [servers[1], servers[0]]
        page = self.index("?prev_marker=" + servers[3].id)
        self.assertEqual(self.nova.servers.list.call_args.kwargs["sort_dirs"], ["desc", "desc"])
        self.assertLess(page.index("machine-1<"), page.index("machine-2<"))

    def test_a_search_is_for_what_is_seen(self):
        for field, value, asked in [
            ("name", "web[1]", {"name": re.escape("web[1]")}),
            ("status", "hard reboot", {"status": "HARD_REBOOT"}),
            ("uuid", ID, {"uuid": ID}),
            ("name", "  ", {}),
        ]:
            form = {"vcenter_machines__filter__q": value, "vcenter_machines__filter__q_field": field}
            self.client.post(url(self.panel), form, follow=True)
            found = dict(self.nova.servers.list.call_args.kwargs["search_opts"])
            found.pop("all_tenants", None)
            self.assertEqual(found, asked)

    def test_a_machine_is_started_stopped_and_rebooted(self):
        on, off = Server(1), Server(2, "SHUTOFF")
        self.nova.servers.list.return_value = [on, off]
        for action, machine in [("start", off), ("stop", on), ("soft_reboot", on), ("reboot", on)]:
            self.assertRedirectsNoFollow(self.act(action, machine), url(self.panel))
        self.nova.servers.start.assert_called_once_with(off.id)
        self.nova.servers.stop.assert_called_once_with(on.id)
        reboots = [call.args for call in self.nova.servers.reboot.call_args_list]
        self.assertEqual(reboots, [(on.id, "SOFT"), (on.id, "HARD")])

    def test_a_change_that_is_refused_is_said(self):
        on = Server(1)
        self.nova.servers.list.return_value = [on]
        self.nova.servers.stop.side_effect = nova_exceptions.Forbidden(403, "Policy doesn't allow it")
        self.act("stop", on)
        self.assertMessageCount(error=1)

    def test_an_authority_that_does_not_answer_leaves_a_page(self):
        self.nova.servers.list.side_effect = nova_exceptions.ClientException(503)
        response = self.client.get(url(self.panel))
        self.assertEqual(response.status_code, 200)
        self.assertMessageCount(response, error=1)

    def test_a_console_is_in_the_page_and_in_a_tab(self):
        console = "https://consoles.example.com/console.html#token=secret"
        self.nova.servers.get.return_value = Server(1)
        self.nova.vms_hypervisors.get_vnc_console_for_vmware.return_value = {
            "console": {"type": "novnc", "url": console}
        }
        page = self.client.get(url(self.panel, "console", ID)).content.decode()
        self.assertEqual(page.count(f'src="{console}"'), 1)
        self.assert_has(f'href="{console}"', page)
        self.assert_has("Console of machine-1", page)
        tab = self.client.get(url(self.panel, "open", ID))
        self.assertRedirectsNoFollow(tab, console)
        self.assertEqual(tab["Cache-Control"], "no-store")
        self.nova.vms_hypervisors.get_vnc_console_for_vmware.assert_called_with(None, ID)

    def test_a_console_that_is_refused_leads_back_to_the_list(self):
        self.nova.servers.get.return_value = Server(1)
        refused = nova_exceptions.Conflict(409, "not ready")
        self.nova.vms_hypervisors.get_vnc_console_for_vmware.side_effect = refused
        for view in ["console", "open"]:
            response = self.client.get(url(self.panel, view, ID))
            self.assertRedirectsNoFollow(response, url(self.panel))

    @mock.patch.object(api.requests, "get")
    def test_a_picture_is_passed_on_and_nothing_else(self, get):
        answer = get.return_value
        answer.__enter__ = mock.Mock(return_value=answer)
        answer.__exit__ = mock.Mock(return_value=False)
        for status, body, shown in [
            (200, PICTURE, True),
            (200, b"<html>", False),
            (200, PICTURE + bytes(api.SCREENSHOT_LIMIT), False),
            (403, PICTURE, False),
            (302, PICTURE, False),
        ]:
            answer.status_code, answer.raw.read.return_value = status, body
            response = self.client.get(url(self.panel, "screenshot", ID))
            self.assertEqual(response.status_code, 200 if shown else 404, (status, body[:20]))
            if shown:
                self.assertEqual(response.content, PICTURE)
                self.assertEqual(response["Content-Type"], "image/png")
                self.assertEqual(response["Cache-Control"], "no-store")
                self.assertEqual(response["X-Content-Type-Options"], "nosniff")
        asked = get.call_args
        self.assertEqual(asked.args, (f"https://consoles.example.com/v1/instances/{ID}/screenshot",))
        self.assertEqual(asked.kwargs["headers"], {"X-Auth-Token": self.token.id})
        get.side_effect = api.requests.ConnectionError
        self.assertEqual(self.client.get(url(self.panel, "screenshot", ID)).status_code, 404)

    def test_the_words_are_there_in_chinese(self):
        self.nova.servers.list.return_value = [Server(1)]
        self.client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
        page = self.index()
        for word in ["vCenter 虚拟机", "屏幕", "控制台", "在新标签页中打开控制台"]:
            self.assert_has(word, page)


class AdminPanelTests(PanelTests, helpers.BaseAdminViewTests):
    panel = ADMIN

    def test_the_owner_and_the_cluster_are_there(self):
        self.nova.servers.list.return_value = [Server(1)]
        page = self.index()
        self.assert_has("tenant-of-the-machine", page)
        self.assert_has("domain-c7(cluster-a)", page)
