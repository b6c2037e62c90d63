"""The novaclient extension: how novaclient finds it, and what it asks."""

import contextlib
import io
from types import SimpleNamespace
from unittest import TestCase, mock

from novaclient import client
from novaclient.v2 import servers

import vncgate_novaclient

ID = "5d93eed6-a1b7-5668-903c-b43c7c81d44c"
CONSOLE = {"console": {"type": "novnc", "url": "https://consoles.example.com/console.html#token=t"}}


def extension(name="vms_hypervisors"):
    found = client.discover_extensions("2.1")
    return next(one for one in found if one.name == name)


class ExtensionTests(TestCase):
    def setUp(self):
        api = SimpleNamespace(client=mock.Mock(), client_args=None)
        api.client.post.return_value = (None, CONSOLE)
        self.post = api.client.post
        self.manager = extension().manager_class(api)

    def test_novaclient_finds_the_manager_and_the_command(self):
        self.assertIs(extension().manager_class, vncgate_novaclient.VmsHypervisorsManager)
        self.assertTrue(callable(extension().module.do_get_vnc_console_for_vmware))

    def test_it_is_called_as_the_dashboard_of_old_called_it(self):
        answer = self.manager.get_vnc_console_for_vmware("vcenter-a", ID, "esx-1", console_type="xvpvnc")
        self.assertEqual(answer["console"], CONSOLE["console"])
        asked = {"type": "xvpvnc", "host": "esx-1", "hypervisor_name": "vcenter-a"}
        self.post.assert_called_once_with(f"/servers/{ID}/action", body={"os-getVNCConsoleVmware": asked})

    def test_what_the_caller_does_not_know_is_left_out(self):
        hypervisor = SimpleNamespace(hypervisor_hostname="domain-c7(cluster-a)")
        server = SimpleNamespace(id=ID)
        for hypervisor_given, asked in [
            (None, {"type": "novnc"}),
            (hypervisor, {"type": "novnc", "hypervisor_name": "domain-c7(cluster-a)"}),
        ]:
            self.manager.get_vnc_console_for_vmware(hypervisor_given, server)
            body = {"os-getVNCConsoleVmware": asked}
            self.post.assert_called_with(f"/servers/{ID}/action", body=body)

    def test_servers_have_the_call_and_all_that_novaclient_s_have(self):
        nova = client.Client(
            "2.1", session=mock.Mock(), endpoint_override="x", extensions=client.discover_extensions("2.1")
        )
        self.assertIsInstance(nova.servers, servers.ServerManager)
        nova.client = mock.Mock()
        nova.client.post.return_value = (None, CONSOLE)
        for arguments, asked in [
            ((ID, "novnc"), {"type": "novnc"}),
            (
                (SimpleNamespace(id=ID), "xvpvnc", "esx-1", "vcenter-a"),
                {"type": "xvpvnc", "host": "esx-1", "service_host": "vcenter-a"},
            ),
        ]:
            self.assertEqual(nova.servers.get_vnc_console_for_vmware(*arguments), CONSOLE)
            body = {"os-getVNCConsoleVmware": asked}
            nova.client.post.assert_called_with(f"/servers/{ID}/action", body=body)

    def test_the_command_prints_the_url(self):
        args = SimpleNamespace(server="web-1", console_type="novnc", host=None, hypervisor=None)
        cs = SimpleNamespace(client=SimpleNamespace(post=self.post), servers=mock.Mock())
        with (
            mock.patch.object(vncgate_novaclient.utils, "find_resource", return_value=SimpleNamespace(id=ID)),
            contextlib.redirect_stdout(io.StringIO()) as printed,
        ):
            vncgate_novaclient.do_get_vnc_console_for_vmware(cs, args)
        self.assertIn(CONSOLE["console"]["url"], printed.getvalue())
