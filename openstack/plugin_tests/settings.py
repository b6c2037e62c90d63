"""Horizon's own test settings, with the plugin's panels.

Their files are found as if they were copied to `openstack_dashboard/enabled`.
"""

import openstack_dashboard.enabled

import vncgate_dashboard.enabled

openstack_dashboard.enabled.__path__.extend(vncgate_dashboard.enabled.__path__)

from openstack_dashboard.test.settings import *  # noqa: E402, F403

# What tests render is not put among the files of the Horizon that they use.
COMPRESS_ENABLED = False
