"""Machines in VMware vCenter and their consoles, as panels of Horizon.

The panels speak to a vncgate authority, which Keystone's catalog has under a service type of its own, so that they
stand beside the panels of a nova in the same region.
"""
