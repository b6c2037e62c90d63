"""Horizon's settings, as an operator writes them, for a Horizon that runs in one process without a database.

The environment says what differs between runs: KEYSTONE_URL, KEYSTONE_CA, HORIZON_STATIC (where `collectstatic` puts
files), HORIZON_FILES (a folder for what Horizon writes), HORIZON_POLICY (folders of more policies for nova) and
HORIZON_ENABLED (folders whose files are as if they were copied to `openstack_dashboard/local/enabled`).
"""

import os

# Horizon takes every name of this module without an underscore for a setting.
from openstack_dashboard.local import enabled as _enabled

if "HORIZON_ENABLED" in os.environ:
    _enabled.__path__.extend(os.environ["HORIZON_ENABLED"].split(":"))

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
SECRET_KEY = "of a Horizon that guards nothing"
LOCAL_PATH = os.environ["HORIZON_FILES"]
STATIC_ROOT = os.environ["HORIZON_STATIC"]
COMPRESS_OFFLINE = True
OPENSTACK_KEYSTONE_URL = os.environ["KEYSTONE_URL"]
OPENSTACK_SSL_CACERT = os.environ["KEYSTONE_CA"]
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        # By default it forgets a third of what it has, sessions too, when there are 300 entries.
        "OPTIONS": {"MAX_ENTRIES": 100000},
    }
}
TIME_ZONE = "UTC"
POLICY_DIRS = {"compute": os.environ["HORIZON_POLICY"].split(":")} if "HORIZON_POLICY" in os.environ else {}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        name: {"handlers": ["console"], "level": "INFO", "propagate": False}
        for name in ("django.request", "django.server", "horizon", "openstack_auth", "openstack_dashboard")
    },
}
