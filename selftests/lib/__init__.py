# SPDX-License-Identifier: GPL-2.0
"""Helpers of the guest test suite; every module here is importable as ``lib.<name>``."""
