"""nova's own console proxy for VNC, with its lookup of tokens stubbed. The benchmark measures it.

    nova_novncproxy.py LISTEN TARGET CERTIFICATE KEY

LISTEN and TARGET are HOST:PORT. The tokens are `http` and `https`: nova compares the scheme of the page's origin with that of
the console's URL. The proxy is made as the command nova-novncproxy makes it, without three parts: its pages, the reports that
a signal asks for, and the security proxy, which takes part in RFB's handshake. The benchmark's console speaks no more of RFB
than its version.
"""

# Before everything else, as nova's command has it.
from nova import monkey_patch

monkey_patch.patch()

import sys  # noqa: E402

import nova.conf  # noqa: E402
from nova import config, objects  # noqa: E402
from nova.conf import novnc  # noqa: E402
from nova.console import websocketproxy  # noqa: E402
from oslo_log import log  # noqa: E402

listen, target, certificate, key = sys.argv[1:]
listen_host, listen_port = listen.rsplit(":", 1)
target_host, target_port = target.rsplit(":", 1)


def get_connect_info(self, context, token):
    """What nova reads from its database, and has nova-compute confirm, for each connect."""
    return objects.ConsoleAuthToken(
        console_type="novnc",
        host=target_host,
        port=int(target_port),
        internal_access_path=None,
        access_url_base=f"{token}://{listen}/",
    )


websocketproxy.NovaProxyRequestHandler._get_connect_info = get_connect_info

CONF = nova.conf.CONF
novnc.register_cli_opts(CONF)
objects.register_all()
config.parse_args(["nova-novncproxy"], default_config_files=[], configure_db=False, init_rpc=False)
log.setup(CONF, "nova")
websocketproxy.NovaWebSocketProxy(
    listen_host=listen_host,
    listen_port=int(listen_port),
    source_is_ipv6=CONF.source_is_ipv6,
    cert=certificate,
    key=key,
    ssl_only=CONF.ssl_only,
    ssl_ciphers=CONF.console.ssl_ciphers,
    ssl_minimum_version=CONF.console.ssl_minimum_version,
    daemon=CONF.daemon,
    record=CONF.record,
    traffic=not CONF.daemon and CONF.debug,
    web=None,
    file_only=True,
    RequestHandlerClass=websocketproxy.NovaProxyRequestHandler,
    security_proxy=None,
).start_server()
